//! Boxes that mark objects in a picture, and the regions in which not every class was looked for.

use crate::boxes::Xyxy;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// A ground-truth box in pixels of the image it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledBox {
    /// The class's number.
    pub class: usize,
    /// Corners in pixels.
    pub xyxy: Xyxy,
    /// A crowd or "difficult" region: neither taught nor counted, and a detection on it is no mistake.
    pub ignore: bool,
}

/// The boxes of an image, and where not every class was looked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Boxes {
    /// The boxes, in the order of the label file.
    pub list: Vec<LabelledBox>,
    /// Empty where all classes were looked for everywhere, as nearly always; one of an image, several of a mosaic.
    pub partial: PartialRegions,
}

/// A slice that takes a word where it is empty: labels are kept of a million images.
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

/// A part of a picture whose annotators looked for some classes only. Of any other no more is known there than the boxes that are
/// drawn: its absence is not taught, and a detection of it is no mistake.
#[derive(Clone, Debug, PartialEq)]
pub struct PartialRegion {
    /// Corners in pixels.
    pub xyxy: Xyxy,
    /// The classes that were looked for, ascending; shared by the images that say the same.
    pub looked_for: Arc<[u32]>,
}

impl Boxes {
    /// The boxes of an image of a task of `classes` classes, and of each class that nobody looked for the region as one to ignore.
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
    /// Whether the class was looked for.
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
