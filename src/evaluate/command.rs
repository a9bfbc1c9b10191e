//! `polyhead evaluate`: evaluates a model on a data set and writes metrics and pictures.

use super::matching::match_tasks;
use super::sources::{self, BySource, SourceResult};
use super::{Selection, Settings, TaskResult, counted_as_zero, evaluate, overall, per_class};
use super::{picture_names, write_pictures};
use crate::config::{TrainConfig, check_image_size, is_of_run};
use crate::data::{Batch, Broken, Dataset, OpenOptions, Sample, Split, digits};
use crate::error::{Error, Result, shown};
use crate::executor::DeviceChoice;
use crate::model::ModelFile;
use crate::new_folder::project_of;
use crate::reading::count_of;
use crate::replacing;
use crate::tasks::DecodeOptions;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Options of an evaluation.
pub struct Options {
    /// A run's folder or a file of weights.
    pub model: PathBuf,
    /// The split to evaluate on; `None` for validation, or for the images that a data set without it has.
    pub split: Option<Split>,
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
    /// The tasks and the classes of boxes that are evaluated.
    pub selection: Selection,
    /// Options for reading and splitting the data set.
    pub open: OpenOptions,
}

/// The results of an evaluation.
pub struct Report {
    /// The evaluated weights file.
    pub model: PathBuf,
    /// The data set, by the path that the caller gave.
    pub data: PathBuf,
    /// The evaluated split; `None` for all images of a data set without splits.
    pub split: Option<Split>,
    /// Number of images that could be read, with or without labels.
    pub images: usize,
    /// One result for each task, in the order of the model's card.
    pub results: Vec<TaskResult>,
    /// The same for each source of a data set that consists of several.
    pub sources: Vec<SourceResult>,
    /// Images that could not be read. No metric includes them.
    pub broken: Vec<Broken>,
    /// The classes of boxes that were evaluated; empty for all.
    pub only_classes: Vec<String>,
    /// Whether the prediction intervals were computed from the residuals on these images.
    pub set_intervals: bool,
    /// Notes on how the weights file was read, and on tasks of the data set that the model does not have.
    pub notes: Vec<String>,
}

/// Evaluates a weights file on a data set, and writes metrics and pictures on request.
///
/// # Errors
/// The model or data set cannot be read, the split has no images, the tasks of model and data set differ, a file
/// that polyhead did not write would be replaced, or writing fails.
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
    let selected = options.selection.of(&model.card)?;
    let card = &selected.card;
    let mut open = options.open.clone();
    if !options.selection.tasks.is_empty() {
        open.tasks = card.architecture.tasks.iter().map(|task| task.name.clone()).collect();
    }
    let mut dataset = Dataset::open(data, &open)?;
    let mut notes = model.notes.clone();
    notes.extend(match_tasks(card, &mut dataset, &file, data)?);
    let (split, note) = split_to_judge(&dataset, options, data);
    notes.extend(note);
    let samples: Arc<[Sample]> = images_of(&dataset, split.unwrap_or(Split::Train), data)?.to_vec().into();
    let settings = Settings {
        batch: options.batch,
        imgsz: options.imgsz.unwrap_or(card.image_size),
        workers: options.workers,
        max_broken: options.max_broken,
        cache: None,
        boxes: options.boxes,
    };
    let mut network = model.start(&options.device)?;
    let inside = options.out.as_ref().map(|out| out.join("report.json"));
    let reports: Vec<&PathBuf> = options.json.iter().chain(&inside).collect();
    // Checked before anything is computed.
    reports.iter().try_for_each(|report| replacing::check(report, is_report))?;
    if let Some(out) = &options.out {
        let pictures = card.architecture.tasks.iter().flat_map(|task| picture_names(&task.name));
        pictures.map(|name| out.join(name)).try_for_each(|picture| replacing::check_picture(&picture))?;
        std::fs::create_dir_all(out).map_err(Error::io("create", out))?;
    }
    let shape = [settings.batch, settings.imgsz, settings.imgsz];
    let run = |batch: &Batch| network.forward(shape, &batch.images).map(|all| selected.outputs(all));
    let mut by_source = BySource::new(&dataset, card);
    let (results, broken) = evaluate(card, &samples, &settings, None, run, |sample, predictions| {
        by_source.add(sample, predictions);
        Ok(())
    })?;
    let report = Report {
        model: file,
        data: data.to_path_buf(),
        split,
        images: samples.len() - broken.len(),
        results,
        sources: by_source.results(),
        broken,
        set_intervals: !card.intervals.iter().all(Vec::is_empty) && is_held_out(options, split, data)?,
        only_classes: selected.classes,
        notes,
    };
    for json in reports {
        let text = format!("{:#}\n", report.to_json());
        crate::files::write_synced(json, text.as_bytes())?;
    }
    if let Some(out) = &options.out {
        write_pictures(out, &report.results)?;
    }
    Ok(report)
}

/// Whether a file that begins with `start` is a report of `evaluate`.
fn is_report(start: &str) -> bool {
    ["\"model\":", "\"split\":", "\"unreadable\":"].iter().all(|key| start.contains(key))
}

/// The split to judge, `None` for all images, and a note if that is not the validation split although none is named.
fn split_to_judge(dataset: &Dataset, options: &Options, data: &Path) -> (Option<Split>, Option<String>) {
    let whole = shown(data);
    match options.split {
        Some(split) => (Some(split), None),
        None if !options.open.undivided || !dataset.val.is_empty() => (Some(Split::Val), None),
        None if !dataset.test.is_empty() => {
            (Some(Split::Test), Some(format!("{whole} has no validation split, so its test split is judged")))
        }
        None => (
            None,
            Some(format!(
                "{whole} has no splits, so all {} are judged (--split val holds a part out)",
                count_of(dataset.train.len(), "image")
            )),
        ),
    }
}

/// The images of a split.
///
/// # Errors
/// There are none.
pub fn images_of<'a>(dataset: &'a Dataset, split: Split, data: &Path) -> Result<&'a [Sample]> {
    let samples = dataset.split(split);
    match (&dataset.no_test, split) {
        _ if !samples.is_empty() => Ok(samples),
        (Some(reason), Split::Test) => {
            Err(Error::Usage(format!("--split test: {reason}: correct it, or name another split")))
        }
        _ => {
            let message =
                format!("{}: the {} split has no images; name another with --split", shown(data), split.word());
            Err(Error::Usage(message))
        }
    }
}

/// Whether the images are exactly those that the model's run held out, at the same size.
fn is_held_out(options: &Options, split: Option<Split>, data: &Path) -> Result<bool> {
    let Some(run) = run_config(&options.model)? else { return Ok(false) };
    let OpenOptions { val_fraction, fold, seed, .. } = options.open;
    let drawn_alike = seed == run.seed && val_fraction == run.val_fraction && fold == run.fold;
    let seen_alike = options.imgsz.is_none_or(|size| size == run.imgsz);
    Ok(is_own(&run, data) && drawn_alike && seen_alike && split == Some(Split::Val) && run.overfit == 0)
}

/// Whether the data set is the one that the run was trained on. A folder and the data.yaml in it are the same.
pub fn is_own(run: &TrainConfig, data: &Path) -> bool {
    let place = |path: &Path| {
        let real = path.canonicalize().ok()?;
        let declares = real.is_file() && real.file_stem().is_some_and(|stem| stem == "data");
        if declares { real.parent().map(Path::to_path_buf) } else { Some(real) }
    };
    match &run.data {
        Some(own) => place(own) == place(data),
        None => data.starts_with(run.shared_folder().join("datasets")),
    }
}

/// The configuration of the run that a folder or weights file belongs to, if any. Its project is the folder in which the run lies
/// now.
///
/// # Errors
/// There is no model, or the args.yaml in the folder was not written by a polyhead run.
pub fn run_config(model: &Path) -> Result<Option<TrainConfig>> {
    let file = ModelFile::locate(model)?;
    let Some(folder) = ModelFile::run_folder(model).filter(|folder| folder.join(ARGS).is_file()) else {
        return Ok(None);
    };
    let args = if model.is_dir() { model.join(ARGS) } else { folder.join(ARGS) };
    let text = crate::files::read(&args).map_err(Error::io("read", &args))?;
    if !is_of_run(&String::from_utf8_lossy(&text)) {
        // Weights of another program may lie beside its own args.yaml.
        return if model.is_dir() { Err(foreign(&args, &file)) } else { Ok(None) };
    }
    let mut config = TrainConfig::read(&args)?;
    let project = project_of(&folder)?;
    if config.project.canonicalize().ok().as_ref() != Some(&project) {
        config.project = project;
    }
    Ok(Some(config))
}

/// A run's folder has this file.
const ARGS: &str = "args.yaml";

fn foreign(args: &Path, weights: &Path) -> Error {
    let message = format!(
        "not a run's configuration: no run of polyhead wrote it; to use the weights without it, name {} instead of the folder, and the data set after it",
        shown(weights)
    );
    Error::data(args, None, message)
}

/// The options to open the data set `given`, or else the run's own. The run's held-out images stay held out, because another draw
/// would include images that the run was trained on; and on its own data set, a run of some tasks needs only their labels.
pub fn open_options(run: Option<&TrainConfig>, given: Option<&Path>) -> OpenOptions {
    let own_tasks = run.filter(|_| given.is_none()).map(|run| run.task.clone());
    let on_own = run.filter(|run| given.is_none_or(|given| is_own(run, given)));
    OpenOptions {
        val_fraction: run.and_then(|run| run.val_fraction),
        fold: on_own.and_then(|run| run.fold),
        seed: run.map_or(0, |run| run.seed),
        tasks: own_tasks.unwrap_or_default(),
        undivided: false,
    }
}

/// The run's own data set, used if none is given.
///
/// # Errors
/// The model is not in a run's folder, or the built-in digits cannot be written.
pub fn data_of_run(model: &Path, config: Option<&TrainConfig>) -> Result<PathBuf> {
    match config {
        Some(TrainConfig { data: Some(data), .. }) if !data.exists() => Err(Error::Other(format!(
            "{}: the data set of this run is not there; if it was moved, name its new place after {}",
            shown(data),
            shown(model)
        ))),
        Some(TrainConfig { data: Some(data), .. }) => Ok(data.clone()),
        Some(config) => digits::digits_dataset(&config.shared_folder().join("datasets")),
        None => {
            Err(Error::Usage(format!("{}: not inside a run's folder, so name the data set after it", shown(model))))
        }
    }
}

impl Report {
    /// The images, as in `val split, 400 images`.
    pub fn judged(&self) -> String {
        let images = count_of(self.images, "image");
        match self.split {
            Some(split) => format!("{} split, {images}", split.word()),
            None => format!("all {images}"),
        }
    }

    /// Notes on tasks that no image of the split has labels for.
    pub fn without_labels(&self) -> Vec<String> {
        let of_split = self.split.map_or(String::new(), |split| format!(" of the {} split", split.word()));
        let without = self.results.iter().filter(|result| result.labelled == 0);
        let note = |result: &TaskResult| {
            format!("{}: no image{of_split} has labels for it, so it has no metrics", result.task.name)
        };
        without.map(note).collect()
    }

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
        let mut all = json!({
            "model": self.model.to_string_lossy(),
            "data": self.data.to_string_lossy(),
            "split": self.split.map_or("all", Split::word),
            "images": self.images,
            "unreadable": self.broken.iter().map(|b| json!({"file": b.name, "reason": b.message})).collect::<Vec<_>>(),
            "overall": overall(&self.results),
            "tasks": tasks,
            "only_classes": self.only_classes,
            "set_intervals": self.set_intervals,
            "version": env!("CARGO_PKG_VERSION"),
            "commit": env!("POLYHEAD_COMMIT"),
        });
        if !self.sources.is_empty() {
            all["sources"] = sources::to_json(&self.sources);
        }
        all
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} on {} ({})", shown(&self.model), shown(&self.data), self.judged())?;
        if !self.only_classes.is_empty() {
            writeln!(f, "  only boxes of these classes: {}", self.only_classes.join(", "))?;
        }
        for broken in &self.broken {
            writeln!(f, "  unreadable, left out: {broken}")?;
        }
        for result in &self.results {
            writeln!(f, "  {}", result.line())?;
            f.write_str(&per_class::table(result))?;
            let origin = if self.set_intervals { ", as expected: their width was chosen on these images" } else { "" };
            for line in result.summary.judge_intervals(&result.intervals, origin).lines {
                writeln!(f, "    {line}")?;
            }
        }
        f.write_str(&sources::table(&self.sources))?;
        match overall(&self.results) {
            Some(value) => {
                let judged = self.results.iter().filter(|result| result.fitness().is_some()).count();
                let mean = if judged > 1 { "mean of " } else { "" };
                let negative = counted_as_zero(&self.results);
                write!(f, "  overall {value:.3} ({mean}{}{negative})", self.judged_by().join(", "))
            }
            None if self.results.iter().all(|result| result.labelled == 0) => {
                write!(f, "  no labelled image in this split")
            }
            None => write!(f, "  no task has a metric on these images"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::regress::{Amounts, Regress, Values};
    use crate::tasks::{Label, Task};

    #[test]
    fn the_overall_line_says_what_its_figure_is_or_why_there_is_none() {
        let task = Task::new("v", Regress::new(vec!["x".into()]));
        let overall = |slope: f64, values: &[f64]| {
            let mut metric = task.spec.metric();
            for &value in values {
                let found = Amounts {
                    values: vec![slope * value],
                    units: vec![String::new()].into(),
                    deviations: vec![1.0],
                    half_widths: Vec::new(),
                };
                metric.add(&found, &Label::of(Values::from(&[value][..])));
            }
            let summary = metric.summary();
            let result = TaskResult { task: task.clone(), labelled: values.len(), summary, intervals: Vec::new() };
            let report = Report {
                model: "m".into(),
                data: "d".into(),
                split: Some(Split::Val),
                images: 3,
                results: vec![result],
                sources: Vec::new(),
                broken: Vec::new(),
                only_classes: Vec::new(),
                set_intervals: false,
                notes: Vec::new(),
            };
            report.to_string().lines().last().unwrap().to_owned()
        };
        assert_eq!(overall(1.0, &[0.0, 1.0, 2.0]), "  overall 1.000 (R²)");
        assert_eq!(overall(-1.0, &[0.0, 1.0, 2.0]), "  overall 0.000 (R²; a negative R² counts as 0)");
        // One value has no variance to explain.
        assert_eq!(overall(1.0, &[1.0]), "  no task has a metric on these images");
        assert_eq!(overall(1.0, &[]), "  no labelled image in this split");
    }
}
