//! Data: from the user's files to batches for a training step. It holds label formats, the data set, decoding,
//! augmentation, the loader and the built-in digits. It knows no model and no strides, and prints nothing.
//!
//! Each folder may import only from the folders before it; ARCHITECTURE.md lists their order. This file re-exports them
//! for other modules; files below `data` do not import from it.

pub mod aside;
pub mod augment;
pub mod built_in;
pub mod check;
pub mod convert;
pub mod dataset;
mod declaration;
pub mod describe;
pub mod feed;
mod formats;
mod forms;
pub mod images;
mod layouts;
mod own;
mod progress;
pub mod random;
pub mod ranges;
mod walk;

#[cfg(test)]
mod tests;

pub use aside::remove_leftovers;
pub use augment::{Augment, Framing, Transforms};
pub use built_in::digits;
pub use dataset::{Dataset, Fold, Mixture, OpenOptions, Sample, Sources};
pub use declaration::Split;
pub use feed::{Batch, Broken, EvalLoader, Item, LoaderOptions, Sampling, TrainLoader, Variety};
pub use formats::coco;
pub use images::Image;
pub use own::{LABELS_MARKER, Own, RUNS_MARKER, mark, may_mark, remove_empty};
pub use progress::Progress;
pub use walk::{ignored, walk};

pub use crate::geometry::Geometry;
pub use crate::tasks::Invariances;
