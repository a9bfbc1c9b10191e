//! The ways to compute a convolution on a GPU, of which tuning chooses the fastest.

use super::{Tile, WgradPlan, dgrad_partials, padded};
use crate::device::cuda::{Direction, Precision, Sizes};
use crate::ir::{Conv2dDgrad, Conv2dFprop, Conv2dWgrad, ConvEpilogue, DgradEpilogue, Graph, Node};
use crate::ops::batch_norm::STATISTICS_ROWS;
use crate::ops::conv2d::Problem;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The way one convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Choice {
    /// Our own kernel with this tile, for fprop and dgrad.
    Tile(Tile),
    /// Our own kernel with this tile and these splits, for wgrad.
    Wgrad(WgradPlan),
    /// cuDNN, for fprop and dgrad.
    Cudnn {
        /// The workspace that cuDNN needs.
        workspace_bytes: usize,
    },
}

/// For messages: the size of the tile, and its splits.
impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Choice::Tile(tile) => write!(f, "tile {tile}"),
            Choice::Wgrad(WgradPlan { tile, splits }) => write!(f, "tile {tile} in {splits} splits"),
            Choice::Cudnn { .. } => f.write_str("cuDNN"),
        }
    }
}

impl Choice {
    /// Bytes of scratch memory to compute the convolution.
    pub fn scratch(&self, problem: &Problem) -> usize {
        match self {
            Choice::Tile(_) => 0,
            Choice::Wgrad(plan) => plan.workspace(problem),
            Choice::Cudnn { workspace_bytes } => *workspace_bytes,
        }
    }

    /// Bytes of scratch memory for a trial. Its gradient is written behind the splits' sums, and is as large as the sum of one
    /// split.
    pub fn trial_scratch(&self, problem: &Problem) -> usize {
        match self {
            Choice::Wgrad(plan) => WgradPlan { splits: plan.splits + 1, ..*plan }.workspace(problem),
            Choice::Tile(_) | Choice::Cudnn { .. } => self.scratch(problem),
        }
    }
}

/// A convolution whose kernel is chosen by tuning.
#[derive(Clone, Copy, Debug)]
pub struct Tunable {
    /// Which of the three convolutions it is.
    pub direction: Direction,
    /// All sizes, channels padded.
    pub problem: Problem,
    /// Whether cuDNN followed by our kernels can compute the node with its epilogue.
    pub suits_cudnn: bool,
}

impl Tunable {
    /// The forward convolution of `node`; `logical` has its sizes without padding.
    pub fn of_fprop(op: &Conv2dFprop, logical: &Graph, node: &Node) -> Tunable {
        let suits_cudnn = op.epilogue != ConvEpilogue::Bias;
        Tunable { direction: Direction::Fprop, problem: padded(op.problem(logical, node)), suits_cudnn }
    }

    /// The input gradient of `node`; `logical` has its sizes without padding.
    pub fn of_dgrad(op: &Conv2dDgrad, logical: &Graph, node: &Node) -> Tunable {
        let problem = padded(op.problem(logical, node));
        let suits_cudnn = match op.epilogue {
            DgradEpilogue::Plain { .. } => true,
            // The kernel after cuDNN sums over other rows than a strided dgrad, so both must write the same number of sums.
            DgradEpilogue::Reduce { .. } => dgrad_partials(&problem) == problem.input_rows().div_ceil(STATISTICS_ROWS),
        };
        Tunable { direction: Direction::Dgrad, problem, suits_cudnn }
    }

    /// cuDNN writes a weight gradient in bf16, which would round a gradient that is accumulated in f32. It is therefore measured
    /// but never chosen.
    pub fn of_wgrad(op: &Conv2dWgrad, logical: &Graph, node: &Node) -> Tunable {
        Tunable { direction: Direction::Wgrad, problem: padded(op.problem(logical, node)), suits_cudnn: false }
    }

    /// All of our own kernels that can compute it, the estimate first.
    pub fn candidates(&self, precision: Precision, processors: usize) -> Vec<Choice> {
        let tiles = |estimate: Tile| {
            let others = Tile::ALL.into_iter().filter(|&tile| tile != estimate);
            [estimate].into_iter().chain(others).map(Choice::Tile).collect()
        };
        match self.direction {
            Direction::Fprop => tiles(Tile::for_fprop(&self.problem)),
            Direction::Dgrad => tiles(Tile::for_dgrad(&self.problem)),
            Direction::Wgrad => {
                let plans = WgradPlan::candidates(precision, &self.problem, processors);
                plans.into_iter().map(Choice::Wgrad).collect()
            }
        }
    }

    /// Whether `choice` can compute it. Checked because the choice may come from a file.
    pub fn suits(&self, choice: &Choice) -> bool {
        match (choice, self.direction) {
            (Choice::Tile(_), Direction::Fprop | Direction::Dgrad) => true,
            (Choice::Wgrad(plan), Direction::Wgrad) => plan.fits(&self.problem),
            (Choice::Cudnn { .. }, _) => self.suits_cudnn,
            (Choice::Tile(_), Direction::Wgrad) | (Choice::Wgrad(_), Direction::Fprop | Direction::Dgrad) => false,
        }
    }

    /// The arguments with which to ask cuDNN about the plain convolution; `None` in f32 and if there is nothing to compute.
    pub fn question(&self, precision: Precision) -> Option<(Direction, Sizes)> {
        let p = &self.problem;
        let sizes = Sizes {
            x: [p.n, p.h, p.w, p.c],
            weight: [p.k, p.r, p.s, p.c],
            y: [p.n, p.p(), p.q(), p.k],
            stride: p.stride,
            padding: p.padding,
        };
        (precision == Precision::Bf16 && p.rows() > 0).then_some((self.direction, sizes))
    }
}
