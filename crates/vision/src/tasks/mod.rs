//! The kinds of task and their common interfaces. Each kind is one folder with its labels and how they move with the
//! pixels, its keys in data.yaml, its head, targets and loss, its metric, and how its predictions are decoded, written,
//! drawn and tabulated. All other code uses the interfaces here and names no kind.
//!
//! ```text
//! Kind         one static value per kind: its names, and how tasks are declared, read from a card, made up for benchmarks
//!  └ TaskSpec    a task with known classes or columns: head, loss, targets, predictions, metric, meaning of its labels
//!     ├ Label      the label of one image, or none
//!     ├ Target     the label as arrays of numbers for the loss
//!     ├ Prediction the prediction for one image
//!     └ Metric     predictions against labels → Summary
//! ```
//!
//! To add a kind, write its folder, then add its module and its entry in [`KINDS`] here.

pub mod classify;
pub mod coverage;
pub mod detect;
pub mod metrics;
pub mod multi_label;
pub mod regress;

mod answer;
mod classes;
mod declare;
mod head;
mod label;
mod loss_card;
mod metric;
mod objects;
mod same;
mod spec;
mod standardisation;
mod target;
mod task;
mod written;

pub use answer::{DecodeOptions, HeadOutput, Interpreting, Prediction, round};
pub use classes::{ClassNumbers, infer_classes, order_note};
pub use declare::{Block, Declared, Keys, Messages, Readings, Resolved, TaskContext};
pub use head::{Dropout, HeadValues, Trunk};
pub use label::{Clipped, Invariances, Label, LabelFeatures, LabelValue, Mixing, OtherTasks, Regions};
pub use metric::{ClassRow, JudgedIntervals, Metric, PerClass, Summary};
pub use objects::{Boxes, LabelledBox, PartialRegion, PartialRegions};
pub use same::Same;
pub use spec::{Depiction, Likelihood, LossSite, TaskSpec};
pub use standardisation::Standardisation;
pub use target::{Encoder, Encoders, Encoding, Target, TargetArray, TaskLoss, gather};
pub use task::{Task, TaskCard};
pub use written::{significant, written_number, written_xywh};

use crate::error::Result;
use std::fmt;
use std::sync::Arc;

/// All kinds.
#[rustfmt::skip]
pub static KINDS: &[&Kind] = &[
    &classify::KIND,
    &multi_label::KIND,
    &detect::KIND,
    &regress::KIND,
];

/// The properties that all tasks of a kind share.
pub struct Kind {
    /// The value of `type` in a card.
    pub card_word: &'static str,
    /// The value of `type:` in data.yaml.
    pub yaml_word: &'static str,
    /// The key that must be `true` beside `type:`, if another kind has the same `type:` word.
    pub flag: Option<&'static str>,
    /// The declaration of such a task in data.yaml, for messages that say where a key belongs.
    pub declared_as: &'static str,
    /// The display name, such as `classification`.
    pub title: &'static str,
    /// The display name of [`Summary::fitness`].
    pub fitness: &'static str,
    /// The fitness's name in [`Summary::metrics`]. For a task with several columns, each column's metric is named
    /// `column/metric`, and the fitness is the mean over the columns where it is known.
    pub fitness_metric: &'static str,
    /// The start of the file name of the picture that goes with its figures, if it has one.
    pub picture: Option<&'static str>,
    /// The kind of label content that it accepts.
    pub content: Content,
    /// The data.yaml keys that only tasks of this kind have.
    pub keys: &'static [&'static str],
    /// The transformations that do not change its labels, unless the declaration says otherwise.
    pub invariances: fn(OtherTasks) -> Invariances,
    /// Parses its keys.
    pub declare: fn(&Block) -> Result<Arc<dyn Declared>>,
    /// The options of a task whose layout declares no keys.
    pub undeclared: fn() -> Arc<dyn Declared>,
    /// Reads a task from a card; an error is a sentence.
    pub read: fn(TaskCard) -> Result<Arc<dyn TaskSpec>, String>,
    /// A task of typical size, for benchmarks.
    pub synthetic: fn() -> Task,
}

/// The content of labels: formats and layouts use it because they know no kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// One class.
    Class,
    /// Any of several classes, each present, absent or unlabelled.
    Classes,
    /// Boxes, each with a class.
    Boxes,
    /// Numbers.
    Values,
}

impl Content {
    /// Whether several columns form one label.
    pub fn takes_columns(self) -> bool {
        matches!(self, Content::Classes | Content::Values)
    }

    /// The default kind for this content: the first in the list.
    pub fn kind(self) -> &'static Kind {
        let kind = KINDS.iter().copied().find(|kind| kind.content == self);
        kind.unwrap_or_else(|| unreachable!("every content has a kind"))
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Kind) -> bool {
        self.card_word == other.card_word
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.card_word)
    }
}

/// A classification task, for a file that only lists class names.
pub fn classifier(name: &str, classes: Vec<String>) -> Task {
    Task::new(name, classify::Classify::new(classes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lookups in the list always succeed.
    #[test]
    fn every_content_and_every_word_has_a_kind() {
        for content in [Content::Class, Content::Classes, Content::Boxes, Content::Values] {
            assert_eq!(content.kind().content, content);
        }
        for kind in KINDS {
            let plain = KINDS.iter().filter(|other| other.yaml_word == kind.yaml_word && other.flag.is_none());
            assert_eq!(plain.count(), 1, "{kind:?}");
            assert_eq!(KINDS.iter().filter(|other| *other == kind).count(), 1, "{kind:?}");
        }
    }

    /// Code finds the table column with a task's fitness by name alone, whatever the kind of the task.
    #[test]
    fn each_kinds_fitness_has_a_name_that_no_other_kind_uses() {
        for kind in KINDS {
            let names: Vec<String> =
                (kind.synthetic)().spec.metric().summary().metrics().into_iter().map(|m| m.0).collect();
            let bare = |name: &String| name.rsplit('/').next().unwrap_or_default().to_owned();
            assert!(names.iter().any(|name| bare(name) == kind.fitness_metric), "{kind:?}: {names:?}");
            let others = KINDS.iter().filter(|other| *other != kind).map(|other| other.fitness_metric);
            let shared = others.filter(|other| names.iter().any(|name| bare(name) == *other));
            assert_eq!(shared.count(), 0, "{kind:?}: {names:?}");
        }
    }

    /// A synthetic task of each kind can be trained on synthetic labels: the encoded target fits the loss's inputs.
    #[test]
    fn a_synthetic_label_is_a_label_of_its_kind() {
        for kind in KINDS {
            let task = (kind.synthetic)();
            assert_eq!(&task.spec.kind(), kind);
            let encoding = Encoding { levels: &[], standardisation: None };
            let [labelled, not] =
                [task.spec.synthetic_label(64, 3), Label::UNLABELLED].map(|l| task.spec.encode(&l, &encoding));
            assert!(labelled.active && !not.active && not.denominator == 0.0, "{kind:?}");
            assert_eq!(labelled.arrays.len(), not.arrays.len(), "{kind:?}");
        }
    }
}
