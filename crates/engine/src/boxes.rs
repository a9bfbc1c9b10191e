//! Axis-aligned boxes as `[x1, y1, x2, y2]`, continuous pixel coordinates, half-open. No tensors here.

/// `[x1, y1, x2, y2]` with `x1 <= x2`, `y1 <= y2`, in pixels unless a name says otherwise.
pub type Xyxy = [f32; 4];

/// Converts a centre and a size to corners.
///
/// Units: those of the input, pixels or 0–1; centre x and y, width, height.
pub fn from_cxcywh([cx, cy, w, h]: [f32; 4]) -> Xyxy {
    [cx - w / 2.0, cy - h / 2.0, cx + w / 2.0, cy + h / 2.0]
}

/// Converts the corner and size of a COCO box to corners.
///
/// Units: those of the input, pixels or 0–1; left, top, width, height.
pub fn from_xywh([x, y, w, h]: [f32; 4]) -> Xyxy {
    [x, y, x + w, y + h]
}

/// The area in square pixels; 0 where the corners are in the wrong order.
pub fn area(b: &Xyxy) -> f32 {
    (b[2] - b[0]).max(0.0) * (b[3] - b[1]).max(0.0)
}

/// The area, in square pixels, that two boxes share; 0 where they do not meet.
pub fn intersection(a: &Xyxy, b: &Xyxy) -> f32 {
    let w = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0);
    let h = (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
    w * h
}

/// Intersection over union in `[0, 1]`; 0 where both boxes are empty.
pub fn iou(a: &Xyxy, b: &Xyxy) -> f32 {
    let inter = intersection(a, b);
    let union = area(a) + area(b) - inter;
    if union > 0.0 { inter / union } else { 0.0 }
}

/// Generalised IoU in `[-1, 1]` (Rezatofighi 2019, eq. 3).
pub fn giou(a: &Xyxy, b: &Xyxy) -> f32 {
    let inter = intersection(a, b);
    let union = area(a) + area(b) - inter;
    let hull = (a[2].max(b[2]) - a[0].min(b[0])) * (a[3].max(b[3]) - a[1].min(b[1]));
    let iou = if union > 0.0 { inter / union } else { 0.0 };
    if hull > 0.0 { iou - (hull - union) / hull } else { iou }
}

/// The part of a box that lies within an image of this width and height, in pixels; a box outside ends up without area on the
/// border.
pub fn clip(b: &Xyxy, width: f32, height: f32) -> Xyxy {
    [b[0].clamp(0.0, width), b[1].clamp(0.0, height), b[2].clamp(0.0, width), b[3].clamp(0.0, height)]
}

/// A box that the network found, in pixels, with its class and score.
#[derive(Clone, Debug, PartialEq)]
pub struct Detection {
    /// The index of the class among the task's classes.
    pub class: usize,
    /// The probability of the class, 0–1.
    pub score: f32,
    /// The box, in pixels.
    pub xyxy: Xyxy,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden(key: &str) -> serde_json::Value {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/boxes.json");
        let all: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        all["pairs"][key].clone()
    }

    fn boxes(key: &str) -> Vec<Xyxy> {
        serde_json::from_value(golden(key)).unwrap()
    }

    /// Every box of `a` against every box of `b`: disjoint, touching, nested, equal, empty.
    #[test]
    fn iou_and_giou_equal_torchvision() {
        for (key, measure) in [("iou", iou as fn(&Xyxy, &Xyxy) -> f32), ("giou", giou)] {
            let expected: Vec<Vec<f32>> = serde_json::from_value(golden(key)).unwrap();
            for (a, row) in boxes("a").iter().zip(&expected) {
                for (b, expected) in boxes("b").iter().zip(row) {
                    let got = measure(a, b);
                    assert!((got - expected).abs() <= 1e-6, "{key} of {a:?} and {b:?}: {got}, {expected}");
                }
            }
        }
    }

    #[test]
    fn two_equal_empty_boxes_overlap_by_nothing() {
        let point = [3.0, 3.0, 3.0, 3.0];
        assert_eq!((iou(&point, &point), giou(&point, &point)), (0.0, 0.0));
    }

    #[test]
    fn the_three_forms_of_a_box_agree() {
        let xyxy = [2.0, 4.0, 12.0, 8.0];
        assert_eq!(from_cxcywh([7.0, 6.0, 10.0, 4.0]), xyxy);
        assert_eq!(from_xywh([2.0, 4.0, 10.0, 4.0]), xyxy);
        assert_eq!(area(&xyxy), 40.0);
        assert_eq!(clip(&xyxy, 10.0, 5.0), [2.0, 4.0, 10.0, 5.0]);
    }
}
