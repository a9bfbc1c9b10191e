//! Boxes that mark objects in a picture, and regions in which annotators did not look for every class.

use crate::boxes::Xyxy;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// A ground-truth box, in pixels of its image.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledBox {
    /// The class number.
    pub class: usize,
    /// Corners in pixels.
    pub xyxy: Xyxy,
    /// A crowd or "difficult" region: it is ignored by the loss and not counted by the metric, and a detection on it is
    /// not a false positive.
    pub ignore: bool,
}

/// The boxes of an image, and the regions in which not every class was looked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Boxes {
    /// The boxes, in the order of the label file.
    pub list: Vec<LabelledBox>,
    /// Empty in nearly all images, where all classes were looked for everywhere. An image has at most one region, a
    /// mosaic may have several.
    pub partial: PartialRegions,
}

/// A slice that takes a single word if empty, because labels are kept for a million images.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(clippy::box_collection, reason = "a slice's box would be two words")]
pub struct PartialRegions(Option<Box<Vec<PartialRegion>>>);

impl Deref for PartialRegions {
    type Target = [PartialRegion];

    fn deref(&self) -> &[PartialRegion] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }
}

impl FromIterator<PartialRegion> for PartialRegions {
    fn from_iter<I: IntoIterator<Item = PartialRegion>>(regions: I) -> PartialRegions {
        let regions = Vec::from_iter(regions);
        PartialRegions((!regions.is_empty()).then(|| Box::new(regions)))
    }
}

/// A part of a picture whose annotators looked for some classes only. For the other classes nothing is known there
/// except the boxes that are drawn: the loss does not train on their absence, and a detection of them is not a false
/// positive.
#[derive(Clone, Debug, PartialEq)]
pub struct PartialRegion {
    /// Corners in pixels.
    pub xyxy: Xyxy,
    /// The classes that were looked for, in ascending order; shared between images with the same list.
    pub looked_for: Arc<[u32]>,
}

impl Boxes {
    /// The boxes of an image of a task with `classes` classes. Each region is added as an ignored box for each class
    /// that was not looked for.
    pub fn with_regions(&self, classes: usize) -> impl Iterator<Item = LabelledBox> {
        let of_region = move |region: &PartialRegion| {
            let (region, xyxy) = (region.clone(), region.xyxy);
            let left_out = (0..classes).filter(move |class| !region.has(*class));
            left_out.map(move |class| LabelledBox { class, xyxy, ignore: true })
        };
        self.list.iter().cloned().chain(self.partial.iter().flat_map(of_region))
    }
}

impl PartialRegion {
    /// Whether annotators looked for the class here.
    pub fn has(&self, class: usize) -> bool {
        self.looked_for.binary_search_by(|looked_for| (*looked_for as usize).cmp(&class)).is_ok()
    }
}

impl From<Vec<LabelledBox>> for Boxes {
    fn from(list: Vec<LabelledBox>) -> Boxes {
        Boxes { list, partial: PartialRegions::default() }
    }
}

impl FromIterator<LabelledBox> for Boxes {
    fn from_iter<I: IntoIterator<Item = LabelledBox>>(boxes: I) -> Boxes {
        Vec::from_iter(boxes).into()
    }
}

impl Deref for Boxes {
    type Target = Vec<LabelledBox>;

    fn deref(&self) -> &Vec<LabelledBox> {
        &self.list
    }
}

impl DerefMut for Boxes {
    fn deref_mut(&mut self) -> &mut Vec<LabelledBox> {
        &mut self.list
    }
}
