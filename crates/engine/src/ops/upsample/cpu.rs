//! Nearest upsampling added to a lateral map, and its backward, on the CPU.

use super::{Upsample, UpsampleAdd, UpsampleBackward};
use crate::device::cpu::Cpu;
use crate::ops::cpu::{CpuNode, CpuOp, NO_SCRATCH, Operands};

/// out = lateral + top[i·h/H, j·w/W].
pub fn add(cpu: &Cpu, shape: &Upsample, top: &[f32], lateral: &[f32], out: &mut [f32]) {
    let (c, [h, w], [height, width]) = (shape.c, shape.from, shape.to);
    cpu.parallel_chunks(
        out,
        width * c,
        #[inline(always)]
        |row, out| {
            let (image, i) = (row / height, row % height);
            let top = &top[(image * h + i * h / height) * w * c..][..w * c];
            let lateral = lateral[row * width * c..].chunks_exact(c);
            for (j, (out, lateral)) in out.chunks_exact_mut(c).zip(lateral).enumerate() {
                sum(out, lateral, &top[j * w / width * c..][..c]);
            }
        },
    );
}

#[inline(always)]
fn sum(out: &mut [f32], a: &[f32], b: &[f32]) {
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = a + b;
    }
}

/// dtop: the sum of dout over each pixel's copies. The lateral map's gradient is dout itself.
pub fn backward(cpu: &Cpu, shape: &Upsample, dout: &[f32], dtop: &mut [f32]) {
    let (c, [h, w], [height, width]) = (shape.c, shape.from, shape.to);
    cpu.parallel_chunks(
        dtop,
        w * c,
        #[inline(always)]
        |row, dtop| {
            let (image, i) = (row / h, row % h);
            dtop.fill(0.0);
            for below in (i * height).div_ceil(h)..((i + 1) * height).div_ceil(h) {
                let dout = &dout[(image * height + below) * width * c..][..width * c];
                for (j, dtop) in dtop.chunks_exact_mut(c).enumerate() {
                    for column in (j * width).div_ceil(w)..((j + 1) * width).div_ceil(w) {
                        accumulate(dtop, &dout[column * c..][..c]);
                    }
                }
            }
        },
    );
}

#[inline(always)]
fn accumulate(sum: &mut [f32], x: &[f32]) {
    for (sum, x) in sum.iter_mut().zip(x) {
        *sum += x;
    }
}

impl CpuOp for UpsampleAdd {
    fn cpu_scratch(&self, _node: &CpuNode) -> usize {
        NO_SCRATCH
    }

    fn run(&self, node: &mut Operands) {
        let shape = Upsample::new(node.input_shape(0), node.output_shape(0));
        add(node.cpu, &shape, node.input(0), node.input(1), node.output(0));
    }
}

impl CpuOp for UpsampleBackward {
    fn cpu_scratch(&self, _node: &CpuNode) -> usize {
        NO_SCRATCH
    }

    fn run(&self, node: &mut Operands) {
        let shape = Upsample::new(node.output_shape(0), node.input_shape(0));
        backward(node.cpu, &shape, node.input(0), node.output(0));
    }
}
