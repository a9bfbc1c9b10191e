//! Augmentation, from a sample to a training picture: placement on the canvas (`framing`), other transformations
//! (`transforms`), the labels that rule some of them out (`protection`), and their order (`compose`). Labels move with
//! the pixels.

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
