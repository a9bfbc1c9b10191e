//! Max pooling, the mean over an image, and dropout on the CPU. The backward of max pooling gathers: each input pixel checks the
//! windows that it lies in, so that no two threads write to the same place.

use super::{GlobalPool, KERNEL, MaxPoolBackward, PADDING, STRIDE};
use crate::device::cpu::{Cpu, SharedMut};
use crate::ir::Dropout;
use crate::ops::cpu::{CpuNode, CpuOp, NO_SCRATCH, Operands};
use crate::random::draw;
use std::ops::Range;

/// The number of channels compared together.
const LANES: usize = 16;
/// Elements per task of dropout.
const TASK_LEN: usize = 1 << 14;
/// The number of pixels summed before their sum is added to the total.
const SUM_ROWS: usize = 64;

/// The sizes of a max pool over `[N, H, W, C]` with any window; the op is [`super::MaxPool`]. The padding counts as −∞ and is
/// smaller than the kernel, which has at most 255 taps.
#[derive(Clone, Copy, Debug)]
pub struct MaxPool {
    pub n: usize,
    pub h: usize,
    pub w: usize,
    pub c: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
}

impl MaxPool {
    pub fn p(&self) -> usize {
        (self.h + 2 * self.padding - self.kernel) / self.stride + 1
    }

    pub fn q(&self) -> usize {
        (self.w + 2 * self.padding - self.kernel) / self.stride + 1
    }

    /// The taps of output `out` that lie inside an axis of `length`.
    #[inline(always)]
    fn taps(&self, out: usize, length: usize) -> Range<usize> {
        let start = out * self.stride;
        self.padding.saturating_sub(start)..self.kernel.min(length + self.padding - start)
    }

    /// The outputs along an axis, of `outputs` in all, whose windows contain input `at`.
    #[inline(always)]
    fn windows(&self, at: usize, outputs: usize) -> Range<usize> {
        let last = (at + self.padding) / self.stride + 1;
        (at + self.padding + 1).saturating_sub(self.kernel).div_ceil(self.stride)..last.min(outputs)
    }
}

/// Writes y `[N, P, Q, C]` and, if given, argmax: the tap (row-major in the kernel) of the first maximum. NaN counts as the
/// maximum, as in PyTorch.
pub fn max_pool(cpu: &Cpu, problem: &MaxPool, x: &[f32], y: &mut [f32], argmax: Option<&mut [u8]>) {
    let (p, q, c) = (problem.p(), problem.q(), problem.c);
    let image = problem.h * problem.w * c;
    debug_assert_eq!(x.len(), problem.n * image, "x is [N, H, W, C]");
    let argmax = argmax.map(SharedMut::new);
    cpu.parallel_chunks(
        y,
        q * c,
        #[inline(always)]
        |row, y| {
            let x = &x[row / p * image..][..image];
            // SAFETY: output rows do not overlap, and each is visited once.
            let mut argmax = argmax.as_ref().map(|a| unsafe { a.range(row * q * c..(row + 1) * q * c) });
            for (j, y) in y.chunks_exact_mut(c).enumerate() {
                let window = Window::new(problem, row % p, j);
                let mut argmax = argmax.as_mut().map(|argmax| &mut argmax[j * c..(j + 1) * c]);
                let mut channel = 0;
                while channel < c {
                    let (y, argmax) = (&mut y[channel..], argmax.as_mut().map(|argmax| &mut argmax[channel..]));
                    channel += match c - channel {
                        LANES.. => window.maximum::<LANES>(problem, x, channel, y, argmax),
                        _ => window.maximum::<1>(problem, x, channel, y, argmax),
                    };
                }
            }
        },
    );
}

/// The part of one output's window that lies inside the image.
struct Window {
    rows: Range<usize>,
    columns: Range<usize>,
    /// The index in the image of tap (rows.start, columns.start), channel 0.
    start: usize,
}

impl Window {
    #[inline(always)]
    fn new(problem: &MaxPool, i: usize, j: usize) -> Window {
        let (rows, columns) = (problem.taps(i, problem.h), problem.taps(j, problem.w));
        let top = i * problem.stride + rows.start - problem.padding;
        let left = j * problem.stride + columns.start - problem.padding;
        Window { rows, columns, start: (top * problem.w + left) * problem.c }
    }

    /// Values and taps of the first maximum of `L` channels, kept in registers; returns `L`.
    #[inline(always)]
    fn maximum<const L: usize>(
        &self,
        problem: &MaxPool,
        image: &[f32],
        channel: usize,
        y: &mut [f32],
        argmax: Option<&mut [u8]>,
    ) -> usize {
        let mut best = [f32::NEG_INFINITY; L];
        let mut taps = [(self.rows.start * problem.kernel + self.columns.start) as u32; L];
        for (i, r) in self.rows.clone().enumerate() {
            for (j, s) in self.columns.clone().enumerate() {
                let at = self.start + (i * problem.w + j) * problem.c + channel;
                let pixel = &image[at..at + L];
                let tap = (r * problem.kernel + s) as u32;
                for lane in 0..L {
                    let better = pixel[lane] > best[lane] || pixel[lane].is_nan();
                    best[lane] = if better { pixel[lane] } else { best[lane] };
                    taps[lane] = if better { tap } else { taps[lane] };
                }
            }
        }
        y[..L].copy_from_slice(&best);
        if let Some(argmax) = argmax {
            argmax[..L].copy_from_slice(&taps.map(|tap| tap as u8));
        }
        L
    }
}

/// dx `[N, H, W, C]`: each dy `[N, P, Q, C]` is added to the pixel that its argmax names.
pub fn max_pool_backward(cpu: &Cpu, problem: &MaxPool, dy: &[f32], argmax: &[u8], dx: &mut [f32]) {
    let (p, q, c) = (problem.p(), problem.q(), problem.c);
    cpu.parallel_chunks(
        dx,
        problem.w * c,
        #[inline(always)]
        |row, dx| {
            let (image, i) = (row / problem.h, row % problem.h);
            for (j, dx) in dx.chunks_exact_mut(c).enumerate() {
                let mut begun = false;
                for window in problem.windows(i, p) {
                    let r = i + problem.padding - window * problem.stride;
                    for column in problem.windows(j, q) {
                        let s = j + problem.padding - column * problem.stride;
                        let at = ((image * p + window) * q + column) * c;
                        let tap = (r * problem.kernel + s) as u8;
                        let (dy, argmax) = (&dy[at..at + c], &argmax[at..at + c]);
                        if begun {
                            combine_window(dx, dy, argmax, tap, |dx, dy| dx + dy);
                        } else {
                            combine_window(dx, dy, argmax, tap, |_, dy| dy);
                        }
                        begun = true;
                    }
                }
                if !begun {
                    dx.fill(0.0);
                }
            }
        },
    );
}

/// Combines dx with the dy of one window, or with 0 where the window's maximum is not `tap`.
#[inline(always)]
fn combine_window(dx: &mut [f32], dy: &[f32], argmax: &[u8], tap: u8, join: impl Fn(f32, f32) -> f32) {
    for ((dx, dy), argmax) in dx.iter_mut().zip(dy).zip(argmax) {
        *dx = join(*dx, if *argmax == tap { *dy } else { 0.0 });
    }
}

/// y `[N, C]`: the mean over the pixels of x `[N, HW, C]`, summed in fixed blocks.
pub fn global_pool(cpu: &Cpu, hw: usize, c: usize, x: &[f32], y: &mut [f32]) {
    const WIDE: usize = 4 * LANES;
    let blocks = c.div_ceil(WIDE);
    let y = SharedMut::new(y);
    cpu.parallel(
        x.len() / (hw * c).max(1) * blocks,
        #[inline(always)]
        |task| {
            let (image, first) = (task / blocks, task % blocks * WIDE);
            let x = &x[image * hw * c..(image + 1) * hw * c];
            // SAFETY: tasks' channels do not overlap, and each is visited once.
            let y = unsafe { y.range(image * c + first..image * c + (first + WIDE).min(c)) };
            match <&mut [f32; WIDE]>::try_from(&mut *y) {
                Ok(y) => *y = mean_of::<WIDE>(x, c, first),
                Err(_) => (0..y.len()).for_each(|i| y[i] = mean_of::<1>(x, c, first + i)[0]),
            }
        },
    );
}

/// The mean over the rows of `L` channels from `first`.
#[inline(always)]
fn mean_of<const L: usize>(x: &[f32], c: usize, first: usize) -> [f32; L] {
    let scale = 1.0 / (x.len() / c) as f32;
    let mut total = [0.0f32; L];
    for rows in x.chunks(SUM_ROWS * c) {
        let mut sum = [0.0f32; L];
        for row in rows.chunks_exact(c) {
            let row = &row[first..first + L];
            for lane in 0..L {
                sum[lane] += row[lane];
            }
        }
        for lane in 0..L {
            total[lane] += sum[lane];
        }
    }
    total.map(|total| total * scale)
}

/// y = x/(1 − p) if a hash of counter and position keeps the element, else 0. The backward is the same call on the
/// gradient.
pub fn dropout(cpu: &Cpu, counter: u64, probability: f32, x: &[f32], y: &mut [f32]) {
    // Compares the 24 high bits of the hash, as many bits as an f32 in 0–1 has.
    let threshold = (f64::from(probability) * f64::from(1 << 24)) as u64;
    let scale = 1.0 / (1.0 - probability);
    let key = draw(counter);
    cpu.parallel_chunks(
        y,
        TASK_LEN,
        #[inline(always)]
        |task, y| {
            let begin = task * TASK_LEN;
            for (i, (y, x)) in y.iter_mut().zip(&x[begin..]).enumerate() {
                let kept = draw(key.wrapping_add((begin + i) as u64)) >> 40 >= threshold;
                *y = if kept { x * scale } else { 0.0 };
            }
        },
    );
}

/// The stem's pool over x `[N, H, W, C]`.
fn stem(x: &[usize]) -> MaxPool {
    MaxPool { n: x[0], h: x[1], w: x[2], c: x[3], kernel: KERNEL, stride: STRIDE, padding: PADDING }
}

impl CpuOp for super::MaxPool {
    fn cpu_scratch(&self, _node: &CpuNode) -> usize {
        NO_SCRATCH
    }

    fn run(&self, node: &mut Operands) {
        let (y, argmax) = (node.output(0), node.optional_output(1));
        max_pool(node.cpu, &stem(node.input_shape(0)), node.input(0), y, argmax);
    }
}

impl CpuOp for MaxPoolBackward {
    fn cpu_scratch(&self, _node: &CpuNode) -> usize {
        NO_SCRATCH
    }

    fn run(&self, node: &mut Operands) {
        let problem = stem(node.output_shape(0));
        max_pool_backward(node.cpu, &problem, node.input(0), node.input(1), node.output(0));
    }
}

impl CpuOp for GlobalPool {
    fn cpu_scratch(&self, _node: &CpuNode) -> usize {
        NO_SCRATCH
    }

    fn run(&self, node: &mut Operands) {
        let s = node.input_shape(0);
        global_pool(node.cpu, s[1] * s[2], s[3], node.input(0), node.output(0));
    }
}

impl CpuOp for Dropout {
    fn cpu_scratch(&self, _node: &CpuNode) -> usize {
        NO_SCRATCH
    }

    fn run(&self, node: &mut Operands) {
        let counter = node.scalars.dropout_counter ^ self.salt;
        dropout(node.cpu, counter, self.probability, node.input(0), node.output(0));
    }
}
