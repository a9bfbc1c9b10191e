//! The interface of a task of any kind.

use super::coverage::TaskReport;
use super::same::Same;
use super::{
    Encoding, HeadValues, Interpreting, Kind, Label, LabelFeatures, Metric, Prediction, Standardisation, Target,
    TaskCard, TaskLoss, Trunk,
};
use crate::draw::LabelledFrame;
use crate::error::Result;
use crate::ir::Graph;
use crate::layers::Builder;
use serde_json::Value;
use std::any::Any;

/// A task with everything that is settled about it: its classes or columns, and what its loss does. One type for each kind.
pub trait TaskSpec: Same {
    /// Its kind.
    fn kind(&self) -> &'static Kind;

    /// Writes its own part of the card's task, which the kind's [`Kind::read`] reads back.
    fn write(&self, card: &mut TaskCard);

    /// The names of its classes; empty where the kind has none.
    fn classes(&self) -> &[String] {
        &[]
    }

    /// Whether `other` asks the same, whatever its units and its loss.
    fn asks_the_same(&self, other: &dyn TaskSpec) -> bool;

    // The network.

    /// The sides of an image must be multiples of it.
    fn stride(&self) -> usize {
        1
    }

    /// Appends the head under `name`.
    ///
    /// # Errors
    /// Features or options that no head can be built on.
    fn head(&self, b: &mut Builder, name: &str, trunk: &Trunk) -> Result<HeadValues>;

    /// Appends the loss behind the head.
    ///
    /// # Errors
    /// Shapes that do not belong together.
    fn loss(&self, site: LossSite) -> Result<TaskLoss>;

    /// The distribution whose negative log-likelihood the loss is.
    fn likelihood(&self) -> Likelihood;

    /// The standardisation fitted to the labels of the training images, if the kind fits one; without labels it is the identity.
    fn fit(&self, _labels: &mut dyn Iterator<Item = &Label>) -> Option<Standardisation> {
        None
    }

    /// The target of an image with this label.
    fn encode(&self, label: &Label, encoding: &Encoding) -> Target;

    // Answers.

    /// The answer about one image, in network pixels.
    fn interpret(&self, interpreting: &Interpreting) -> Box<dyn Prediction>;

    /// A metric without an image.
    fn metric(&self) -> Box<dyn Metric>;

    /// The columns of `predictions.csv` for the task of this name; empty for a kind whose answers are boxes.
    fn table(&self, task: &str) -> Vec<String>;

    /// Whether its answers are boxes: what COCO's, YOLO's and the CSV files of boxes hold.
    fn finds_boxes(&self) -> bool {
        false
    }

    // Labels.

    /// The boxes that a preview draws of a label and the text below the picture; only for labelled images.
    fn depict(&self, label: &Label) -> Depiction;

    /// Adds a label of split number `split` to the coverage.
    fn count(&self, label: &Label, split: usize, report: &mut TaskReport);

    /// Adds what is said of the training labels as a whole.
    fn summarise(&self, _training: &mut dyn Iterator<Item = &Label>, _report: &mut TaskReport) {}

    /// The columns its labels have in a table; `None` for one under the task's own name.
    fn columns(&self) -> Option<&[String]> {
        None
    }

    /// A label as JSON, one value a column; `None` for one that no file holds.
    fn to_json(&self, label: &Label) -> Option<Vec<Value>>;

    /// A label for benchmarks: that of image number `index` of `size`² pixels.
    fn synthetic_label(&self, size: usize, index: usize) -> Label;
}

impl dyn TaskSpec {
    /// The kind's own value, `None` if it is of another kind.
    pub fn get<T: Any>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }
}

/// Where a loss is appended.
pub struct LossSite<'a> {
    /// The graph that the head is in.
    pub graph: &'a mut Graph,
    /// The task's name.
    pub name: &'a str,
    /// The task's number.
    pub index: usize,
    /// Images in a batch.
    pub batch: usize,
    /// The outputs of the head.
    pub head: &'a HeadValues,
    /// Label features beyond plain labels.
    pub labels: LabelFeatures,
}

impl LossSite<'_> {
    /// The name of one of the task's inputs.
    pub fn input(&self, what: &str) -> String {
        format!("{}.{what}", self.name)
    }
}

/// The distribution of which a loss is the negative logarithm, as papers on uncertainty weighting tell losses apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likelihood {
    /// A normal distribution around the value.
    Gaussian,
    /// A softmax over classes, or what stands for one.
    Softmax,
}

/// A label made visible.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Depiction {
    /// In the pixels the label is in.
    pub boxes: Vec<LabelledFrame>,
    /// The text behind the task's name.
    pub caption: Option<String>,
}
