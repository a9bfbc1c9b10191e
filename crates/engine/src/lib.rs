//! The engine that runs polyhead's networks: a graph of ops, the plan made of it, and the CPU and CUDA executors that run the
//! plan.
//!
//! ARCHITECTURE.md, at the top of the repository, is the map. The `polyhead` package re-exports these modules.

#![warn(missing_docs)]
// Tests print which devices they skip.
#![cfg_attr(test, allow(clippy::print_stderr))]

pub mod boxes;
pub mod device;
pub mod error;
pub mod executor;
pub mod files;
pub mod graph;
pub mod ir;
pub mod ops;
pub mod random;
pub mod threads;
