//! Detection: any number of boxes in an image, each of one class.

mod answer;
mod assign;
mod declare;
pub mod decode;
mod figures;
mod head;
mod label;

pub use answer::FoundBoxes;
pub use figures::DetectionFigures;

use super::coverage::TaskReport;
use super::task::ClassesCard;
use super::{
    Content, Depiction, Encoding, HeadValues, Interpreting, Invariances, Kind, Label, Likelihood, LossSite, Metric,
    Prediction, Regions, Standardisation, Target, Task, TaskCard, TaskLoss, TaskSpec, Trunk,
};
use crate::error::Result;
use crate::ir::DType;
use crate::layers::Builder;
use crate::ops::box_loss::{self, BINS};
use serde_json::Value;
use std::sync::Arc;

/// The kind of all detection tasks.
pub static KIND: Kind = Kind {
    card_word: "detect",
    yaml_word: "detect",
    flag: None,
    declared_as: "`type: detect`",
    title: "detection",
    fitness: "AP",
    fitness_metric: "AP",
    content: Content::Boxes,
    keys: declare::KEYS,
    invariances: |_| Invariances { crop: true, scale: true, joining: true, mixing: false },
    declare: declare::declare,
    undeclared: declare::undeclared,
    read,
    synthetic,
    picture: None,
};

/// A detection task with its classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Detect {
    /// The names of the classes.
    pub classes: Arc<[String]>,
    /// Whether boxes of each class are predicted and evaluated; `None` for all classes.
    only: Option<Arc<[bool]>>,
}

impl Detect {
    /// A task with classes of these names.
    pub fn new(classes: Vec<String>) -> Detect {
        Detect { classes: classes.into(), only: None }
    }
}

fn read(card: TaskCard) -> Result<Arc<dyn TaskSpec>, String> {
    Ok(Arc::new(Detect::new(card.read::<ClassesCard>()?.classes)))
}

/// A task with 80 classes, like COCO.
fn synthetic() -> Task {
    Task::new("boxes", Detect::new((0..80).map(|i| i.to_string()).collect()))
}

impl TaskSpec for Detect {
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
        other.get::<Detect>().is_some_and(|other| self.classes == other.classes)
    }

    /// The stride of c5. The pyramid's maps only fit together if every stride divides the image's sides.
    fn stride(&self) -> usize {
        32
    }

    fn head(&self, b: &mut Builder, name: &str, trunk: &Trunk) -> Result<HeadValues> {
        head::detection(b, name, trunk, self.classes.len())
    }

    fn output_layer(&self) -> &'static str {
        head::CLASS_LAYER
    }

    /// Targets: i32 `[N, A]`, a cell's class, −1 for background, −2 for ignored or unlabelled; f32 `[N, A, 4]`, boxes
    /// xyxy in network pixels. If images may be annotated for some classes only: i32 `[N, A]`, a cell's regions, and
    /// i32 `[N, C]`, the regions that leave out a class.
    fn loss(&self, site: LossSite) -> Result<TaskLoss> {
        let [class, target, regions, left_out] =
            ["class", "target", "regions", "left_out"].map(|name| site.input(name));
        let LossSite { graph, batch, index, head, labels, .. } = site;
        let logits = [head.outputs[0], head.outputs[1]];
        let [cells, classes] = [1, 2].map(|axis| graph.shape(logits[0])[axis]);
        let class = graph.input(&class, &[batch, cells], DType::I32);
        let target = graph.input(&target, &[batch, cells, 4], DType::F32);
        let partial = (labels.regions == Regions::Partial).then(|| {
            [graph.input(&regions, &[batch, cells], DType::I32), graph.input(&left_out, &[batch, classes], DType::I32)]
        });
        let loss = box_loss::box_loss(graph, logits, [class, target], partial, &head.levels, index)?.loss;
        let inputs = vec![Some(class), Some(target), partial.map(|p| p[0]), partial.map(|p| p[1])];
        // Without objects, the background's loss is divided by 1.
        Ok(TaskLoss { loss, inputs, constants: Vec::new(), least_denominator: 1.0 })
    }

    fn plain_loss_factor(&self, _: Option<&Standardisation>) -> f64 {
        1.0
    }

    fn likelihood(&self) -> Likelihood {
        Likelihood::Softmax
    }

    fn encode(&self, label: &Label, encoding: &Encoding) -> Target {
        label::encode(self, label, encoding.levels)
    }

    fn interpret(&self, interpreting: &Interpreting) -> Box<dyn Prediction> {
        let levels = &interpreting.output.levels;
        let cells: usize = levels.iter().map(|l| l.h * l.w).sum();
        let class_logits = interpreting.row(0, cells * self.classes.len());
        let box_logits = interpreting.row(1, cells * 4 * BINS);
        let only = self.only.as_deref();
        let boxes = decode::decode(class_logits, box_logits, levels, only, interpreting.geometry, interpreting.options);
        Box::new(FoundBoxes { classes: self.classes.clone(), boxes })
    }

    fn metric(&self) -> Box<dyn Metric> {
        Box::new(figures::Figures::new(self.classes.clone(), self.only.clone()))
    }

    fn table(&self, _: &str) -> Vec<String> {
        Vec::new()
    }

    fn finds_boxes(&self) -> bool {
        true
    }

    fn with_boxes_of(&self, classes: &[String]) -> Option<Arc<dyn TaskSpec>> {
        let only = self.classes.iter().map(|class| classes.contains(class)).collect();
        Some(Arc::new(Detect { classes: self.classes.clone(), only: Some(only) }))
    }

    fn depict(&self, label: &Label) -> Depiction {
        label::depict(self, label)
    }

    fn count(&self, label: &Label, split: usize, report: &mut TaskReport) {
        label::count(label, split, report);
    }

    fn to_json(&self, label: &Label) -> Option<Vec<Value>> {
        Some(vec![label::to_json(self, label)])
    }

    fn synthetic_label(&self, size: usize, index: usize) -> Label {
        label::synthetic(self.classes.len(), size, index)
    }
}
