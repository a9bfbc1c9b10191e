//! Group norm with its ReLU on the CPU. Block sums per image and channel are taken as in batch norm and merged to groups, then
//! one affine pass follows. Each pass runs one task per (image, row block), over as many images as stay in cache between passes.

use super::{EPSILON, Shape};
use crate::device::cpu::{Cpu, SharedMut};
use crate::ir::{GroupNormRelu, GroupNormReluBackward};
use crate::ops::batch_norm::STATISTICS_ROWS;
use crate::ops::batch_norm::cpu::{
    Parameters, Rows, affine_rows, gradient_row, gradient_sums, masked, mean_and_m2, relu_of,
};
use crate::ops::cpu::{CpuNode, CpuOp, Operands};

/// Row blocks of a batch of images: enough to keep the threads busy, and few enough to stay in cache.
const BATCH_BLOCKS: usize = 16;

impl Shape {
    fn blocks(&self) -> usize {
        self.hw.div_ceil(STATISTICS_ROWS)
    }

    /// The number of pixels of `block`.
    fn rows(&self, block: usize) -> usize {
        STATISTICS_ROWS.min(self.hw - block * STATISTICS_ROWS)
    }

    /// The elements of task (image, block) in a `[N, HW, C]` map.
    fn range(&self, task: usize) -> std::ops::Range<usize> {
        let (image, block) = (task / self.blocks(), task % self.blocks());
        let begin = (image * self.hw + block * STATISTICS_ROWS) * self.c;
        begin..begin + self.rows(block) * self.c
    }

    fn partials(&self) -> usize {
        self.n * self.blocks() * 2 * self.c
    }

    /// The shape of a batch of images processed together; the last batch may have fewer.
    fn batch(&self) -> Shape {
        Shape { n: (BATCH_BLOCKS / self.blocks().max(1)).clamp(1, self.n.max(1)), ..*self }
    }

    /// The batches: the shape of each, and its first image.
    fn batches(&self) -> impl Iterator<Item = (Shape, usize)> {
        let (whole, batch) = (*self, self.batch());
        (0..whole.n).step_by(batch.n).map(move |first| (Shape { n: batch.n.min(whole.n - first), ..whole }, first))
    }

    /// This batch's part of a map with `per_image` elements per image.
    fn part(&self, first: usize, per_image: usize) -> std::ops::Range<usize> {
        first * per_image..(first + self.n) * per_image
    }
}

/// The inputs of the backward; all but moments `[N, groups, 2]` and gamma `[C]` are `[N, HW, C]`.
pub struct BackwardInputs<'a> {
    pub dy: &'a [f32],
    pub x: &'a [f32],
    pub y: &'a [f32],
    pub moments: &'a [f32],
    pub gamma: &'a [f32],
}

/// Length of the workspace of [`forward`].
pub fn forward_workspace(shape: &Shape) -> usize {
    shape.batch().partials() + shape.batch().n * 2 * shape.c
}

/// Length of the workspace of [`backward`].
pub fn backward_workspace(shape: &Shape) -> usize {
    shape.batch().partials() + shape.batch().n * 3 * shape.c
}

/// y = relu(norm(x)·gamma + beta) `[N, HW, C]`; moments `[N, groups, 2]`: mean, 1/deviation.
pub fn forward(
    cpu: &Cpu,
    shape: &Shape,
    x: &[f32],
    parameters: &Parameters,
    y: &mut [f32],
    moments: &mut [f32],
    workspace: &mut [f32],
) {
    for (batch, first) in shape.batches() {
        let map = batch.part(first, shape.hw * shape.c);
        let moments = &mut moments[batch.part(first, 2 * shape.groups)];
        forward_batch(cpu, &batch, &x[map.clone()], parameters, &mut y[map], moments, workspace);
    }
}

fn forward_batch(
    cpu: &Cpu,
    shape: &Shape,
    x: &[f32],
    parameters: &Parameters,
    y: &mut [f32],
    moments: &mut [f32],
    workspace: &mut [f32],
) {
    let c = shape.c;
    let (partials, affine) = workspace.split_at_mut(shape.partials());
    cpu.parallel_chunks(
        partials,
        2 * c,
        #[inline(always)]
        |task, out| {
            let (mean, m2) = out.split_at_mut(c);
            mean_and_m2(&x[shape.range(task)], mean, m2);
        },
    );
    let per_image = shape.blocks() * 2 * c;
    let images = moments.chunks_exact_mut(2 * shape.groups).zip(affine.chunks_exact_mut(2 * c));
    for (image, (moments, affine)) in images.enumerate() {
        finish(shape, &partials[image * per_image..][..per_image], parameters, moments, affine);
    }
    let (affine, y) = (&*affine, SharedMut::new(y));
    cpu.parallel(
        shape.n * shape.blocks(),
        #[inline(always)]
        |task| {
            let (scale, shift) = affine[task / shape.blocks() * 2 * c..][..2 * c].split_at(c);
            // SAFETY: tasks' ranges do not overlap, and each is visited once.
            let y = unsafe { y.range(shape.range(task)) };
            affine_rows(&x[shape.range(task)], scale, shift, y, relu_of);
        },
    );
}

/// Merges one image's partial sums over blocks and the channels of each group, in that order, in f64.
fn finish(shape: &Shape, partials: &[f32], parameters: &Parameters, moments: &mut [f32], affine: &mut [f32]) {
    let (c, width) = (shape.c, shape.c / shape.groups);
    let count = (shape.hw * width) as f64;
    let (scale, shift) = affine.split_at_mut(c);
    for (group, moments) in moments.chunks_exact_mut(2).enumerate() {
        let channels = group * width..(group + 1) * width;
        let (mut mean, mut m2) = (0.0, 0.0);
        for (block, partial) in partials.chunks_exact(2 * c).enumerate() {
            let sum: f64 = partial[channels.clone()].iter().map(|&m| f64::from(m)).sum();
            mean += sum * shape.rows(block) as f64;
        }
        mean /= count;
        for (block, partial) in partials.chunks_exact(2 * c).enumerate() {
            for i in channels.clone() {
                let apart = f64::from(partial[i]) - mean;
                m2 += f64::from(partial[c + i]) + shape.rows(block) as f64 * apart * apart;
            }
        }
        let rstd = 1.0 / (m2 / count + f64::from(parameters.epsilon)).sqrt();
        moments[0] = mean as f32;
        moments[1] = rstd as f32;
        for i in channels {
            let exact = f64::from(parameters.gamma[i]) * rstd;
            scale[i] = exact as f32;
            shift[i] = (f64::from(parameters.beta[i]) - mean * exact) as f32;
        }
    }
}

/// Writes dx `[N, HW, C]` and adds to dgamma and dbeta `[C]`, images in order.
pub fn backward(
    cpu: &Cpu,
    shape: &Shape,
    inputs: &BackwardInputs,
    dx: &mut [f32],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
    workspace: &mut [f32],
) {
    for (batch, first) in shape.batches() {
        let map = batch.part(first, shape.hw * shape.c);
        let inputs = BackwardInputs {
            dy: &inputs.dy[map.clone()],
            x: &inputs.x[map.clone()],
            y: &inputs.y[map.clone()],
            moments: &inputs.moments[batch.part(first, 2 * shape.groups)],
            gamma: inputs.gamma,
        };
        backward_batch(cpu, &batch, &inputs, &mut dx[map], dgamma, dbeta, workspace);
    }
}

fn backward_batch(
    cpu: &Cpu,
    shape: &Shape,
    inputs: &BackwardInputs,
    dx: &mut [f32],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
    workspace: &mut [f32],
) {
    let (c, width) = (shape.c, shape.c / shape.groups);
    let (partials, coefficients) = workspace.split_at_mut(shape.partials());
    let coefficients = &mut coefficients[..shape.n * 3 * c];
    // Before the coefficients are written, the first C elements of each image hold its means, one per channel.
    for (image, means) in coefficients.chunks_exact_mut(3 * c).enumerate() {
        for (i, mean) in means[..c].iter_mut().enumerate() {
            *mean = inputs.moments[(image * shape.groups + i / width) * 2];
        }
    }
    let means = &*coefficients;
    cpu.parallel_chunks(
        partials,
        2 * c,
        #[inline(always)]
        |task, out| {
            let (sum, dot) = out.split_at_mut(c);
            let mean = &means[task / shape.blocks() * 3 * c..][..c];
            let [dy, x, y] = [inputs.dy, inputs.x, inputs.y].map(|map| &map[shape.range(task)]);
            gradient_sums(Rows { g: dy, z: Some(y), y: x }, mean, sum, dot);
        },
    );
    let per_image = shape.blocks() * 2 * c;
    for (image, coefficients) in coefficients.chunks_exact_mut(3 * c).enumerate() {
        let partials = &partials[image * per_image..][..per_image];
        let moments = &inputs.moments[image * 2 * shape.groups..][..2 * shape.groups];
        backward_finish(shape, partials, moments, inputs.gamma, coefficients, dgamma, dbeta);
    }
    let (coefficients, dx) = (&*coefficients, SharedMut::new(dx));
    cpu.parallel(
        shape.n * shape.blocks(),
        #[inline(always)]
        |task| {
            let coefficients = &coefficients[task / shape.blocks() * 3 * c..][..3 * c];
            let [dy, x, y] = [inputs.dy, inputs.x, inputs.y].map(|map| &map[shape.range(task)]);
            // SAFETY: tasks' ranges do not overlap, and each is visited once.
            let dx = unsafe { dx.range(shape.range(task)) };
            let rows = dy.chunks_exact(c).zip(x.chunks_exact(c)).zip(y.chunks_exact(c));
            for (dx, ((dy, x), y)) in dx.chunks_exact_mut(c).zip(rows) {
                gradient_row(dx, [dy, y, x], coefficients, masked);
            }
        },
    );
}

/// One image's coefficients `[3, C]` of dx = a·dz + b·x + c, from its partials (Σ dz, Σ dz·(x − mean)).
fn backward_finish(
    shape: &Shape,
    partials: &[f32],
    moments: &[f32],
    gamma: &[f32],
    coefficients: &mut [f32],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
) {
    let (c, width) = (shape.c, shape.c / shape.groups);
    let count = (shape.hw * width) as f64;
    for (group, moments) in moments.chunks_exact(2).enumerate() {
        let (mean, rstd) = (f64::from(moments[0]), f64::from(moments[1]));
        let (mut sum_of_group, mut dot_of_group) = (0.0, 0.0);
        for i in group * width..(group + 1) * width {
            let (mut sum, mut dot) = (0.0, 0.0);
            for partial in partials.chunks_exact(2 * c) {
                sum += f64::from(partial[i]);
                dot += f64::from(partial[c + i]);
            }
            dot *= rstd;
            dbeta[i] += sum as f32;
            dgamma[i] += dot as f32;
            sum_of_group += f64::from(gamma[i]) * sum;
            dot_of_group += f64::from(gamma[i]) * dot;
        }
        let b = -rstd * rstd * dot_of_group / count;
        for i in group * width..(group + 1) * width {
            coefficients[i] = (f64::from(gamma[i]) * rstd) as f32;
            coefficients[c + i] = b as f32;
            coefficients[2 * c + i] = (-rstd * sum_of_group / count - b * mean) as f32;
        }
    }
}

impl CpuOp for GroupNormRelu {
    fn cpu_scratch(&self, node: &CpuNode) -> usize {
        forward_workspace(&Shape::new(node.input_shape(0), self.groups))
    }

    fn run(&self, node: &mut Operands) {
        let shape = Shape::new(node.input_shape(0), self.groups);
        let parameters = Parameters { gamma: node.input(1), beta: node.input(2), epsilon: EPSILON };
        let (y, moments, scratch) = (node.output(0), node.output(1), node.scratch());
        forward(node.cpu, &shape, node.input(0), &parameters, y, moments, scratch);
    }
}

impl CpuOp for GroupNormReluBackward {
    fn cpu_scratch(&self, node: &CpuNode) -> usize {
        backward_workspace(&Shape::new(node.input_shape(0), self.groups))
    }

    fn run(&self, node: &mut Operands) {
        let shape = Shape::new(node.input_shape(0), self.groups);
        let inputs = BackwardInputs {
            dy: node.input(0),
            x: node.input(1),
            y: node.input(2),
            moments: node.input(3),
            gamma: node.input(4),
        };
        let (dx, dgamma, dbeta) = (node.output(0), node.output(1), node.output(2));
        backward(node.cpu, &shape, &inputs, dx, dgamma, dbeta, node.scratch());
    }
}
