//! How good a network is on labelled images: every task's metrics, in the pixels and units of the labels.

use crate::boxes::{self, Detection};
use crate::config::{TrainConfig, check_image_size};
use crate::data::{Augment, Broken, Dataset, EvalLoader, LoaderOptions, OpenOptions, Sample, Split, digits};
use crate::error::{Error, Result};
use crate::executor::{DeviceChoice, Executor, ParameterSet};
use crate::metrics::classification::{ClassificationMetric, ClassificationSummary};
use crate::metrics::detection::{DetectionMetric, DetectionSummary, GroundTruth};
use crate::metrics::multi_label::{MultiLabelMetric, MultiLabelSummary};
use crate::metrics::regression::{RegressionMetric, RegressionSummary};
use crate::model::heads::decode::DecodeOptions;
use crate::model::prediction::interpret;
use crate::model::{Card, ForwardPlan, HeadOutput, Model, Prediction};
use crate::task::{Label, Task, TaskKind};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a task's answers were worth.
#[derive(Clone, Debug)]
pub struct TaskResult {
    pub task: Task,
    /// Labelled images.
    pub labelled: usize,
    pub summary: Summary,
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
                ]));
                all
            }
            Summary::MultiLabel(s) => named(&[("mAP", s.map), ("f1", s.f1)]),
            Summary::Detection(s) => named(&[
                ("AP", s.ap),
                ("AP50", s.ap50),
                ("AP75", s.ap75),
                ("APs", s.ap_small),
                ("APm", s.ap_medium),
                ("APl", s.ap_large),
                ("AR1", s.ar1),
                ("AR10", s.ar10),
                ("AR100", s.ar100),
                ("ARs", s.ar_small),
                ("ARm", s.ar_medium),
                ("ARl", s.ar_large),
            ]),
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
            vec![(key("MAE"), summary.mae), (key("RMSE"), summary.rmse), (key("R2"), summary.r2)]
        };
        columns.iter().zip(names).flat_map(of).collect()
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
            }
            Summary::Detection(s) => {
                let classes = self.task.classes().iter().zip(&s.per_class);
                let per_class: Map<String, Value> = classes
                    .map(|(name, c)| (name.clone(), json!({"AP": c.ap, "AP50": c.ap50, "count": c.count})))
                    .collect();
                all["per_class"] = Value::Object(per_class);
            }
            Summary::MultiLabel(s) => {
                let classes = self.task.classes().iter().zip(&s.per_class);
                let per_class: Map<String, Value> = classes
                    .map(|(name, c)| {
                        let figures = json!({"AP": c.ap, "f1": c.f1, "labelled": c.labelled, "count": c.count});
                        (name.clone(), figures)
                    })
                    .collect();
                all["per_class"] = Value::Object(per_class);
            }
            Summary::Regression(_) => {}
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
                let truth: Vec<GroundTruth> = boxes
                    .iter()
                    .map(|b| GroundTruth { class: b.class, xyxy: b.xyxy, ignore: b.ignore, area: None })
                    .collect();
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
    TaskResult { task: task.clone(), labelled: 0, summary: Accumulator::new(task).summary() }
}

/// How evaluation batches are made and boxes chosen.
#[derive(Clone, Debug)]
pub struct Settings {
    pub batch: usize,
    pub imgsz: usize,
    pub workers: usize,
    pub max_broken: f32,
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
        max_broken: settings.max_broken,
        prefetch: 2,
    };
    let mut loader = EvalLoader::new(Arc::clone(samples), options, Arc::new(|_: &[Label]| ()))?;
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
    let results = tasks.iter().zip(&accumulators).zip(labelled);
    let result = |((task, accumulator), labelled): ((&Task, &Accumulator), usize)| TaskResult {
        task: task.clone(),
        labelled,
        summary: accumulator.summary(),
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

/// What a person asked for.
pub struct Options {
    pub model: PathBuf,
    pub split: Split,
    pub json: Option<PathBuf>,
    pub device: DeviceChoice,
    pub batch: usize,
    pub imgsz: Option<usize>,
    pub workers: usize,
    pub max_broken: f32,
    pub boxes: DecodeOptions,
    pub open: OpenOptions,
}

/// The figures of one evaluation.
pub struct Report {
    pub model: PathBuf,
    pub data: PathBuf,
    pub split: Split,
    pub images: usize,
    pub results: Vec<TaskResult>,
    pub broken: Vec<Broken>,
}

/// Judges a file of weights on a data set, and writes the figures if asked to.
///
/// # Errors
/// A model or data set that cannot be read, a split without images, or tasks that differ between the two.
pub fn command(options: &Options, data: &Path) -> Result<Report> {
    if options.batch == 0 {
        return Err(Error::Usage("--batch 0: expected at least 1".into()));
    }
    if let Some(size) = options.imgsz {
        check_image_size(size)?;
    }
    options.boxes.check()?;
    if !(0.0..=1.0).contains(&options.max_broken) {
        return Err(Error::Usage(format!("--max-broken {}: expected a share from 0 to 1", options.max_broken)));
    }
    let file = Model::locate(&options.model)?;
    let model = Model::load(&file, None)?;
    let mut dataset = Dataset::open(data, &options.open)?;
    match_tasks(&model.card, &mut dataset, &file, data)?;
    let samples: Arc<[Sample]> = dataset.split(options.split).to_vec().into();
    if samples.is_empty() {
        return Err(Error::Usage(format!(
            "{}: the {} split has no images; name another with --split",
            data.display(),
            options.split.word()
        )));
    }
    let settings = Settings {
        batch: options.batch,
        imgsz: options.imgsz.unwrap_or(model.card.image_size),
        workers: options.workers,
        max_broken: options.max_broken,
        boxes: options.boxes,
    };
    let mut runner = model.start(&options.device)?;
    let shape = [settings.batch, settings.imgsz, settings.imgsz];
    let run = |images: &[u8]| runner.run(shape, images);
    let (results, broken) = evaluate(&model.card, &samples, &settings, run, |_, _| Ok(()))?;
    let report = Report {
        model: file,
        data: data.to_path_buf(),
        split: options.split,
        images: samples.len() - broken.len(),
        results,
        broken,
    };
    if let Some(json) = &options.json {
        let text = format!("{:#}\n", report.to_json());
        crate::model::weights::write_whole(json, text.as_bytes())?;
    }
    Ok(report)
}

/// The configuration of the run that a folder or weights file belongs to, if it does.
///
/// # Errors
/// No model there, or an args.yaml that is not understood.
pub fn run_config(model: &Path) -> Result<Option<TrainConfig>> {
    Model::locate(model)?;
    let folder = if model.is_dir() { Some(model) } else { model.parent().and_then(Path::parent) };
    let Some(args) = folder.map(|f| f.join("args.yaml")).filter(|a| a.is_file()) else {
        return Ok(None);
    };
    let text = std::fs::read_to_string(&args).map_err(Error::io("read", &args))?;
    let config = serde_yaml_ng::from_str(&text);
    config.map(Some).map_err(|e| Error::data(&args, None, format!("not a run's configuration: {e}")))
}

/// The data set to judge on when none is named: the run's own.
///
/// # Errors
/// A model without a run around it, or built-in digits that cannot be written.
pub fn data_of_run(model: &Path, config: Option<&TrainConfig>) -> Result<PathBuf> {
    match config {
        Some(TrainConfig { data: Some(data), .. }) => Ok(data.clone()),
        Some(config) => digits::digits_dataset(&config.project.join("datasets")),
        None => Err(Error::Usage(format!(
            "{0}: not inside a run's folder, so name the data set: polyhead evaluate {0} DATASET",
            model.display()
        ))),
    }
}

/// Reorders the data set's labels to the model's tasks and classes; both must name the same.
fn match_tasks(card: &Card, dataset: &mut Dataset, model: &Path, data: &Path) -> Result<()> {
    let tasks = &card.architecture.tasks;
    let mut order = Vec::new();
    for task in tasks {
        let found = dataset.tasks.iter().position(|t| same_question(t, task));
        order.push(found.ok_or_else(|| {
            let names = |tasks: &[Task]| tasks.iter().map(describe).collect::<Vec<_>>().join(", ");
            Error::Usage(format!(
                "{} answers {}, and {} asks {}: expected a data set with the model's tasks, classes in the same order",
                model.display(),
                names(tasks),
                data.display(),
                names(&dataset.tasks)
            ))
        })?);
    }
    for samples in [&mut dataset.train, &mut dataset.val, &mut dataset.test] {
        for sample in samples {
            sample.labels = order.iter().map(|&i| sample.labels[i].clone()).collect();
        }
    }
    dataset.tasks.clone_from(tasks);
    Ok(())
}

fn same_question(a: &Task, b: &Task) -> bool {
    let same_kind = std::mem::discriminant(&a.kind) == std::mem::discriminant(&b.kind);
    let columns = |t: &Task| match &t.kind {
        TaskKind::Regress { columns, .. } => columns.len(),
        _ => 0,
    };
    a.name == b.name && same_kind && a.classes() == b.classes() && columns(a) == columns(b)
}

fn describe(task: &Task) -> String {
    match task.classes().len() {
        0 => format!("`{}` ({})", task.name, task.kind_word()),
        n => format!("`{}` ({} of {n} classes)", task.name, task.kind_word()),
    }
}

impl Report {
    pub fn to_json(&self) -> Value {
        let tasks: Map<String, Value> = self.results.iter().map(|r| (r.task.name.clone(), r.to_json())).collect();
        json!({
            "model": self.model.to_string_lossy(),
            "data": self.data.to_string_lossy(),
            "split": self.split.word(),
            "images": self.images,
            "unreadable": self.broken.iter().map(|b| json!({"file": b.name, "reason": b.message})).collect::<Vec<_>>(),
            "overall": overall(&self.results),
            "tasks": tasks,
            "version": env!("CARGO_PKG_VERSION"),
            "commit": env!("POLYHEAD_COMMIT"),
        })
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{} on {} ({} split, {} images)",
            self.model.display(),
            self.data.display(),
            self.split.word(),
            self.images
        )?;
        for broken in &self.broken {
            writeln!(f, "  unreadable, left out: {}: {}", broken.name, broken.message)?;
        }
        for result in &self.results {
            writeln!(f, "  {}", result.line())?;
        }
        match overall(&self.results) {
            Some(value) => write!(f, "  overall {value:.3} (mean of AP, balanced accuracy, R²)"),
            None => write!(f, "  no labelled image in this split"),
        }
    }
}
