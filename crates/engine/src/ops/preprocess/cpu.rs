//! Normalisation of images on the CPU.

use super::{DEVIATION, MEAN, Preprocess};
use crate::device::cpu::Cpu;
use crate::ops::cpu::{CpuNode, CpuOp, NO_SCRATCH, Operands};

/// Elements processed together: a multiple of the three colours and of every vector width.
const PERIOD: usize = 48;
/// Elements per task.
const TASK_LEN: usize = PERIOD * 512;

/// Images u8 `[N, H, W, 3]` → (x/255 − mean)/deviation, f32.
pub fn normalise(cpu: &Cpu, images: &[u8], mean: [f32; 3], deviation: [f32; 3], x: &mut [f32]) {
    let scale: [f32; PERIOD] = std::array::from_fn(|i| (1.0 / (255.0 * f64::from(deviation[i % 3]))) as f32);
    let shift: [f32; PERIOD] = std::array::from_fn(|i| (-f64::from(mean[i % 3]) / f64::from(deviation[i % 3])) as f32);
    cpu.parallel_chunks(
        x,
        TASK_LEN,
        #[inline(always)]
        |task, x| {
            let images = &images[task * TASK_LEN..][..x.len()];
            for (x, image) in x.chunks_mut(PERIOD).zip(images.chunks(PERIOD)) {
                for (((x, &image), scale), shift) in x.iter_mut().zip(image).zip(&scale).zip(&shift) {
                    *x = f32::from(image) * scale + shift;
                }
            }
        },
    );
}

impl CpuOp for Preprocess {
    fn cpu_scratch(&self, _node: &CpuNode) -> usize {
        NO_SCRATCH
    }

    fn run(&self, node: &mut Operands) {
        normalise(node.cpu, node.input(0), MEAN, DEVIATION, node.output(0));
    }
}
