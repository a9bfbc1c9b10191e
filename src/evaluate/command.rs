//! `polyhead evaluate`: a model and a data set in, figures and pictures out.

use super::{Settings, TaskResult, evaluate, overall, per_class, write_pictures};
use crate::config::{TrainConfig, check_image_size};
use crate::data::{Broken, Dataset, OpenOptions, Sample, Split, digits};
use crate::error::{Error, Result};
use crate::executor::DeviceChoice;
use crate::model::{Card, ModelFile};
use crate::tasks::{DecodeOptions, Task};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a person asked for.
pub struct Options {
    /// A run's folder or a file of weights.
    pub model: PathBuf,
    /// The split of the data set to judge on.
    pub split: Split,
    /// A file for the figures, written whether or not `out` is given.
    pub json: Option<PathBuf>,
    /// A folder for report.json and the pictures.
    pub out: Option<PathBuf>,
    /// Where the network computes.
    pub device: DeviceChoice,
    /// Images that the network computes at once, at least 1.
    pub batch: usize,
    /// Side of the network's square input in pixels; `None` for the training size.
    pub imgsz: Option<usize>,
    /// Threads that decode images.
    pub workers: usize,
    /// Share of unreadable images, from 0 to 1, above which evaluation fails; one is always tolerated, unless this is 0.
    pub max_broken: f32,
    /// Which boxes of a detection are judged.
    pub boxes: DecodeOptions,
    /// How the data set is read and split.
    pub open: OpenOptions,
}

/// The figures of one evaluation.
pub struct Report {
    /// The file of weights that was judged.
    pub model: PathBuf,
    /// The data set, by the path that the caller gave.
    pub data: PathBuf,
    /// The split that was judged on.
    pub split: Split,
    /// Images that could be read, with or without labels.
    pub images: usize,
    /// One result for each task, in the order of the model's card.
    pub results: Vec<TaskResult>,
    /// The images that could not be read and are in no figure.
    pub broken: Vec<Broken>,
    /// Whether the residuals on these images set the prediction intervals.
    pub set_intervals: bool,
}

/// Judges a file of weights on a data set, and writes figures and pictures if asked to.
///
/// # Errors
/// A model or data set that cannot be read, a split without images, tasks that differ between the two, or a disk that
/// refuses.
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

/// Whether the images are the very ones that the model's run held out, seen as it saw them.
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

/// The configuration of the run that a folder or weights file belongs to, if it does.
///
/// # Errors
/// No model there, or an args.yaml that no run of polyhead wrote.
pub fn run_config(model: &Path) -> Result<Option<TrainConfig>> {
    ModelFile::locate(model)?;
    let folder = if model.is_dir() { Some(model) } else { model.parent().and_then(Path::parent) };
    let Some(args) = folder.map(|f| f.join("args.yaml")).filter(|a| a.is_file()) else {
        return Ok(None);
    };
    TrainConfig::read(&args).map(Some)
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
    a.name == b.name && a.spec.asks_the_same(&*b.spec)
}

fn describe(task: &Task) -> String {
    match task.classes().len() {
        0 => format!("`{}` ({})", task.name, task.kind_word()),
        n => format!("`{}` ({} of {n} classes)", task.name, task.kind_word()),
    }
}

impl Report {
    /// The names of the figures that the overall figure is the mean of, each once.
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

    /// What report.json and `--json` hold.
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
            "{} on {} ({} split, {} images)",
            self.model.display(),
            self.data.display(),
            self.split.word(),
            self.images
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
            Some(value) => write!(f, "  overall {value:.3} (mean of {})", self.judged_by().join(", ")),
            None => write!(f, "  no labelled image in this split"),
        }
    }
}
