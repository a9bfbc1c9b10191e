//! Launches batch norm's kernels (`kernels/batch_norm.cu`). C is always a multiple of 8.

#[cfg(test)]
mod tests;

mod lower;

use super::STATISTICS_ROWS;
use crate::device::cuda::{Address, Arguments, File, Launch};

const VECTOR: usize = 8;
/// Threads per block and vectors per thread of the elementwise kernels.
const STREAM_THREADS: usize = 256;
const STREAM_VECTORS: usize = 2;
/// A tile of the row sums has [`STATISTICS_ROWS`] rows and this many channels.
const TILE_CHANNELS: usize = 64;
const TILE_THREADS: usize = 128;
/// Channels and threads of a block that merges partial sums.
const FINISH_CHANNELS: usize = 8;
const FINISH_THREADS: usize = 512;
const WARP: usize = 32;
const FOLD_THREADS: usize = 128;

/// Scale and shift of a norm, `[C]` each.
#[derive(Clone, Copy, Debug)]
pub struct Parameters {
    pub gamma: Address,
    pub beta: Address,
    pub epsilon: f32,
}

/// Running statistics `[C]`, moved towards the batch's by `momentum`.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    pub mean: Address,
    pub variance: Address,
    pub momentum: f32,
}

/// The inputs of [`reduce`]: activations `[rows, C]`, and moments `[2, C]`.
#[derive(Clone, Copy, Debug)]
pub struct Reduce {
    pub g: Address,
    /// The ReLU's output; the gradient is masked to where it is above zero.
    pub z: Option<Address>,
    pub y: Address,
    pub moments: Address,
}

fn launch(kernel: &'static str, blocks: usize, threads: usize, shared_bytes: usize, arguments: Arguments) -> Launch {
    debug_assert!(blocks > 0, "{kernel} has no elements");
    let (grid, shared_bytes) = ([blocks as u32, 1, 1], shared_bytes as u32);
    Launch { file: File::BATCH_NORM, kernel, grid, threads: threads as u32, shared_bytes, arguments }
}

fn stream(kernel: &'static str, vectors: usize, arguments: Arguments) -> Launch {
    launch(kernel, vectors.div_ceil(STREAM_THREADS * STREAM_VECTORS), STREAM_THREADS, 0, arguments)
}

/// A launch of a kernel that sums over the rows of tiles, with `sums` numbers per channel.
fn tiles(kernel: &'static str, [rows, c]: [usize; 2], sums: usize, arguments: Arguments) -> Launch {
    let blocks = rows.div_ceil(STATISTICS_ROWS) * c.div_ceil(TILE_CHANNELS);
    let shared = TILE_THREADS / WARP * TILE_CHANNELS * sums * size_of::<f32>();
    launch(kernel, blocks, TILE_THREADS, shared, arguments)
}

/// A launch of a kernel that merges partials, with `sums` numbers per channel.
fn finishing(kernel: &'static str, c: usize, sums: usize, arguments: Arguments) -> Launch {
    let shared = FINISH_THREADS / WARP * FINISH_CHANNELS * sums * size_of::<f64>();
    launch(kernel, c / FINISH_CHANNELS, FINISH_THREADS, shared, arguments)
}

/// Writes partials `[B, 2, C]`: mean and M2 of every [`STATISTICS_ROWS`] rows of y `[rows, C]`.
pub fn statistics([rows, c]: [usize; 2], y: Address, partials: Address) -> Launch {
    let arguments = Arguments::new().pointer(y).pointer(partials).int(rows).int(c);
    tiles("batch_norm_statistics", [rows, c], 3, arguments)
}

/// Merges the partials of [`statistics`] into moments `[2, C]` (mean, 1/deviation), affine `[2, C]` (scale, shift), and the
/// running statistics.
pub fn finish(
    [rows, c]: [usize; 2],
    partials: Address,
    parameters: &Parameters,
    running: &Running,
    moments: Address,
    affine: Address,
) -> Launch {
    let arguments = Arguments::new().pointer(partials).pointer(parameters.gamma).pointer(parameters.beta);
    let arguments = arguments.pointer(running.mean).pointer(running.variance).pointer(moments).pointer(affine);
    let arguments = arguments.int(rows).int(c).float(parameters.epsilon).float(running.momentum);
    finishing("batch_norm_finish", c, 3, arguments)
}

/// Folds the running statistics into affine `[2, C]`, for evaluation.
pub fn fold(
    c: usize,
    parameters: &Parameters,
    running_mean: Address,
    running_variance: Address,
    affine: Address,
) -> Launch {
    let arguments = Arguments::new().pointer(parameters.gamma).pointer(parameters.beta);
    let arguments = arguments.pointer(running_mean).pointer(running_variance).pointer(affine);
    let arguments = arguments.int(c).float(parameters.epsilon);
    launch("batch_norm_fold", c.div_ceil(FOLD_THREADS), FOLD_THREADS, 0, arguments)
}

/// z `[rows, C]` = act(y·scale + shift + residual), affine `[2, C]`.
pub fn apply(
    [rows, c]: [usize; 2],
    y: Address,
    affine: Address,
    residual: Option<Address>,
    relu: bool,
    z: Address,
) -> Launch {
    let vectors = rows * c / VECTOR;
    let arguments = Arguments::new().pointer(y).pointer(affine).optional(residual).pointer(z);
    stream("batch_norm_apply", vectors, arguments.int(vectors).int(c).int(usize::from(relu)))
}

/// Writes partials `[B, 2, C]`: Σ dz and Σ dz·(y − mean)/deviation of every [`STATISTICS_ROWS`] rows. dz is the masked gradient;
/// it is written too if `dz` is given.
pub fn reduce([rows, c]: [usize; 2], inputs: &Reduce, dz: Option<Address>, partials: Address) -> Launch {
    let arguments = Arguments::new().pointer(inputs.g).optional(inputs.z).pointer(inputs.y).pointer(inputs.moments);
    let arguments = arguments.optional(dz).pointer(partials).int(rows).int(c);
    tiles("batch_norm_reduce", [rows, c], 2, arguments)
}

/// Computes the coefficients `[3, C]` of dy = a·dz + b·y + c from partials `[blocks, 2, C]`, which may each cover any rows, and
/// adds to dgamma and dbeta `[C]`.
#[expect(clippy::too_many_arguments, reason = "three outputs of three inputs")]
pub fn backward_finish(
    [rows, c]: [usize; 2],
    blocks: usize,
    partials: Address,
    moments: Address,
    gamma: Address,
    coefficients: Address,
    dgamma: Address,
    dbeta: Address,
) -> Launch {
    let arguments = Arguments::new().pointer(partials).pointer(moments).pointer(gamma).pointer(coefficients);
    let arguments = arguments.pointer(dgamma).pointer(dbeta).int(rows).int(blocks).int(c);
    finishing("batch_norm_backward_finish", c, 2, arguments)
}

/// dy `[rows, C]` = scale·dz for a norm that uses running statistics, with dz = g where z > 0; writes dz too if `dz` is given.
pub fn apply_backward(
    [rows, c]: [usize; 2],
    g: Address,
    z: Option<Address>,
    affine: Address,
    dz: Option<Address>,
    dy: Address,
) -> Launch {
    let vectors = rows * c / VECTOR;
    let arguments = Arguments::new().pointer(g).optional(z).pointer(affine).optional(dz).pointer(dy);
    stream("batch_norm_apply_backward", vectors, arguments.int(vectors).int(c))
}

/// dy `[rows, C]` = a·dz + b·y + c.
pub fn backward_apply([rows, c]: [usize; 2], dz: Address, y: Address, coefficients: Address, dy: Address) -> Launch {
    let vectors = rows * c / VECTOR;
    let arguments = Arguments::new().pointer(dz).pointer(y).pointer(coefficients).pointer(dy);
    stream("batch_norm_backward_apply", vectors, arguments.int(vectors).int(c))
}
