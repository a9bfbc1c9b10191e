//! The prediction of a detection task: boxes, and how they are written and drawn.

use crate::boxes::{Detection, Xyxy};
use crate::draw::LabelledFrame;
use crate::tasks::{Prediction, round};
use serde_json::{Value, json};
use std::fmt::Write;
use std::sync::Arc;

/// Detected boxes, best first.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundBoxes {
    /// The classes' names.
    pub classes: Arc<[String]>,
    /// Each with its class, score and corners.
    pub boxes: Vec<Detection>,
}

impl FoundBoxes {
    /// The class name, score (0 to 1) and corners `[x1, y1, x2, y2]` of every box, best first.
    pub fn named(&self) -> impl Iterator<Item = (&str, f32, Xyxy)> {
        self.boxes.iter().map(|b| (self.classes[b.class].as_str(), b.score, b.xyxy))
    }
}

impl Prediction for FoundBoxes {
    fn to_json(&self) -> Value {
        let found = |b: &Detection| {
            let corners: Vec<Value> = b.xyxy.iter().map(|&v| round(v, 1e2)).collect();
            json!({"class": self.classes[b.class], "score": round(b.score, 1e6), "box": corners})
        };
        json!({"boxes": self.boxes.iter().map(found).collect::<Vec<_>>()})
    }

    fn cells(&self) -> Vec<String> {
        Vec::new()
    }

    fn caption(&self) -> Option<String> {
        None
    }

    fn frames(&self) -> Vec<LabelledFrame> {
        let label = |b: &Detection| format!("{} {:.2}", self.classes[b.class], b.score);
        self.boxes.iter().map(|b| LabelledFrame { xyxy: b.xyxy, class: b.class, label: label(b) }).collect()
    }

    fn best_score(&self) -> Option<f32> {
        self.boxes.first().map(|best| best.score)
    }

    fn coco(&self, image: i64, categories: &[i64]) -> Vec<Value> {
        let entry = |b: &Detection| {
            let [x1, y1, x2, y2] = b.xyxy;
            let bbox = [x1, y1, x2 - x1, y2 - y1].map(|v| round(v, 1e2));
            json!({"image_id": image, "category_id": categories[b.class], "bbox": bbox, "score": round(b.score, 1e6)})
        };
        self.boxes.iter().map(entry).collect()
    }

    fn yolo(&self, size: [usize; 2]) -> Option<String> {
        let [width, height] = size.map(|side| side as f32);
        let mut rows = String::new();
        for Detection { class, score, xyxy: [x1, y1, x2, y2] } in &self.boxes {
            let centre = [(x1 + x2) / 2.0 / width, (y1 + y2) / 2.0 / height];
            let [w, h] = [(x2 - x1) / width, (y2 - y1) / height];
            // Writing to a String cannot fail.
            let _ = writeln!(rows, "{class} {:.6} {:.6} {w:.6} {h:.6} {score:.6}", centre[0], centre[1]);
        }
        Some(rows)
    }

    fn box_rows(&self) -> Vec<Vec<String>> {
        let row = |b: &Detection| {
            let corners = b.xyxy.iter().map(|&v| round(v, 1e2).to_string());
            [self.classes[b.class].clone(), round(b.score, 1e6).to_string()].into_iter().chain(corners).collect()
        };
        self.boxes.iter().map(row).collect()
    }
}
