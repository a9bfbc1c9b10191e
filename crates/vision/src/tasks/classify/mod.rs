//! Classification: every image shows exactly one of at least two classes.

mod answer;
mod declare;
mod figures;
mod label;
pub mod metric;

pub use answer::Probabilities;
pub use label::{Class, MixedClass};

use super::coverage::TaskReport;
use super::head::{POOLED_LAYER, pooled_linear};
use super::loss_card::LossCard;
use super::{
    Content, Depiction, Encoding, HeadValues, Interpreting, Invariances, Kind, Label, Likelihood, LossSite, Metric,
    Mixing, OtherTasks, Prediction, Standardisation, Target, TargetArray, Task, TaskCard, TaskLoss, TaskSpec, Trunk,
};
use crate::error::Result;
use crate::ir::DType;
use crate::layers::Builder;
use crate::ops::{class_loss, softmax};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// The kind of all classification tasks.
pub static KIND: Kind = Kind {
    card_word: "classify",
    yaml_word: "classify",
    flag: None,
    declared_as: "`type: classify` with one class per image",
    title: "classification",
    fitness: "balanced accuracy",
    fitness_metric: "balanced_accuracy",
    content: Content::Class,
    keys: declare::KEYS,
    // A crop may remove the object that the class describes.
    invariances: |others| Invariances {
        crop: others == OtherTasks::WholeImage,
        scale: true,
        joining: false,
        mixing: true,
    },
    declare: declare::declare,
    undeclared: declare::undeclared,
    read,
    synthetic,
    picture: Some("confusion"),
};

/// A classification task with its classes and loss options.
#[derive(Clone, Debug, PartialEq)]
pub struct Classify {
    /// The class names, at least two.
    pub classes: Arc<[String]>,
    /// The loss weight of an image of each class; `None` weights all classes equally.
    pub class_weights: Option<Vec<f32>>,
    /// The label smoothing: this share of every label is spread evenly over all classes.
    pub label_smoothing: f32,
}

impl Classify {
    /// A task without class weights and label smoothing.
    pub fn new(classes: Vec<String>) -> Classify {
        Classify { classes: classes.into(), class_weights: None, label_smoothing: 0.0 }
    }
}

fn read(card: TaskCard) -> Result<Arc<dyn TaskSpec>, String> {
    let ClassifyCard { classes, loss } = card.read()?;
    let LossCard { class_weights, label_smoothing, .. } = loss;
    Ok(Arc::new(Classify { classes: classes.into(), class_weights, label_smoothing }))
}

/// The kind's own part of a card.
#[derive(Serialize, Deserialize)]
struct ClassifyCard {
    classes: Vec<String>,
    #[serde(default, skip_serializing_if = "LossCard::is_default")]
    loss: LossCard,
}

/// A task with 1000 classes, as in common ResNet benchmarks.
fn synthetic() -> Task {
    Task::new("class", Classify::new((0..1000).map(|i| i.to_string()).collect()))
}

impl TaskSpec for Classify {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn write(&self, card: &mut TaskCard) {
        let (class_weights, label_smoothing) = (self.class_weights.clone(), self.label_smoothing);
        let loss = LossCard { class_weights, label_smoothing, ..LossCard::default() };
        card.write(&ClassifyCard { classes: self.classes.to_vec(), loss });
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn asks_the_same(&self, other: &dyn TaskSpec) -> bool {
        other.get::<Classify>().is_some_and(|other| self.classes == other.classes)
    }

    fn head(&self, b: &mut Builder, name: &str, trunk: &Trunk) -> Result<HeadValues> {
        pooled_linear(b, name, trunk, self.classes.len())
    }

    fn output_layer(&self) -> &'static str {
        POOLED_LAYER
    }

    /// Targets: the class as i32 `[N]`, −1 for unlabelled. If labels may be mixed: also the second class as i32 `[N]`
    /// or −1, and the first class's share as f32 `[N]`.
    fn loss(&self, site: LossSite) -> Result<TaskLoss> {
        let [class, weights, other, part] =
            ["class", "class_weights", "other_class", "part"].map(|name| site.input(name));
        let LossSite { graph, batch, index, head, labels, .. } = site;
        let class = graph.input(&class, &[batch], DType::I32);
        let weighted = self.class_weights.as_ref().map(|w| (graph.input(&weights, &[w.len()], DType::F32), w.clone()));
        let mixed = (labels.mixing == Mixing::Possible)
            .then(|| [graph.input(&other, &[batch], DType::I32), graph.input(&part, &[batch], DType::F32)]);
        let weights = weighted.as_ref().map(|w| w.0);
        let loss = class_loss::class_loss(graph, head.outputs[0], class, weights, mixed, self.label_smoothing, index)?;
        let inputs = vec![Some(class), mixed.map(|m| m[0]), mixed.map(|m| m[1])];
        Ok(TaskLoss { loss, inputs, constants: Vec::from_iter(weighted), least_denominator: 0.0 })
    }

    fn plain_loss_factor(&self, _: Option<&Standardisation>) -> f64 {
        (self.classes.len() as f64).ln()
    }

    fn likelihood(&self) -> Likelihood {
        Likelihood::Softmax
    }

    /// The loss's inputs: the class and, for mixed labels, the second class and the first one's share.
    fn encode(&self, label: &Label, _: &Encoding) -> Target {
        let weight = |class: usize| self.class_weights.as_ref().map_or(1.0, |w| w[class]);
        let (class, denominator, other, part) = match label::class_of(label) {
            Some(Class::One(class)) => (*class as i32, weight(*class), -1, 1.0),
            Some(Class::Mixed(MixedClass { classes: [class, other], share })) => {
                let denominator = share * weight(*class) + (1.0 - share) * weight(*other);
                (*class as i32, denominator, *other as i32, *share)
            }
            None => (-1, 0.0, -1, 1.0),
        };
        let arrays = vec![TargetArray::I32(vec![class]), TargetArray::I32(vec![other]), TargetArray::F32(vec![part])];
        Target { arrays, denominator, active: class >= 0 }
    }

    fn interpret(&self, interpreting: &Interpreting) -> Box<dyn Prediction> {
        let mut probabilities = interpreting.row(0, self.classes.len()).to_vec();
        softmax::softmax_row(&mut probabilities);
        Box::new(Probabilities { classes: self.classes.clone(), probabilities })
    }

    fn metric(&self) -> Box<dyn Metric> {
        Box::new(figures::Figures::new(self.classes.clone()))
    }

    fn table(&self, task: &str) -> Vec<String> {
        let of = |class: &String| format!("{task}.{class}");
        [task.to_owned()].into_iter().chain(self.classes.iter().map(of)).collect()
    }

    fn depict(&self, label: &Label) -> Depiction {
        Depiction { caption: label::words(self, label), boxes: Vec::new() }
    }

    fn count(&self, label: &Label, split: usize, report: &mut TaskReport) {
        label::count(label, split, report);
    }

    fn to_json(&self, label: &Label) -> Option<Vec<Value>> {
        label::to_json(self, label)
    }

    fn synthetic_label(&self, _: usize, index: usize) -> Label {
        Label::of(Class::One(index % self.classes.len()))
    }
}
