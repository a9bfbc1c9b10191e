//! Answers as JSON: what a line of `predictions.jsonl` says about an image.

use crate::model::prediction::is_present;
use crate::model::{Card, Prediction};
use crate::task::{Task, TaskKind};
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
    pub answer: &'a [Prediction],
}

/// The line about one image.
pub fn describe(image: &Answered) -> Value {
    let tasks = image.card.architecture.tasks.iter().zip(image.answer).enumerate();
    let described = |(i, (task, answer)): (usize, (&Task, &Prediction))| {
        (task.name.clone(), describe_task(task, image.card.intervals_of(i), answer))
    };
    let answers: Map<String, Value> = tasks.map(described).collect();
    let [width, height] = image.size;
    json!({"file": image.file.to_string_lossy(), "width": width, "height": height, "tasks": answers})
}

/// The line about one image that could not be read.
pub fn describe_broken(file: &Path, reason: &str) -> Value {
    json!({"file": file.to_string_lossy(), "error": reason})
}

/// The answer to one task: the place where a [`Prediction`] becomes JSON.
fn describe_task(task: &Task, half_widths: &[Option<f64>], answer: &Prediction) -> Value {
    match answer {
        Prediction::Class(probabilities) => {
            let named = task.classes().iter().zip(probabilities);
            let all: Map<String, Value> = named.map(|(class, p)| (class.clone(), round(*p, 1e6))).collect();
            json!({"class": task.classes()[best(probabilities)], "probabilities": all})
        }
        Prediction::Classes(probabilities) => {
            let named = task.classes().iter().zip(probabilities);
            let labels: Vec<&String> = named.clone().filter(|(_, p)| is_present(**p)).map(|(class, _)| class).collect();
            let all: Map<String, Value> = named.map(|(class, p)| (class.clone(), round(*p, 1e6))).collect();
            json!({"labels": labels, "probabilities": all})
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
            let rounded: Vec<Value> = values.iter().map(|&v| round(v, 1e5)).collect();
            let mut all = json!({"values": rounded, "units": units});
            if half_widths.iter().any(Option::is_some) {
                let ends = |v: &f32, half: f64| [f64::from(*v) - half, f64::from(*v) + half];
                let interval =
                    |(v, half): (&f32, &Option<f64>)| half.map(|half| ends(v, half).map(|end| round(end as f32, 1e5)));
                all["interval"] = json!(values.iter().zip(half_widths).map(interval).collect::<Vec<_>>());
            }
            all
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
