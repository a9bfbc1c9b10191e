//! What data.yaml says of a task's loss: its keys read and checked, and the training labels counted where they decide.

use super::declaration::{ClassWeights, Kind, LossDeclaration, TaskDeclaration};
use super::yaml::Yaml;
use super::{count_of, did_you_mean, list_some};
use crate::error::Result;
use crate::graph::ir::ValueLoss;
use crate::tasks::{Label, LossOptions};
use serde_yaml_ng::{Mapping, Value};

impl Yaml {
    /// `class_weights`, `label_smoothing` and `loss` of a task.
    pub fn loss(&self, name: &str, kind: Kind, body: &Mapping) -> Result<LossDeclaration> {
        for (key, of, fits) in [
            ("class_weights", Kind::Classify, "`type: classify` with one class an image"),
            ("label_smoothing", Kind::Classify, "`type: classify` with one class an image"),
            ("loss", Kind::Regress, "`type: regress`"),
        ] {
            if kind != of && body.get(key).is_some_and(|v| !v.is_null()) {
                let message = format!("task `{name}`: `{key}:` belongs to {fits}: remove it");
                return Err(self.error(&["tasks", name, key], message));
            }
        }
        let given = |key: &str| body.get(key).filter(|v| !v.is_null());
        Ok(LossDeclaration {
            class_weights: given("class_weights").map(|value| self.class_weights(name, value)).transpose()?,
            label_smoothing: given("label_smoothing").map_or(Ok(0.0), |value| self.label_smoothing(name, value))?,
            values: given("loss").map_or(Ok(ValueLoss::Huber), |value| self.value_loss(name, value))?,
        })
    }

    fn class_weights(&self, name: &str, value: &Value) -> Result<ClassWeights> {
        let numbers = value.as_sequence().and_then(|list| list.iter().map(Value::as_f64).collect::<Option<Vec<_>>>());
        let usable = |w: &f64| w.is_finite() && *w > 0.0 && (*w as f32).is_normal();
        match numbers {
            _ if value.as_str() == Some("balanced") => Ok(ClassWeights::Balanced),
            Some(numbers) if !numbers.is_empty() && numbers.iter().all(usable) => {
                Ok(ClassWeights::Each(numbers.into_iter().map(|w| w as f32).collect()))
            }
            _ => {
                let message = format!(
                    "task `{name}`: `class_weights:` is `balanced`, or a number above 0 for each class such as `[1, 2.5]`"
                );
                Err(self.error(&["tasks", name, "class_weights"], message))
            }
        }
    }

    fn label_smoothing(&self, name: &str, value: &Value) -> Result<f32> {
        value.as_f64().filter(|share| (0.0..1.0).contains(share)).map(|share| share as f32).ok_or_else(|| {
            let message = format!("task `{name}`: `label_smoothing:` is a share from 0 to below 1, such as 0.1");
            self.error(&["tasks", name, "label_smoothing"], message)
        })
    }

    fn value_loss(&self, name: &str, value: &Value) -> Result<ValueLoss> {
        let at = ["tasks", name, "loss"];
        match self.text_of(value, &at)?.as_str() {
            "huber" => Ok(ValueLoss::Huber),
            "mse" => Ok(ValueLoss::Mse),
            other => {
                let hint = did_you_mean(other, ["huber", "mse"]);
                Err(self.error(&at, format!("task `{name}`: `loss: {other}` is neither `huber` nor `mse`{hint}")))
            }
        }
    }
}

/// The options of a task with these classes, the labels of its training images being `training`.
pub fn resolve(
    task: &TaskDeclaration,
    classes: &[String],
    training: &[Label],
    notes: &mut Vec<String>,
) -> Result<LossOptions> {
    let class_weights = match &task.loss.class_weights {
        None => None,
        Some(ClassWeights::Each(weights)) if weights.len() == classes.len() => Some(weights.clone()),
        Some(ClassWeights::Each(weights)) => {
            let message = format!(
                "task `{}`: `class_weights:` has {} for {} ({}): one for each, in this order",
                task.name,
                count_of(weights.len(), "number"),
                // "classs" is no word.
                match classes.len() {
                    1 => "1 class".to_string(),
                    n => format!("{n} classes"),
                },
                list_some(classes, 12)
            );
            return Err(task.place.error(message));
        }
        Some(ClassWeights::Balanced) => {
            let weights = balanced(classes.len(), training);
            let shown: Vec<String> = classes.iter().zip(&weights).map(|(class, w)| format!("{class} {w:.3}")).collect();
            notes.push(format!("{}: balanced class weights: {}", task.name, list_some(&shown, 12)));
            Some(weights)
        }
    };
    Ok(LossOptions { class_weights, label_smoothing: task.loss.label_smoothing, values: task.loss.values })
}

/// One over each class's number of images, such that the labelled images' mean is 1; 1 for a class without images.
fn balanced(classes: usize, labels: &[Label]) -> Vec<f32> {
    let mut counts = vec![0usize; classes];
    for label in labels {
        if let Label::Class(class) = label {
            counts[*class] += 1;
        }
    }
    let (images, occurring) = (counts.iter().sum::<usize>() as f64, counts.iter().filter(|n| **n > 0).count() as f64);
    let weight = |&count: &usize| if count == 0 { 1.0 } else { (images / (occurring * count as f64)) as f32 };
    counts.iter().map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balanced_weights_are_inverse_frequencies_of_mean_one() {
        let counts = [6, 1, 0, 3];
        let labels: Vec<Label> = counts
            .iter()
            .enumerate()
            .flat_map(|(class, &n)| vec![Label::Class(class); n])
            .chain([Label::Unlabelled])
            .collect();
        let weights = balanced(4, &labels);
        let total: f32 = counts.iter().zip(&weights).map(|(&n, w)| n as f32 * w).sum();
        assert!((total / 10.0 - 1.0).abs() < 1e-6);
        assert!((weights[1] / weights[0] - 6.0).abs() < 1e-5 && (weights[3] / weights[0] - 2.0).abs() < 1e-5);
        assert_eq!(weights[2], 1.0);
        // As scikit-learn's "balanced" where every class occurs: n / (K · count).
        let even = [Label::Class(0), Label::Class(1), Label::Class(0), Label::Class(0)];
        assert_eq!(balanced(2, &even), [4.0 / 6.0, 2.0]);
        assert_eq!(balanced(2, &[]), [1.0; 2]);
    }
}
