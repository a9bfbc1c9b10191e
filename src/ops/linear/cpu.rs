//! The fully connected layer on the CPU. The weight is the large operand and is read once.

use crate::device::cpu::{Cpu, SharedMut};

/// Partial sums of a dot product: its order is the same for every instruction set and number of threads.
const LANES: usize = 16;
/// Outputs of a forward task, and images it takes together.
const TASK_OUTPUTS: usize = 4;
const TASK_IMAGES: usize = 4;
/// Channels of a backward task: with 32 images its dx stays in the first cache.
const TASK_CHANNELS: usize = 256;

/// y `[N, K]` = x `[N, C]` · weight `[K, C]`ᵀ + bias `[K]`.
pub fn forward(cpu: &Cpu, c: usize, x: &[f32], weight: &[f32], bias: &[f32], y: &mut [f32]) {
    let (n, k) = (y.len() / bias.len().max(1), bias.len());
    let y = SharedMut::new(y);
    cpu.parallel(
        k.div_ceil(TASK_OUTPUTS),
        #[inline(always)]
        |task| {
            let first = task * TASK_OUTPUTS;
            let outputs = TASK_OUTPUTS.min(k - first);
            let weight = &weight[first * c..(first + outputs) * c];
            let mut image = 0;
            while image < n {
                let x = &x[image * c..];
                // SAFETY: no other task has these outputs, and each is visited once.
                let put = |i: usize, o: usize, dot: f32| unsafe {
                    let at = (image + i) * k + first + o;
                    y.range(at..at + 1)[0] = dot + bias[first + o];
                };
                image += match (n - image >= TASK_IMAGES, outputs == TASK_OUTPUTS) {
                    (true, true) => dots::<TASK_IMAGES, TASK_OUTPUTS>(c, x, weight, put),
                    (false, true) => dots::<1, TASK_OUTPUTS>(c, x, weight, put),
                    (_, false) => (0..outputs)
                        .map(|o| dots::<1, 1>(c, x, &weight[o * c..], |i, _, dot| put(i, o, dot)))
                        .fold(1, usize::max),
                };
            }
        },
    );
}

/// The products of `I` rows of x with `O` of the weight, side by side so that no sum waits for another; gives `I`.
#[inline(always)]
fn dots<const I: usize, const O: usize>(
    c: usize,
    x: &[f32],
    weight: &[f32],
    mut put: impl FnMut(usize, usize, f32),
) -> usize {
    let xs: [_; I] = std::array::from_fn(|i| x[i * c..(i + 1) * c].as_chunks::<LANES>());
    let weights: [_; O] = std::array::from_fn(|o| weight[o * c..(o + 1) * c].as_chunks::<LANES>());
    let mut sums = [[[0.0f32; LANES]; O]; I];
    for chunk in 0..c / LANES {
        for i in 0..I {
            for o in 0..O {
                for lane in 0..LANES {
                    sums[i][o][lane] += xs[i].0[chunk][lane] * weights[o].0[chunk][lane];
                }
            }
        }
    }
    for i in 0..I {
        for o in 0..O {
            let rest: f32 = xs[i].1.iter().zip(weights[o].1).map(|(x, w)| x * w).sum();
            put(i, o, sum_of(sums[i][o]) + rest);
        }
    }
    I
}

/// Halves are added to each other, which stays in vectors.
#[inline(always)]
fn sum_of(mut sums: [f32; LANES]) -> f32 {
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
    }
    sums[0]
}

/// What the backward reads: dy `[N, K]`, x `[N, C]`, weight `[K, C]`.
pub struct BackwardInputs<'a> {
    pub dy: &'a [f32],
    pub x: &'a [f32],
    pub weight: &'a [f32],
}

/// dx `[N, C]` where it is wanted; dweight `[K, C]` and dbias `[K]` accumulate, images in order.
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
            // SAFETY: no other task has these channels, and one row's slice is gone before the next is made.
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
