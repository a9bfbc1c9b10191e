//! `polyhead evaluate`: evaluates a model on a data set and writes metrics and pictures.

use super::{Settings, TaskResult, evaluate, overall, per_class, write_pictures};
use crate::config::{TrainConfig, check_image_size};
use crate::data::{Broken, Dataset, OpenOptions, Sample, Split, digits};
use crate::error::{Error, Result, shown};
use crate::executor::DeviceChoice;
use crate::model::{Card, ModelFile};
use crate::reading::count_of;
use crate::tasks::{DecodeOptions, Task};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Options of an evaluation.
pub struct Options {
    /// A run's folder or a file of weights.
    pub model: PathBuf,
    /// The split to evaluate on.
    pub split: Split,
    /// File for the metrics, independent of `out`.
    pub json: Option<PathBuf>,
    /// A folder for report.json and the pictures.
    pub out: Option<PathBuf>,
    /// The device of the network.
    pub device: DeviceChoice,
    /// Batch size, at least 1.
    pub batch: usize,
    /// Side of the network's square input in pixels; `None` for the training size.
    pub imgsz: Option<usize>,
    /// Threads that decode images.
    pub workers: usize,
    /// Share of unreadable images, from 0 to 1, above which evaluation fails; one is always tolerated, unless this is 0.
    pub max_broken: f32,
    /// Selects the boxes of a detection task that are evaluated.
    pub boxes: DecodeOptions,
    /// Options for reading and splitting the data set.
    pub open: OpenOptions,
}

/// The results of an evaluation.
pub struct Report {
    /// The evaluated weights file.
    pub model: PathBuf,
    /// The data set, by the path that the caller gave.
    pub data: PathBuf,
    /// The evaluated split.
    pub split: Split,
    /// Number of images that could be read, with or without labels.
    pub images: usize,
    /// One result for each task, in the order of the model's card.
    pub results: Vec<TaskResult>,
    /// Images that could not be read. No metric includes them.
    pub broken: Vec<Broken>,
    /// Whether the prediction intervals were computed from the residuals on these images.
    pub set_intervals: bool,
    /// Notes on how the weights file was read.
    pub notes: Vec<String>,
}

/// Evaluates a weights file on a data set, and writes metrics and pictures on request.
///
/// # Errors
/// The model or data set cannot be read, the split has no images, the tasks of model and data set differ, or writing
/// fails.
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
    let file = ModelFile::locate(&options.model)?;
    let model = ModelFile::read(&file, None)?;
    let mut dataset = Dataset::open(data, &options.open)?;
    match_tasks(&model.card, &mut dataset, &file, data)?;
    let samples: Arc<[Sample]> = dataset.split(options.split).to_vec().into();
    if samples.is_empty() {
        if let Some(reason) = dataset.no_test.filter(|_| options.split == Split::Test) {
            return Err(Error::Usage(format!("--split test: {reason}: correct it, or name another split")));
        }
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
        cache: None,
        boxes: options.boxes,
    };
    let mut network = model.start(&options.device)?;
    if let Some(out) = &options.out {
        std::fs::create_dir_all(out).map_err(Error::io("create", out))?;
    }
    let shape = [settings.batch, settings.imgsz, settings.imgsz];
    let run = |images: &[u8]| network.forward(shape, images);
    let (results, broken) = evaluate(&model.card, &samples, &settings, run, |_, _| Ok(()))?;
    let report = Report {
        model: file,
        data: data.to_path_buf(),
        split: options.split,
        images: samples.len() - broken.len(),
        results,
        broken,
        set_intervals: !model.card.intervals.iter().all(Vec::is_empty) && is_held_out(options, data)?,
        notes: model.notes,
    };
    let inside = options.out.as_ref().map(|out| out.join("report.json"));
    for json in options.json.iter().chain(&inside) {
        let text = format!("{:#}\n", report.to_json());
        crate::files::write_synced(json, text.as_bytes())?;
    }
    if let Some(out) = &options.out {
        write_pictures(out, &report.results)?;
    }
    Ok(report)
}

/// Whether the images are exactly those that the model's run held out, at the same size.
fn is_held_out(options: &Options, data: &Path) -> Result<bool> {
    let Some(run) = run_config(&options.model)? else { return Ok(false) };
    let own = match &run.data {
        Some(own) => own.canonicalize().ok() == data.canonicalize().ok(),
        None => data.starts_with(run.project.join("datasets")),
    };
    let drawn_alike = options.open.seed == run.seed && options.open.val_fraction == run.val_fraction;
    let seen_alike = options.imgsz.is_none_or(|size| size == run.imgsz);
    Ok(own && drawn_alike && seen_alike && options.split == Split::Val && run.overfit == 0)
}

/// The configuration of the run that a folder or weights file belongs to, if any.
///
/// # Errors
/// There is no model, or the args.yaml was not written by a polyhead run.
pub fn run_config(model: &Path) -> Result<Option<TrainConfig>> {
    ModelFile::locate(model)?;
    let folder = if model.is_dir() { Some(model) } else { model.parent().and_then(Path::parent) };
    let Some(args) = folder.map(|f| f.join("args.yaml")).filter(|a| a.is_file()) else {
        return Ok(None);
    };
    TrainConfig::read(&args).map(Some)
}

/// The run's own data set, used if none is given.
///
/// # Errors
/// The model is not in a run's folder, or the built-in digits cannot be written.
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

/// Reorders the data set's labels to the model's tasks and classes. Both must have the same ones.
fn match_tasks(card: &Card, dataset: &mut Dataset, model: &Path, data: &Path) -> Result<()> {
    let tasks = &card.architecture.tasks;
    let mut order = Vec::new();
    for task in tasks {
        let found = dataset.tasks.iter().position(|t| is_same_task(t, task));
        order.push(found.ok_or_else(|| {
            let names = |tasks: &[Task]| tasks.iter().map(describe).collect::<Vec<_>>().join(", ");
            Error::Usage(format!(
                "{} predicts {}, and {} has {}: expected a data set with the model's tasks, classes in the same order",
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

fn is_same_task(a: &Task, b: &Task) -> bool {
    a.name == b.name && a.spec.asks_the_same(&*b.spec)
}

fn describe(task: &Task) -> String {
    match task.classes().len() {
        0 => format!("`{}` ({})", task.name, task.kind_word()),
        n => format!("`{}` ({} of {})", task.name, task.kind_word(), count_of(n, "class")),
    }
}

impl Report {
    /// The names of the metrics whose mean is the overall metric, each once.
    fn judged_by(&self) -> Vec<&'static str> {
        let mut names = Vec::new();
        for result in self.results.iter().filter(|result| result.fitness().is_some()) {
            let name = result.task.spec.kind().fitness;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// The content of report.json and `--json`.
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
            "set_intervals": self.set_intervals,
            "version": env!("CARGO_PKG_VERSION"),
            "commit": env!("POLYHEAD_COMMIT"),
        })
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{} on {} ({} split, {})",
            shown(&self.model),
            shown(&self.data),
            self.split.word(),
            count_of(self.images, "image")
        )?;
        for broken in &self.broken {
            writeln!(f, "  unreadable, left out: {broken}")?;
        }
        for result in &self.results {
            writeln!(f, "  {}", result.line())?;
            f.write_str(&per_class::table(result))?;
            let origin = if self.set_intervals { ", by construction: these images set their width" } else { "" };
            for line in result.summary.judge_intervals(&result.intervals, origin).lines {
                writeln!(f, "    {line}")?;
            }
        }
        match overall(&self.results) {
            Some(value) => {
                let judged = self.results.iter().filter(|result| result.fitness().is_some()).count();
                let mean = if judged > 1 { "mean of " } else { "" };
                write!(f, "  overall {value:.3} ({mean}{})", self.judged_by().join(", "))
            }
            None => write!(f, "  no labelled image in this split"),
        }
    }
}
