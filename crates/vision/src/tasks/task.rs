//! One question the network answers about an image, and the form it has in a card.

use super::{KINDS, Kind, TaskSpec};
use crate::ir::ValueLossForm;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A name, and what is asked under it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(into = "TaskCard", try_from = "TaskCard")]
pub struct Task {
    /// The name under which its answers and figures are written.
    pub name: String,
    /// The task's kind and settings.
    pub spec: Arc<dyn TaskSpec>,
}

impl Task {
    /// A task of this name.
    pub fn new(name: impl Into<String>, spec: impl TaskSpec) -> Task {
        Task { name: name.into(), spec: Arc::new(spec) }
    }

    /// Empty where the kind has none.
    pub fn classes(&self) -> &[String] {
        self.spec.classes()
    }

    /// The kind for people: `classification`.
    pub fn kind_word(&self) -> &'static str {
        self.spec.kind().title
    }
}

impl PartialEq for Task {
    fn eq(&self, other: &Task) -> bool {
        self.name == other.name && (*self.spec).is_same(&*other.spec)
    }
}

/// A task as a weights file's card has it: the union of what kinds write down, in the order it is written. Each kind fills in
/// and reads back its own part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskCard {
    /// The task's name.
    pub name: String,
    /// [`Kind::card_word`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The class names, for kinds that have classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<String>>,
    /// The column names, for kinds that have columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    /// One unit per column, for kinds that have units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units: Option<Vec<String>>,
    /// The options that differ from the kind's default.
    #[serde(default, skip_serializing_if = "LossOptions::is_default")]
    pub loss: LossOptions,
}

/// What a task's loss does otherwise than its kind's own, as cards have it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LossOptions {
    /// The weight of an image of each class.
    pub class_weights: Option<Vec<f32>>,
    /// The share of every label that is spread evenly over the classes.
    pub label_smoothing: f32,
    /// The loss of a value as a function of its error.
    pub values: ValueLossForm,
}

impl LossOptions {
    /// Whether nothing differs from the kind's default.
    pub fn is_default(&self) -> bool {
        *self == LossOptions::default()
    }
}

impl From<Task> for TaskCard {
    fn from(task: Task) -> TaskCard {
        let kind = task.spec.kind().card_word.to_owned();
        let mut card = TaskCard { name: task.name, kind, ..TaskCard::default() };
        task.spec.write(&mut card);
        card
    }
}

impl TryFrom<TaskCard> for Task {
    type Error = String;

    fn try_from(card: TaskCard) -> Result<Task, String> {
        let kind: Option<&Kind> = KINDS.iter().copied().find(|kind| kind.card_word == card.kind);
        let kind = kind.ok_or_else(|| {
            let known: Vec<String> = KINDS.iter().map(|kind| format!("`{}`", kind.card_word)).collect();
            format!("unknown variant `{}`, expected one of {}", card.kind, known.join(", "))
        })?;
        Ok(Task { name: card.name.clone(), spec: (kind.read)(card)? })
    }
}

/// A part that a kind cannot do without.
pub(super) fn required<T>(field: Option<T>, key: &str) -> Result<T, String> {
    field.ok_or_else(|| format!("missing field `{key}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_written_and_read_as_it_always_was() {
        for text in [
            r#"{"name":"a","type":"classify","classes":["x","y"]}"#,
            r#"{"name":"a","type":"classify","classes":["x","y"],"loss":{"class_weights":[0.1,2.0],"label_smoothing":0.1,"values":"huber"}}"#,
            r#"{"name":"a","type":"multi_label","classes":["x"]}"#,
            r#"{"name":"a","type":"detect","classes":["x","y"]}"#,
            r#"{"name":"a","type":"regress","columns":["x","y"],"units":["m",""]}"#,
            r#"{"name":"a","type":"regress","columns":["x"],"units":[""],"loss":{"class_weights":null,"label_smoothing":0.0,"values":"mse"}}"#,
        ] {
            let task: Task = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&task).unwrap(), text);
            assert_eq!(task, serde_json::from_str(text).unwrap());
        }
        for (text, words) in [
            (r#"{"name":"a","type":"guess","classes":[]}"#, "unknown variant `guess`, expected one of `classify`"),
            (r#"{"name":"a","type":"detect"}"#, "missing field `classes`"),
            (r#"{"name":"a","type":"regress","columns":["x"]}"#, "missing field `units`"),
        ] {
            let error = serde_json::from_str::<Task>(text).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
