//! The interface of tasks of all kinds.

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
use std::sync::Arc;

/// A task with known classes or columns and loss options. Each kind has one type that implements it.
pub trait TaskSpec: Same {
    /// Its kind.
    fn kind(&self) -> &'static Kind;

    /// Writes the kind's part of the task's card, which [`Kind::read`] reads back.
    fn write(&self, card: &mut TaskCard);

    /// The class names; empty if the kind has no classes.
    fn classes(&self) -> &[String] {
        &[]
    }

    /// Whether `other` predicts the same quantities; units and loss may differ.
    fn asks_the_same(&self, other: &dyn TaskSpec) -> bool;

    // The network.

    /// The sides of an image must be multiples of this.
    fn stride(&self) -> usize {
        1
    }

    /// Appends the head under `name`.
    ///
    /// # Errors
    /// Features or options that do not fit the head.
    fn head(&self, b: &mut Builder, name: &str, trunk: &Trunk) -> Result<HeadValues>;

    /// The layer below the head's name that has one output for each class, or for each column if there are no classes, in their
    /// order.
    fn output_layer(&self) -> &'static str;

    /// Appends the loss after the head.
    ///
    /// # Errors
    /// Shapes that do not match.
    fn loss(&self, site: LossSite) -> Result<TaskLoss>;

    /// The factor that turns the loss into its plain form, which other programs show: for values in the square of their unit, for
    /// classes in nats.
    fn plain_loss_factor(&self, standardisation: Option<&Standardisation>) -> f64;

    /// The distribution whose negative log-likelihood the loss is.
    fn likelihood(&self) -> Likelihood;

    /// Fits the standardisation to the labels of the training images, if the kind uses one; without labels it is the
    /// identity.
    fn fit(&self, _labels: &mut dyn Iterator<Item = &Label>) -> Option<Standardisation> {
        None
    }

    /// The target for an image with this label.
    fn encode(&self, label: &Label, encoding: &Encoding) -> Target;

    // Predictions.

    /// The prediction for one image, in pixels of the original image.
    fn interpret(&self, interpreting: &Interpreting) -> Box<dyn Prediction>;

    /// A new metric without images.
    fn metric(&self) -> Box<dyn Metric>;

    /// The columns of `predictions.csv` for the task of this name; empty for a kind that predicts boxes.
    fn table(&self, task: &str) -> Vec<String>;

    /// Whether it predicts boxes, the content of COCO, YOLO and box CSV files.
    fn finds_boxes(&self) -> bool {
        false
    }

    /// The same task, whose predictions and metric leave out boxes of other classes than these; `None` for a kind
    /// without boxes. Classes keep their numbers.
    fn with_boxes_of(&self, _classes: &[String]) -> Option<Arc<dyn TaskSpec>> {
        None
    }

    // Labels.

    /// The boxes and the text that a preview shows for a label; called only for labelled images.
    fn depict(&self, label: &Label) -> Depiction;

    /// Adds a label of split number `split` to the counts.
    fn count(&self, label: &Label, split: usize, report: &mut TaskReport);

    /// Adds statistics over all training labels.
    fn summarise(&self, _training: &mut dyn Iterator<Item = &Label>, _report: &mut TaskReport) {}

    /// The columns its labels have in a table; `None` for a single column named after the task.
    fn columns(&self) -> Option<&[String]> {
        None
    }

    /// The unit of each column; `None` for labels without units.
    fn units(&self) -> Option<&[String]> {
        None
    }

    /// A label as JSON, one value per column; `None` for a label that cannot be stored in a file.
    fn to_json(&self, label: &Label) -> Option<Vec<Value>>;

    /// A made-up label for benchmarks, for image number `index` of `size`² pixels.
    fn synthetic_label(&self, size: usize, index: usize) -> Label;
}

impl dyn TaskSpec {
    /// The kind's own type; `None` if the task is of another kind.
    pub fn get<T: Any>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }
}

/// The place in the graph where a loss is appended.
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
    /// The name of one of the task's input values.
    pub fn input(&self, what: &str) -> String {
        format!("{}.{what}", self.name)
    }
}

/// The distribution whose negative log-likelihood is the loss. Papers on uncertainty weighting distinguish losses this
/// way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likelihood {
    /// A normal distribution around the value.
    Gaussian,
    /// A softmax over classes, or a loss treated like one.
    Softmax,
}

/// A label prepared for drawing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Depiction {
    /// Boxes, in the label's pixels.
    pub boxes: Vec<LabelledFrame>,
    /// The text after the task's name.
    pub caption: Option<String>,
}
