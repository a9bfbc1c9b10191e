//! A training picture from a sample: how it lies on the canvas (`framing`), what else may happen to it (`transforms`), which
//! labels forbid that (`protection`), in which order (`compose`). Labels move with the pixels.

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
