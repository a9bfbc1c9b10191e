//! Convolution on the CPU as implicit matrix products: the kernels' contract and what may ride in their epilogues. Slices in
//! and out, sizes checked by the caller; nothing is allocated but scratch that each thread keeps.
//!
//! Results do not depend on the number of threads: every output element, and every partial sum, is computed by one task
//! in one order that follows from the shape alone.

mod bias;
mod blocks;
mod dgrad;
mod fprop;
mod geometry;
mod pack;
mod run;
mod wgrad;
mod winograd;

pub use bias::{bias_gradient, bias_workspace};
pub use dgrad::{dgrad, dgrad_workspace};
pub use fprop::{fprop, fprop_workspace};
pub use pack::{pack_dgrad, pack_fprop, packed_dgrad_len, packed_fprop_len};
pub use wgrad::{wgrad, wgrad_workspace};
pub use winograd::Side;

use crate::ops::conv2d::Problem;

/// Rows of the written matrix (`[N·P·Q, K]` or `[N·H·W, C]`) that one block of partial sums covers, on every instruction
/// set and for every shape. 128 divides the row counts of 64² images in batches of 32.
pub const STATISTICS_ROWS: usize = 128;

/// The algorithm of a convolution in all its directions; each algorithm has packed weights of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Sums of products as they are defined.
    Direct,
    /// Minimal filtering of tiles of outputs.
    Winograd(Side),
}

impl Algorithm {
    /// Follows from the shape alone.
    pub fn of(problem: &Problem) -> Algorithm {
        Side::of(problem).map_or(Algorithm::Direct, Algorithm::Winograd)
    }
}

/// A convolution's weight as its kernels take it.
#[derive(Clone, Copy)]
pub enum Weight<'a> {
    /// `[K, R, S, C]`: packed where it is used, into the workspace. For a weight that is used once.
    Plain(&'a [f32]),
    /// From [`pack_fprop`] or [`pack_dgrad`].
    Packed(&'a [f32]),
}

/// The steps that are applied to a forward result before it leaves the cache.
pub enum Epilogue<'a> {
    /// `y = conv(x)`.
    Plain,
    /// `y = conv(x) + bias`, bias `[K]`.
    Bias(&'a [f32]),
    /// `y = conv(x)`, and into the partials `[blocks, 2, K]` for each block of [`STATISTICS_ROWS`] rows of y its mean
    /// and the sum of squared deviations from that mean.
    Statistics(&'a mut [f32]),
    /// Evaluation: `y = act(conv(x) · scale + shift + residual)`.
    Affine {
        /// `[2, K]`: scale, shift.
        affine: &'a [f32],
        /// `[N, P, Q, K]`
        residual: Option<&'a [f32]>,
        relu: bool,
    },
}

/// The steps that are applied to an input gradient before it leaves the cache.
pub enum DgradEpilogue<'a> {
    /// `dx = conv_transpose(dy)`.
    Plain,
    /// `dx = conv_transpose(dy) + addend`, addend `[N, H, W, C]`.
    Add(&'a [f32]),
    /// `dz = (conv_transpose(dy) + addend) · [z > 0]`, written to dx, and the two sums batch norm's backward needs.
    Reduce {
        /// `[N, H, W, C]`
        addend: Option<&'a [f32]>,
        /// z `[N, H, W, C]`, what the ReLU gave; absent where there is none.
        mask: Option<&'a [f32]>,
        /// `[N, H, W, C]`: what was normalised.
        y: &'a [f32],
        /// `[2, C]`: mean, 1 / deviation.
        moments: &'a [f32],
        /// `[blocks, 2, C]`: Σ dz and Σ dz · (y − mean) · rstd over each block of [`STATISTICS_ROWS`] rows.
        partials: &'a mut [f32],
    },
}
