//! How good a network is on labelled images: every task's metrics, in the pixels and units of the labels. `command` is
//! what `polyhead evaluate` does with them, `coco` what it does with somebody's results file.

mod coco;
mod command;
mod per_class;
mod pictures;

pub use coco::{CocoReport, score_coco};
pub use command::{Options, Report, command, data_of_run, run_config};
pub use pictures::{file_name, write_pictures};

use crate::boxes::{self, Detection};
use crate::data::cache::Cache;
use crate::data::{Augment, Broken, EvalLoader, LoaderOptions, Sample, Variety};
use crate::error::Result;
use crate::executor::{Executor, ParameterSet};
use crate::metrics::classification::{ClassificationMetric, ClassificationSummary};
use crate::metrics::detection::{DetectionMetric, DetectionSummary, GroundTruth};
use crate::metrics::multi_label::{MultiLabelMetric, MultiLabelSummary};
use crate::metrics::regression::{RegressionMetric, RegressionSummary};
use crate::model::heads::decode::DecodeOptions;
use crate::model::prediction::interpret;
use crate::model::{Card, ForwardPlan, HeadOutput, Prediction};
use crate::task::{Label, Task, TaskKind};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// What a task's answers were worth.
#[derive(Clone, Debug)]
pub struct TaskResult {
    pub task: Task,
    /// Labelled images.
    pub labelled: usize,
    pub summary: Summary,
    /// The card's [`intervals`](Card::intervals) of this task, to be judged with it.
    pub intervals: Vec<Option<f64>>,
}

#[derive(Clone, Debug)]
pub enum Summary {
    Classification(ClassificationSummary),
    MultiLabel(MultiLabelSummary),
    Detection(DetectionSummary),
    /// One per column.
    Regression(Vec<RegressionSummary>),
}

impl TaskResult {
    /// What selection looks at: AP (of several labels the mean over classes), balanced accuracy, or R² (mean over columns).
    /// `None` without labels.
    pub fn fitness(&self) -> Option<f64> {
        match &self.summary {
            Summary::Classification(s) => s.balanced_accuracy,
            Summary::MultiLabel(s) => s.map,
            Summary::Detection(s) => s.ap,
            Summary::Regression(columns) => {
                let known: Vec<f64> = columns.iter().filter_map(|c| c.r2).collect();
                (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
            }
        }
    }

    /// Names and values, in the order people read them. A regression of several columns has each behind its column's name.
    pub fn metrics(&self) -> Vec<(String, Option<f64>)> {
        let named = |pairs: &[(&str, Option<f64>)]| -> Vec<(String, Option<f64>)> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
        };
        match &self.summary {
            Summary::Classification(s) => {
                let mut all = named(&[("top1", s.top1)]);
                if self.task.classes().len() > 5 {
                    all.extend(named(&[("top5", s.top5)]));
                }
                all.extend(named(&[
                    ("balanced_accuracy", s.balanced_accuracy),
                    ("precision", s.precision),
                    ("recall", s.recall),
                    ("f1", s.f1),
                    ("ECE", s.calibration_error),
                ]));
                all
            }
            Summary::MultiLabel(s) => named(&[("mAP", s.map), ("f1", s.f1)]),
            Summary::Detection(s) => named(&s.twelve()),
            Summary::Regression(columns) => self.regression_metrics(columns),
        }
    }

    fn regression_metrics(&self, columns: &[RegressionSummary]) -> Vec<(String, Option<f64>)> {
        let TaskKind::Regress { columns: names, .. } = &self.task.kind else {
            return Vec::new();
        };
        let one = columns.len() == 1;
        let of = |(summary, name): (&RegressionSummary, &String)| {
            let key = |metric: &str| if one { metric.to_owned() } else { format!("{name}/{metric}") };
            vec![
                (key("MAE"), summary.mae),
                (key("RMSE"), summary.rmse),
                (key("R2"), summary.r2),
                (key("spearman"), summary.spearman),
            ]
        };
        columns.iter().zip(names).flat_map(of).collect()
    }

    /// Per column of a regression, half the width of the prediction intervals that these images make.
    pub fn half_widths(&self) -> Vec<Option<f64>> {
        match &self.summary {
            Summary::Regression(columns) => columns.iter().map(|c| c.half_width).collect(),
            _ => Vec::new(),
        }
    }

    /// Per column of a regression whose card has intervals: their half width, and the part of the truths they hold.
    fn coverage(&self) -> impl Iterator<Item = (Option<f64>, Option<f64>)> {
        let columns = match &self.summary {
            Summary::Regression(columns) => columns.as_slice(),
            _ => &[],
        };
        columns.iter().zip(&self.intervals).map(|(c, half_width)| (*half_width, half_width.and_then(|h| c.coverage(h))))
    }

    /// One line: the three figures people look at first.
    pub fn line(&self) -> String {
        let shown = match self.summary {
            Summary::Detection(_) => 3,
            _ => usize::MAX,
        };
        let figures: Vec<String> = self
            .metrics()
            .into_iter()
            .take(shown)
            .map(|(name, value)| match value {
                Some(value) => format!("{name} {value:.3}"),
                None => format!("{name} –"),
            })
            .collect();
        format!("{} ({}, {} labelled): {}", self.task.name, self.task.kind_word(), self.labelled, figures.join("  "))
    }

    pub fn to_json(&self) -> Value {
        let metrics: Map<String, Value> =
            self.metrics().into_iter().map(|(name, value)| (name, value.map_or(Value::Null, |v| json!(v)))).collect();
        let mut all = json!({"type": self.task.kind_word(), "labelled": self.labelled, "metrics": metrics});
        match &self.summary {
            Summary::Classification(s) => {
                all["classes"] = json!(self.task.classes());
                all["confusion"] = json!(s.confusion);
                all["per_class"] = per_class::to_json(self);
            }
            Summary::Detection(_) | Summary::MultiLabel(_) => all["per_class"] = per_class::to_json(self),
            Summary::Regression(_) => {
                let of = |(half_width, coverage)| json!({"half_width": half_width, "coverage": coverage});
                let intervals: Vec<Value> = self.coverage().map(of).collect();
                if !intervals.is_empty() {
                    all["intervals"] = json!(intervals);
                }
            }
        }
        all
    }
}

/// Mean over the tasks of AP, balanced accuracy and R² (at least 0 each); tasks without validation labels are left out.
pub fn overall(results: &[TaskResult]) -> Option<f64> {
    let known: Vec<f64> = results.iter().filter_map(TaskResult::fitness).map(|f| f.max(0.0)).collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}

/// One task's figures while images are coming in.
enum Accumulator {
    Classification(ClassificationMetric),
    MultiLabel(MultiLabelMetric),
    Detection(DetectionMetric),
    Regression(RegressionMetric),
}

impl Accumulator {
    fn new(task: &Task) -> Accumulator {
        match &task.kind {
            TaskKind::Classify { classes } => Accumulator::Classification(ClassificationMetric::new(classes.len())),
            TaskKind::MultiLabel { classes } => Accumulator::MultiLabel(MultiLabelMetric::new(classes.len())),
            TaskKind::Detect { classes } => Accumulator::Detection(DetectionMetric::new(classes.len())),
            TaskKind::Regress { columns, .. } => Accumulator::Regression(RegressionMetric::new(columns.len())),
        }
    }

    fn add(&mut self, prediction: &Prediction, label: &Label) {
        match (self, prediction, label) {
            (Accumulator::Classification(m), Prediction::Class(p), Label::Class(class)) => m.add(p, Some(*class)),
            (Accumulator::MultiLabel(m), Prediction::Classes(p), Label::Classes(truth)) => m.add(p, truth),
            (Accumulator::Detection(m), Prediction::Boxes(found), Label::Boxes(boxes)) => {
                let truth: Vec<GroundTruth> = boxes.with_regions(m.classes()).map(|b| GroundTruth::from(&b)).collect();
                m.add_image(found, &truth);
            }
            (Accumulator::Regression(m), Prediction::Values(v), Label::Values(truth)) => m.add(v, Some(truth)),
            // Unlabelled: outside every figure.
            _ => {}
        }
    }

    fn summary(&self) -> Summary {
        match self {
            Accumulator::Classification(m) => Summary::Classification(m.compute()),
            Accumulator::MultiLabel(m) => Summary::MultiLabel(m.compute()),
            Accumulator::Detection(m) => Summary::Detection(m.compute()),
            Accumulator::Regression(m) => Summary::Regression(m.compute()),
        }
    }
}

/// The result of a task nobody was asked about: its metrics' names without values.
pub fn empty_result(task: &Task) -> TaskResult {
    TaskResult { task: task.clone(), labelled: 0, summary: Accumulator::new(task).summary(), intervals: Vec::new() }
}

/// How evaluation batches are made and boxes chosen.
#[derive(Clone, Debug)]
pub struct Settings {
    pub batch: usize,
    pub imgsz: usize,
    pub workers: usize,
    pub max_broken: f32,
    /// Where decoded images are kept.
    pub cache: Option<Arc<Cache>>,
    pub boxes: DecodeOptions,
}

/// Judges the network on `samples`. `run` answers a padded batch of `[N, imgsz, imgsz, 3]` bytes.
///
/// # Errors
/// Too many unreadable images.
pub fn evaluate(
    card: &Card,
    samples: &Arc<[Sample]>,
    settings: &Settings,
    mut run: impl FnMut(&[u8]) -> Result<Vec<HeadOutput>>,
    mut each: impl FnMut(&Sample, &[Prediction]) -> Result<()>,
) -> Result<(Vec<TaskResult>, Vec<Broken>)> {
    let tasks = &card.architecture.tasks;
    let mut accumulators: Vec<Accumulator> = tasks.iter().map(Accumulator::new).collect();
    let mut labelled = vec![0; tasks.len()];
    let mut broken = Vec::new();
    let options = LoaderOptions {
        batch: settings.batch,
        imgsz: settings.imgsz,
        workers: settings.workers,
        seed: 0,
        augment: Augment::NONE,
        variety: Variety::default(),
        max_broken: settings.max_broken,
        prefetch: 2,
        cache: settings.cache.clone(),
    };
    let mut loader = EvalLoader::new(Arc::clone(samples), options, Arc::new(|_: &[Label], _| ()))?;
    while let Some(batch) = loader.next() {
        let batch = batch?;
        let outputs = run(&batch.images)?;
        for (i, item) in batch.items.iter().enumerate() {
            let sample = &samples[item.index];
            let mut answer = interpret(card, &outputs, i, [settings.imgsz as f32; 2], &settings.boxes);
            for prediction in &mut answer {
                to_image_pixels(prediction, &item.geometry);
            }
            for (task, prediction) in answer.iter().enumerate() {
                labelled[task] += usize::from(sample.labels[task].is_labelled());
                accumulators[task].add(prediction, &sample.labels[task]);
            }
            each(sample, &answer)?;
        }
        broken.extend(batch.broken);
        loader.recycle(batch.images);
    }
    let results = tasks.iter().zip(&accumulators).zip(labelled).enumerate();
    let result = |(index, ((task, accumulator), labelled)): (usize, ((&Task, &Accumulator), usize))| TaskResult {
        task: task.clone(),
        labelled,
        summary: accumulator.summary(),
        intervals: card.intervals_of(index).to_vec(),
    };
    Ok((results.map(result).collect(), broken))
}

/// Moves boxes from the network's canvas to the image they were found on, and drops those that lie in the padding.
pub fn to_image_pixels(prediction: &mut Prediction, geometry: &crate::data::Geometry) {
    if let Prediction::Boxes(found) = prediction {
        let [width, height] = geometry.source.map(|side| side as f32);
        for Detection { xyxy, .. } in found.iter_mut() {
            *xyxy = boxes::clip(&geometry.invert_box(xyxy), width, height);
        }
        found.retain(|d| boxes::area(&d.xyxy) > 0.0);
    }
}

/// Judges on somebody's executor: what training does after each epoch.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_on(
    executor: &mut Executor,
    plan: &ForwardPlan,
    card: &Card,
    samples: &Arc<[Sample]>,
    settings: &Settings,
) -> Result<(Vec<TaskResult>, Vec<Broken>)> {
    let run = |images: &[u8]| plan.run(executor, ParameterSet::Average, images);
    evaluate(card, samples, settings, run, |_, _| Ok(()))
}
