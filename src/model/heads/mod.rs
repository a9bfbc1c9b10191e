//! The heads: what each kind of task puts on the shared features.

pub mod classification;
pub mod decode;
pub mod detection;
pub mod regression;
