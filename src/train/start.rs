//! Starts a new run, or a dry run of one step.

use super::checkpoint::{EpochMeans, RunState};
use super::content::Content;
use super::epochs::{Run, say};
use super::files::check_name;
use super::run::RunFolder;
use super::setup::{Data, card, start_from, trainer};
use super::trials::{Trials, check_trials};
use crate::config::{CacheChoice, TrainConfig};
use crate::console;
use crate::error::{Error, Result, sentence};
use crate::executor::DeviceChoice;
use crate::model::{Card, LossScale, ModelFile, init};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Trains a new run and returns its folder.
///
/// # Errors
/// Any error that stops the run. Checkpoints saved before it remain.
pub fn train(mut config: TrainConfig) -> Result<PathBuf> {
    check_name(&config.name)?;
    make_absolute(&mut config)?;
    let device = DeviceChoice::parse(&config.device, config.threads)?;
    device.check()?;
    let data = Data::open(&config)?;
    begin(config, &device, data, Folder::Permanent)
}

/// Runs one step of everything that a run does, including validation, checkpoint and pictures, in a folder that is removed
/// afterwards.
///
/// # Errors
/// The same as [`train`].
pub fn dry_run(mut config: TrainConfig) -> Result<()> {
    check_name(&config.name)?;
    make_absolute(&mut config)?;
    config.cache = CacheChoice::None;
    let device = DeviceChoice::parse(&config.device, config.threads)?;
    device.check()?;
    let mut data = Data::open(&config)?;
    let images = [data.train.len(), data.val.len()];
    check_trials(&config, &data)?;
    data.train = data.train.iter().take(config.batch * config.accumulate).cloned().collect();
    data.val = data.val.iter().take(config.batch).cloned().collect();
    // Without --time, since a single step may take longer than that.
    config = TrainConfig { epochs: 1, time: None, milestones: Vec::new(), ..config };
    // Otherwise the only epoch would count as one of the last, which have no mosaics.
    config.transforms.close_mosaic = 0;
    let new_folders = absent(&config.project);
    let folder = config.project.join(format!(".dry-run-{}", std::process::id()));
    config.project.clone_from(&folder);
    let ended = begin(config, &device, data, Folder::Temporary);
    let removed = if folder.exists() { std::fs::remove_dir_all(&folder) } else { Ok(()) };
    // Only if they are empty: somebody else may use them by now.
    new_folders.iter().for_each(|folder| drop(std::fs::remove_dir(folder)));
    ended?;
    removed.map_err(Error::io("remove", &folder))?;
    console::say(&format!(
        "dry run passed with one batch of the {} training and one of the {} validation images; its files were removed",
        images[0], images[1]
    ));
    Ok(())
}

/// The folders on the way to `path` that do not exist, the deepest first.
fn absent(path: &Path) -> Vec<PathBuf> {
    path.ancestors().take_while(|folder| !folder.exists()).map(Path::to_path_buf).collect()
}

/// Whether a run's folder is kept when the run ends.
#[derive(PartialEq)]
enum Folder {
    Permanent,
    Temporary,
}

fn begin(config: TrainConfig, device: &DeviceChoice, data: Data, keep: Folder) -> Result<PathBuf> {
    let card = card(&config, &data);
    let trials = match keep {
        Folder::Permanent => Trials::new(&config, data.tasks.len(), &data.val)?,
        // A dry run has a single step, too few for trials.
        Folder::Temporary => None,
    };
    let method = trials.as_ref().map_or(config.balance.candidates()[0], |trials| trials.method);
    let mut trainer = trainer(&config, method, device, &data, &card)?;
    let mut notes = data.notes.clone();
    notes.extend(notes_on_labels(&config, &data, &card));
    trainer.executor.edit_store(|store| init::initialise(store, config.seed))?;
    if let Some(file) = &config.weights {
        notes.extend(start_from(&mut trainer, &card.architecture, file)?);
    }
    // The folder is created after all checks, so that a refused run leaves none behind.
    let (isa, tuning) = (trainer.executor.isa(), trainer.executor.tuning_hash());
    let names: Vec<&str> = data.tasks.iter().map(|t| t.name.as_str()).collect();
    let mut folder = RunFolder::create(&config, &names, isa, tuning.as_deref())?;
    if keep == Folder::Permanent && folder.path.file_name().is_some_and(|name| name != config.name.as_str()) {
        let (taken, now) = (&config.name, folder.path.file_name().unwrap_or_default().to_string_lossy());
        notes.push(format!("the folder {taken} is taken, so this run's is {now} (--exist-ok replaces a run)"));
    }
    let tasks = names.len();
    let state = RunState {
        config,
        step: 0,
        epochs_done: 0,
        optimizer_steps: trainer.optimizer.steps.clone(),
        balance: trainer.balance.state(),
        best: None,
        lost_best: None,
        best_epoch: None,
        kept_epoch: None,
        retries: 0,
        best_per_task: vec![None; tasks],
        elapsed_s: 0.0,
        data_fingerprint: data.fingerprint(),
        id: folder.id.clone(),
        best_files: BTreeMap::new(),
        content: Some(Content::of(&data)),
        isa,
        tuning,
        past: vec![Vec::new(); tasks],
        past_losses: vec![Vec::new(); tasks],
        mosaic_epochs: None,
        trials,
        means: EpochMeans::new(tasks),
    };
    for note in &notes {
        say(&mut folder, &format!("note: {}", sentence(note)))?;
    }
    Run { data, card, folder, trainer, state, kept: keep == Folder::Permanent, has_ended: false }.train_to_end()
}

/// The notes on the scale of the losses, and on splits that lack labels.
fn notes_on_labels(config: &TrainConfig, data: &Data, card: &Card) -> Vec<String> {
    let plain = card.architecture.tasks.iter().zip(&card.standardisation);
    let is_scaled = plain.into_iter().any(|(task, fitted)| task.spec.plain_loss_factor(fitted.as_ref()) != 1.0);
    let scale = match config.loss_scale {
        LossScale::Normalised => {
            "losses are normalised: cross-entropy is divided by the logarithm of the number of classes, and values are in standard deviations (--loss-scale raw is plain)"
        }
        LossScale::Raw => "--loss-scale raw: cross-entropy is in nats, and errors of values are in their unit, squared",
    };
    let mut notes: Vec<String> = is_scaled.then(|| scale.to_owned()).into_iter().collect();
    if data.val.is_empty() {
        return notes;
    }
    let is_labelled = |task: &usize| data.val.iter().any(|sample| sample.labels[*task].is_labelled());
    let (labelled, without): (Vec<usize>, Vec<usize>) = (0..data.tasks.len()).partition(is_labelled);
    if labelled.is_empty() {
        notes.push("no validation image has labels: there are no metrics, and `best` is the last epoch".into());
        return notes;
    }
    for task in without {
        let name = &data.tasks[task].name;
        notes.push(format!("{name}: no validation image has labels for it: it has no metrics and no part in `best`"));
    }
    notes
}

/// Makes paths absolute, so that the run can be resumed and evaluated from any folder. If `weights` is a run's folder, its best
/// weights are used.
fn make_absolute(config: &mut TrainConfig) -> Result<()> {
    for path in [&mut config.data, &mut config.weights].into_iter().flatten().chain([&mut config.project]) {
        *path = std::path::absolute(&*path).map_err(Error::io("find", &*path))?;
    }
    if let Some(run) = config.weights.take_if(|weights| weights.is_dir()) {
        config.weights = Some(ModelFile::locate(&run)?);
    }
    Ok(())
}
