//! How an original picture lies in the network's square canvas: scale, shift, flip, and the way back. Boxes only; pixels
//! are moved by `augment`.

use crate::boxes::{self, Xyxy};
use crate::task::{Boxes, Label, LabelledBox, PartialRegion};

/// A box of which a crop leaves less than this part is no longer taught.
pub(super) const LEAST_VISIBLE: f32 = 0.1;

/// The map from pixels of the original image (EXIF orientation applied) to pixels of the network's input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Geometry {
    /// Width and height of the original image.
    pub source: [usize; 2],
    /// Side of the square canvas.
    pub size: usize,
    /// Network pixels per original pixel, in x and y.
    pub scale: [f32; 2],
    /// Where the original's top-left corner falls, before the flip; negative under a crop.
    pub offset: [f32; 2],
    /// Mirrored left to right after scale and offset.
    pub flip: bool,
}

impl Geometry {
    /// The part of the canvas that shows the image, xyxy in network pixels; the rest is padding.
    pub fn window(&self) -> Xyxy {
        let whole = [0.0, 0.0, self.source[0] as f32, self.source[1] as f32];
        boxes::clip(&self.map(&whole), self.size as f32, self.size as f32)
    }

    /// A box in original pixels to network pixels, clipped to what is visible.
    pub fn apply_box(&self, xyxy: &Xyxy) -> Xyxy {
        let [x1, y1, x2, y2] = self.map(xyxy);
        let [left, top, right, bottom] = self.window();
        [x1.clamp(left, right), y1.clamp(top, bottom), x2.clamp(left, right), y2.clamp(top, bottom)]
    }

    /// A box in network pixels to original pixels, clipped to the original image.
    pub fn invert_box(&self, xyxy: &Xyxy) -> Xyxy {
        let [x1, y1, x2, y2] = self.mirror(xyxy);
        let original = [
            (x1 - self.offset[0]) / self.scale[0],
            (y1 - self.offset[1]) / self.scale[1],
            (x2 - self.offset[0]) / self.scale[0],
            (y2 - self.offset[1]) / self.scale[1],
        ];
        boxes::clip(&original, self.source[0] as f32, self.source[1] as f32)
    }

    /// The labels of an image as the network sees it. A box that leaves the canvas is removed; one of which a crop
    /// leaves under a tenth becomes `ignore`.
    pub fn apply_labels(&self, labels: &[Label]) -> Vec<Label> {
        labels.iter().map(|label| self.apply_label(label)).collect()
    }

    fn apply_label(&self, label: &Label) -> Label {
        let Label::Boxes(all) = label else {
            return label.clone();
        };
        let partial = all.partial.iter().map(|region| {
            let xyxy = self.apply_box(&region.xyxy);
            PartialRegion { xyxy, looked_for: region.looked_for.clone() }
        });
        Label::Boxes(Boxes {
            list: all.iter().filter_map(|b| self.apply_labelled(b)).collect(),
            partial: partial.filter(|region| boxes::area(&region.xyxy) > 0.0).collect(),
        })
    }

    fn apply_labelled(&self, labelled: &LabelledBox) -> Option<LabelledBox> {
        let whole = boxes::area(&self.map(&labelled.xyxy));
        let xyxy = self.apply_box(&labelled.xyxy);
        let visible = boxes::area(&xyxy);
        (visible > 0.0).then_some(LabelledBox {
            class: labelled.class,
            xyxy,
            ignore: labelled.ignore || visible < LEAST_VISIBLE * whole,
        })
    }

    fn map(&self, [x1, y1, x2, y2]: &Xyxy) -> Xyxy {
        self.mirror(&[
            x1 * self.scale[0] + self.offset[0],
            y1 * self.scale[1] + self.offset[1],
            x2 * self.scale[0] + self.offset[0],
            y2 * self.scale[1] + self.offset[1],
        ])
    }

    fn mirror(&self, &[x1, y1, x2, y2]: &Xyxy) -> Xyxy {
        let size = self.size as f32;
        if self.flip { [size - x2, y1, size - x1, y2] } else { [x1, y1, x2, y2] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(flip: bool) -> Geometry {
        Geometry { source: [200, 100], size: 64, scale: [0.32, 0.32], offset: [0.0, 16.0], flip }
    }

    #[test]
    fn boxes_return_where_they_came_from() {
        for flip in [false, true] {
            let there = geometry(flip).apply_box(&[10.0, 20.0, 150.0, 90.0]);
            let back = geometry(flip).invert_box(&there);
            for (got, expected) in back.iter().zip([10.0, 20.0, 150.0, 90.0]) {
                assert!((got - expected).abs() < 1e-3, "{back:?}");
            }
        }
    }

    #[test]
    fn flip_mirrors_about_the_canvas() {
        let flipped = geometry(true).apply_box(&[0.0, 0.0, 50.0, 100.0]);
        assert_eq!(flipped, [48.0, 16.0, 64.0, 48.0]);
        assert_eq!(geometry(true).window(), [0.0, 16.0, 64.0, 48.0]);
    }

    #[test]
    fn a_crop_removes_what_is_gone_and_ignores_what_is_nearly_gone() {
        let crop = Geometry { source: [200, 200], size: 100, scale: [1.0, 1.0], offset: [-100.0, -100.0], flip: false };
        let labelled = |xyxy| LabelledBox { class: 3, xyxy, ignore: false };
        let labels = crop.apply_labels(&[
            Label::boxes(vec![
                labelled([0.0, 0.0, 90.0, 90.0]),
                labelled([0.0, 100.0, 105.0, 200.0]),
                labelled([110.0, 120.0, 150.0, 160.0]),
            ]),
            Label::Unlabelled,
        ]);
        let Label::Boxes(left) = &labels[0] else { panic!("boxes stay boxes") };
        assert_eq!(left.len(), 2);
        assert!(left[0].ignore && left[0].xyxy == [0.0, 0.0, 5.0, 100.0]);
        assert!(!left[1].ignore && left[1].xyxy == [10.0, 20.0, 50.0, 60.0]);
        assert_eq!(labels[1], Label::Unlabelled);
    }
}
