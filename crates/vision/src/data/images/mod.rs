//! Image files made pixels: decoding, the cache of decoded images, resizing. It knows no label and no data set.

pub mod cache;
pub mod decode;
pub(crate) mod jpeg;
mod picture;
pub mod resize;

pub use picture::{Image, Part};
