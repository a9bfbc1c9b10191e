//! What a task is, and what an image can say about it: the words every other room uses.

use crate::boxes::Xyxy;
use serde::{Deserialize, Serialize};

/// One question the network answers about an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    pub name: String,
    #[serde(flatten)]
    pub kind: TaskKind,
    #[serde(default, skip_serializing_if = "LossOptions::is_default")]
    pub loss: LossOptions,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TaskKind {
    /// Exactly one of at least two classes.
    Classify { classes: Vec<String> },
    /// Any number of the classes at once.
    MultiLabel { classes: Vec<String> },
    /// Any number of boxes, each of one class.
    Detect { classes: Vec<String> },
    /// One or several real values. `units` is as long as `columns`; an empty string is no unit.
    Regress { columns: Vec<String>, units: Vec<String> },
}

/// What a task's loss does otherwise than its kind's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LossOptions {
    /// Of a classification: how much an image of each class counts; without them all count alike.
    pub class_weights: Option<Vec<f32>>,
    /// Of a classification: the share of every label that is spread evenly over all classes.
    pub label_smoothing: f32,
    /// Of a regression.
    pub values: ValueLoss,
}

impl LossOptions {
    pub fn is_default(&self) -> bool {
        *self == LossOptions::default()
    }
}

/// What a value costs that is off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueLoss {
    /// Huber's with δ = 1: half the square, beyond 1 the distance less ½.
    #[default]
    Huber,
    /// The square.
    Mse,
}

impl Task {
    /// With its kind's own loss.
    pub fn new(name: impl Into<String>, kind: TaskKind) -> Task {
        Task { name: name.into(), kind, loss: LossOptions::default() }
    }

    pub fn classes(&self) -> &[String] {
        match &self.kind {
            TaskKind::Classify { classes } | TaskKind::MultiLabel { classes } | TaskKind::Detect { classes } => classes,
            TaskKind::Regress { .. } => &[],
        }
    }

    pub fn kind_word(&self) -> &'static str {
        match self.kind {
            TaskKind::Classify { .. } => "classification",
            TaskKind::MultiLabel { .. } => "multi-label",
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
    /// Per class of a multi-label task: there, absent, or `None` where nobody said.
    Classes(Vec<Option<bool>>),
    Boxes(Vec<LabelledBox>),
    Values(Vec<f32>),
    /// Two classes at once, of a picture that mix-up made in training.
    Mixed(MixedClass),
}

/// `share` of the first class, the rest of the second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MixedClass {
    pub classes: [usize; 2],
    pub share: f32,
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

impl LabelledBox {
    /// Whether it stands for a class nobody looked for in an image of this width and height: the whole of it is to be ignored.
    pub fn is_whole(&self, size: [usize; 2]) -> bool {
        self.ignore && self.xyxy == [0.0, 0.0, size[0] as f32, size[1] as f32]
    }
}
