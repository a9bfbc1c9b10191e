//! The options of a loader: sizes, threads, augmentation, and the encoding of labels as targets.

use super::Sampling;
use crate::data::augment::{Augment, ComposerOptions, Transforms};
use crate::data::dataset::Mixture;
use crate::data::images::cache::Cache;
use crate::tasks::{Encoders, Invariances};
use std::sync::Arc;

/// The options for turning samples into batches.
#[derive(Clone, Debug)]
pub struct LoaderOptions {
    /// The number of images in a batch.
    pub batch: usize,
    /// The side of the square network input in pixels.
    pub imgsz: usize,
    /// The number of threads that decode and draw; 0 counts as 1.
    pub workers: usize,
    /// Determines the order of the images and all random choices for each.
    pub seed: u64,
    /// The framing, mirroring and colour jitter of each image.
    pub augment: Augment,
    /// Further variation in training.
    pub variety: Variety,
    /// The share of the data set that may be unreadable, but always at least one image; 0 allows none.
    pub max_broken: f32,
    /// The number of finished batches that may be queued.
    pub prefetch: usize,
    /// The cache of decoded images.
    pub cache: Option<Arc<Cache>>,
    /// Makes the targets of each image in the loader's threads; with `None` there are no targets.
    pub encoders: Option<Arc<Encoders>>,
}

impl LoaderOptions {
    /// The options for composing pictures.
    pub fn composing(&self) -> ComposerOptions {
        let Variety { transforms, invariances, mosaic_batches, sides, .. } = self.variety.clone();
        ComposerOptions {
            augment: self.augment,
            transforms,
            invariances,
            mosaic_batches,
            sides: if sides.is_empty() { vec![self.imgsz] } else { sides },
            seed: self.seed,
            cache: self.cache.clone(),
        }
    }
}

/// The variation in training beyond framing each image once; the default is none.
#[derive(Clone, Debug)]
pub struct Variety {
    /// The transformations other than framing.
    pub transforms: Transforms,
    /// The transformations that do not change the labels of each task.
    pub invariances: Vec<Invariances>,
    /// The number of the first batch without mosaics.
    pub mosaic_batches: u64,
    /// The choice of images for an epoch.
    pub sampling: Sampling,
    /// The shares of several sources in every batch; not together with another choice than uniform.
    pub mixture: Option<Arc<Mixture>>,
    /// Classes that occur in a smaller share of the images are repeated; 0 repeats none.
    pub repeat_factor: f32,
    /// The possible sides of batches; the seed and a batch's number choose one. If empty, all have side
    /// [`LoaderOptions::imgsz`].
    pub sides: Vec<usize>,
}

impl Default for Variety {
    fn default() -> Variety {
        Variety {
            transforms: Transforms::NONE,
            invariances: Vec::new(),
            mosaic_batches: u64::MAX,
            sampling: Sampling::Uniform,
            mixture: None,
            repeat_factor: 0.0,
            sides: Vec::new(),
        }
    }
}
