//! From image files to pixels: decoding, the cache of decoded images, and resizing. No labels or data sets here.

pub mod cache;
pub mod decode;
pub(crate) mod jpeg;
pub(crate) mod magic;
mod picture;
pub mod resize;
mod samples;
mod tiff;
pub mod unread;

pub use picture::{Image, Part};
