//! A batch as a step takes it: the pictures' bytes, and the labels and targets of each.

use super::Broken;
use crate::geometry::Geometry;
use crate::tasks::{Label, Target};

/// A batch on its way to a step.
#[derive(Debug)]
pub struct Batch {
    /// `[batch, side, side, 3]`; beyond `items` zeros.
    pub images: Vec<u8>,
    /// Side of its square canvases in pixels.
    pub side: usize,
    /// One per image in it, in the order of `images`.
    pub items: Vec<Item>,
    /// Images found unreadable on the way here, each told once.
    pub broken: Vec<Broken>,
}

/// One image of a batch.
#[derive(Clone, Debug)]
pub struct Item {
    /// The number of the sample.
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
    /// The images that count; the rest is padding.
    pub fn count(&self) -> usize {
        self.items.len()
    }
}
