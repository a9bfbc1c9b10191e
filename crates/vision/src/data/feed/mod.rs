//! Batches for a step: the choice of images (`sampling`, `order`) and the threads that turn them into batches (`loader`).

mod batch;
mod broken;
mod loader;
mod options;
mod order;
pub(crate) mod sampling;

pub use batch::{Batch, Item};
pub use broken::{Broken, broken_allowed};
pub use loader::{EvalLoader, TrainLoader};
pub use options::{LoaderOptions, Variety};
pub use sampling::Sampling;
