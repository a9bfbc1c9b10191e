//! The metrics of each source of a data set that consists of several.

use super::{TaskResult, overall};
use crate::data::{Dataset, Sample, Sources};
use crate::model::Card;
use crate::tasks::{Metric, Prediction, Task};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// The images and results of one source.
#[derive(Clone, Debug)]
pub struct SourceResult {
    /// Its name.
    pub name: String,
    /// Number of images that could be read.
    pub images: usize,
    /// One result for each task.
    pub results: Vec<TaskResult>,
}

/// Collects predictions by source.
pub(super) struct BySource {
    sources: Sources,
    tasks: Vec<Task>,
    metrics: Vec<Vec<Box<dyn Metric>>>,
    images: Vec<usize>,
    labelled: Vec<Vec<usize>>,
}

impl BySource {
    /// Nothing is collected if the data set does not consist of several.
    pub fn new(dataset: &Dataset, card: &Card) -> BySource {
        let (sources, tasks) = (dataset.sources.clone(), card.architecture.tasks.clone());
        let count = sources.names().len();
        BySource {
            metrics: (0..count).map(|_| tasks.iter().map(|task| task.spec.metric()).collect()).collect(),
            images: vec![0; count],
            labelled: vec![vec![0; tasks.len()]; count],
            sources,
            tasks,
        }
    }

    pub fn add(&mut self, sample: &Sample, predictions: &[Box<dyn Prediction>]) {
        let Some(source) = self.sources.of_image(sample) else { return };
        self.images[source] += 1;
        for (task, (prediction, label)) in predictions.iter().zip(&sample.labels).enumerate() {
            self.labelled[source][task] += usize::from(label.is_labelled());
            self.metrics[source][task].add(&**prediction, label);
        }
    }

    /// The results of the sources that have images.
    pub fn results(self) -> Vec<SourceResult> {
        let of_source = |(number, name): (usize, &String)| SourceResult {
            name: name.clone(),
            images: self.images[number],
            results: self
                .tasks
                .iter()
                .zip(&self.metrics[number])
                .zip(&self.labelled[number])
                .map(|((task, metric), labelled)| TaskResult {
                    task: task.clone(),
                    labelled: *labelled,
                    summary: metric.summary(),
                    intervals: Vec::new(),
                })
                .collect(),
        };
        let all = self.sources.names().iter().enumerate().map(of_source);
        all.filter(|source| source.images > 0).collect()
    }
}

/// The entries of `sources` in report.json.
pub(super) fn to_json(sources: &[SourceResult]) -> Value {
    let entry = |source: &SourceResult| {
        let tasks: Map<String, Value> = source.results.iter().map(|r| (r.task.name.clone(), r.to_json())).collect();
        (source.name.clone(), json!({"images": source.images, "overall": overall(&source.results), "tasks": tasks}))
    };
    Value::Object(sources.iter().map(entry).collect())
}

/// A line for each source with the main metric of every task; empty without sources.
pub(super) fn table(sources: &[SourceResult]) -> String {
    let Some(first) = sources.first() else { return String::new() };
    let heads: Vec<String> =
        first.results.iter().map(|r| format!("{} ({})", r.task.name, r.task.spec.kind().fitness)).collect();
    let width = sources.iter().map(|source| source.name.chars().count()).max().unwrap_or(0).max("source".len());
    let mut text = format!("  {:width$}  {:>7}", "source", "images");
    let columns: Vec<usize> = heads.iter().map(|head| head.chars().count().max(7)).collect();
    for (head, column) in heads.iter().zip(&columns) {
        let _ = write!(text, "  {head:>column$}"); // writing to a String cannot fail
    }
    let _ = writeln!(text, "  {:>7}", "overall");
    let shown = |figure: Option<f64>| figure.map_or("–".to_owned(), |figure| format!("{figure:.3}"));
    for source in sources {
        let _ = write!(text, "  {:width$}  {:>7}", source.name, source.images);
        for (result, column) in source.results.iter().zip(&columns) {
            let _ = write!(text, "  {:>column$}", shown(result.fitness()));
        }
        let _ = writeln!(text, "  {:>7}", shown(overall(&source.results)));
    }
    text
}
