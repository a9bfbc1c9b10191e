//! The prediction of a multi-label task: class probabilities, and how they are written.

use super::is_present;
use crate::tasks::Prediction;
use crate::tasks::answer::{named_probabilities, round};
use serde_json::{Value, json};
use std::sync::Arc;

/// One independent probability per class.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelProbabilities {
    /// The classes' names.
    pub classes: Arc<[String]>,
    /// One per class, each from 0 to 1.
    pub probabilities: Vec<f32>,
}

impl LabelProbabilities {
    /// The classes predicted as present.
    pub fn present(&self) -> impl Iterator<Item = (&String, f32)> {
        let named = self.classes.iter().zip(self.probabilities.iter().copied());
        named.filter(|(_, p)| is_present(*p))
    }
}

impl Prediction for LabelProbabilities {
    fn to_json(&self) -> Value {
        let labels: Vec<&String> = self.present().map(|(class, _)| class).collect();
        json!({"labels": labels, "probabilities": named_probabilities(&self.classes, &self.probabilities)})
    }

    fn cells(&self) -> Vec<String> {
        self.probabilities.iter().map(|&p| round(p, 1e6).to_string()).collect()
    }

    fn caption(&self) -> Option<String> {
        let there: Vec<String> = self.present().map(|(class, p)| format!("{class} {p:.2}")).collect();
        Some(if there.is_empty() { "none".into() } else { there.join(", ") })
    }
}
