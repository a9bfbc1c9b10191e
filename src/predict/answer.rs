//! Answers as JSON: what a line of `predictions.jsonl` says about an image.

use crate::model::Prediction;
use crate::task::{Task, TaskKind};
use serde_json::{Map, Value, json};
use std::path::Path;

/// Everything that is known about one image that was answered.
pub struct Answered<'a> {
    pub tasks: &'a [Task],
    pub file: &'a Path,
    /// For COCO's files.
    pub number: u64,
    /// Width and height in pixels; boxes are in them.
    pub size: [usize; 2],
    /// One per task.
    pub answer: &'a [Prediction],
}

/// The line about one image.
pub fn describe(image: &Answered) -> Value {
    let answers = image.tasks.iter().zip(image.answer);
    let answers: Map<String, Value> = answers.map(|(task, a)| (task.name.clone(), describe_task(task, a))).collect();
    let [width, height] = image.size;
    json!({"file": image.file.to_string_lossy(), "width": width, "height": height, "tasks": answers})
}

/// The line about one image that could not be read.
pub fn describe_broken(file: &Path, reason: &str) -> Value {
    json!({"file": file.to_string_lossy(), "error": reason})
}

/// The answer to one task: the place where a [`Prediction`] becomes JSON.
fn describe_task(task: &Task, answer: &Prediction) -> Value {
    match answer {
        Prediction::Class(probabilities) => {
            let named = task.classes().iter().zip(probabilities);
            let all: Map<String, Value> = named.map(|(class, p)| (class.clone(), round(*p, 1e6))).collect();
            json!({"class": task.classes()[best(probabilities)], "probabilities": all})
        }
        Prediction::Boxes(found) => {
            let boxes: Vec<Value> = found
                .iter()
                .map(|b| {
                    let corners: Vec<Value> = b.xyxy.iter().map(|&v| round(v, 1e2)).collect();
                    json!({"class": task.classes()[b.class], "score": round(b.score, 1e6), "box": corners})
                })
                .collect();
            json!({"boxes": boxes})
        }
        Prediction::Values(values) => {
            let units = match &task.kind {
                TaskKind::Regress { units, .. } => units.clone(),
                _ => Vec::new(),
            };
            let values: Vec<Value> = values.iter().map(|&v| round(v, 1e5)).collect();
            json!({"values": values, "units": units})
        }
    }
}

/// As many decimals as `per_unit` has zeros.
pub fn round(value: f32, per_unit: f64) -> Value {
    json!((f64::from(value) * per_unit).round() / per_unit)
}

/// Index of the largest.
pub fn best(probabilities: &[f32]) -> usize {
    let largest = |a: &(usize, &f32), b: &(usize, &f32)| a.1.total_cmp(b.1).then(b.0.cmp(&a.0));
    probabilities.iter().enumerate().max_by(largest).map_or(0, |p| p.0)
}
