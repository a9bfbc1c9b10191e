//! Non-maximum suppression per class, like torchvision's `batched_nms`. It runs on the host after the plan, because the length of
//! its output is not fixed.

#[cfg(test)]
mod tests;

use crate::boxes::{Xyxy, iou};

/// Indices of the boxes that are kept, best score first; of equal scores, the lower index comes first. A box is removed if a
/// better kept box of its class overlaps it by more than `iou_threshold`.
///
/// # Shapes
/// `boxes` `[N, 4]`, `scores` `[N]`, `classes` `[N]`.
///
/// # Source
/// torchvision.ops.batched_nms, including its comparison of an f32 IoU with an f64 threshold.
pub fn batched_nms(boxes: &[Xyxy], scores: &[f32], classes: &[usize], iou_threshold: f64) -> Vec<usize> {
    debug_assert!(boxes.len() == scores.len() && boxes.len() == classes.len());
    let mut order: Vec<usize> = (0..boxes.len()).collect();
    // Sorted by class, then by score: each class is one run, and a box is compared only with kept boxes of its class.
    order.sort_by(|&a, &b| classes[a].cmp(&classes[b]).then(best_first(scores, a, b)));
    let mut kept: Vec<usize> = Vec::new();
    for of_class in order.chunk_by(|&a, &b| classes[a] == classes[b]) {
        let first = kept.len();
        for &candidate in of_class {
            let covers = |&better: &usize| f64::from(iou(&boxes[better], &boxes[candidate])) > iou_threshold;
            if !kept[first..].iter().any(covers) {
                kept.push(candidate);
            }
        }
    }
    kept.sort_by(|&a, &b| best_first(scores, a, b));
    kept
}

/// Orders by score, highest first; −0 and 0 count as equal.
fn best_first(scores: &[f32], a: usize, b: usize) -> std::cmp::Ordering {
    (scores[b] + 0.0).total_cmp(&(scores[a] + 0.0)).then(a.cmp(&b))
}
