//! What an image can say about a task.

use super::{Boxes, LabelledBox, PartialRegion};
use crate::boxes;
use crate::geometry::{LEAST_VISIBLE, PixelMap};

/// What one image says about one task. No boxes are *labelled, nothing there*; it is not `Unlabelled`.
#[derive(Clone, Debug, PartialEq)]
pub enum Label {
    Unlabelled,
    Class(usize),
    /// Per class of a multi-label task: there, absent, or `None` where nobody said.
    Classes(Vec<Option<bool>>),
    Boxes(Boxes),
    Values(Vec<f32>),
    /// Two classes at once, of a picture that mix-up made in training.
    Mixed(MixedClass),
}

/// `share` of the first class, the rest of the second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MixedClass {
    pub classes: [usize; 2],
    pub share: f32,
}

impl Label {
    /// Boxes of an image whose annotators looked for every class.
    pub fn boxes(list: Vec<LabelledBox>) -> Label {
        Label::Boxes(list.into())
    }

    /// The label of the picture that `map` makes of its own. A box that leaves it is removed; one of which less than a tenth stays
    /// visible becomes `ignore`.
    pub fn moved(&self, map: &dyn PixelMap) -> Label {
        let Label::Boxes(all) = self else {
            return self.clone();
        };
        let moved = |b: &LabelledBox| {
            let xyxy = map.visible(&b.xyxy);
            let visible = boxes::area(&xyxy);
            let hidden = visible < LEAST_VISIBLE * boxes::area(&map.whole(&b.xyxy));
            (visible > 0.0).then_some(LabelledBox { class: b.class, xyxy, ignore: b.ignore || hidden })
        };
        // Bounds, too: where two regions come to overlap, what either leaves out is left out.
        let region = |r: &PartialRegion| PartialRegion { xyxy: map.visible(&r.xyxy), looked_for: r.looked_for.clone() };
        let regions = all.partial.iter().map(region);
        Label::Boxes(Boxes {
            list: all.iter().filter_map(moved).collect(),
            partial: regions.filter(|region| boxes::area(&region.xyxy) > 0.0).collect(),
        })
    }

    pub fn is_labelled(&self) -> bool {
        !matches!(self, Label::Unlabelled)
    }
}

/// What labels may be beside the plain ones; only then does the loss have room for it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LabelFeatures {
    pub mixing: Mixing,
    pub regions: Regions,
}

/// Whether a label may be a mixture of two, as mix-up makes them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Mixing {
    #[default]
    Never,
    Possible,
}

/// Whether an image may be annotated for some classes only.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Regions {
    #[default]
    Whole,
    Partial,
}
