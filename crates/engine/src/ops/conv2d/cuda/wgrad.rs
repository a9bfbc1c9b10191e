//! The weight gradient's launches. The tiles are parts of `[K, R·S·C]`. The reduction over rows is split so that every
//! multiprocessor has work; a second kernel adds the sums of the splits in order.

use super::{CHUNK, DIRECT_THREADS, check, shape};
use crate::device::cuda::{Address, Arguments, File, Launch, Precision};
use crate::ops::conv2d::Problem;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The least number of blocks that one multiprocessor holds at a time; the compile check limits their registers accordingly.
const BLOCKS: usize = 2;
/// The most bytes for the sums of a layer's splits; a single split may exceed it.
const WORKSPACE_BYTES: usize = 64 << 20;
/// The most splits; a grid can have 65535.
const SPLITS: usize = 1024;
/// The estimate that decides without measurements. `BLOCK_CHUNKS` is the number of chunks that a block could multiply in the time
/// it takes to start and end. `CHUNK_SUMS` is the number of elements of the splits' sums that a block can write and read, with
/// its share of the memory bandwidth, in the time of one chunk.
const BLOCK_CHUNKS: usize = 4;
const CHUNK_SUMS: usize = 2048;
/// Threads per block of the kernel that adds up the splits, and the most threads that share an element.
const REDUCE_THREADS: usize = 256;
const REDUCE_LANES: usize = 8;
/// The least number of splits per thread of that kernel; with more, several threads share an element.
const REDUCE_SPLITS: usize = 4;

/// The part of the gradient `[K, R·S·C]` that a block computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WgradTile {
    /// 128 × 128, eight warps.
    Wide,
    /// 128 × 64, four warps.
    Narrow,
    /// 64 × 64, four warps.
    Small,
}

impl WgradTile {
    /// All tiles, the largest first.
    pub const ALL: [WgradTile; 3] = [WgradTile::Wide, WgradTile::Narrow, WgradTile::Small];

    /// The number of rows (output channels) and of columns.
    pub fn size(self) -> [usize; 2] {
        match self {
            WgradTile::Wide => [128, 128],
            WgradTile::Narrow => [128, 64],
            WgradTile::Small => [64, 64],
        }
    }

    fn threads(self) -> usize {
        match self {
            WgradTile::Wide => 256,
            WgradTile::Narrow | WgradTile::Small => 128,
        }
    }

    fn shared_bytes(self) -> usize {
        let stages = match self {
            WgradTile::Wide => 3,
            WgradTile::Narrow | WgradTile::Small => 4,
        };
        stages * self.size().iter().sum::<usize>() * CHUNK * 2
    }

    fn kernel(self) -> &'static str {
        match self {
            WgradTile::Wide => "conv2d_wgrad_128x128",
            WgradTile::Narrow => "conv2d_wgrad_128x64",
            WgradTile::Small => "conv2d_wgrad_64x64",
        }
    }
}

impl fmt::Display for WgradTile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [rows, columns] = self.size();
        write!(f, "{rows}x{columns}")
    }
}

/// The split of one weight gradient into blocks. The number of splits affects the order of its sums; the tile does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WgradPlan {
    /// The part that a block computes.
    pub tile: WgradTile,
    /// The number of parts of the reduction over rows.
    pub splits: usize,
}

impl WgradPlan {
    /// The estimate: the largest tile that wastes little work past the edges, and the number of splits with the lowest estimated
    /// cost.
    pub fn choose(precision: Precision, problem: &Problem, processors: usize) -> WgradPlan {
        let [m, n] = [problem.k, problem.taps() * problem.c];
        let padded = |tile: WgradTile| m.next_multiple_of(tile.size()[0]) * n.next_multiple_of(tile.size()[1]);
        let least = WgradTile::ALL.map(padded).into_iter().min().unwrap_or(0);
        // A tile of half the size reads twice as much for the same products, so a larger one may waste an eighth of them.
        let tile = WgradTile::ALL.into_iter().find(|&tile| padded(tile) <= least + least / 8);
        WgradPlan::of_tile(tile.unwrap_or(WgradTile::Small), precision, problem, processors)
    }

    /// The plans worth measuring: first the plan from [`WgradPlan::choose`], then every tile with its estimate of splits, and
    /// with half and twice as many.
    pub fn candidates(precision: Precision, problem: &Problem, processors: usize) -> Vec<WgradPlan> {
        let chosen = WgradPlan::choose(precision, problem, processors);
        let mut plans = vec![chosen];
        // f32 has no tiles.
        for tile in WgradTile::ALL.into_iter().filter(|&t| precision == Precision::Bf16 || t == chosen.tile) {
            let estimate = WgradPlan::of_tile(tile, precision, problem, processors).splits;
            for splits in [estimate, estimate / 2, 2 * estimate] {
                let plan = WgradPlan { tile, splits };
                if plan.fits(problem) && !plans.contains(&plan) {
                    plans.push(plan);
                }
            }
        }
        plans
    }

    /// Whether there are at least as many chunks as splits, and the splits' sums fit in the workspace.
    pub fn fits(&self, problem: &Problem) -> bool {
        (1..=most_splits(problem)).contains(&self.splits)
    }

    /// The number of splits with the lowest estimated cost for this tile.
    fn of_tile(tile: WgradTile, precision: Precision, problem: &Problem, processors: usize) -> WgradPlan {
        let blocks = match precision {
            Precision::Bf16 => tiles(tile, problem),
            Precision::F32 => problem.weight_len().div_ceil(DIRECT_THREADS),
        };
        let (slots, chunks) = ((BLOCKS * processors).max(1), problem.rows().div_ceil(CHUNK));
        let cost = |splits: usize| {
            let waves = (blocks * splits).div_ceil(slots);
            let sums = (splits * problem.weight_len()).div_ceil(slots * CHUNK_SUMS);
            waves * (chunks.div_ceil(splits) + BLOCK_CHUNKS) + sums
        };
        WgradPlan { tile, splits: (1..=most_splits(problem)).min_by_key(|&splits| cost(splits)).unwrap_or(1) }
    }

    /// Bytes of the splits' sums `[splits, K, R, S, C]`.
    pub fn workspace(&self, problem: &Problem) -> usize {
        4 * self.splits * problem.weight_len()
    }

    /// Adds dyᵀ `[K, N·P·Q]` × patches of x `[N·P·Q, R·S·C]` to the Store's gradient `[logical K, R, S, logical C]`. `workspace`
    /// has the size from [`WgradPlan::workspace`].
    pub fn launches(
        &self,
        precision: Precision,
        problem: &Problem,
        [logical_k, logical_c]: [usize; 2],
        [dy, x]: [Address; 2],
        workspace: Address,
        gradient: Address,
    ) -> Vec<Launch> {
        check(problem);
        if problem.rows() * problem.weight_len() == 0 {
            return Vec::new();
        }
        let chunks = problem.rows().div_ceil(CHUNK);
        let chunks_per_split = chunks.div_ceil(self.splits);
        // Every split has at least one row.
        let splits = chunks.div_ceil(chunks_per_split);
        let arguments = Arguments::new().pointer(dy).pointer(x).pointer(workspace);
        let arguments = shape(arguments, problem).int(CHUNK * chunks_per_split);
        let partial = match precision {
            Precision::Bf16 => Launch {
                file: File::CONV2D_WGRAD,
                kernel: self.tile.kernel(),
                grid: [tiles(self.tile, problem) as u32, splits as u32, 1],
                threads: self.tile.threads() as u32,
                shared_bytes: self.tile.shared_bytes() as u32,
                arguments,
            },
            Precision::F32 => Launch {
                file: File::CONV2D_DIRECT,
                kernel: "conv2d_wgrad_direct",
                grid: [problem.weight_len().div_ceil(DIRECT_THREADS) as u32, splits as u32, 1],
                threads: DIRECT_THREADS as u32,
                shared_bytes: 0,
                arguments,
            },
        };
        let elements = logical_k * problem.taps() * logical_c;
        let lanes = (splits / REDUCE_SPLITS).clamp(1, REDUCE_LANES);
        let lanes = if lanes.is_power_of_two() { lanes } else { lanes.next_power_of_two() / 2 };
        let arguments = Arguments::new().pointer(workspace).pointer(gradient).int(splits).int(problem.weight_len());
        let reduce = Launch {
            file: File::CONV2D_DIRECT,
            kernel: "conv2d_wgrad_reduce",
            grid: [elements.div_ceil(REDUCE_THREADS / lanes) as u32, 1, 1],
            threads: REDUCE_THREADS as u32,
            shared_bytes: (4 * REDUCE_THREADS) as u32,
            arguments: arguments.int(elements).int(logical_c).int(problem.c).int(lanes),
        };
        vec![partial, reduce]
    }
}

fn most_splits(problem: &Problem) -> usize {
    let chunks = problem.rows().div_ceil(CHUNK).max(1);
    (WORKSPACE_BYTES / (4 * problem.weight_len().max(1))).clamp(1, SPLITS).min(chunks)
}

fn tiles(tile: WgradTile, problem: &Problem) -> usize {
    let [m, n] = tile.size();
    problem.k.div_ceil(m) * (problem.taps() * problem.c).div_ceil(n)
}
