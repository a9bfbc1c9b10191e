//! Assigns objects to cells of the pyramid by adaptive training sample selection. It needs no predictions, so the
//! loader's threads run it image by image.

use crate::boxes::Xyxy;
use crate::ir::Level;
use crate::tasks::{LabelledBox, PartialRegion};

pub const BACKGROUND: i32 = -1;
/// Ignored by the loss. Every cell of an unlabelled image has this value.
pub const IGNORED: i32 = -2;

/// The number of nearest centres considered per object and level.
const CANDIDATES: usize = 9;
/// The side of the square around a cell's centre, in strides.
const SQUARE: f64 = 8.0;
/// Tolerance for rounding: candidates with equal IoUs must reach their own mean.
const ROUNDING: f64 = 1e-9;

/// The target of each cell of one image; cells are ordered by level, then by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// `[A]`: a class, [`BACKGROUND`] or [`IGNORED`].
    pub class: Vec<i32>,
    /// `[A, 4]`: the box of the cell's object, zeros if it has none.
    pub target: Vec<Xyxy>,
    pub num_foreground: usize,
}

/// The regions of one image in which some classes were not looked for, as bit sets: region i is bit i.
#[derive(Clone, Debug, PartialEq)]
pub struct Partial {
    /// `[A]`: the regions that contain the cell's centre.
    pub regions: Vec<i32>,
    /// `[C]`: the regions in which the class was not looked for.
    pub left_out: Vec<i32>,
}

/// Assigns the objects of one labelled image to cells.
///
/// For each object and level, the 9 nearest centres are candidates. A candidate becomes foreground if the IoU of its
/// square with the object is at least the candidates' mean + standard deviation (n − 1), and its centre lies strictly
/// inside the object. If several objects claim a cell, it goes to the one with the highest IoU, among equals to the
/// first. An object without any foreground takes its nearest candidate, even from an object that has others. Cells
/// inside an `ignore` box that are not foreground are ignored by the loss. Boxes without area are skipped.
///
/// # Units
/// Pixels of the network's input; the centre of cell x is (x + ½)·stride, its square has a side of 8 strides.
///
/// # Source
/// Zhang 2020, "Bridging the Gap Between Anchor-based and Anchor-free Detection", algorithm 1.
pub fn assign(levels: &[Level], boxes: &[LabelledBox]) -> Assignment {
    let num_cells = levels.iter().map(|l| l.h * l.w).sum();
    let mut owners: Vec<Option<Owner>> = vec![None; num_cells];
    let (ignored, objects): (Vec<&LabelledBox>, Vec<&LabelledBox>) = boxes.iter().partition(|b| b.ignore);
    for (object, labelled) in objects.iter().enumerate() {
        let [x1, y1, x2, y2] = labelled.xyxy;
        if x1 < x2 && y1 < y2 {
            claim(levels, object, &labelled.xyxy, &mut owners);
        }
    }

    let mut assignment =
        Assignment { class: vec![BACKGROUND; num_cells], target: vec![[0.0; 4]; num_cells], num_foreground: 0 };
    for region in ignored {
        for_cells_inside(levels, &region.xyxy, |cell| assignment.class[cell] = IGNORED);
    }
    for (cell, owner) in owners.iter().enumerate() {
        let Some(owner) = owner else { continue };
        let labelled = objects[owner.object];
        // A class index is far below 2^31.
        assignment.class[cell] = labelled.class as i32;
        assignment.target[cell] = labelled.xyxy;
        assignment.num_foreground += 1;
    }
    assignment
}

/// The regions of an image of a task with `classes` classes; `None` if it has no regions.
pub fn partial(levels: &[Level], regions: &[PartialRegion], classes: usize) -> Option<Partial> {
    if regions.is_empty() {
        return None;
    }
    let num_cells = levels.iter().map(|l| l.h * l.w).sum();
    let mut partial = Partial { regions: vec![0; num_cells], left_out: vec![0; classes] };
    for (index, region) in regions.iter().enumerate() {
        // A mosaic has four regions. From the 31st on, regions share a bit: a class left out in any of them counts as
        // left out in all of them.
        let bit = 1 << index.min(30);
        for_cells_inside(levels, &region.xyxy, |cell| partial.regions[cell] |= bit);
        for (class, left_out) in partial.left_out.iter_mut().enumerate() {
            *left_out |= if region.has(class) { 0 } else { bit };
        }
    }
    Some(partial)
}

#[derive(Clone, Copy)]
struct Owner {
    object: usize,
    /// Whether this is the object's only cell, which takes precedence over any IoU.
    only: bool,
    iou: f64,
}

#[derive(Clone, Copy)]
struct Candidate {
    cell: usize,
    distance_squared: f64,
    iou: f64,
    inside: bool,
}

/// Finds the object's foreground and claims its cells, unless another object holds them with a higher IoU.
fn claim(levels: &[Level], object: usize, xyxy: &Xyxy, owners: &mut [Option<Owner>]) {
    let mut candidates: Vec<Candidate> = Vec::with_capacity(CANDIDATES * levels.len());
    let mut first_cell = 0;
    for level in levels {
        candidates.extend(nearest(level, first_cell, xyxy));
        first_cell += level.h * level.w;
    }
    let mut take = |candidate: &Candidate, only: bool| {
        let held = owners[candidate.cell];
        let stronger = |held: Owner| (only, candidate.iou) > (held.only, held.iou);
        if held.is_none_or(stronger) {
            owners[candidate.cell] = Some(Owner { object, only, iou: candidate.iou });
        }
    };

    let threshold = mean_plus_deviation(&candidates) - ROUNDING;
    let mut none = true;
    for candidate in candidates.iter().filter(|c| c.inside && c.iou >= threshold) {
        take(candidate, false);
        none = false;
    }
    let by_distance = |a: &&Candidate, b: &&Candidate| a.distance_squared.total_cmp(&b.distance_squared);
    if none && let Some(nearest) = candidates.iter().min_by(by_distance) {
        take(nearest, true);
    }
}

fn mean_plus_deviation(candidates: &[Candidate]) -> f64 {
    let n = candidates.len() as f64;
    let mean = candidates.iter().map(|c| c.iou).sum::<f64>() / n;
    let squares: f64 = candidates.iter().map(|c| (c.iou - mean).powi(2)).sum();
    mean + (squares / (n - 1.0).max(1.0)).sqrt()
}

/// The level's centres nearest to the centre of the box, nearest first, among equals the lower cell. It searches a
/// window around the centre, which grows until no centre outside can be nearer.
fn nearest(level: &Level, first_cell: usize, xyxy: &Xyxy) -> Vec<Candidate> {
    let wanted = CANDIDATES.min(level.h * level.w);
    let center = |low: f32, high: f32| (f64::from(low) + f64::from(high)) / 2.0;
    let (cx, cy) = (center(xyxy[0], xyxy[2]), center(xyxy[1], xyxy[3]));
    // Away from the border, 5 × 5 cells suffice.
    let mut radius = 2;
    loop {
        let columns = Window::around(cx, level.stride, level.w, radius);
        let rows = Window::around(cy, level.stride, level.h, radius);
        let mut found: Vec<Candidate> = Vec::with_capacity(rows.len() * columns.len());
        for y in rows.first..rows.end {
            for x in columns.first..columns.end {
                found.push(candidate(level, first_cell, [x, y], xyxy, [cx, cy]));
            }
        }
        found.sort_by(|a, b| a.distance_squared.total_cmp(&b.distance_squared));
        found.truncate(wanted);
        let outside = rows.nearest_outside.min(columns.nearest_outside);
        let complete = found.len() == wanted && found.iter().all(|c| c.distance_squared < outside * outside);
        if complete || outside == f64::INFINITY {
            return found;
        }
        radius *= 2;
    }
}

/// A range of neighbouring columns or rows of a level.
struct Window {
    first: usize,
    end: usize,
    /// Distance along this axis to the nearest centre outside the window; infinite if there is none.
    nearest_outside: f64,
}

impl Window {
    fn around(position: f64, stride: usize, size: usize, radius: usize) -> Window {
        let stride = stride as f64;
        let middle = ((position / stride).floor().max(0.0) as usize).min(size.saturating_sub(1));
        let first = middle.saturating_sub(radius);
        let end = size.min(middle + radius + 1);
        let distance = |cell: usize| ((cell as f64 + 0.5) * stride - position).abs();
        let before = if first > 0 { distance(first - 1) } else { f64::INFINITY };
        let after = if end < size { distance(end) } else { f64::INFINITY };
        Window { first, end, nearest_outside: before.min(after) }
    }

    fn len(&self) -> usize {
        self.end - self.first
    }
}

fn candidate(level: &Level, first_cell: usize, [x, y]: [usize; 2], xyxy: &Xyxy, [cx, cy]: [f64; 2]) -> Candidate {
    let stride = level.stride as f64;
    let (px, py) = ((x as f64 + 0.5) * stride, (y as f64 + 0.5) * stride);
    let half = SQUARE * stride / 2.0;
    let [x1, y1, x2, y2] = xyxy.map(f64::from);
    let overlap = |low: f64, high: f64, at: f64| (high.min(at + half) - low.max(at - half)).max(0.0);
    let intersection = overlap(x1, x2, px) * overlap(y1, y2, py);
    let union = (x2 - x1) * (y2 - y1) + (2.0 * half) * (2.0 * half) - intersection;
    Candidate {
        cell: first_cell + y * level.w + x,
        distance_squared: (px - cx) * (px - cx) + (py - cy) * (py - cy),
        iou: intersection / union,
        inside: x1 < px && px < x2 && y1 < py && py < y2,
    }
}

/// Calls `visit` for the cells whose centre lies strictly inside the region.
fn for_cells_inside(levels: &[Level], region: &Xyxy, mut visit: impl FnMut(usize)) {
    let mut first_cell = 0;
    for level in levels {
        let inside = |cell: usize, low: f32, high: f32| {
            let at = (cell as f32 + 0.5) * level.stride as f32;
            low < at && at < high
        };
        for y in (0..level.h).filter(|&y| inside(y, region[1], region[3])) {
            let columns = (0..level.w).filter(|&x| inside(x, region[0], region[2]));
            columns.for_each(|x| visit(first_cell + y * level.w + x));
        }
        first_cell += level.h * level.w;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value};

    fn pyramid(strides: std::ops::RangeInclusive<u32>, side: usize) -> Vec<Level> {
        let level = |power: u32| {
            let stride = 1 << power;
            Level { stride, h: side.div_ceil(stride), w: side.div_ceil(stride) }
        };
        strides.map(level).collect()
    }

    fn labelled(xyxy: Xyxy) -> LabelledBox {
        LabelledBox { class: 3, xyxy, ignore: false }
    }

    /// The cases are crowded, empty, tied, tiny and ignored objects. The reference was written from the paper with full
    /// distance matrices.
    #[test]
    fn equals_the_paper() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/boxes.json");
        let all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        for case in all["atss"].as_array().unwrap() {
            let name = &case["name"];
            let levels: Vec<[usize; 3]> = from_value(case["levels"].clone()).unwrap();
            let levels: Vec<Level> = levels.iter().map(|&[stride, h, w]| Level { stride, h, w }).collect();
            let objects: Vec<(Xyxy, usize, u8)> = from_value(case["objects"].clone()).unwrap();
            let boxes: Vec<LabelledBox> =
                objects.iter().map(|&(xyxy, class, ignore)| LabelledBox { class, xyxy, ignore: ignore == 1 }).collect();
            let got = assign(&levels, &boxes);
            // Sparse: only cells that are not background are listed.
            let expected: Vec<(usize, i32, i32)> = from_value(case["cells"].clone()).unwrap();
            let mut class = vec![BACKGROUND; got.class.len()];
            let mut target = vec![[0.0; 4]; got.class.len()];
            for &(cell, class_here, object) in &expected {
                class[cell] = class_here;
                if object >= 0 {
                    target[cell] = boxes[object as usize].xyxy;
                }
            }
            assert_eq!(got.class, class, "{name}");
            assert_eq!(got.target, target, "{name}");
            let foreground = class.iter().filter(|&&c| c >= 0).count();
            assert_eq!(got.num_foreground, foreground, "{name}");
        }
    }

    /// Compares the window search with all cells: centres all over levels of many shapes, and outside them.
    #[test]
    fn the_nearest_nine_are_the_nearest_of_all() {
        for (h, w) in [(1, 1), (1, 30), (2, 5), (3, 3), (4, 9), (12, 12)] {
            let level = Level { stride: 8, h, w };
            for i in 0..900 {
                let (cx, cy) = ((i % 30) as f32 * 4.1 - 12.0, (i / 30) as f32 * 4.3 - 16.0);
                let xyxy = [cx - 1.0, cy - 1.0, cx + 1.0, cy + 1.0];
                let center = [f64::from(xyxy[0]) + f64::from(xyxy[2]), f64::from(xyxy[1]) + f64::from(xyxy[3])];
                let center = center.map(|v| v / 2.0);
                let mut all: Vec<Candidate> =
                    (0..h * w).map(|cell| candidate(&level, 100, [cell % w, cell / w], &xyxy, center)).collect();
                all.sort_by(|a, b| a.distance_squared.total_cmp(&b.distance_squared));
                all.truncate(CANDIDATES);
                let cells = |found: Vec<Candidate>| found.iter().map(|c| c.cell).collect::<Vec<usize>>();
                assert_eq!(cells(nearest(&level, 100, &xyxy)), cells(all), "{h} x {w}, {xyxy:?}");
            }
        }
    }

    #[test]
    fn every_object_has_a_cell() {
        let levels = pyramid(3..=5, 96);
        for i in 0..400 {
            let at = |k: f32| (i as f32 * k) % 90.0;
            let xyxy = [at(7.3), at(3.1), at(7.3) + 0.2 + at(1.7) / 8.0, at(3.1) + 0.1 + at(5.9)];
            assert!(assign(&levels, &[labelled(xyxy)]).num_foreground > 0, "{xyxy:?}");
        }
    }

    #[test]
    fn a_tiny_object_keeps_its_cell_inside_a_large_one() {
        let levels = pyramid(3..=5, 96);
        let large = LabelledBox { class: 1, ..labelled([8.0, 8.0, 88.0, 88.0]) };
        let tiny = labelled([45.0, 45.0, 46.5, 46.5]);
        for boxes in [[large.clone(), tiny.clone()], [tiny, large]] {
            let got = assign(&levels, &boxes);
            assert_eq!(got.class.iter().filter(|&&c| c == 3).count(), 1);
            assert!(got.class.contains(&1));
        }
    }

    #[test]
    fn under_a_crowd_as_large_as_the_image_only_objects_are_foreground() {
        let levels = pyramid(3..=5, 64);
        let everywhere = LabelledBox { class: 1, xyxy: [0.0, 0.0, 64.0, 64.0], ignore: true };
        let got = assign(&levels, &[labelled([8.0, 8.0, 40.0, 40.0]), everywhere.clone()]);
        let alone = assign(&levels, &[labelled([8.0, 8.0, 40.0, 40.0])]);
        assert!(got.num_foreground > 0 && got.num_foreground == alone.num_foreground);
        for (with, without) in got.class.iter().zip(alone.class) {
            assert_eq!(*with, if without == BACKGROUND { IGNORED } else { without });
        }
        assert!(assign(&levels, &[everywhere]).class.iter().all(|&c| c == IGNORED));
    }

    /// The regions resemble a mosaic's: on the left only class 3 was looked for, on the right all other classes, below
    /// all classes.
    #[test]
    fn cells_know_what_was_looked_for_around_them() {
        let levels = pyramid(3..=5, 64);
        let region = |xyxy, looked_for: &[u32]| PartialRegion { xyxy, looked_for: looked_for.into() };
        let regions = [region([0.0, 0.0, 32.0, 48.0], &[3]), region([32.0, 0.0, 64.0, 48.0], &[0, 1, 2, 4])];
        let got = partial(&levels, &regions, 5).unwrap();
        assert_eq!(got.left_out, [1, 1, 1, 2, 1]);
        let centres = levels.iter().flat_map(|l| {
            let at = |cell: usize| (cell as f32 + 0.5) * l.stride as f32;
            (0..l.h).flat_map(move |y| (0..l.w).map(move |x| [at(x), at(y)]))
        });
        let expected = centres.map(|[x, y]| match (x < 32.0, y < 48.0) {
            (_, false) => 0,
            (true, true) => 1,
            (false, true) => 2,
        });
        assert_eq!(got.regions, expected.collect::<Vec<i32>>());
        assert_eq!(partial(&levels, &[], 5), None);
    }

    #[test]
    fn more_regions_than_bits_leave_out_too_much_rather_than_too_little() {
        let levels = pyramid(3..=3, 64);
        let regions: Vec<PartialRegion> = (0..40u32)
            .map(|i| PartialRegion { xyxy: [0.0, 0.0, 64.0, 64.0], looked_for: [i].as_slice().into() })
            .collect();
        let got = partial(&levels, &regions, 41).unwrap();
        assert!(got.regions.iter().all(|r| got.left_out.iter().all(|l| r & l != 0)));
        assert!(got.left_out.iter().all(|&bits| bits >= 0));
    }

    #[test]
    fn nothing_to_assign() {
        let levels = pyramid(3..=7, 64);
        for boxes in [vec![], vec![labelled([5.0, 5.0, 5.0, 9.0])]] {
            let got = assign(&levels, &boxes);
            assert_eq!(got.num_foreground, 0);
            assert!(got.class.iter().all(|&c| c == BACKGROUND));
        }
        assert!(assign(&[], &[labelled([0.0, 0.0, 9.0, 9.0])]).class.is_empty());
    }
}
