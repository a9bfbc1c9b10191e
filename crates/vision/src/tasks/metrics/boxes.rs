//! COCO's average precision and recall, equal number for number to pycocotools' `COCOeval` with `iouType="bbox"`.
//! `image_results` matches detections with the truth; `compute` summarises the matches.

use super::mean;
use crate::boxes::{Detection, Xyxy};
use crate::tasks::LabelledBox;

/// The IoU thresholds, bit for bit those of `np.linspace(.5, .95, 10)`.
const IOU_THRESHOLDS: [f64; 10] = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.8999999999999999, 0.95];
const NUM_RECALL_POINTS: usize = 101;
/// Ranges of the ground-truth area in square pixels, inclusive at both ends: all, small, medium, large.
const AREAS: [(f64, f64); 4] = [(0.0, 1e10), (0.0, 1024.0), (1024.0, 9216.0), (9216.0, 1e10)];
const ALL: usize = 0;
const SMALL: usize = 1;
const MEDIUM: usize = 2;
const LARGE: usize = 3;
/// The number of detections counted per image and class.
const MAX_DETECTIONS: usize = 100;

/// A ground-truth box, in the same pixels as the detections.
#[derive(Clone, Debug, PartialEq)]
pub struct GroundTruth {
    /// The class's number.
    pub class: usize,
    /// Corners in pixels.
    pub xyxy: Xyxy,
    /// A crowd or "difficult" region (COCO's `iscrowd`): detections on it are not counted, however many there are.
    pub ignore: bool,
    /// The area that decides small, medium or large; `None` means the box's own (COCO has the mask's).
    pub area: Option<f32>,
}

impl From<&LabelledBox> for GroundTruth {
    fn from(labelled: &LabelledBox) -> Self {
        GroundTruth { class: labelled.class, xyxy: labelled.xyxy, ignore: labelled.ignore, area: None }
    }
}

/// A detection in the format of COCO's files.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FoundBox {
    /// The class's number.
    pub class: usize,
    /// Left, top, width, height in pixels. The IoU is computed from these, exact to the last bit of `f64`.
    pub xywh: [f64; 4],
    /// Boxes are matched in descending order of score.
    pub score: f64,
}

/// A ground-truth box in the format of COCO's files.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrueBox {
    /// The class's number.
    pub class: usize,
    /// Left, top, width, height in pixels.
    pub xywh: [f64; 4],
    /// See [`GroundTruth::ignore`].
    pub ignore: bool,
    /// The area that decides between small, medium and large.
    pub area: f64,
    /// False for COCO's annotation id 0. Such a box is matched like any other, but pycocotools stores a match as the
    /// annotation's id and reads 0 as "no match".
    pub numbered: bool,
}

impl From<&Detection> for FoundBox {
    fn from(found: &Detection) -> Self {
        FoundBox { class: found.class, xywh: xywh(&found.xyxy), score: f64::from(found.score) }
    }
}

impl From<&GroundTruth> for TrueBox {
    fn from(truth: &GroundTruth) -> Self {
        let xywh = xywh(&truth.xyxy);
        let area = truth.area.map_or(xywh[2] * xywh[3], f64::from);
        TrueBox { class: truth.class, xywh, ignore: truth.ignore, area, numbered: true }
    }
}

/// COCO's twelve figures from 0 to 1, and two figures per class; `None` if there is no ground truth.
#[derive(Clone, Debug, PartialEq)]
pub struct BoxSummary {
    /// Mean over IoU .50:.05:.95, 101 recall points and the classes with ground truth.
    pub ap: Option<f64>,
    /// Average precision at IoU .50.
    pub ap50: Option<f64>,
    /// Average precision at IoU .75.
    pub ap75: Option<f64>,
    /// `ap` for ground truth below 32² pixels.
    pub ap_small: Option<f64>,
    /// `ap` for ground truth from 32² to 96² pixels.
    pub ap_medium: Option<f64>,
    /// `ap` for ground truth above 96² pixels.
    pub ap_large: Option<f64>,
    /// Recall with at most one detection per image and class, mean over IoU and classes.
    pub ar1: Option<f64>,
    /// Recall with at most 10 detections per image and class.
    pub ar10: Option<f64>,
    /// Recall with at most 100 detections per image and class.
    pub ar100: Option<f64>,
    /// `ar100` for ground truth below 32² pixels.
    pub ar_small: Option<f64>,
    /// `ar100` for ground truth from 32² to 96² pixels.
    pub ar_medium: Option<f64>,
    /// `ar100` for ground truth above 96² pixels.
    pub ar_large: Option<f64>,
    /// One for each class.
    pub per_class: Vec<ClassSummary>,
    /// The number of labelled images, including empty ones.
    pub images: usize,
}

impl BoxSummary {
    /// The twelve figures with their names, in COCO's order.
    pub fn twelve(&self) -> [(&'static str, Option<f64>); 12] {
        [
            ("AP", self.ap),
            ("AP50", self.ap50),
            ("AP75", self.ap75),
            ("APs", self.ap_small),
            ("APm", self.ap_medium),
            ("APl", self.ap_large),
            ("AR1", self.ar1),
            ("AR10", self.ar10),
            ("AR100", self.ar100),
            ("ARs", self.ar_small),
            ("ARm", self.ar_medium),
            ("ARl", self.ar_large),
        ]
    }
}

/// The figures of one class.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassSummary {
    /// Mean over IoU .50:.05:.95.
    pub ap: Option<f64>,
    /// Average precision at IoU .50.
    pub ap50: Option<f64>,
    /// The number of ground-truth boxes that are not ignored.
    pub count: usize,
}

/// Matches over the images seen so far.
#[derive(Clone, Debug)]
pub struct BoxMetric {
    classes: Vec<ClassMatches>,
    images: usize,
}

#[derive(Clone, Debug, Default)]
struct ClassMatches {
    /// In order of arrival: image by image, best first.
    detections: Vec<Match>,
    /// The number of ground-truth boxes that are not ignored, per area range.
    num_truth: [usize; AREAS.len()],
}

/// The result for one detection: bit `t` of `[area]` belongs to `IOU_THRESHOLDS[t]`.
#[derive(Clone, Copy, Debug)]
struct Match {
    score: f64,
    /// Its rank among the detections of its image and class, from 0.
    rank: u8,
    found: [u16; AREAS.len()],
    ignored: [u16; AREAS.len()],
}

impl BoxMetric {
    /// An empty metric for this many classes.
    pub fn new(num_classes: usize) -> Self {
        BoxMetric { classes: vec![ClassMatches::default(); num_classes], images: 0 }
    }

    /// Adds one labelled image; without ground truth, all its detections are false positives. Do not add unlabelled
    /// images. Every class must be below `num_classes`.
    pub fn add_image(&mut self, detections: &[Detection], truth: &[GroundTruth]) {
        let detections: Vec<FoundBox> = detections.iter().map(FoundBox::from).collect();
        let truth: Vec<TrueBox> = truth.iter().map(TrueBox::from).collect();
        self.add_boxes(&detections, &truth);
    }

    /// [`add_image`](Self::add_image) for boxes in COCO's format. Among equal scores, earlier images rank first.
    pub fn add_boxes(&mut self, detections: &[FoundBox], truth: &[TrueBox]) {
        debug_assert!(detections.iter().all(|d| d.class < self.classes.len()));
        self.images += 1;
        let mut detections: Vec<&FoundBox> = detections.iter().collect();
        // A stable sort, like the mergesort of pycocotools: equal scores keep their given order.
        detections.sort_by(|a, b| a.class.cmp(&b.class).then(descending(a.score, b.score)));
        let mut truth: Vec<&TrueBox> = truth.iter().collect();
        truth.sort_by_key(|t| t.class);

        let mut unseen = truth.as_slice();
        for of_class in detections.chunk_by(|a, b| a.class == b.class) {
            let class = of_class[0].class;
            let (before, rest) = unseen.split_at(unseen.partition_point(|t| t.class < class));
            let (own, after) = rest.split_at(rest.partition_point(|t| t.class == class));
            self.add_truth(before);
            self.add_truth(own);
            self.classes[class].detections.extend(image_results(&of_class[..of_class.len().min(MAX_DETECTIONS)], own));
            unseen = after;
        }
        self.add_truth(unseen);
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.classes.len()
    }

    fn add_truth(&mut self, truth: &[&TrueBox]) {
        for t in truth {
            for (area, count) in self.classes[t.class].num_truth.iter_mut().enumerate() {
                *count += usize::from(!is_ignored(t, area));
            }
        }
    }

    /// The figures of the images so far.
    pub fn compute(&self) -> BoxSummary {
        let sorted: Vec<Vec<&Match>> = self.classes.iter().map(by_score).collect();
        let precisions: Vec<ClassPrecisions> = self
            .classes
            .iter()
            .zip(&sorted)
            .map(|(class, sorted)| std::array::from_fn(|area| class.precisions(sorted, area)))
            .collect();
        // Every class has equally many entries, so the mean of the class means is the mean of all entries.
        let ap = |area: usize, thresholds: std::ops::Range<usize>| {
            let of_class = |p: &ClassPrecisions| mean(p[area]?[thresholds.clone()].iter().copied());
            mean(precisions.iter().filter_map(of_class))
        };
        let ar = |area, max| mean(self.classes.iter().filter_map(|c| c.recall(area, max)));
        let all = 0..IOU_THRESHOLDS.len();
        BoxSummary {
            ap: ap(ALL, all.clone()),
            ap50: ap(ALL, 0..1),
            ap75: ap(ALL, 5..6),
            ap_small: ap(SMALL, all.clone()),
            ap_medium: ap(MEDIUM, all.clone()),
            ap_large: ap(LARGE, all),
            ar1: ar(ALL, 1),
            ar10: ar(ALL, 10),
            ar100: ar(ALL, MAX_DETECTIONS),
            ar_small: ar(SMALL, MAX_DETECTIONS),
            ar_medium: ar(MEDIUM, MAX_DETECTIONS),
            ar_large: ar(LARGE, MAX_DETECTIONS),
            per_class: precisions
                .iter()
                .zip(&self.classes)
                .map(|(precisions, class)| ClassSummary {
                    ap: precisions[ALL].and_then(mean),
                    ap50: precisions[ALL].map(|p| p[0]),
                    count: class.num_truth[ALL],
                })
                .collect(),
            images: self.images,
        }
    }
}

/// Per area range: the mean precision over the recall points for each threshold, or `None` without ground truth.
type ClassPrecisions = [Option<[f64; IOU_THRESHOLDS.len()]>; AREAS.len()];

impl ClassMatches {
    fn precisions(&self, sorted: &[&Match], area: usize) -> Option<[f64; IOU_THRESHOLDS.len()]> {
        let num_truth = self.num_truth[area];
        (num_truth > 0).then(|| std::array::from_fn(|t| average_precision(sorted, area, t, num_truth)))
    }

    /// The share of ground truth found, averaged over the thresholds.
    fn recall(&self, area: usize, max_detections: usize) -> Option<f64> {
        let considered = |m: &&Match| usize::from(m.rank) < max_detections;
        let found = |m: &Match| (m.found[area] & !m.ignored[area]).count_ones();
        let sum: u32 = self.detections.iter().filter(considered).map(found).sum();
        let possible = self.num_truth[area] * IOU_THRESHOLDS.len();
        (possible > 0).then(|| f64::from(sum) / possible as f64)
    }
}

/// Mean over the recall points of the best precision at that recall or above; 0 for recalls that are not reached.
fn average_precision(sorted: &[&Match], area: usize, threshold: usize, num_truth: usize) -> f64 {
    let bit = 1 << threshold;
    let (mut found, mut wrong) = (0.0, 0.0);
    // The precision envelope changes only at true positives: one (recall, precision) pair for each is enough.
    let mut curve: Vec<(f64, f64)> = Vec::new();
    for m in sorted.iter().filter(|m| m.ignored[area] & bit == 0) {
        if m.found[area] & bit == 0 {
            wrong += 1.0;
            continue;
        }
        found += 1.0;
        curve.push((found / num_truth as f64, found / (found + wrong + f64::EPSILON)));
    }
    for i in (1..curve.len()).rev() {
        curve[i - 1].1 = curve[i - 1].1.max(curve[i].1);
    }
    let mut sum = 0.0;
    let mut at = 0;
    for point in 0..NUM_RECALL_POINTS {
        let recall = point as f64 * 0.01;
        while curve.get(at).is_some_and(|&(r, _)| r < recall) {
            at += 1;
        }
        let Some((_, precision)) = curve.get(at) else { break };
        sum += precision;
    }
    sum / NUM_RECALL_POINTS as f64
}

fn by_score(class: &ClassMatches) -> Vec<&Match> {
    let mut sorted: Vec<&Match> = class.detections.iter().collect();
    sorted.sort_by(|a, b| descending(a.score, b.score));
    sorted
}

/// Descending order; −0 and 0 are equal.
fn descending(a: f64, b: f64) -> std::cmp::Ordering {
    (b + 0.0).total_cmp(&(a + 0.0))
}

/// Matches detections of one image and class, best first, with the ground truth, for every area and threshold.
fn image_results(detections: &[&FoundBox], truth: &[&TrueBox]) -> Vec<Match> {
    let mut results: Vec<Match> = detections
        .iter()
        .enumerate()
        .map(|(rank, d)| Match {
            score: d.score,
            // The rank is below MAX_DETECTIONS.
            rank: rank as u8,
            found: [0; AREAS.len()],
            ignored: [0; AREAS.len()],
        })
        .collect();
    // [D, G]
    let ious: Vec<f64> = detections.iter().flat_map(|d| truth.iter().map(|t| iou(&d.xywh, t))).collect();
    for area in 0..AREAS.len() {
        // Ignored boxes come last, so that they only get detections that match nothing else.
        let mut order: Vec<usize> = (0..truth.len()).collect();
        order.sort_by_key(|&g| is_ignored(truth[g], area));
        for (t, &threshold) in IOU_THRESHOLDS.iter().enumerate() {
            let mut taken = vec![false; truth.len()];
            for (d, result) in results.iter_mut().enumerate() {
                let ious = &ious[d * truth.len()..][..truth.len()];
                let best = best_match(ious, truth, &order, &taken, area, threshold);
                let (found, on_ignored) = match best {
                    Some(g) => {
                        taken[g] = true;
                        (truth[g].numbered, is_ignored(truth[g], area))
                    }
                    None => (false, false),
                };
                let [_, _, w, h] = detections[d].xywh;
                let ignored = on_ignored || !found && !in_range(w * h, area);
                result.found[area] |= u16::from(found) << t;
                result.ignored[area] |= u16::from(ignored) << t;
            }
        }
    }
    results
}

/// Finds the ground-truth box for a detection: the unmatched one with the highest IoU, among equals the last. Counted
/// boxes are preferred to ignored ones.
fn best_match(
    ious: &[f64],
    truth: &[&TrueBox],
    order: &[usize],
    taken: &[bool],
    area: usize,
    threshold: f64,
) -> Option<usize> {
    let mut best: Option<usize> = None;
    let mut best_iou = threshold;
    for &g in order {
        if taken[g] && !truth[g].ignore {
            continue;
        }
        if best.is_some_and(|b| !is_ignored(truth[b], area) && is_ignored(truth[g], area)) {
            break;
        }
        if ious[g] >= best_iou {
            best_iou = ious[g];
            best = Some(g);
        }
    }
    best
}

fn is_ignored(truth: &TrueBox, area: usize) -> bool {
    truth.ignore || !in_range(truth.area, area)
}

fn in_range(value: f64, area: usize) -> bool {
    (AREAS[area].0..=AREAS[area].1).contains(&value)
}

/// Converts to COCO's format, in which the IoU is computed.
fn xywh(b: &Xyxy) -> [f64; 4] {
    let [x1, y1, x2, y2] = b.map(f64::from);
    [x1, y1, x2 - x1, y2 - y1]
}

/// Intersection over union; for a crowd, intersection over the detection's area.
fn iou(&[dx, dy, dw, dh]: &[f64; 4], truth: &TrueBox) -> f64 {
    let [gx, gy, gw, gh] = truth.xywh;
    let w = (dx + dw).min(gx + gw) - dx.max(gx);
    let h = (dy + dh).min(gy + gh) - dy.max(gy);
    if w <= 0.0 || h <= 0.0 {
        return 0.0;
    }
    let (intersection, area) = (w * h, dw * dh);
    intersection / if truth.ignore { area } else { area + gw * gh - intersection }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::metrics::golden;
    use serde_json::Value;

    fn xyxy(values: &[Value]) -> Xyxy {
        golden::row(&values[..4]).try_into().unwrap()
    }

    fn images(case: &Value) -> Vec<(Vec<Detection>, Vec<GroundTruth>)> {
        let boxes = |v: &Value| -> Vec<Vec<Value>> { serde_json::from_value(v.clone()).unwrap() };
        let detection = |v: Vec<Value>| Detection {
            xyxy: xyxy(&v),
            class: v[4].as_u64().unwrap() as usize,
            score: v[5].as_f64().unwrap() as f32,
        };
        let truth = |v: Vec<Value>| GroundTruth {
            xyxy: xyxy(&v),
            class: v[4].as_u64().unwrap() as usize,
            ignore: v[5].as_u64() == Some(1),
            area: v[6].as_f64().map(|a| a as f32),
        };
        let image = |image: &Value| {
            (
                boxes(&image["detections"]).into_iter().map(detection).collect(),
                boxes(&image["truth"]).into_iter().map(truth).collect(),
            )
        };
        case["images"].as_array().unwrap().iter().map(image).collect()
    }

    #[test]
    fn equals_pycocotools() {
        for case in golden::cases("detection") {
            let name = case["name"].as_str().unwrap();
            let mut metric = BoxMetric::new(case["num_classes"].as_u64().unwrap() as usize);
            for (detections, truth) in images(&case) {
                metric.add_image(&detections, &truth);
            }
            let got = metric.compute();
            for (i, (number, value)) in got.twelve().into_iter().enumerate() {
                golden::close(name, number, value, &case["stats"][i]);
            }
            for (class, value) in got.per_class.iter().enumerate() {
                let [ap, ap50] = [&case["per_class"][class][0], &case["per_class"][class][1]];
                golden::close(name, &format!("AP of class {class}"), value.ap, ap);
                golden::close(name, &format!("AP50 of class {class}"), value.ap50, ap50);
            }
        }
    }

    #[test]
    fn false_positives_on_an_empty_image_count() {
        let at = |score| Detection { class: 0, score, xyxy: [0.0, 0.0, 8.0, 8.0] };
        let truth = GroundTruth { class: 0, xyxy: [0.0, 0.0, 8.0, 8.0], ignore: false, area: None };
        let mut metric = BoxMetric::new(1);
        metric.add_image(&[at(0.5)], std::slice::from_ref(&truth));
        assert!((metric.compute().ap.unwrap() - 1.0).abs() < 1e-12);
        metric.add_image(&[at(0.9)], &[]);
        assert!((metric.compute().ap.unwrap() - 0.5).abs() < 1e-12);
        assert_eq!(metric.compute().images, 2);
    }

    /// Where a class was not looked for, its detections are not false positives; those of other classes are.
    #[test]
    fn a_region_as_large_as_the_image_excuses_its_class() {
        let at = |class, score| Detection { class, score, xyxy: [1.0, 2.0, 9.0, 8.0] };
        let truth = |class| GroundTruth { class, xyxy: [1.0, 2.0, 9.0, 8.0], ignore: false, area: None };
        let everywhere = GroundTruth { class: 0, xyxy: [0.0, 0.0, 64.0, 64.0], ignore: true, area: None };
        let mut metric = BoxMetric::new(2);
        metric.add_image(&[at(0, 0.5), at(1, 0.5)], &[truth(0), truth(1)]);
        metric.add_image(&[at(0, 0.9), at(0, 0.8), at(1, 0.9)], &[everywhere]);
        let got = metric.compute();
        assert!((got.per_class[0].ap.unwrap() - 1.0).abs() < 1e-12);
        assert!((got.per_class[1].ap.unwrap() - 0.5).abs() < 1e-12);
    }

    #[test]
    fn without_truth_there_is_no_number() {
        let mut metric = BoxMetric::new(2);
        metric.add_image(&[Detection { class: 1, score: 0.5, xyxy: [0.0, 0.0, 8.0, 8.0] }], &[]);
        assert!(metric.compute().twelve().iter().all(|(_, value)| value.is_none()));
    }
}
