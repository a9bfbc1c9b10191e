//! From files a person has to batches a step takes: label formats, the data set, decoding, augmentation, the loader and
//! the built-in digits. It knows no model and no strides, and prints nothing.

mod aside;
pub mod augment;
pub mod cache;
pub mod check;
pub mod convert;
mod data_yaml;
pub mod dataset;
mod declaration;
pub mod decode;
pub mod describe;
pub mod digits;
mod discovery;
mod faults;
mod formats;
mod from_yaml;
mod jpeg;
mod labels;
mod listing;
pub mod loader;
mod pipeline;
mod progress;
pub mod random;
pub mod ranges;
pub mod resize;
mod sampling;
mod scene;
mod task_yaml;
pub mod transforms;

#[cfg(test)]
mod tests;

pub use augment::{Augment, Framing};
pub use dataset::{Dataset, OpenOptions, Sample, Split};
pub use decode::Image;
pub use formats::coco;
pub use listing::{RUNS_MARKER, walk};
pub use loader::{Batch, Broken, EvalLoader, Item, LoaderOptions, TrainLoader, Variety};
pub use progress::Progress;
pub use sampling::Sampling;
pub use transforms::{Bears, Transforms};

pub use crate::geometry::Geometry;
pub(crate) use crate::reading::{List, Place, Spot, count_of, did_you_mean, list_some};
