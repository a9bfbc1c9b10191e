//! Batches for training and evaluation, made by threads ahead of the step that takes them. What a batch holds depends on the seed and
//! its number, never on how many threads made it.

use super::augment::Augment;
use super::cache::Cache;
use super::dataset::Sample;
use super::pipeline::{Order, Pipeline};
use super::sampling::{Sampler, Sampling};
use super::transforms::{Bears, Transforms};
use crate::error::{Result, one_line};
use crate::geometry::Geometry;
use crate::tasks::Label;
use std::fmt;
use std::sync::Arc;

/// Turns the labels of an image, in network pixels of a canvas of this side, into what a step wants of it.
pub type Encode<T> = Arc<dyn Fn(&[Label], usize) -> T + Send + Sync>;

#[derive(Clone, Debug)]
pub struct LoaderOptions {
    pub batch: usize,
    /// Side of the square network input in pixels.
    pub imgsz: usize,
    pub workers: usize,
    pub seed: u64,
    pub augment: Augment,
    pub variety: Variety,
    /// The part of the data set that may be unreadable, though always one image; 0 allows none.
    pub max_broken: f32,
    /// Finished batches that wait.
    pub prefetch: usize,
    /// Where decoded images are kept.
    pub cache: Option<Arc<Cache>>,
}

/// What training shows beside each image once as it is framed; the default is nothing.
#[derive(Clone, Debug)]
pub struct Variety {
    pub transforms: Transforms,
    /// Per task.
    pub bears: Vec<Bears>,
    /// From this batch on without mosaics.
    pub mosaic_batches: u64,
    pub sampling: Sampling,
    /// Classes in a smaller share of the images are repeated; 0 repeats none.
    pub repeat_factor: f32,
    /// Sides of which each batch has one, drawn by the seed and its number; none is always [`LoaderOptions::imgsz`].
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

/// A batch on its way to a step.
#[derive(Debug)]
pub struct Batch<T> {
    /// `[batch, side, side, 3]`; beyond `items` zeros.
    pub images: Vec<u8>,
    pub side: usize,
    pub items: Vec<Item<T>>,
    /// Images found unreadable on the way here, each told once.
    pub broken: Vec<Broken>,
}

#[derive(Clone, Debug)]
pub struct Item<T> {
    /// Of the sample.
    pub index: usize,
    /// Of its framing, before any of [`Transforms`].
    pub geometry: Geometry,
    /// In network pixels.
    pub labels: Vec<Label>,
    pub encoded: T,
    /// Every object left the picture, of which another task's label still speaks.
    pub emptied: bool,
}

/// An image that could not be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Broken {
    pub index: usize,
    pub name: String,
    pub message: String,
}

/// On one line, whatever its name.
impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", one_line(&self.name), self.message)
    }
}

impl<T> Batch<T> {
    /// The images that count; the rest is padding.
    pub fn count(&self) -> usize {
        self.items.len()
    }
}

/// An endless shuffled stream of full batches: epochs are seeded by (seed, epoch), permutations unless [`Sampling`] has it
/// otherwise, and a batch may straddle two. An unreadable image is replaced by the next readable one.
pub struct TrainLoader<T> {
    pipeline: Pipeline<T>,
}

/// The samples in order, once; a batch is padded where images are unreadable or at an end.
pub struct EvalLoader<T> {
    pipeline: Pipeline<T>,
    left: u64,
}

impl<T: Send + 'static> TrainLoader<T> {
    /// Starts at batch number `start_batch`, as if those before it had been taken.
    ///
    /// Errors: `Usage` where there is no sample or an option is zero.
    pub fn new(samples: Arc<[Sample]>, options: LoaderOptions, encode: Encode<T>, start_batch: u64) -> Result<Self> {
        let sampler = Sampler::new(&samples, options.variety.sampling, options.variety.repeat_factor);
        let order = Order::shuffled(sampler);
        let pipeline = Pipeline::start(samples, options, encode, order, start_batch)?;
        Ok(TrainLoader { pipeline })
    }

    /// Batches that are finished or begun at most while nobody takes any.
    pub fn backlog(&self) -> usize {
        self.pipeline.backlog()
    }

    /// Errors: `Other` beyond `max_broken`, naming the images.
    #[allow(clippy::should_implement_trait)] // endless, and an error ends it for good
    pub fn next(&mut self) -> Result<Batch<T>> {
        self.pipeline.next()
    }

    /// Gives a used image buffer back.
    pub fn recycle(&self, images: Vec<u8>) {
        self.pipeline.recycle(images);
    }

    /// What the workers could deliver, by the time they took so far; NaN before the first image.
    pub fn images_per_second(&self) -> f64 {
        self.pipeline.images_per_second()
    }
}

impl<T: Send + 'static> EvalLoader<T> {
    pub fn new(samples: Arc<[Sample]>, options: LoaderOptions, encode: Encode<T>) -> Result<Self> {
        let left = samples.len().div_ceil(options.batch.max(1)) as u64;
        let pipeline = Pipeline::start(samples, options, encode, Order::Given, 0)?;
        Ok(EvalLoader { pipeline, left })
    }

    pub fn recycle(&self, images: Vec<u8>) {
        self.pipeline.recycle(images);
    }
}

impl<T: Send + 'static> Iterator for EvalLoader<T> {
    type Item = Result<Batch<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let batch = self.pipeline.next();
        if batch.is_err() {
            self.left = 0;
        }
        Some(batch)
    }
}
