//! The prediction of a classification: class probabilities, and how they are written.

use crate::tasks::Prediction;
use crate::tasks::answer::{named_probabilities, round};
use serde_json::{Value, json};
use std::sync::Arc;

/// One probability per class, summing to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Probabilities {
    /// The classes' names.
    pub classes: Arc<[String]>,
    /// One per class, from 0 to 1.
    pub probabilities: Vec<f32>,
}

impl Probabilities {
    /// The name and probability of the most likely class.
    pub fn likeliest(&self) -> (&str, f32) {
        let best = self.best();
        (&self.classes[best], self.probabilities[best])
    }

    /// The index of the most likely class; among equal probabilities, the first.
    pub fn best(&self) -> usize {
        let largest = |a: &(usize, &f32), b: &(usize, &f32)| a.1.total_cmp(b.1).then(b.0.cmp(&a.0));
        self.probabilities.iter().enumerate().max_by(largest).map_or(0, |p| p.0)
    }
}

impl Prediction for Probabilities {
    fn to_json(&self) -> Value {
        let all = named_probabilities(&self.classes, &self.probabilities);
        json!({"class": self.classes[self.best()], "probabilities": all})
    }

    fn cells(&self) -> Vec<String> {
        let probabilities = self.probabilities.iter().map(|&p| round(p, 1e6).to_string());
        [self.classes[self.best()].clone()].into_iter().chain(probabilities).collect()
    }

    fn caption(&self) -> Option<String> {
        let (class, probability) = self.likeliest();
        Some(format!("{class} {probability:.2}"))
    }
}
