//! Evaluates a network on labelled images: every task's metrics, in the pixels and units of the labels. `command`
//! implements `polyhead evaluate`, and `coco` scores COCO results files.

mod coco;
mod command;
mod matching;
mod per_class;
mod pictures;
mod selection;
mod sources;
mod validation;

pub use coco::{CocoReport, score_coco};
pub use command::{Options, Report, command, data_of_run, images_of, is_own, open_options, run_config};
pub use pictures::{file_name, picture_names, write_pictures};
pub use selection::{Selected, Selection};
pub use sources::SourceResult;
pub use validation::{Validation, validate};

use crate::data::images::cache::Cache;
use crate::data::{Augment, Batch, Broken, EvalLoader, LoaderOptions, Sample, Variety};
use crate::error::Result;
use crate::model::Card;
use crate::tasks::{DecodeOptions, Encoders, HeadOutput, Metric, Prediction, Summary, Task};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The evaluation result of a task.
#[derive(Clone, Debug)]
pub struct TaskResult {
    /// The task, with its classes or columns.
    pub task: Task,
    /// Number of labelled images.
    pub labelled: usize,
    /// The task's metrics on the labelled images.
    pub summary: Arc<dyn Summary>,
    /// The task's [`intervals`](Card::intervals) from the card, which are evaluated too.
    pub intervals: Vec<Option<f64>>,
}

impl TaskResult {
    /// The metric by which `best` is selected; `None` without labels.
    pub fn fitness(&self) -> Option<f64> {
        self.summary.fitness()
    }

    /// Names and values in display order. For a task of several columns, each name starts with the column's name.
    pub fn metrics(&self) -> Vec<(String, Option<f64>)> {
        self.summary.metrics()
    }

    /// Half widths of prediction intervals computed from these images, for kinds that predict values.
    pub fn half_widths(&self) -> Vec<Option<f64>> {
        self.summary.half_widths()
    }

    /// One line with the most important metrics.
    pub fn line(&self) -> String {
        self.line_after("")
    }

    /// The line of an epoch, with the loss before the metrics.
    pub fn line_with_loss(&self, loss: Option<f64>) -> String {
        self.line_after(&loss.map_or("loss –  ".to_owned(), |loss| format!("loss {loss:.3}  ")))
    }

    fn line_after(&self, first: &str) -> String {
        let figures = self.metrics().into_iter().take(self.summary.headline());
        let figures = figures.map(|(name, value)| match value {
            Some(value) => format!("{name} {}", self.summary.shown(&name, value)),
            None => format!("{name} –"),
        });
        let figures = figures.collect::<Vec<_>>().join("  ");
        format!("{} ({}, {} labelled): {first}{figures}", self.task.name, self.task.kind_word(), self.labelled)
    }

    /// This task's entry in report.json; an unknown metric is null.
    pub fn to_json(&self) -> Value {
        let metrics: Map<String, Value> =
            self.metrics().into_iter().map(|(name, value)| (name, value.map_or(Value::Null, |v| json!(v)))).collect();
        let mut all = json!({"type": self.task.kind_word(), "labelled": self.labelled, "metrics": metrics});
        for (key, value) in self.summary.details() {
            all[key] = value;
        }
        if let Some(per_class) = self.summary.per_class() {
            all["per_class"] = per_class::to_json(&per_class);
        }
        let intervals = self.summary.judge_intervals(&self.intervals, "").json;
        if !intervals.is_empty() {
            all["intervals"] = json!(intervals);
        }
        all
    }
}

/// The mean over the tasks of each kind's main metric, counted as at least 0. Tasks without validation labels are left out.
pub fn overall(results: &[TaskResult]) -> Option<f64> {
    mean_figure(results.iter().map(TaskResult::fitness))
}

/// The mean of the tasks' figures that are known, where a negative one counts as 0; `None` if none is.
pub fn mean_figure(figures: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let known: Vec<f64> = figures.flatten().map(|figure| figure.max(0.0)).collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}

/// A clause for the line with the overall metric: which figures count as 0 in it because they are negative; empty if none is.
pub fn counted_as_zero(results: &[TaskResult]) -> String {
    let is_negative = |result: &&TaskResult| result.fitness().is_some_and(|figure| figure < 0.0);
    let mut names: Vec<&str> =
        results.iter().filter(is_negative).map(|result| result.task.spec.kind().fitness).collect();
    names.dedup();
    match names.is_empty() {
        true => String::new(),
        false => format!("; a negative {} counts as 0", names.join(" and ")),
    }
}

/// The result of a task that was not evaluated: its metrics' names without values.
pub fn empty_result(task: &Task) -> TaskResult {
    TaskResult { task: task.clone(), labelled: 0, summary: task.spec.metric().summary(), intervals: Vec::new() }
}

/// Options for evaluation batches and boxes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Batch size.
    pub batch: usize,
    /// Side of the network's square input in pixels.
    pub imgsz: usize,
    /// Threads that decode images.
    pub workers: usize,
    /// Share of unreadable images, from 0 to 1, above which evaluation fails; one is always tolerated, unless this is 0.
    pub max_broken: f32,
    /// Cache of decoded images.
    pub cache: Option<Arc<Cache>>,
    /// Selects the boxes of a detection task that are evaluated.
    pub boxes: DecodeOptions,
}

/// Evaluates the network on `samples`. `run` computes the outputs of a padded batch, whose images have targets if there are
/// `encoders`.
///
/// # Errors
/// Too many unreadable images.
pub fn evaluate(
    card: &Card,
    samples: &Arc<[Sample]>,
    settings: &Settings,
    encoders: Option<Arc<Encoders>>,
    mut run: impl FnMut(&Batch) -> Result<Vec<HeadOutput>>,
    mut each: impl FnMut(&Sample, &[Box<dyn Prediction>]) -> Result<()>,
) -> Result<(Vec<TaskResult>, Vec<Broken>)> {
    let tasks = &card.architecture.tasks;
    let mut metrics: Vec<Box<dyn Metric>> = tasks.iter().map(|task| task.spec.metric()).collect();
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
        encoders,
    };
    let mut loader = EvalLoader::new(Arc::clone(samples), options)?;
    while let Some(batch) = loader.next() {
        let batch = batch?;
        let outputs = run(&batch)?;
        for (i, item) in batch.items.iter().enumerate() {
            let sample = &samples[item.index];
            let answer = card.interpret(&outputs, i, &item.geometry, &settings.boxes);
            for (task, prediction) in answer.iter().enumerate() {
                labelled[task] += usize::from(sample.labels[task].is_labelled());
                metrics[task].add(&**prediction, &sample.labels[task]);
            }
            each(sample, &answer)?;
        }
        broken.extend(batch.broken);
        loader.recycle(batch.images);
    }
    let results = tasks.iter().zip(&metrics).zip(labelled).enumerate();
    let results = results.map(|(index, ((task, metric), labelled))| TaskResult {
        task: task.clone(),
        labelled,
        summary: metric.summary(),
        intervals: card.intervals_of(index).to_vec(),
    });
    Ok((results.collect(), broken))
}
