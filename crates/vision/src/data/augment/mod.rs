//! A training picture from a sample: where it lies on the canvas (`framing`), the other transformations (`transforms`), the labels
//! that forbid some of them (`protection`), and their order (`compose`). Labels move with the pixels.

mod colour;
mod compose;
mod erasing;
mod framing;
mod mixup;
mod mosaic;
mod perspective;
mod protection;
#[cfg(test)]
mod tests;
mod transforms;

pub use compose::{Composer, ComposerOptions, Drawn};
pub use framing::{Augment, Framing, PADDING};
pub use protection::remarks;
pub use transforms::Transforms;
