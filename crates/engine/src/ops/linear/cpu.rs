//! The fully connected layer on the CPU. The weight is the largest operand and is read only once.

use super::Linear;
use crate::device::cpu::{Cpu, SharedMut};
use crate::ir::LinearBackward;
use crate::ops::cpu::{CpuNode, CpuOp, NO_SCRATCH, Operands};

/// The number of partial sums of a dot product. Its order is the same for every instruction set and number of threads.
const LANES: usize = 16;
/// Outputs per task of the forward.
const TASK_OUTPUTS: usize = 4;
/// Channels per task of the backward: with 32 images its dx stays in the L1 cache.
const TASK_CHANNELS: usize = 256;

/// y `[N, K]` = x `[N, C]` · weight `[K, C]`ᵀ + bias `[K]`.
pub fn forward(cpu: &Cpu, c: usize, x: &[f32], weight: &[f32], bias: &[f32], y: &mut [f32]) {
    let k = bias.len();
    let y = SharedMut::new(y);
    cpu.parallel(
        k.div_ceil(TASK_OUTPUTS),
        #[inline(always)]
        |task| {
            for output in task * TASK_OUTPUTS..((task + 1) * TASK_OUTPUTS).min(k) {
                let weight = &weight[output * c..(output + 1) * c];
                for (image, x) in x.chunks_exact(c).enumerate() {
                    // SAFETY: no other task writes this output, and each is visited once.
                    let y = unsafe { y.range(image * k + output..image * k + output + 1) };
                    y[0] = dot(x, weight) + bias[output];
                }
            }
        },
    );
}

#[inline(always)]
fn dot(x: &[f32], weight: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let ((xs, x), (weights, weight)) = (x.as_chunks::<LANES>(), weight.as_chunks::<LANES>());
    let rest = x.iter().zip(weight);
    for (x, weight) in xs.iter().zip(weights) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * weight[lane];
        }
    }
    // One half is added to the other, which the compiler can keep in vectors.
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
    }
    sums[0] + rest.map(|(x, w)| x * w).sum::<f32>()
}

/// The inputs of the backward: dy `[N, K]`, x `[N, C]`, weight `[K, C]`.
pub struct BackwardInputs<'a> {
    pub dy: &'a [f32],
    pub x: &'a [f32],
    pub weight: &'a [f32],
}

/// Writes dx `[N, C]` if it is given, and adds to dweight `[K, C]` and dbias `[K]`, images in order.
pub fn backward(
    cpu: &Cpu,
    c: usize,
    inputs: &BackwardInputs,
    dx: Option<&mut [f32]>,
    dweight: &mut [f32],
    dbias: &mut [f32],
) {
    let k = dbias.len();
    cpu.parallel_chunks(
        dweight,
        c,
        #[inline(always)]
        |output, dweight| {
            for (dy, x) in inputs.dy.chunks_exact(k).zip(inputs.x.chunks_exact(c)) {
                add_scaled(dweight, dy[output], x);
            }
        },
    );
    for dy in inputs.dy.chunks_exact(k) {
        add_scaled(dbias, 1.0, dy);
    }
    if let Some(dx) = dx {
        input_gradient(cpu, c, inputs, dx);
    }
}

fn input_gradient(cpu: &Cpu, c: usize, inputs: &BackwardInputs, dx: &mut [f32]) {
    let (n, k) = (inputs.x.len() / c, inputs.weight.len() / c);
    let dx = SharedMut::new(dx);
    cpu.parallel(
        c.div_ceil(TASK_CHANNELS),
        #[inline(always)]
        |task| {
            let channels = task * TASK_CHANNELS..((task + 1) * TASK_CHANNELS).min(c);
            // SAFETY: no other task writes these channels, and one row's slice is dropped before the next is made.
            let row = |image: usize| unsafe { dx.range(image * c + channels.start..image * c + channels.end) };
            (0..n).for_each(|image| row(image).fill(0.0));
            for output in 0..k {
                let weight = &inputs.weight[output * c..][channels.clone()];
                for image in 0..n {
                    add_scaled(row(image), inputs.dy[image * k + output], weight);
                }
            }
        },
    );
}

#[inline(always)]
fn add_scaled(sum: &mut [f32], scale: f32, x: &[f32]) {
    for (sum, x) in sum.iter_mut().zip(x) {
        *sum += scale * x;
    }
}

impl CpuOp for Linear {
    fn cpu_scratch(&self, _node: &CpuNode) -> usize {
        NO_SCRATCH
    }

    fn run(&self, node: &mut Operands) {
        forward(node.cpu, node.channels(0), node.input(0), node.input(1), node.input(2), node.output(0));
    }
}

impl CpuOp for LinearBackward {
    fn cpu_scratch(&self, _node: &CpuNode) -> usize {
        NO_SCRATCH
    }

    fn run(&self, node: &mut Operands) {
        let inputs = BackwardInputs { dy: node.input(0), x: node.input(1), weight: node.input(2) };
        let dx = self.input_gradient.then(|| node.output(2));
        backward(node.cpu, node.channels(1), &inputs, dx, node.output(0), node.output(1));
    }
}
