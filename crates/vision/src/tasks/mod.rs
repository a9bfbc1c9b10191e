//! The kinds of task there are, and what all of them can be asked. A kind is one folder: its labels and how they move with the
//! pixels, what a declaration may say of it, its head, targets and loss, its metric, and how its answers are read from the
//! head's numbers, written, drawn and tabulated. Everything outside asks through the interfaces here and names no kind.
//!
//! ```text
//! Kind         one static value a kind: its words, and how a task of it is declared, read from a card, made up for a benchmark
//!  └ TaskSpec    a task with its classes or columns settled: head, loss, targets, answers, metric; what its labels mean
//!     ├ Label      what one image says, or nothing
//!     ├ Target     that as arrays of numbers for the loss
//!     ├ Prediction the answer about one image
//!     └ Metric     answers against labels → Summary
//! ```
//!
//! Whoever adds a kind writes its folder, and here its module and its place in [`KINDS`].

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
pub use classes::{class_number, infer_classes, order_note};
pub use declare::{Asked, Block, Declared, Heard, Keys, Readings, Resolved};
pub use head::{Dropout, HeadValues, Trunk};
pub use label::{Bears, Beside, Clipped, Label, LabelFeatures, LabelValue, Mixing, Regions};
pub use metric::{ClassRow, JudgedIntervals, Metric, PerClass, Summary};
pub use objects::{Boxes, LabelledBox, PartialRegion, PartialRegions};
pub use same::Same;
pub use spec::{Depiction, Likelihood, LossSite, TaskSpec};
pub use standardisation::Standardisation;
pub use target::{Encoder, Encoders, Encoding, Target, TargetArray, TaskLoss, gather};
pub use task::{Task, TaskCard};
pub use written::{written_number, written_xywh};

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
    /// `type` in a card.
    pub card_word: &'static str,
    /// `type:` in data.yaml.
    pub yaml_word: &'static str,
    /// The key that is `true` beside `type:`, where that alone means another kind.
    pub flag: Option<&'static str>,
    /// The words in data.yaml for such a task, for sentences that send keys there.
    pub fits: &'static str,
    /// For people: `classification`.
    pub title: &'static str,
    /// The name of [`Summary::fitness`] for people.
    pub fitness: &'static str,
    /// Its name among [`Summary::metrics`]. A task of several columns has it behind each column's name and a `/`; the fitness is
    /// then the mean over the columns where it is known.
    pub fitness_metric: &'static str,
    /// The start of the file name of the picture that explains its figures, if it has one.
    pub picture: Option<&'static str>,
    /// The content that label files have about an image.
    pub content: Content,
    /// Keys of data.yaml that only tasks of the kind have.
    pub keys: &'static [&'static str],
    /// The transformations that leave its truth unchanged, unless the declaration says otherwise.
    pub bears: fn(Beside) -> Bears,
    /// Reads its keys.
    pub declare: fn(&Block) -> Result<Arc<dyn Declared>>,
    /// The options of a task whose layout declares no keys.
    pub undeclared: fn() -> Arc<dyn Declared>,
    /// A task as a card has it; an error is a sentence.
    pub read: fn(TaskCard) -> Result<Arc<dyn TaskSpec>, String>,
    /// A task of the usual size, for benchmarks.
    pub synthetic: fn() -> Task,
}

/// The content of labels: the vocabulary of formats and layouts, which know no kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// One class.
    Class,
    /// Any of several classes, each there, absent or unlabelled.
    Classes,
    /// Boxes, each of a class.
    Boxes,
    /// Numbers.
    Values,
}

impl Content {
    /// Whether several columns make one label.
    pub fn takes_columns(self) -> bool {
        matches!(self, Content::Classes | Content::Values)
    }

    /// The kind that takes it where nobody says more: the first in the list.
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

/// The task of a file that names nothing but classes: an image is of one of them.
pub fn classifier(name: &str, classes: Vec<String>) -> Task {
    Task::new(name, classify::Classify::new(classes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What others look up in the list is there.
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

    /// The column of a table that holds a task's fitness is found by its name alone, whatever the task's kind.
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

    /// A made-up task of each kind can be trained on made-up labels: what it encodes fits what its loss reads.
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
