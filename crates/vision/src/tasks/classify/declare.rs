//! The declaration of a classification, and the conversion of class words to labels.

use super::{Class, Classify};
use crate::error::Result;
use crate::reading::yaml::Value;
use crate::reading::{Raw, count_of, list_some};
use crate::tasks::classes::{ClassNumbers, classes_of, note_inferred};
use crate::tasks::declare::{Block, Declared, Keys, Messages, Readings, Resolved, TaskContext};
use crate::tasks::{Label, TaskSpec};
use std::sync::Arc;

pub const KEYS: &[&str] = &["class_weights", "label_smoothing"];

/// The declared loss options.
#[derive(Clone, Debug, Default)]
pub struct Loss {
    class_weights: Option<ClassWeights>,
    label_smoothing: f32,
}

#[derive(Clone, Debug, PartialEq)]
enum ClassWeights {
    /// Weights inverse to the classes' frequencies in the training split.
    Balanced,
    Each(Vec<f32>),
}

pub fn declare(block: &Block) -> Result<Arc<dyn Declared>> {
    let class_weights = block.get("class_weights").map(|value| class_weights(block, value)).transpose()?;
    let label_smoothing = block.get("label_smoothing").map_or(Ok(0.0), |value| label_smoothing(block, value))?;
    Ok(Arc::new(Loss { class_weights, label_smoothing }))
}

pub fn undeclared() -> Arc<dyn Declared> {
    Arc::new(Loss::default())
}

fn class_weights(block: &Block, value: &Value) -> Result<ClassWeights> {
    let numbers = value.as_array().and_then(|list| list.iter().map(Value::as_f64).collect::<Option<Vec<_>>>());
    let usable = |w: &f64| w.is_finite() && *w > 0.0 && (*w as f32).is_normal();
    match numbers {
        _ if value.as_str() == Some("balanced") => Ok(ClassWeights::Balanced),
        Some(numbers) if !numbers.is_empty() && numbers.iter().all(usable) => {
            Ok(ClassWeights::Each(numbers.into_iter().map(|w| w as f32).collect()))
        }
        _ => {
            let sentence = "`class_weights:` is `balanced`, or a number above 0 for each class such as `[1, 2.5]`";
            Err(block.error("class_weights", sentence))
        }
    }
}

fn label_smoothing(block: &Block, value: &Value) -> Result<f32> {
    let share = value.as_f64().filter(|share| (0.0..1.0).contains(share)).map(|share| share as f32);
    let sentence = "`label_smoothing:` is a share from 0 to below 1, such as 0.1";
    share.ok_or_else(|| block.error("label_smoothing", sentence))
}

impl Declared for Loss {
    fn keys(&self, mut keys: Keys) -> Keys {
        keys.extend(self.class_weights.as_ref().map(|weights| match weights {
            ClassWeights::Balanced => ("class_weights", "balanced".into()),
            ClassWeights::Each(weights) => ("class_weights", format!("{weights:?}")),
        }));
        let smoothing = self.label_smoothing;
        keys.extend((smoothing != 0.0).then(|| ("label_smoothing", smoothing.to_string())));
        keys
    }

    fn resolve(&self, context: &TaskContext, readings: &Readings, messages: &mut Messages) -> Result<Resolved> {
        let classes = classes_of(context, readings)?;
        if classes.len() < 2 {
            let sentence = format!(
                "a classification needs at least two classes, but there is only `{}` (in class folders the class is the first folder below that of the split)",
                classes[0]
            );
            return Err(context.error(&sentence));
        }
        if context.names.is_none() {
            note_inferred(context.name, &classes, messages.notes);
        }
        // A million images share as many label values as there are classes.
        let shared: Vec<Label> = (0..classes.len()).map(|class| Label::of(Class::One(class))).collect();
        let numbers = ClassNumbers::new(context, &classes);
        let labels = readings.all.iter().map(|reading| match &reading.raw {
            Raw::Class(class) => Ok(shared[numbers.of(class, &reading.place.file)?].clone()),
            Raw::Unlabelled | Raw::Names(_) | Raw::Flags(_) | Raw::Boxes(_) | Raw::Values(_) => Ok(Label::UNLABELLED),
        });
        let labels = labels.collect::<Result<Vec<Label>>>()?;
        let class_weights = self.given_weights(context, &classes)?;
        let task = Classify { class_weights, label_smoothing: self.label_smoothing, ..Classify::new(classes) };
        Ok((Arc::new(task), labels))
    }

    fn trained(
        &self,
        context: &TaskContext,
        task: Arc<dyn TaskSpec>,
        training: &[&Label],
        messages: &mut Messages,
    ) -> Result<Arc<dyn TaskSpec>> {
        let (Some(ClassWeights::Balanced), Some(known)) = (&self.class_weights, task.get::<Classify>()) else {
            return Ok(task);
        };
        let weights = balanced(known.classes.len(), training);
        let shown = known.classes.iter().zip(&weights).map(|(class, w)| format!("{class} {w:.3}"));
        let shown = list_some(&shown.collect::<Vec<_>>(), 12);
        messages.notes.push(format!("{}: balanced class weights: {shown}", context.name));
        Ok(Arc::new(Classify { class_weights: Some(weights), ..known.clone() }))
    }
}

impl Loss {
    /// The weights that the declaration lists, one for each of these classes.
    fn given_weights(&self, context: &TaskContext, classes: &[String]) -> Result<Option<Vec<f32>>> {
        match &self.class_weights {
            None | Some(ClassWeights::Balanced) => Ok(None),
            Some(ClassWeights::Each(weights)) if weights.len() == classes.len() => Ok(Some(weights.clone())),
            Some(ClassWeights::Each(weights)) => Err(context.error(&format!(
                "`class_weights:` has {} for {} ({}): give one per class, in this order",
                count_of(weights.len(), "number"),
                count_of(classes.len(), "class"),
                list_some(classes, 12)
            ))),
        }
    }
}

/// The inverse frequency of each class, scaled so that the mean over the labelled images is 1; classes without images
/// get 1.
fn balanced(classes: usize, labels: &[&Label]) -> Vec<f32> {
    let mut counts = vec![0usize; classes];
    for label in labels {
        if let Some(Class::One(class)) = label.get() {
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
        let of = |class: usize| Label::of(Class::One(class));
        let counts = [6, 1, 0, 3];
        let labels: Vec<Label> =
            counts.iter().enumerate().flat_map(|(class, &n)| vec![of(class); n]).chain([Label::UNLABELLED]).collect();
        let weights = balanced(4, &labels.iter().collect::<Vec<_>>());
        let total: f32 = counts.iter().zip(&weights).map(|(&n, w)| n as f32 * w).sum();
        assert!((total / 10.0 - 1.0).abs() < 1e-6);
        assert!((weights[1] / weights[0] - 6.0).abs() < 1e-5 && (weights[3] / weights[0] - 2.0).abs() < 1e-5);
        assert_eq!(weights[2], 1.0);
        // This is scikit-learn's "balanced" formula, which assumes that every class occurs: n / (K · count).
        let even = [of(0), of(1), of(0), of(0)];
        assert_eq!(balanced(2, &even.iter().collect::<Vec<_>>()), [4.0 / 6.0, 2.0]);
        assert_eq!(balanced(2, &[]), [1.0; 2]);
    }
}
