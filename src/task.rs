//! What a task is, and what an image can say about it: the words every other room uses.

use crate::boxes::Xyxy;
use serde::{Deserialize, Serialize};

/// One question the network answers about an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    pub name: String,
    #[serde(flatten)]
    pub kind: TaskKind,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TaskKind {
    /// Exactly one of at least two classes.
    Classify { classes: Vec<String> },
    /// Any number of boxes, each of one class.
    Detect { classes: Vec<String> },
    /// One or several real values. `units` is as long as `columns`; an empty string is no unit.
    Regress { columns: Vec<String>, units: Vec<String> },
}

impl Task {
    pub fn classes(&self) -> &[String] {
        match &self.kind {
            TaskKind::Classify { classes } | TaskKind::Detect { classes } => classes,
            TaskKind::Regress { .. } => &[],
        }
    }

    pub fn kind_word(&self) -> &'static str {
        match self.kind {
            TaskKind::Classify { .. } => "classification",
            TaskKind::Detect { .. } => "detection",
            TaskKind::Regress { .. } => "regression",
        }
    }
}

/// What one image says about one task. `Boxes(vec![])` is *labelled, nothing there*; it is not `Unlabelled`.
#[derive(Clone, Debug, PartialEq)]
pub enum Label {
    Unlabelled,
    Class(usize),
    Boxes(Vec<LabelledBox>),
    Values(Vec<f32>),
}

impl Label {
    pub fn is_labelled(&self) -> bool {
        !matches!(self, Label::Unlabelled)
    }
}

/// A ground-truth box in pixels of the image it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledBox {
    pub class: usize,
    pub xyxy: Xyxy,
    /// A crowd or "difficult" region: neither taught nor counted, and a detection on it is no mistake.
    pub ignore: bool,
}
