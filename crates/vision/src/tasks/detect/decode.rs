//! Decodes the logits of one image into boxes.

use crate::boxes::{Detection, Xyxy, area};
use crate::geometry::Geometry;
use crate::ir::Level;
use crate::ops::box_loss::BINS;
use crate::ops::nms::batched_nms;
use crate::tasks::DecodeOptions;
use crate::tasks::answer::sigmoid;

/// The detections of one image, best first.
///
/// # Shapes
/// `class_logits` `[A, C]`, `box_logits` `[A, 4·BINS]` (left, top, right, bottom), cells level by level, row by row; `only`
/// `[C]`, the classes whose boxes are kept.
///
/// # Units
/// Pixels of the original image. Boxes are converted and clipped to the image before non-maximum suppression, because
/// clipping makes boxes overlap more: no two boxes of a class that are returned overlap by more than the threshold.
///
/// # Source
/// Li 2020, "Generalized Focal Loss", eq. 5: a distance is stride · Σ softmax(logits)·{0 … 16}.
pub fn decode(
    class_logits: &[f32],
    box_logits: &[f32],
    levels: &[Level],
    only: Option<&[bool]>,
    geometry: &Geometry,
    options: &DecodeOptions,
) -> Vec<Detection> {
    let num_cells: usize = levels.iter().map(|l| l.h * l.w).sum();
    if num_cells == 0 {
        return Vec::new();
    }
    let num_classes = class_logits.len() / num_cells;
    debug_assert_eq!(class_logits.len(), num_cells * num_classes);
    debug_assert_eq!(box_logits.len(), num_cells * 4 * BINS);

    let (mut boxes, mut scores, mut classes) = (Vec::new(), Vec::new(), Vec::new());
    let mut first_cell = 0;
    for level in levels {
        let cells = first_cell..first_cell + level.h * level.w;
        let logits = &class_logits[cells.start * num_classes..cells.end * num_classes];
        for (index, score) in best_candidates(logits, only, options) {
            let cell = index / num_classes;
            let distribution = &box_logits[(first_cell + cell) * 4 * BINS..][..4 * BINS];
            let xyxy = geometry.invert_box(&decode_box(distribution, level, cell));
            // A box in the padding.
            if area(&xyxy) <= 0.0 {
                continue;
            }
            boxes.push(xyxy);
            scores.push(score);
            classes.push(index % num_classes);
        }
        first_cell = cells.end;
    }
    let detection = |i: usize| Detection { class: classes[i], score: scores[i], xyxy: boxes[i] };
    let kept = batched_nms(&boxes, &scores, &classes, options.iou_threshold);
    kept.into_iter().take(options.max_detections).map(detection).collect()
}

/// A level's best candidates as (cell · C + class, score), best first, among equals the lower index.
fn best_candidates(logits: &[f32], only: Option<&[bool]>, options: &DecodeOptions) -> Vec<(usize, f32)> {
    let scored = logits.iter().enumerate().map(|(index, &logit)| (index, sigmoid(logit)));
    let mut candidates: Vec<(usize, f32)> = scored
        .filter(|(index, s)| *s > options.score_threshold && only.is_none_or(|only| only[index % only.len()]))
        .collect();
    let best_first = |a: &(usize, f32), b: &(usize, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if candidates.len() > options.max_per_level {
        candidates.select_nth_unstable_by(options.max_per_level, best_first);
        candidates.truncate(options.max_per_level);
    }
    candidates.sort_unstable_by(best_first);
    candidates
}

/// The box around the centre of `cell` on `level`, in network pixels, from its `[4, BINS]` logits.
fn decode_box(distribution: &[f32], level: &Level, cell: usize) -> Xyxy {
    let stride = level.stride as f32;
    let x = ((cell % level.w) as f32 + 0.5) * stride;
    let y = ((cell / level.w) as f32 + 0.5) * stride;
    let side = |i: usize| stride * expected_bin(&distribution[i * BINS..][..BINS]);
    [x - side(0), y - side(1), x + side(2), y + side(3)]
}

/// Σ softmax(logits)·{0 … 16}.
fn expected_bin(logits: &[f32]) -> f32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (mut sum, mut weighted) = (0.0, 0.0);
    for (bin, logit) in logits.iter().enumerate() {
        let e = (logit - largest).exp();
        sum += e;
        weighted += e * bin as f32;
    }
    weighted / sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boxes::{clip, iou};
    use crate::random::draw;
    use serde_json::{Value, from_value};

    const LEVELS: [Level; 2] = [Level { stride: 8, h: 2, w: 3 }, Level { stride: 16, h: 1, w: 2 }];

    /// An image of this width and height in the canvas's top left corner.
    fn unscaled(source: [usize; 2]) -> Geometry {
        Geometry { source, size: 64, scale: [1.0; 2], offset: [0.0; 2], flip: false }
    }

    #[test]
    fn equals_the_reference() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/boxes.json");
        let all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        for case in all["decode"].as_array().unwrap() {
            let name = &case["name"];
            let levels: Vec<[usize; 3]> = from_value(case["levels"].clone()).unwrap();
            let levels: Vec<Level> = levels.iter().map(|&[stride, h, w]| Level { stride, h, w }).collect();
            let class_logits: Vec<f32> = from_value(case["class_logits"].clone()).unwrap();
            let box_logits: Vec<f32> = from_value(case["box_logits"].clone()).unwrap();
            let options = DecodeOptions {
                max_per_level: case["max_per_level"].as_u64().unwrap() as usize,
                max_detections: case["max_detections"].as_u64().unwrap() as usize,
                ..Default::default()
            };
            let area: [usize; 2] = from_value(case["area"].clone()).unwrap();
            let got = decode(&class_logits, &box_logits, &levels, None, &unscaled(area), &options);
            let expected: Vec<(usize, f32, Xyxy)> = from_value(case["detections"].clone()).unwrap();
            assert_eq!(got.len(), expected.len(), "{name}");
            for (got, (class, score, xyxy)) in got.iter().zip(&expected) {
                assert_eq!(got.class, *class, "{name}");
                assert!((got.score - score).abs() < 1e-6, "{name}");
                let off = got.xyxy.iter().zip(xyxy).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(off < 1e-4, "{name}: {:?}, expected {xyxy:?}", got.xyxy);
            }
        }
    }

    /// One confident cell whose sides are 1, 2, 3 and 4 strides from the centre.
    #[test]
    fn a_sure_cell_is_one_box() {
        let mut class_logits = vec![-20.0; 8 * 2];
        class_logits[7 * 2 + 1] = 3.0;
        let mut box_logits = vec![0.0; 8 * 4 * BINS];
        for side in 0..4 {
            box_logits[(7 * 4 + side) * BINS + side + 1] = 200.0;
        }
        let got = decode(&class_logits, &box_logits, &LEVELS, None, &unscaled([64, 50]), &DecodeOptions::default());
        assert_eq!(got.len(), 1);
        assert_eq!((got[0].class, got[0].xyxy), (1, [8.0, 0.0, 64.0, 50.0]));
    }

    /// The limit on boxes applies to the selected classes.
    #[test]
    fn boxes_of_other_classes_take_no_places() {
        let class_logits: Vec<f32> = (0..8 * 3).map(|i| [3.0, 2.0, 1.0][i % 3]).collect();
        let (box_logits, options) =
            (vec![0.0; 8 * 4 * BINS], DecodeOptions { max_detections: 1, ..Default::default() });
        let only = [false, true, true];
        let got = decode(&class_logits, &box_logits, &LEVELS, Some(&only), &unscaled([64, 64]), &options);
        assert_eq!(got.iter().map(|d| d.class).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn nothing_above_the_threshold_is_nothing() {
        let got =
            decode(&[-20.0; 16], &[0.0; 8 * 4 * BINS], &LEVELS, None, &unscaled([64, 64]), &DecodeOptions::default());
        assert!(got.is_empty());
    }

    /// Boxes with random sides, many of them beyond the image: it is wide, and the canvas has padding above and below it.
    #[test]
    fn no_two_boxes_of_a_class_overlap_more_than_the_threshold() {
        let levels = [Level { stride: 2, h: 32, w: 32 }];
        let letterbox =
            Geometry { source: [331, 124], size: 64, scale: [64.0 / 331.0; 2], offset: [0.0, 20.0], flip: false };
        let class_logits: Vec<f32> = (0..32 * 32 * 2).map(|i| (draw(i) % 1000) as f32 / 250.0).collect();
        let mut box_logits = vec![0.0; 32 * 32 * 4 * BINS];
        for (i, side) in box_logits.chunks_exact_mut(BINS).enumerate() {
            side[1 + draw(5000 + i as u64) as usize % (BINS - 1)] = 200.0;
        }
        let excess = |found: &[Detection], threshold: f64| {
            let pairs = found.iter().enumerate().flat_map(|(i, a)| found[..i].iter().map(move |b| (a, b)));
            pairs.filter(|(a, b)| a.class == b.class && f64::from(iou(&a.xyxy, &b.xyxy)) > threshold).count()
        };
        for iou_threshold in [0.3, 0.6, 0.9] {
            let options =
                DecodeOptions { iou_threshold, max_per_level: 10_000, max_detections: 10_000, ..Default::default() };
            let found = decode(&class_logits, &box_logits, &levels, None, &letterbox, &options);
            let touches = |d: &&Detection| d.xyxy[1] == 0.0 || d.xyxy[3] == 124.0;
            assert!(found.iter().filter(touches).count() > 10);
            assert!(found.iter().all(|d| area(&d.xyxy) > 0.0 && clip(&d.xyxy, 331.0, 124.0) == d.xyxy));
            assert_eq!(excess(&found, iou_threshold), 0, "--iou {iou_threshold}");
            // Clipped after suppression, some of these boxes overlap more than that.
            let mut late = decode(&class_logits, &box_logits, &levels, None, &unscaled([64, 64]), &options);
            late.iter_mut().for_each(|d| d.xyxy = letterbox.invert_box(&d.xyxy));
            assert!(excess(&late, iou_threshold) > 0, "--iou {iou_threshold}");
        }
    }
}
