//! The built-in data set: scenes of digits, made from a seed.

pub mod digits;
mod planted;
pub(crate) mod scene;

pub use planted::Planted;
