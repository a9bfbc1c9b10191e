//! NMS against torchvision's results (tests/golden/boxes.py).

use super::batched_nms;
use crate::boxes::Xyxy;
use serde_json::{Value, from_value};

#[test]
fn equals_torchvision() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/boxes.json");
    let all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for case in all["nms"].as_array().unwrap() {
        let boxes: Vec<Xyxy> = from_value(case["boxes"].clone()).unwrap();
        let scores: Vec<f32> = from_value(case["scores"].clone()).unwrap();
        let classes: Vec<usize> = from_value(case["classes"].clone()).unwrap();
        let kept: Vec<usize> = from_value(case["kept"].clone()).unwrap();
        let threshold = case["iou_threshold"].as_f64().unwrap();
        let got = batched_nms(&boxes, &scores, &classes, threshold);
        assert_eq!(got, kept, "{}", case["name"]);
    }
}

#[test]
fn equal_scores_keep_the_first() {
    let boxes = [[0.0, 0.0, 10.0, 10.0]; 3];
    assert_eq!(batched_nms(&boxes, &[0.5; 3], &[0, 0, 1], 0.6), [0, 2]);
}

#[test]
fn an_overlap_of_exactly_the_threshold_stays() {
    let boxes = [[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 2.0]];
    assert_eq!(batched_nms(&boxes, &[0.9, 0.8], &[0, 0], 0.5), [0, 1]);
    assert_eq!(batched_nms(&boxes, &[0.9, 0.8], &[0, 0], 0.49), [0]);
}

#[test]
fn empty_boxes_suppress_nothing() {
    let point = [2.0, 2.0, 2.0, 2.0];
    assert_eq!(batched_nms(&[point, point], &[0.5, 0.6], &[0, 0], 0.5), [1, 0]);
}
