//! The update, segment 4: gradient norm, clip, SGD or AdamW, EMA, over the Store's flat buffers. No graph op: its inputs are
//! the whole Store and the step's scalars.
//!
//! Sources: SGD with momentum as PyTorch's; AdamW, Loshchilov & Hutter 2019, algorithm 2.

pub mod cpu;
pub mod cuda;
#[cfg(test)]
mod tests;
