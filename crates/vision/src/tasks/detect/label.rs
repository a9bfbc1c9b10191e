//! The boxes of an image as a label: transformations, targets, counts, and their display and JSON forms.

use super::Detect;
use super::assign::{IGNORED, assign, partial};
use crate::boxes::{self, Xyxy};
use crate::draw::LabelledFrame;
use crate::geometry::{LEAST_VISIBLE, PixelMap};
use crate::ir::Level;
use crate::tasks::coverage::{SIZES, TaskReport};
use crate::tasks::{
    Boxes, Clipped, Depiction, Label, LabelValue, LabelledBox, PartialRegion, Target, TargetArray, written_xywh,
};
use serde_json::{Value, json};

impl LabelValue for Boxes {
    /// Boxes that leave the picture are removed. Boxes less than a tenth visible become `ignore`.
    fn moved(&self, map: &dyn PixelMap) -> Option<Label> {
        let moved = |b: &LabelledBox| {
            let xyxy = map.visible(&b.xyxy);
            let visible = boxes::area(&xyxy);
            let hidden = visible < LEAST_VISIBLE * boxes::area(&map.whole(&b.xyxy));
            (visible > 0.0).then_some(LabelledBox { class: b.class, xyxy, ignore: b.ignore || hidden })
        };
        // The bounding rectangle is enough: where two regions overlap, a class left out by either is left out.
        let region = |r: &PartialRegion| PartialRegion { xyxy: map.visible(&r.xyxy), looked_for: r.looked_for.clone() };
        let regions = self.partial.iter().map(region);
        Some(Label::of(Boxes {
            list: self.iter().filter_map(moved).collect(),
            partial: regions.filter(|region| boxes::area(&region.xyxy) > 0.0).collect(),
        }))
    }

    /// Boxes less than a tenth visible become `ignore`.
    fn hidden(&self, part: &Xyxy) -> Option<Label> {
        let mut left = self.clone();
        for labelled in &mut left.list {
            let whole = boxes::area(&labelled.xyxy);
            labelled.ignore |= whole - boxes::intersection(&labelled.xyxy, part) < LEAST_VISIBLE * whole;
        }
        Some(Label::of(left))
    }

    /// Joins the boxes of all pictures and the regions of each.
    fn joined(&self, others: &[&Label]) -> Option<Label> {
        let mut all = self.clone();
        for others in others.iter().filter_map(|label| label.boxes()) {
            all.list.extend_from_slice(&others.list);
            all.partial = all.partial.iter().chain(others.partial.iter()).cloned().collect();
        }
        Some(Label::of(all))
    }

    fn clipped(&self, [width, height]: [f32; 2]) -> Option<Clipped> {
        let (mut kept, mut clipped, mut outside) = (self.clone(), 0, 0);
        kept.list.retain_mut(|b| {
            let inside = boxes::clip(&b.xyxy, width, height);
            let is_left = boxes::area(&inside) > 0.0;
            match is_left {
                true => clipped += usize::from(inside != b.xyxy),
                false => outside += 1,
            }
            b.xyxy = inside;
            is_left
        });
        Some(Clipped { label: Label::of(kept), clipped, outside })
    }

    fn classes(&self) -> Option<Vec<usize>> {
        let mut found: Vec<usize> = self.iter().filter(|b| !b.ignore).map(|b| b.class).collect();
        found.sort_unstable();
        found.dedup();
        Some(found)
    }

    fn objects(&self) -> Option<usize> {
        Some(self.iter().filter(|b| !b.ignore).count())
    }

    fn is_partial(&self) -> bool {
        !self.partial.is_empty()
    }

    fn boxes(&self) -> Option<&Boxes> {
        Some(self)
    }
}

/// The boxes of a labelled image.
fn boxes_of(label: &Label) -> &Boxes {
    label.get().unwrap_or_else(|| unreachable!("a detection's labels are boxes"))
}

/// The target in the order of the loss's inputs: classes and boxes of the cells, the regions that contain each cell,
/// and the regions that leave out each class.
pub fn encode(task: &Detect, label: &Label, levels: &[Level]) -> Target {
    let (cells, classes) = (levels.iter().map(|l| l.h * l.w).sum(), task.classes.len());
    let (mut regions, mut left_out) = (vec![0; cells], vec![0; classes]);
    if !label.is_labelled() {
        let (class, target) = (vec![IGNORED; cells], vec![0.0; 4 * cells]);
        return Target { arrays: arrays(class, target, regions, left_out), denominator: 0.0, active: false };
    }
    let boxes = boxes_of(label);
    let assigned = assign(levels, boxes);
    if let Some(partial) = partial(levels, &boxes.partial, classes) {
        (regions, left_out) = (partial.regions, partial.left_out);
    }
    let arrays = arrays(assigned.class, assigned.target.into_flattened(), regions, left_out);
    Target { arrays, denominator: assigned.num_foreground as f32, active: true }
}

fn arrays(class: Vec<i32>, target: Vec<f32>, regions: Vec<i32>, left_out: Vec<i32>) -> Vec<TargetArray> {
    vec![TargetArray::I32(class), TargetArray::F32(target), TargetArray::I32(regions), TargetArray::I32(left_out)]
}

pub fn depict(task: &Detect, label: &Label) -> Depiction {
    let boxes = boxes_of(label);
    let marked = |b: &LabelledBox| {
        let class = &task.classes[b.class];
        let label = if b.ignore { format!("{class} (ignored)") } else { class.clone() };
        LabelledFrame { xyxy: b.xyxy, class: b.class, label }
    };
    let left_out = |class: &usize| boxes.partial.iter().any(|region| !region.has(*class));
    let left_out = (0..task.classes.len()).filter(left_out).map(|class| task.classes[class].as_str());
    let left_out: Vec<&str> = left_out.collect();
    let caption = match (boxes.is_empty() && boxes.partial.is_empty(), left_out.is_empty()) {
        (true, _) => Some("nothing there".into()),
        (false, true) => None,
        (false, false) => Some(format!("not looked for: {}", left_out.join(", "))),
    };
    Depiction { boxes: boxes.iter().map(marked).collect(), caption }
}

pub fn count(label: &Label, split: usize, report: &mut TaskReport) {
    let (boxes, coverage) = (boxes_of(label), &mut report.splits[split]);
    match boxes.is_empty() {
        true => coverage.empty += 1,
        false => coverage.labelled += 1,
    }
    coverage.partial += usize::from(!boxes.partial.is_empty());
    for b in boxes.iter() {
        coverage.boxes += 1;
        coverage.ignored += usize::from(b.ignore);
        report.classes[b.class].1[split] += 1;
        let side = boxes::area(&b.xyxy).sqrt();
        report.box_sizes[SIZES.iter().filter(|bound| side >= **bound).count()] += 1;
    }
}

/// The boxes in the Hugging Face format, with `ignore` flags if any is set, and the classes that were looked for unless
/// all were.
pub fn to_json(task: &Detect, label: &Label) -> Value {
    let (boxes, classes) = (boxes_of(label), &task.classes);
    let corners = boxes.iter().map(|b| written_xywh(&b.xyxy));
    let categories: Vec<&str> = boxes.iter().map(|b| classes[b.class].as_str()).collect();
    let mut objects = json!({"bbox": corners.collect::<Vec<_>>(), "categories": categories});
    if boxes.iter().any(|b| b.ignore) {
        objects["ignore"] = boxes.iter().map(|b| b.ignore).collect();
    }
    // An image from a file has at most one region, which covers the whole picture.
    if let Some(region) = boxes.partial.first() {
        let names = region.looked_for.iter().map(|&class| classes[class as usize].as_str());
        objects["labelled_categories"] = names.collect();
    }
    objects
}

/// A label with eight boxes, typical for a medium-sized detection set.
pub fn synthetic(classes: usize, size: usize, index: usize) -> Label {
    let size = size as f32;
    let boxes = (0..8).map(|i| {
        let (x, y) = ((i % 4) as f32 * size / 4.0, (i / 4) as f32 * size / 2.0);
        let xyxy = [x, y, x + size / 5.0, y + size / 4.0];
        LabelledBox { class: (index + i) % classes, xyxy, ignore: false }
    });
    Label::of(boxes.collect::<Boxes>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Geometry;

    #[test]
    fn a_crop_removes_what_is_gone_and_ignores_what_is_nearly_gone() {
        let crop = Geometry { source: [200, 200], size: 100, scale: [1.0, 1.0], offset: [-100.0, -100.0], flip: false };
        let labelled = |xyxy| LabelledBox { class: 3, xyxy, ignore: false };
        let boxes = Boxes::from(vec![
            labelled([0.0, 0.0, 90.0, 90.0]),
            labelled([0.0, 100.0, 105.0, 200.0]),
            labelled([110.0, 120.0, 150.0, 160.0]),
        ]);
        let left = Label::of(boxes).moved(&crop);
        let left = left.boxes().unwrap();
        assert_eq!(left.len(), 2);
        assert!(left[0].ignore && left[0].xyxy == [0.0, 0.0, 5.0, 100.0]);
        assert!(!left[1].ignore && left[1].xyxy == [10.0, 20.0, 50.0, 60.0]);
        assert_eq!(Label::UNLABELLED.moved(&crop), Label::UNLABELLED);
    }
}
