//! Concatenation of pyramid levels along the cells, and its backward, on the CPU.

use super::{ConcatLevels, ConcatLevelsBackward};
use crate::device::cpu::{Cpu, SharedMut};
use crate::ops::cpu::{CpuNode, CpuOp, NO_SCRATCH, Operands};

/// Elements per task.
const TASK_LEN: usize = 1 << 14;
/// The number of parts of a dot product, whatever its length and the number of threads.
const PARTS: usize = 64;
/// The number of partial sums of a dot product.
const LANES: usize = 16;

/// One level: x `[N, cells, D]`, times `scale` if it has one.
pub struct Level<'a> {
    pub x: &'a [f32],
    pub cells: usize,
    pub scale: Option<f32>,
}

/// The gradients of one level: dx `[N, cells, D]` is overwritten, dscale is added to.
pub struct LevelGradient<'a> {
    pub dx: &'a mut [f32],
    pub dscale: Option<&'a mut f32>,
}

/// Writes out `[N, A, D]`, where A is the sum of the levels' cells.
pub fn forward(cpu: &Cpu, n: usize, d: usize, levels: &[Level], out: &mut [f32]) {
    let cells: usize = levels.iter().map(|level| level.cells).sum();
    let out = SharedMut::new(out);
    let mut first = 0;
    for level in levels {
        let tasks = (level.cells * d).div_ceil(TASK_LEN);
        cpu.parallel(
            n * tasks,
            #[inline(always)]
            |task| {
                let (image, begin) = (task / tasks, task % tasks * TASK_LEN);
                let len = TASK_LEN.min(level.cells * d - begin);
                let at = (image * cells + first) * d + begin;
                // SAFETY: tasks' ranges do not overlap, and each is visited once.
                let out = unsafe { out.range(at..at + len) };
                copy_scaled(&level.x[image * level.cells * d + begin..][..len], level.scale, out);
            },
        );
        first += level.cells;
    }
}

/// From dout `[N, A, D]`, computes each level's dx = scale·dout and dscale += Σ dout·x.
pub fn backward(cpu: &Cpu, n: usize, d: usize, dout: &[f32], levels: &[Level], gradients: &mut [LevelGradient]) {
    let cells: usize = levels.iter().map(|level| level.cells).sum();
    let mut first = 0;
    for (level, gradient) in levels.iter().zip(gradients) {
        let tasks = (level.cells * d).div_ceil(TASK_LEN);
        let dx = SharedMut::new(&mut *gradient.dx);
        cpu.parallel(
            n * tasks,
            #[inline(always)]
            |task| {
                let (image, begin) = (task / tasks, task % tasks * TASK_LEN);
                let len = TASK_LEN.min(level.cells * d - begin);
                let at = image * level.cells * d + begin;
                // SAFETY: tasks' ranges do not overlap, and each is visited once.
                let dx = unsafe { dx.range(at..at + len) };
                copy_scaled(&dout[(image * cells + first) * d + begin..][..len], level.scale, dx);
            },
        );
        if let Some(dscale) = &mut gradient.dscale {
            let slice = |image: usize| &dout[(image * cells + first) * d..][..level.cells * d];
            **dscale += dot(cpu, n, level.x, slice) as f32;
        }
        first += level.cells;
    }
}

#[inline(always)]
fn copy_scaled(from: &[f32], scale: Option<f32>, to: &mut [f32]) {
    match scale {
        None => to.copy_from_slice(from),
        Some(scale) => {
            for (to, from) in to.iter_mut().zip(from) {
                *to = scale * from;
            }
        }
    }
}

/// Σ x·dout over the `n` images of one level, in [`PARTS`] parts that are added in order.
fn dot<'a>(cpu: &Cpu, n: usize, x: &[f32], dout: impl Fn(usize) -> &'a [f32] + Sync) -> f64 {
    let per_image = x.len() / n.max(1);
    let part = per_image.div_ceil(PARTS);
    let mut sums = [0.0; PARTS];
    cpu.parallel_chunks(
        &mut sums,
        1,
        #[inline(always)]
        |index, sum| {
            let range = (index * part).min(per_image)..((index + 1) * part).min(per_image);
            for image in 0..n {
                let x = &x[image * per_image..][range.clone()];
                sum[0] += dot_of_part(x, &dout(image)[range.clone()]);
            }
        },
    );
    sums.iter().sum()
}

#[inline(always)]
fn dot_of_part(x: &[f32], y: &[f32]) -> f64 {
    let mut total = 0.0;
    // At most 64 products are added in one f32 sum; the rest is added in f64.
    for (x, y) in x.chunks(64 * LANES).zip(y.chunks(64 * LANES)) {
        let mut sums = [0.0f32; LANES];
        let ((xs, x), (ys, y)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
        total += x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>();
        for (x, y) in xs.iter().zip(ys) {
            for lane in 0..LANES {
                sums[lane] += x[lane] * y[lane];
            }
        }
        total += sums.iter().map(|&sum| f64::from(sum)).sum::<f64>();
    }
    total
}

/// The levels among the inputs from `first` on, with their scales if there are any.
fn levels<'a>(node: &Operands<'a>, first: usize) -> Vec<Level<'a>> {
    let is_map = |&index: &usize| node.input_shape(index).len() == 4;
    let (maps, scales): (Vec<usize>, Vec<usize>) = (first..node.input_count()).partition(is_map);
    let level = |(position, &map): (usize, &usize)| {
        let s = node.input_shape(map);
        let scale = scales.get(position).map(|&index| node.input::<f32>(index)[0]);
        Level { x: node.input(map), cells: s[1] * s[2], scale }
    };
    maps.iter().enumerate().map(level).collect()
}

impl CpuOp for ConcatLevels {
    fn cpu_scratch(&self, _node: &CpuNode) -> usize {
        NO_SCRATCH
    }

    fn run(&self, node: &mut Operands) {
        let s = node.output_shape(0);
        forward(node.cpu, s[0], s[2], &levels(node, 0), node.output(0));
    }
}

impl CpuOp for ConcatLevelsBackward {
    fn cpu_scratch(&self, _node: &CpuNode) -> usize {
        NO_SCRATCH
    }

    fn run(&self, node: &mut Operands) {
        let levels = levels(node, 1);
        let gradient = |level: usize| LevelGradient {
            dx: node.output(level),
            dscale: node.optional_output::<f32>(levels.len() + level).map(|scale| &mut scale[0]),
        };
        let mut gradients: Vec<LevelGradient> = (0..levels.len()).map(gradient).collect();
        let s = node.input_shape(0);
        backward(node.cpu, s[0], s[2], node.input(0), &levels, &mut gradients);
    }
}
