//! A batch for a training step: the pixels, and each image's labels and targets.

use super::Broken;
use crate::geometry::Geometry;
use crate::tasks::{Label, Target};

/// A batch made by a loader.
#[derive(Debug)]
pub struct Batch {
    /// `[batch, side, side, 3]`; zero after the last of `items`.
    pub images: Vec<u8>,
    /// The side of its square canvases in pixels.
    pub side: usize,
    /// One per image, in the order of `images`.
    pub items: Vec<Item>,
    /// Images found unreadable while this batch was made; each is reported once.
    pub broken: Vec<Broken>,
}

/// One image of a batch.
#[derive(Clone, Debug)]
pub struct Item {
    /// The index of the sample.
    pub index: usize,
    /// The geometry of its framing, before any of [`Transforms`](crate::data::augment::Transforms).
    pub geometry: Geometry,
    /// One per task, in network pixels.
    pub labels: Vec<Label>,
    /// One per task; empty without [`LoaderOptions::encoders`](super::LoaderOptions).
    pub targets: Vec<Target>,
    /// Whether every object left the picture while another task's label still describes them.
    pub emptied: bool,
}

impl Batch {
    /// The number of actual images; the rest of the batch is padding.
    pub fn count(&self) -> usize {
        self.items.len()
    }
}
