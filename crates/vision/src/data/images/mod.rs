//! From image files to pixels: decoding, the cache of decoded images, resizing. Nothing here knows labels or data sets.

pub mod cache;
pub mod decode;
pub(crate) mod jpeg;
mod picture;
pub mod resize;

pub use picture::{Image, Part};
