//! The pool of `crates/engine/src/device/cpu/pool.rs`, compiled with loom's primitives.

#[path = "../../../crates/engine/src/device/cpu/pool.rs"]
pub mod pool;
