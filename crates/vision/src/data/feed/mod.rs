//! Batches for training steps: `sampling`, `mixing` and `order` choose the images, `loader` makes batches from them in background
//! threads.

mod batch;
mod broken;
mod loader;
mod mixing;
mod options;
mod order;
pub(crate) mod sampling;

pub use batch::{Batch, Item};
pub use broken::{Broken, broken_allowed};
pub use loader::{EvalLoader, TrainLoader};
pub use options::{LoaderOptions, Variety};
pub use sampling::Sampling;
