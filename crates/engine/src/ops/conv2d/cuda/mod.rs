//! The launches of the convolution kernels (`kernels/conv2d.cu` for bf16, `kernels/conv2d_direct.cu` for f32). Channel counts are
//! those in the device's memory, multiples of eight.

mod choice;
mod cudnn;
mod lower;
#[cfg(test)]
mod tests;
mod wgrad;

pub use choice::{Choice, Tunable};
pub use cudnn::{gradient_bytes, plain as plain_by_cudnn};
pub use wgrad::{WgradPlan, WgradTile};

use super::Problem;
use super::cpu::STATISTICS_ROWS;
use crate::device::cuda::{Address, Arguments, File, Launch, Precision};
use crate::ops::cuda::{MAX_VECTORS, VECTOR};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Rows of the written matrix per block.
const TILE_ROWS: usize = STATISTICS_ROWS;
/// Elements of the reduction in one stage of the pipeline.
const CHUNK: usize = 32;
/// Threads per block of the f32 kernels.
const DIRECT_THREADS: usize = 256;
/// The kernels keep a pixel's valid taps in 16 bits per axis, and the loop over taps may run past the end by three.
const LARGEST_KERNEL: usize = 12;
/// Wide tiles are the default from this many blocks on: one wave of two blocks on each of a large GPU's 132 multiprocessors.
const WIDE_BLOCKS: usize = 264;

/// The steps that are applied to a forward result before it is written.
#[derive(Clone, Copy, Debug)]
pub enum FpropEpilogue {
    /// `y = conv(x)`.
    Plain,
    /// Adds `bias [channels]`; the padding channels after them get none.
    Bias {
        /// f32, one per channel in `channels`.
        bias: Address,
        /// The number of channels that the model has; those in memory are padded to a multiple of eight.
        channels: usize,
    },
    /// For every [`STATISTICS_ROWS`] rows, the mean and the sum of squared deviations of y as stored: `[B, 2, K]`.
    Statistics {
        /// f32 `[B, 2, K]`, which the kernel writes.
        partials: Address,
    },
    /// `act(y·scale + shift + residual)`, affine `[2, K]`.
    Affine {
        /// f32 `[2, K]`: scale, then shift.
        affine: Address,
        /// A map of the shape of y.
        residual: Option<Address>,
        /// Whether `act` is ReLU; otherwise it is the identity.
        relu: bool,
    },
}

/// The steps that are applied to an input gradient before it is written.
#[derive(Clone, Copy, Debug)]
pub enum DgradEpilogue {
    /// `dx` itself, plus the addend if there is one.
    Plain {
        /// Another gradient of the same map.
        addend: Option<Address>,
    },
    /// `dz = (dx + addend)·[mask > 0]`, and Σ dz and Σ dz·(y − mean)·rstd of dz as stored: `[dgrad_partials, 2, C]`.
    Reduce {
        /// Another gradient of the same map.
        addend: Option<Address>,
        /// The output of the preceding ReLU: where it is not positive, the gradient is 0.
        mask: Option<Address>,
        /// The input of batch norm, of the shape of dx.
        y: Address,
        /// f32 `[2, C]`: mean, then 1/deviation.
        moments: Address,
        /// The two sums of each tile of rows, which the kernel writes.
        partials: Address,
    },
}

/// The files with the kernels that tuning chooses between.
pub const TILED: [File; 3] = [File::CONV2D, File::CONV2D_WGRAD, File::CONV2D_DIRECT];

/// The part of the result that a block of fprop and dgrad computes. Tiles differ in which thread computes an element, not in the
/// order of its sum, so every tile gives the same numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Tile {
    /// 128 × 128, eight warps.
    Wide,
    /// 128 × 64, four warps: for few channels, or few blocks.
    Narrow,
}

impl Tile {
    /// Both tiles, starting with the default for large sizes.
    pub const ALL: [Tile; 2] = [Tile::Wide, Tile::Narrow];

    /// The estimate for [`fprop`].
    pub fn for_fprop(problem: &Problem) -> Tile {
        Tile::choose(problem.rows().div_ceil(TILE_ROWS), problem.k)
    }

    /// The estimate for [`dgrad`].
    pub fn for_dgrad(problem: &Problem) -> Tile {
        Tile::choose(dgrad_partials(problem), problem.c)
    }

    /// The number of columns of the written matrix per tile; the number of rows is 128.
    pub fn columns(self) -> usize {
        match self {
            Tile::Wide => 128,
            Tile::Narrow => 64,
        }
    }

    fn threads(self) -> usize {
        2 * self.columns()
    }

    /// Bytes of the pipeline's stages, which the epilogue reuses.
    fn shared_bytes(self) -> usize {
        let stages = match self {
            Tile::Wide => 3,
            Tile::Narrow => 4,
        };
        stages * (TILE_ROWS + self.columns()) * CHUNK * 2
    }

    /// Wide, unless that wastes columns past the edge or leaves multiprocessors without a block.
    fn choose(row_tiles: usize, columns: usize) -> Tile {
        let padded = |tile: Tile| columns.next_multiple_of(tile.columns());
        let blocks = row_tiles * columns.div_ceil(Tile::Wide.columns());
        if padded(Tile::Narrow) < padded(Tile::Wide) || blocks < WIDE_BLOCKS { Tile::Narrow } else { Tile::Wide }
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{TILE_ROWS}x{}", self.columns())
    }
}

/// y `[N, P, Q, K]` = epilogue(x `[N, H, W, C]` ∗ weight `[K, R, S, C]`). In f32 there are only the epilogues Plain and Bias, and
/// no tiles.
pub fn fprop(
    precision: Precision,
    problem: &Problem,
    tile: Tile,
    [x, weight]: [Address; 2],
    epilogue: FpropEpilogue,
    y: Address,
) -> Vec<Launch> {
    check(problem);
    if problem.output_len() == 0 {
        return Vec::new();
    }
    let (mut bias, mut affine, mut residual, mut partials) = (None, None, None, None);
    let (mut bias_channels, mut relu) = (0, false);
    match epilogue {
        FpropEpilogue::Plain => {}
        FpropEpilogue::Bias { bias: at, channels } => (bias, bias_channels) = (Some(at), channels),
        FpropEpilogue::Statistics { partials: at } => partials = Some(at),
        FpropEpilogue::Affine { affine: at, residual: r, relu: on } => (affine, residual, relu) = (Some(at), r, on),
    }
    let arguments = Arguments::new().pointer(x).pointer(weight).pointer(y).optional(bias);
    if precision == Precision::F32 {
        assert!(affine.is_none() && partials.is_none(), "in f32 the plan is not fused");
        let arguments = shape(arguments, problem).int(bias_channels);
        return vec![direct("conv2d_fprop_direct", problem.output_len(), arguments)];
    }
    let arguments = arguments.optional(affine).optional(residual).optional(partials);
    let arguments = shape(arguments, problem).int(bias_channels).int(usize::from(relu));
    let kernel = match tile {
        Tile::Wide => "conv2d_fprop_128x128",
        Tile::Narrow => "conv2d_fprop_128x64",
    };
    vec![tiled(kernel, tile, problem.rows().div_ceil(TILE_ROWS), problem.k, arguments)]
}

/// dx `[N, H, W, C]` = epilogue(the gradient of [`fprop`]'s x for dy `[N, P, Q, K]`). In f32 there is only Plain without an
/// addend, and no tiles.
pub fn dgrad(
    precision: Precision,
    problem: &Problem,
    tile: Tile,
    [dy, weight]: [Address; 2],
    epilogue: DgradEpilogue,
    dx: Address,
) -> Vec<Launch> {
    check(problem);
    if problem.input_len() == 0 {
        return Vec::new();
    }
    let (addend, mask, y, moments, partials) = match epilogue {
        DgradEpilogue::Plain { addend } => (addend, None, None, None, None),
        DgradEpilogue::Reduce { addend, mask, y, moments, partials } => {
            (addend, mask, Some(y), Some(moments), Some(partials))
        }
    };
    let arguments = Arguments::new().pointer(dy).pointer(weight).pointer(dx);
    if precision == Precision::F32 {
        assert!(addend.is_none() && partials.is_none(), "in f32 the plan is not fused");
        return vec![direct("conv2d_dgrad_direct", problem.input_len(), shape(arguments, problem))];
    }
    let arguments = arguments.optional(addend).optional(mask).optional(y).optional(moments).optional(partials);
    let kernel = match tile {
        Tile::Wide => "conv2d_dgrad_128x128",
        Tile::Narrow => "conv2d_dgrad_128x64",
    };
    vec![tiled(kernel, tile, dgrad_partials(problem), problem.c, shape(arguments, problem))]
}

/// The number of rows of the partials of [`DgradEpilogue::Reduce`]: the tiles of all phases. A tile's pixels are of one phase,
/// which share their taps.
pub fn dgrad_partials(problem: &Problem) -> usize {
    let pixels = |len: usize, phase: usize| {
        // The first position of the phase: (position + padding) % stride == phase.
        let first = (phase + problem.stride - problem.padding % problem.stride) % problem.stride;
        len.saturating_sub(first).div_ceil(problem.stride)
    };
    let phases = (0..problem.stride).flat_map(|r| (0..problem.stride).map(move |s| (r, s)));
    let tiles = |(r, s)| (problem.n * pixels(problem.h, r) * pixels(problem.w, s)).div_ceil(TILE_ROWS);
    phases.map(tiles).sum()
}

/// The sizes with channels padded to vectors, as the kernels need them.
fn padded(problem: Problem) -> Problem {
    Problem { c: problem.c.next_multiple_of(VECTOR), k: problem.k.next_multiple_of(VECTOR), ..problem }
}

/// Asserts the limits that the kernels rely on.
fn check(problem: &Problem) {
    assert!(problem.c.is_multiple_of(VECTOR) && problem.k.is_multiple_of(VECTOR), "channels are padded to vectors");
    assert!(problem.r <= LARGEST_KERNEL && problem.s <= LARGEST_KERNEL, "a kernel of {} is too large", problem.r);
    let largest = problem.input_len().max(problem.output_len()).max(problem.weight_len());
    assert!(largest / VECTOR <= MAX_VECTORS, "kernels index vectors with an int");
}

/// Adds the members of the kernels' struct `Shape`.
fn shape(arguments: Arguments, problem: &Problem) -> Arguments {
    let &Problem { n, h, w, c, k, r, s, stride, padding } = problem;
    [n, h, w, c, k, r, s, stride, padding, problem.p(), problem.q()].into_iter().fold(arguments, Arguments::int)
}

/// A launch with all tiles in one row of blocks. Tiles of the same rows are neighbours, because they read the same activations,
/// which are much larger than the weights.
fn tiled(kernel: &'static str, tile: Tile, row_tiles: usize, columns: usize, arguments: Arguments) -> Launch {
    let grid = [(row_tiles * columns.div_ceil(tile.columns())) as u32, 1, 1];
    let (threads, shared_bytes) = (tile.threads() as u32, tile.shared_bytes() as u32);
    Launch { file: File::CONV2D, kernel, grid, threads, shared_bytes, arguments }
}

/// A launch with one thread per element.
fn direct(kernel: &'static str, elements: usize, arguments: Arguments) -> Launch {
    let grid = [elements.div_ceil(DIRECT_THREADS) as u32, 1, 1];
    Launch { file: File::CONV2D_DIRECT, kernel, grid, threads: DIRECT_THREADS as u32, shared_bytes: 0, arguments }
}
