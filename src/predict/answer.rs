//! Answers as JSON: what a line of `predictions.jsonl` says about an image.

use crate::model::Card;
use crate::tasks::Prediction;
use serde_json::{Map, Value, json};
use std::path::Path;

/// Everything that is known about one image that was answered.
pub struct Answered<'a> {
    pub card: &'a Card,
    pub file: &'a Path,
    /// For COCO's files.
    pub number: u64,
    /// Width and height in pixels; boxes are in them.
    pub size: [usize; 2],
    /// One per task.
    pub answer: &'a [Box<dyn Prediction>],
}

/// The line about one image.
pub fn describe(image: &Answered) -> Value {
    let tasks = image.card.architecture.tasks.iter().zip(image.answer);
    let answers: Map<String, Value> = tasks.map(|(task, answer)| (task.name.clone(), answer.to_json())).collect();
    let [width, height] = image.size;
    json!({"file": image.file.to_string_lossy(), "width": width, "height": height, "tasks": answers})
}

/// The line about one image that could not be read.
pub fn describe_broken(file: &Path, reason: &str) -> Value {
    json!({"file": file.to_string_lossy(), "error": reason})
}
