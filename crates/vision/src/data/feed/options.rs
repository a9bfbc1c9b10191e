//! The options of a loader: sizes, threads, how pictures are drawn, and how their labels become targets.

use super::Sampling;
use crate::data::augment::{Augment, ComposerOptions, Transforms};
use crate::data::images::cache::Cache;
use crate::tasks::{Bears, Encoders};
use std::sync::Arc;

/// How samples become batches.
#[derive(Clone, Debug)]
pub struct LoaderOptions {
    /// Images of a batch.
    pub batch: usize,
    /// Side of the square network input in pixels.
    pub imgsz: usize,
    /// Threads that decode and draw; 0 counts as 1.
    pub workers: usize,
    /// Decides the order of the images and everything random about each.
    pub seed: u64,
    /// How each image is framed, mirrored and coloured.
    pub augment: Augment,
    /// What else training varies.
    pub variety: Variety,
    /// The part of the data set that may be unreadable, though always one image; 0 allows none.
    pub max_broken: f32,
    /// The number of finished batches that may wait.
    pub prefetch: usize,
    /// The cache of decoded images.
    pub cache: Option<Arc<Cache>>,
    /// Makes the targets of each image in the loader's threads; `None` makes no targets.
    pub encoders: Option<Arc<Encoders>>,
}

impl LoaderOptions {
    /// The part of these options that says how pictures are drawn.
    pub fn composing(&self) -> ComposerOptions {
        let Variety { transforms, bears, mosaic_batches, sides, .. } = self.variety.clone();
        ComposerOptions {
            augment: self.augment,
            transforms,
            bears,
            mosaic_batches,
            sides: if sides.is_empty() { vec![self.imgsz] } else { sides },
            seed: self.seed,
            cache: self.cache.clone(),
        }
    }
}

/// The transformations of training beyond framing each image once; none by default.
#[derive(Clone, Debug)]
pub struct Variety {
    /// The transformations beside framing.
    pub transforms: Transforms,
    /// The transformations that keep each task's labels true.
    pub bears: Vec<Bears>,
    /// The number of the first batch without mosaics.
    pub mosaic_batches: u64,
    /// Which images an epoch has.
    pub sampling: Sampling,
    /// Classes in a smaller share of the images are repeated; 0 repeats none.
    pub repeat_factor: f32,
    /// Each batch has one of these sides, drawn by the seed and its number. Empty: always [`LoaderOptions::imgsz`].
    pub sides: Vec<usize>,
}

impl Default for Variety {
    fn default() -> Variety {
        Variety {
            transforms: Transforms::NONE,
            bears: Vec::new(),
            mosaic_batches: u64::MAX,
            sampling: Sampling::Uniform,
            repeat_factor: 0.0,
            sides: Vec::new(),
        }
    }
}
