//! Predictions as JSON: the content of a line in `predictions.jsonl`.

use crate::error::path_text;
use crate::model::Card;
use crate::tasks::Prediction;
use serde_json::{Map, Value, json};
use std::path::Path;

/// An image with its predictions.
pub struct Answered<'a> {
    pub card: &'a Card,
    pub file: &'a Path,
    /// The image's id in COCO files.
    pub number: u64,
    /// Width and height in pixels, the unit of boxes.
    pub size: [usize; 2],
    /// One per task.
    pub answer: &'a [Box<dyn Prediction>],
}

/// The line for an image.
pub fn describe(image: &Answered) -> Value {
    let tasks = image.card.architecture.tasks.iter().zip(image.answer);
    let answers: Map<String, Value> = tasks.map(|(task, answer)| (task.name.clone(), answer.to_json())).collect();
    let [width, height] = image.size;
    json!({"file": path_text(image.file), "width": width, "height": height, "tasks": answers})
}

/// The line for an image that could not be read.
pub fn describe_broken(file: &Path, reason: &str) -> Value {
    json!({"file": path_text(file), "error": reason})
}
