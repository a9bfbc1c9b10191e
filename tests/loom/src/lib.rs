//! The pool of `src/device/cpu/pool.rs`, compiled with loom's primitives.

#[path = "../../../src/device/cpu/pool.rs"]
pub mod pool;
