//! The update, segment 4: gradient norm, clip, SGD or AdamW, EMA, over the Store's flat buffers. It is not a graph op: its
//! inputs are the whole Store and the step's scalars.
//!
//! Sources: SGD with momentum as in PyTorch; AdamW, Loshchilov & Hutter 2019, algorithm 2.

pub(crate) mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
mod tests;

pub use cpu::{AdamW, GroupScalars, Sgd};

use super::cost::Cost;

/// The least memory traffic of the update. Gradients are read once for their norm, which must be known before anything is
/// updated. Then gradients (set to zero), values, averages and `moments` moments of every parameter are read and written, the
/// averages of `running` statistics are updated, and `copies` bytes of weight copies are written.
pub fn cost(parameters: usize, moments: usize, running: usize, copies: usize) -> Cost {
    let floats = parameters * (1 + 2 * (3 + moments)) + 3 * running;
    Cost { flops: 0, bytes: (4 * floats + copies) as u64 }
}
