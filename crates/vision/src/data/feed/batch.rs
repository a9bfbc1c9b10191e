//! A batch as a step takes it: the pictures' bytes, and of each what its labels ask of the network.

use super::Broken;
use crate::geometry::Geometry;
use crate::tasks::{Label, Target};

/// A batch on its way to a step.
#[derive(Debug)]
pub struct Batch {
    /// `[batch, side, side, 3]`; beyond `items` zeros.
    pub images: Vec<u8>,
    pub side: usize,
    pub items: Vec<Item>,
    /// Images found unreadable on the way here, each told once.
    pub broken: Vec<Broken>,
}

#[derive(Clone, Debug)]
pub struct Item {
    /// Of the sample.
    pub index: usize,
    /// Of its framing, before any of [`Transforms`](crate::data::augment::Transforms).
    pub geometry: Geometry,
    /// In network pixels.
    pub labels: Vec<Label>,
    /// One per task; none where [`LoaderOptions::encoders`](super::LoaderOptions) makes none.
    pub targets: Vec<Target>,
    /// Every object left the picture, of which another task's label still speaks.
    pub emptied: bool,
}

impl Batch {
    /// The images that count; the rest is padding.
    pub fn count(&self) -> usize {
        self.items.len()
    }
}
