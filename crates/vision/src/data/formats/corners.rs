//! The corners of boxes as files write them. A box without width or height is left out; if no other is there, its image is
//! unlabelled rather than empty. A box with swapped corners makes its image unlabelled, and what was meant is kept for a
//! repaired copy.

use super::{Raw, RawBox, Reading, Remark};
use crate::reading::{Place, Spot};

/// The boxes of one image while they are read.
#[derive(Default)]
pub struct Found {
    pub boxes: Vec<RawBox>,
    is_flat: bool,
    is_swapped: bool,
}

impl Found {
    /// The edges (left, top, right, bottom) of the box at `spot` in their order; `None` if it has no width or height.
    pub fn in_order<T: PartialOrd + Copy>(
        &mut self,
        [x1, y1, x2, y2]: [T; 4],
        spot: Spot,
        reading: &mut Reading,
    ) -> Option<[T; 4]> {
        let remark = if x1 == x2 || y1 == y2 {
            Remark::DegenerateBox
        } else if x2 < x1 {
            Remark::SwappedX
        } else if y2 < y1 {
            Remark::SwappedY
        } else {
            return Some([x1, y1, x2, y2]);
        };
        let is_flat = remark == Remark::DegenerateBox;
        self.is_flat |= is_flat;
        self.is_swapped |= !is_flat;
        reading.remarks.push((remark, Place::at(&reading.place.file, spot)));
        let sorted = |a, b| if b < a { (b, a) } else { (a, b) };
        let ((left, right), (top, bottom)) = (sorted(x1, x2), sorted(y1, y2));
        (!is_flat).then_some([left, top, right, bottom])
    }

    /// Makes the boxes the label of the image, unless something is wrong with them.
    pub fn finish(self, reading: &mut Reading) {
        let Found { boxes, is_flat, is_swapped } = self;
        if is_swapped {
            reading.mended = Some(Box::new(Raw::Boxes(boxes)));
            reading.unlabel();
        } else if is_flat && boxes.is_empty() {
            reading.remarks.push((Remark::NoBoxLeft, reading.place.clone()));
            reading.unlabel();
        } else {
            reading.raw = Raw::Boxes(boxes);
        }
    }
}
