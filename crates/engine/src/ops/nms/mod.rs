//! Non-maximum suppression, class by class, as torchvision's `batched_nms`. It runs on the host, after the plan: its
//! output has no fixed length.

#[cfg(test)]
mod tests;

use crate::boxes::{Xyxy, iou};

/// Indices of the boxes that stay, best first; of equal scores the lower index. A box goes if a better one of its class
/// that stays overlaps it by more than `iou_threshold`.
///
/// # Shapes
/// `boxes` `[N, 4]`, `scores` `[N]`, `classes` `[N]`.
///
/// # Source
/// torchvision.ops.batched_nms, the boundary included: an f32 IoU against an f64 threshold.
pub fn batched_nms(boxes: &[Xyxy], scores: &[f32], classes: &[usize], iou_threshold: f64) -> Vec<usize> {
    debug_assert!(boxes.len() == scores.len() && boxes.len() == classes.len());
    let mut order: Vec<usize> = (0..boxes.len()).collect();
    // By class, then best first: a class is one run, and only its own kept boxes are looked at.
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

/// −0 and 0 are equal.
fn best_first(scores: &[f32], a: usize, b: usize) -> std::cmp::Ordering {
    (scores[b] + 0.0).total_cmp(&(scores[a] + 0.0)).then(a.cmp(&b))
}
