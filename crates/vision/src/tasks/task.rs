//! A task of the network, and its form in a model card.

use super::{KINDS, Kind, TaskSpec};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;

/// A named task.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(into = "TaskCard", try_from = "TaskCard")]
pub struct Task {
    /// The name under which its predictions and metrics are written.
    pub name: String,
    /// Its kind and settings.
    pub spec: Arc<dyn TaskSpec>,
}

impl Task {
    /// A task of this name.
    pub fn new(name: impl Into<String>, spec: impl TaskSpec) -> Task {
        Task { name: name.into(), spec: Arc::new(spec) }
    }

    /// Its name and kind for a message: `` `cells` (detection) ``.
    pub fn described(&self) -> String {
        format!("`{}` ({})", self.name, self.kind_word())
    }

    /// The class names; empty if the kind has no classes.
    pub fn classes(&self) -> &[String] {
        self.spec.classes()
    }

    /// The kind's display name, such as `classification`.
    pub fn kind_word(&self) -> &'static str {
        self.spec.kind().title
    }
}

impl PartialEq for Task {
    fn eq(&self, other: &Task) -> bool {
        self.name == other.name && (*self.spec).is_same(&*other.spec)
    }
}

/// A task in the card of a weights file: its name, its kind, and the kind's own part, which only the kind writes and
/// reads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskCard {
    /// The task's name.
    pub name: String,
    /// [`Kind::card_word`].
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(flatten)]
    own: Map<String, Value>,
}

impl TaskCard {
    /// Writes the kind's own part, which must be a struct with named fields.
    pub(super) fn write(&mut self, own: &impl Serialize) {
        // Through text, which uses the shortest decimal form of an f32; a `Value` would have the digits of an f64.
        let text = serde_json::to_string(own).and_then(|text| serde_json::from_str(&text));
        self.own = text.unwrap_or_else(|e| unreachable!("a kind's part of a card has named fields: {e}"));
    }

    /// Reads the kind's own part; an error is a sentence.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, String> {
        let read = serde_json::to_string(&self.own).and_then(|text| serde_json::from_str(&text));
        // The position refers to this temporary text and would mislead, so it is removed.
        read.map_err(|e| e.to_string().split(" at line ").next().unwrap_or_default().to_owned())
    }
}

/// The card part of a kind that has classes and no options.
#[derive(Serialize, Deserialize)]
pub(super) struct ClassesCard {
    pub classes: Vec<String>,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::classify::Classify;

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
        // Earlier versions wrote loss options even for kinds that do not have them; such files must still load.
        let other = r#"{"name":"a","type":"detect","classes":["x"],"loss":{"label_smoothing":0.1},"new":1}"#;
        let task: Task = serde_json::from_str(other).unwrap();
        assert_eq!(serde_json::to_string(&task).unwrap(), r#"{"name":"a","type":"detect","classes":["x"]}"#);
        // A single option is enough.
        let part = r#"{"name":"a","type":"classify","classes":["x","y"],"loss":{"label_smoothing":0.1}}"#;
        let task: Task = serde_json::from_str(part).unwrap();
        assert_eq!(task.spec.get::<Classify>().unwrap().label_smoothing, 0.1);
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
