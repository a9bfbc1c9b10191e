//! A run from its first to its last epoch: data in, steps, validation, checkpoints, and going on with a run that stopped.

use super::checkpoint::{self, EpochMeans, RunState};
use super::progress::{Progress, StepLine, in_words};
use super::run::{ResultsTable, RunFolder};
use super::setup::{Data, card, start_from, trainer};
use super::step::Trainer;
use crate::config::TrainConfig;
use crate::data::{Broken, LoaderOptions, Sample, TrainLoader};
use crate::error::{Error, Result};
use crate::evaluate::{self, Settings, TaskResult, overall};
use crate::executor::{DeviceChoice, ParameterSet};
use crate::losses::{Encoded, Encoder};
use crate::model::heads::decode::DecodeOptions;
use crate::model::{Card, ForwardPlan, init};
use crate::predict;
use crate::task::{Label, Task};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Trains from the beginning and returns the run's folder.
///
/// # Errors
/// Anything that stops a run; what was saved before stays.
pub fn train(mut config: TrainConfig) -> Result<PathBuf> {
    make_absolute(&mut config)?;
    DeviceChoice::parse(&config.device, config.threads)?.check()?;
    let data = Data::open(&config)?;
    let card = card(&config, &data);
    let mut trainer = trainer(&config, &data, &card)?;
    let mut notes = data.notes.clone();
    trainer.executor.edit_store(|store| init::initialise(store, config.seed))?;
    if let Some(file) = &config.weights {
        notes.extend(start_from(&mut trainer, file)?);
    }
    // Only now: what was refused above leaves no folder behind.
    let tuning = trainer.executor.tuning_hash();
    let mut folder = RunFolder::create(&config, tuning.as_deref())?;
    let tasks = card.architecture.tasks.len();
    let state = RunState {
        config,
        step: 0,
        epochs_done: 0,
        optimizer_steps: trainer.optimizer.steps.clone(),
        balance: trainer.balance.state(),
        best: None,
        best_per_task: vec![None; tasks],
        elapsed_s: 0.0,
        data_fingerprint: data.fingerprint(),
        tuning,
        means: EpochMeans::new(tasks),
    };
    for note in &notes {
        say(&mut folder, &format!("note: {note}"))?;
    }
    Run { data, card, folder, trainer, state }.go_on()
}

/// Paths that hold from any folder, for whoever goes on with the run or judges it.
fn make_absolute(config: &mut TrainConfig) -> Result<()> {
    for path in [&mut config.data, &mut config.weights].into_iter().flatten().chain([&mut config.project]) {
        *path = std::path::absolute(&*path).map_err(Error::io("find", &*path))?;
    }
    Ok(())
}

/// A line outside the progress bar's life.
fn say(folder: &mut RunFolder, line: &str) -> Result<()> {
    eprintln!("{line}");
    folder.log(line)
}

/// What a person may change when a run goes on.
#[derive(Clone, Debug, Default)]
pub struct ResumeOverrides {
    pub device: Option<String>,
    pub workers: Option<usize>,
    pub threads: Option<usize>,
    pub max_broken: Option<f32>,
    /// Flags that were given and are not heeded.
    pub ignored: Vec<String>,
}

/// Goes on with the run in `path` from its last checkpoint.
///
/// # Errors
/// No checkpoint, a broken one, or data that changed under it.
pub fn resume(path: &Path, overrides: &ResumeOverrides) -> Result<PathBuf> {
    let file = path.join("weights").join("last.safetensors");
    if !file.is_file() {
        return Err(Error::Usage(format!(
            "{}: no weights/last.safetensors there; --resume takes the folder of a run that saved at least once",
            path.display()
        )));
    }
    let loaded = checkpoint::load(&file)?;
    let mut state = loaded.state.clone();
    set(&mut state.config.device, overrides.device.clone());
    set(&mut state.config.workers, overrides.workers);
    set(&mut state.config.threads, overrides.threads);
    set(&mut state.config.max_broken, overrides.max_broken);
    state.config.check()?;
    let data = Data::open(&state.config)?;
    if data.tasks != loaded.card.architecture.tasks {
        return Err(Error::Usage(format!(
            "{}: its tasks or classes are not those this run was started with; restore the data set, or start a new run",
            data.name
        )));
    }
    if data.fingerprint() != state.data_fingerprint {
        return Err(Error::Usage(format!(
            "{}: its training or validation images are not those this run was started with ({} and {} now); restore them, or start a new run from its weights",
            data.name,
            data.train.len(),
            data.val.len()
        )));
    }
    let mut folder = RunFolder::open(path)?;
    let mut trainer = trainer(&state.config, &data, &loaded.card)?;
    loaded.restore(&mut trainer, &file)?;
    for flag in &overrides.ignored {
        say(&mut folder, &format!("note: {flag} is ignored: a resumed run keeps its own"))?;
    }
    let tuning = trainer.executor.tuning_hash();
    if let (Some(old), Some(new)) = (&state.tuning, &tuning)
        && old != new
    {
        let line =
            format!("note: the GPU's tiles were tuned anew ({old} before, now {new}): sums round otherwise from here");
        say(&mut folder, &line)?;
    }
    state.tuning = tuning;
    say(&mut folder, &format!("resumed after epoch {}, step {}", state.epochs_done, state.step))?;
    Run { data, card: loaded.card, folder, trainer, state }.go_on()
}

fn set<T>(field: &mut T, given: Option<T>) {
    if let Some(value) = given {
        *field = value;
    }
}

/// Everything a run consists of.
struct Run {
    data: Data,
    card: Card,
    folder: RunFolder,
    trainer: Trainer,
    state: RunState,
}

impl Run {
    fn go_on(mut self) -> Result<PathBuf> {
        let config = self.state.config.clone();
        let per_epoch = self.data.steps_per_epoch(config.batch);
        if self.state.epochs_done >= config.epochs {
            let line = format!("nothing is left to do: all {} epochs are done", config.epochs);
            say(&mut self.folder, &line)?;
            return Ok(self.folder.path);
        }
        let columns = self.columns();
        let mut table = ResultsTable::open(&self.folder, &columns, self.state.epochs_done)?;
        let shape = [config.batch, config.imgsz, config.imgsz];
        let plan = ForwardPlan::prepare(&mut self.trainer.executor, &self.card.architecture, shape)?;
        let mut loader = self.loader(&config)?;
        let mut progress = Progress::new(self.trainer.step, config.epochs * per_epoch);
        let interrupted = interrupt_flag()?;
        self.announce(&mut progress, &config, per_epoch)?;
        let started = Instant::now();
        let elapsed_before = self.state.elapsed_s;
        for epoch in self.state.epochs_done..config.epochs {
            self.epoch(epoch, per_epoch, &mut loader, &mut progress, &interrupted)?;
            self.state.elapsed_s = elapsed_before + started.elapsed().as_secs_f64();
            if interrupted.load(Ordering::Relaxed) {
                self.save_last()?;
                progress.finish();
                let (step, path) = (self.trainer.step, self.folder.path.display().to_string());
                say(
                    &mut self.folder,
                    &format!("stopped after step {step}; go on with: polyhead train --resume {path}"),
                )?;
                return Err(Error::Interrupted);
            }
            let results = match self.validate(&plan, &config, &mut progress) {
                Ok(results) => results,
                Err(e) => {
                    // The epoch's steps are not lost: going on validates again.
                    self.save_last()?;
                    return Err(e);
                }
            };
            self.state.epochs_done = epoch + 1;
            self.report(epoch, &config, &results, &mut progress)?;
            table.row(&self.row(epoch, &results))?;
            self.state.means = EpochMeans::new(self.data.tasks.len());
            self.save(&results)?;
        }
        progress.finish();
        self.draw_predictions(&plan, &config)?;
        self.closing_words()?;
        Ok(self.folder.path)
    }

    fn announce(&mut self, progress: &mut Progress, config: &TrainConfig, per_epoch: u64) -> Result<()> {
        let tasks: Vec<String> = self.data.tasks.iter().map(|t| format!("{} ({})", t.name, t.kind_word())).collect();
        let line = format!(
            "{}: {} training and {} validation images; tasks {}; {} at {} px, batch {}, {} epochs of {per_epoch} steps; writing {}",
            self.data.name,
            self.data.train.len(),
            self.data.val.len(),
            tasks.join(", "),
            config.backbone.name(),
            config.imgsz,
            config.batch,
            config.epochs,
            self.folder.path.display()
        );
        progress.say(&mut self.folder, &line)
    }

    fn loader(&self, config: &TrainConfig) -> Result<TrainLoader<Vec<Encoded>>> {
        let encoder = Encoder {
            tasks: self.data.tasks.clone(),
            levels: self.card.architecture.levels(config.imgsz, config.imgsz),
            standardisation: self.card.standardisation.clone(),
        };
        let options = LoaderOptions {
            batch: config.batch,
            imgsz: config.imgsz,
            workers: config.workers,
            seed: config.seed,
            augment: self.data.augment(config),
            max_broken: config.max_broken,
            prefetch: 3,
        };
        let encode = Arc::new(move |labels: &[Label]| encoder.encode(labels));
        TrainLoader::new(Arc::clone(&self.data.train), options, encode, self.trainer.step)
    }

    /// The steps of one epoch, or those left of it, until interrupted.
    fn epoch(
        &mut self,
        epoch: u64,
        per_epoch: u64,
        loader: &mut TrainLoader<Vec<Encoded>>,
        progress: &mut Progress,
        interrupted: &AtomicBool,
    ) -> Result<()> {
        let names: Vec<String> = self.data.tasks.iter().map(|t| t.name.clone()).collect();
        let epochs = self.state.config.epochs;
        let started = Instant::now();
        let mut images = 0;
        let last = (epoch + 1) * per_epoch;
        let go_on = |step: u64| step < last && !interrupted.load(Ordering::Relaxed);
        // The images of the batch that waits on the device.
        let mut waiting = match go_on(self.trainer.step) {
            true => Some(self.load_next(loader, progress)?),
            false => None,
        };
        while let Some(indices) = waiting {
            self.trainer.start()?;
            // The next batch travels meanwhile; should it fail, this step is not lost.
            let next = go_on(self.trainer.step + 1).then(|| self.load_next(loader, progress)).transpose();
            let report = self.trainer.finish().map_err(|e| self.with_images(e, &indices))?;
            images += indices.len();
            self.state.means.add(&report);
            progress.step(&StepLine {
                epoch: epoch + 1,
                epochs,
                step: self.trainer.step,
                images_per_second: images as f64 / started.elapsed().as_secs_f64(),
                tasks: &names,
                losses: &report.losses,
                weights: &report.weights,
            });
            waiting = next?;
        }
        Ok(())
    }

    /// Brings the loader's next batch to the device; returns which images are in it.
    fn load_next(&mut self, loader: &mut TrainLoader<Vec<Encoded>>, progress: &Progress) -> Result<Vec<usize>> {
        let batch = loader.next()?;
        self.name_broken(&batch.broken, progress)?;
        let (indices, targets): (Vec<usize>, Vec<Vec<Encoded>>) =
            batch.items.into_iter().map(|item| (item.index, item.encoded)).unzip();
        self.trainer.load(&batch.images, &targets)?;
        loader.recycle(batch.images);
        Ok(indices)
    }

    /// Names the images of a step whose loss left the real numbers.
    fn with_images(&self, error: Error, indices: &[usize]) -> Error {
        let Error::NonFinite { report } = error else { return error };
        let names: Vec<&str> = indices.iter().map(|&i| self.data.train[i].name.as_str()).collect();
        Error::NonFinite { report: format!("{report}. Images of the step: {}", names.join(", ")) }
    }

    fn name_broken(&mut self, broken: &[Broken], progress: &Progress) -> Result<()> {
        for b in broken {
            progress.say(&mut self.folder, &format!("unreadable, left out: {}: {}", b.name, b.message))?;
        }
        Ok(())
    }

    fn settings(config: &TrainConfig) -> Settings {
        Settings {
            batch: config.batch,
            imgsz: config.imgsz,
            workers: config.workers,
            max_broken: config.max_broken,
            boxes: DecodeOptions::default(),
        }
    }

    fn validate(
        &mut self,
        plan: &ForwardPlan,
        config: &TrainConfig,
        progress: &mut Progress,
    ) -> Result<Vec<TaskResult>> {
        if self.data.val.is_empty() {
            return Ok(Vec::new());
        }
        let executor = &mut self.trainer.executor;
        let (results, broken) =
            evaluate::evaluate_on(executor, plan, &self.card, &self.data.val, &Run::settings(config))?;
        if self.state.epochs_done == 0 {
            self.name_broken(&broken, progress)?;
        }
        Ok(results)
    }

    fn report(
        &mut self,
        epoch: u64,
        config: &TrainConfig,
        results: &[TaskResult],
        progress: &mut Progress,
    ) -> Result<()> {
        let figure = |value: Option<f64>, places: usize| value.map_or("–".to_owned(), |v| format!("{v:.places$}"));
        let means = &self.state.means;
        let losses = self.data.tasks.iter().enumerate().map(|(i, task)| {
            format!("{} loss {} weight {}", task.name, figure(means.loss(i), 3), figure(means.weight(i), 2))
        });
        let losses: Vec<String> = losses.collect();
        let head = format!(
            "epoch {}/{}  {}  ({})",
            epoch + 1,
            config.epochs,
            losses.join("  "),
            in_words(self.state.elapsed_s)
        );
        progress.say(&mut self.folder, &head)?;
        for result in results {
            progress.say(&mut self.folder, &format!("  {}", result.line()))?;
        }
        Ok(())
    }

    fn columns(&self) -> Vec<String> {
        let mut columns = vec!["epoch".to_owned(), "time".to_owned()];
        let names = || self.data.tasks.iter().map(|t| t.name.as_str());
        columns.extend(names().map(|n| format!("train/{n}/loss")));
        if !self.data.val.is_empty() {
            for (task, metrics) in self.data.tasks.iter().zip(self.metric_names()) {
                columns.extend(metrics.iter().map(|m| format!("val/{}/{m}", task.name)));
            }
        }
        columns.extend(names().map(|n| format!("weight/{n}")));
        columns.extend(names().map(|n| format!("log_var/{n}")));
        columns.push("lr".to_owned());
        columns
    }

    fn metric_names(&self) -> Vec<Vec<String>> {
        let names = |task: &Task| evaluate::empty_result(task).metrics().into_iter().map(|m| m.0).collect();
        self.data.tasks.iter().map(names).collect()
    }

    fn row(&self, epoch: u64, results: &[TaskResult]) -> Vec<String> {
        let number = |value: f64| if value.is_finite() { format!("{value:.6}") } else { String::new() };
        let mut cells = vec![(epoch + 1).to_string(), format!("{:.1}", self.state.elapsed_s)];
        let (means, tasks) = (&self.state.means, 0..self.data.tasks.len());
        cells.extend(tasks.clone().map(|i| means.loss(i).map_or(String::new(), number)));
        let metrics = results.iter().flat_map(TaskResult::metrics);
        cells.extend(metrics.map(|(_, value)| value.map_or(String::new(), number)));
        cells.extend(tasks.map(|i| means.weight(i).map_or(String::new(), number)));
        cells.extend(self.trainer.balance.log_variances().iter().map(|&s| number(f64::from(s))));
        let lr = self.trainer.config.schedule.learning_rate(self.trainer.step.saturating_sub(1));
        cells.push(format!("{lr:.8}"));
        cells
    }

    /// Saves what got better, then the whole state.
    fn save(&mut self, results: &[TaskResult]) -> Result<()> {
        // Of equals the later, which has seen more.
        let better = |new: Option<f64>, old: Option<f64>| new.filter(|n| old.is_none_or(|o| *n >= o));
        for (task, result) in results.iter().enumerate() {
            if let Some(value) = better(result.fitness(), self.state.best_per_task[task]) {
                self.state.best_per_task[task] = Some(value);
                let path = self.folder.weights(&format!("best_{}", predict::file_name(&result.task.name)));
                checkpoint::save_model(&path, &mut self.trainer, &self.card)?;
            }
        }
        let overall = overall(results);
        if results.is_empty() || better(overall, self.state.best).is_some() {
            self.state.best = overall.or(self.state.best);
            checkpoint::save_model(&self.folder.weights("best"), &mut self.trainer, &self.card)?;
        }
        self.save_last()
    }

    fn save_last(&mut self) -> Result<()> {
        self.state.step = self.trainer.step;
        self.state.optimizer_steps.clone_from(&self.trainer.optimizer.steps);
        self.state.balance = self.trainer.balance.state();
        checkpoint::save(&self.folder.weights("last"), &mut self.trainer, &self.card, &self.state)
    }

    /// The last network's answers on the first validation images, as one picture.
    fn draw_predictions(&mut self, plan: &ForwardPlan, config: &TrainConfig) -> Result<()> {
        let shown: Arc<[Sample]> = self.data.val.iter().take(9).cloned().collect();
        if shown.is_empty() {
            return Ok(());
        }
        let mut settings = Run::settings(config);
        settings.boxes.score_threshold = 0.25;
        settings.max_broken = 1.0;
        let mut pictures = Vec::new();
        let (executor, tasks) = (&mut self.trainer.executor, &self.card.architecture.tasks);
        let run = |images: &[u8]| plan.run(executor, ParameterSet::Average, images);
        evaluate::evaluate(&self.card, &shown, &settings, run, |sample, answer| {
            pictures.push(predict::annotate(tasks, &crate::data::decode::decode(&sample.image)?, answer));
            Ok(())
        })?;
        crate::draw::write_png(&self.folder.path.join("val_batch0_pred.png"), &crate::draw::grid(&pictures, 3))
    }

    fn closing_words(&mut self) -> Result<()> {
        let path = self.folder.path.display();
        let best = self.state.best.map_or(String::new(), |b| format!("best overall {b:.3}; "));
        let took = in_words(self.state.elapsed_s);
        let line = format!("done in {took}; {best}predict with: polyhead predict {path} IMAGES… --out DIR");
        say(&mut self.folder, &line)
    }
}

/// Set by Ctrl-C; a second one ends the process at once.
fn interrupt_flag() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let handler = Arc::clone(&flag);
    let set = ctrlc::set_handler(move || {
        if handler.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("finishing the step, then saving; Ctrl-C again stops at once without saving");
    });
    match set {
        // A second run in one process keeps the first one's handler.
        Ok(()) | Err(ctrlc::Error::MultipleHandlers) => Ok(flag),
        Err(e) => Err(Error::Other(format!("cannot listen for Ctrl-C: {e}"))),
    }
}
