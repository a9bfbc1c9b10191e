//! Devices: threads, vector registers, memory, kernel launches. Ops are defined elsewhere.

pub mod cpu;
pub mod cuda;
