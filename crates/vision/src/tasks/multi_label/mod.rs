//! Multi-label classification: an image may show any number of the classes.

mod answer;
mod declare;
mod figures;
mod label;
pub mod metric;

pub use answer::LabelProbabilities;
pub use label::Classes;

use super::answer::sigmoid;
use super::coverage::TaskReport;
use super::head::{POOLED_LAYER, pooled_linear};
use super::task::ClassesCard;
use super::{
    Content, Depiction, Encoding, HeadValues, Interpreting, Invariances, Kind, Label, Likelihood, LossSite, Metric,
    OtherTasks, Prediction, Standardisation, Target, TargetArray, Task, TaskCard, TaskLoss, TaskSpec, Trunk,
};
use crate::error::Result;
use crate::ir::DType;
use crate::layers::Builder;
use crate::ops::multi_label_loss;
use serde_json::Value;
use std::sync::Arc;

/// The kind of all multi-label tasks.
pub static KIND: Kind = Kind {
    card_word: "multi_label",
    yaml_word: "classify",
    flag: Some("multi_label"),
    declared_as: "`type: classify` with `multi_label: true`",
    title: "multi-label",
    fitness: "mAP",
    fitness_metric: "mAP",
    content: Content::Classes,
    keys: &[],
    // A crop may remove the objects that the classes describe.
    invariances: |others| Invariances {
        crop: others == OtherTasks::WholeImage,
        scale: true,
        joining: false,
        mixing: false,
    },
    declare: declare::declare,
    undeclared: declare::undeclared,
    read,
    synthetic,
    picture: None,
};

/// A multi-label task with its classes.
#[derive(Clone, Debug, PartialEq)]
pub struct MultiLabel {
    /// The names of the classes.
    pub classes: Arc<[String]>,
}

impl MultiLabel {
    /// A task with classes of these names.
    pub fn new(classes: Vec<String>) -> MultiLabel {
        MultiLabel { classes: classes.into() }
    }
}

/// Whether a class with this probability is predicted as present.
pub fn is_present(probability: f32) -> bool {
    probability >= 0.5
}

fn read(card: TaskCard) -> Result<Arc<dyn TaskSpec>, String> {
    Ok(Arc::new(MultiLabel::new(card.read::<ClassesCard>()?.classes)))
}

fn synthetic() -> Task {
    Task::new("labels", MultiLabel::new((0..80).map(|i| i.to_string()).collect()))
}

impl TaskSpec for MultiLabel {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn write(&self, card: &mut TaskCard) {
        card.write(&ClassesCard { classes: self.classes.to_vec() });
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn asks_the_same(&self, other: &dyn TaskSpec) -> bool {
        other.get::<MultiLabel>().is_some_and(|other| self.classes == other.classes)
    }

    fn head(&self, b: &mut Builder, name: &str, trunk: &Trunk) -> Result<HeadValues> {
        pooled_linear(b, name, trunk, self.classes.len())
    }

    fn output_layer(&self) -> &'static str {
        POOLED_LAYER
    }

    /// Target: f32 `[N, K]`, 1 for present, 0 for absent, NaN for unlabelled.
    fn loss(&self, site: LossSite) -> Result<TaskLoss> {
        let name = site.input("target");
        let LossSite { graph, index, head, .. } = site;
        let logits = head.outputs[0];
        let shape = graph.shape(logits).to_vec();
        let target = graph.input(&name, &shape, DType::F32);
        let loss = multi_label_loss::multi_label_loss(graph, logits, target, index)?;
        Ok(TaskLoss { loss, inputs: vec![Some(target)], constants: Vec::new(), least_denominator: 0.0 })
    }

    fn plain_loss_factor(&self, _: Option<&Standardisation>) -> f64 {
        std::f64::consts::LN_2
    }

    fn likelihood(&self) -> Likelihood {
        Likelihood::Softmax
    }

    fn encode(&self, label: &Label, _: &Encoding) -> Target {
        let target: Vec<f32> = match label.is_labelled() {
            true => label::classes_of(label)
                .iter()
                .map(|there| there.map_or(f32::NAN, |there| f32::from(u8::from(there))))
                .collect(),
            false => vec![f32::NAN; self.classes.len()],
        };
        let labelled = target.iter().filter(|v| !v.is_nan()).count();
        Target { arrays: vec![TargetArray::F32(target)], denominator: labelled as f32, active: labelled > 0 }
    }

    fn interpret(&self, interpreting: &Interpreting) -> Box<dyn Prediction> {
        let probabilities = interpreting.row(0, self.classes.len()).iter().map(|&x| sigmoid(x)).collect();
        Box::new(LabelProbabilities { classes: self.classes.clone(), probabilities })
    }

    fn metric(&self) -> Box<dyn Metric> {
        Box::new(figures::Figures::new(self.classes.clone()))
    }

    /// A label is present from a probability of ½ on.
    fn table(&self, task: &str) -> Vec<String> {
        self.classes.iter().map(|class| format!("{task}.{class}")).collect()
    }

    fn depict(&self, label: &Label) -> Depiction {
        Depiction { caption: Some(label::words(self, label)), boxes: Vec::new() }
    }

    fn count(&self, label: &Label, split: usize, report: &mut TaskReport) {
        label::count(label, split, report);
    }

    fn to_json(&self, label: &Label) -> Option<Vec<Value>> {
        Some(vec![label::to_json(label)])
    }

    fn synthetic_label(&self, _: usize, index: usize) -> Label {
        let there: Vec<Option<bool>> = (0..self.classes.len()).map(|c| Some((c + index).is_multiple_of(3))).collect();
        Label::of(Classes::from(there))
    }
}
