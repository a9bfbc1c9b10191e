//! From image files to pixels: decoding, the cache of decoded images, and resizing. No labels or data sets here.

pub mod cache;
pub mod decode;
pub(crate) mod jpeg;
mod picture;
pub mod resize;
pub mod unread;

pub use picture::{Image, Part};
