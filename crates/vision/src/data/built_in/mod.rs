//! The built-in data set: scenes of digits, made from a seed.

pub mod digits;
pub(crate) mod scene;
