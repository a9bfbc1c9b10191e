//! Convolution on the CPU as implicit matrix products: the kernels' contract and their possible epilogues. Inputs and outputs are
//! slices whose sizes the caller has checked; nothing is allocated but scratch memory that each thread keeps.
//!
//! Results do not depend on the number of threads: every output element, and every partial sum, is computed by one task
//! in one order that depends only on the shape.

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
    /// Plain sums of products.
    Direct,
    /// Minimal filtering of tiles of outputs.
    Winograd(Side),
}

impl Algorithm {
    /// The algorithm for a problem; it depends only on the shape.
    pub fn of(problem: &Problem) -> Algorithm {
        Side::of(problem).map_or(Algorithm::Direct, Algorithm::Winograd)
    }
}

/// The weight of a convolution in one of the forms that its kernels accept.
#[derive(Clone, Copy)]
pub enum Weight<'a> {
    /// `[K, R, S, C]`, packed into the workspace when it is used. For a weight that is used once.
    Plain(&'a [f32]),
    /// Packed in advance by [`pack_fprop`] or [`pack_dgrad`].
    Packed(&'a [f32]),
}

/// The steps that are applied to a forward result before it leaves the cache.
pub enum Epilogue<'a> {
    /// `y = conv(x)`.
    Plain,
    /// `y = conv(x) + bias`, bias `[K]`.
    Bias(&'a [f32]),
    /// `y = conv(x)`; writes to the partials `[blocks, 2, K]`, for each block of [`STATISTICS_ROWS`] rows of y, its mean and
    /// the sum of squared deviations from that mean.
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
    /// `dz = (conv_transpose(dy) + addend) · [z > 0]`, written to dx, and the two sums that batch norm's backward needs.
    Reduce {
        /// `[N, H, W, C]`
        addend: Option<&'a [f32]>,
        /// z `[N, H, W, C]`, the output of the ReLU, if there is one.
        mask: Option<&'a [f32]>,
        /// `[N, H, W, C]`: the input of batch norm.
        y: &'a [f32],
        /// `[2, C]`: mean, 1 / deviation.
        moments: &'a [f32],
        /// `[blocks, 2, C]`: Σ dz and Σ dz · (y − mean) · rstd over each block of [`STATISTICS_ROWS`] rows.
        partials: &'a mut [f32],
    },
}
