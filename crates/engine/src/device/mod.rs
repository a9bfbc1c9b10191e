//! Devices: primitives only (threads, vector registers, memory), no ops.

pub mod cpu;
pub mod cuda;
