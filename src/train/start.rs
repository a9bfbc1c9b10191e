//! Starts a run: a new one, one that resumes from its last checkpoint, or a dry run of one step.

use super::checkpoint::{self, EpochMeans, RunState};
use super::epochs::{Run, say};
use super::files::{check_name, weights_file};
use super::limits::epochs_that_fit;
use super::lock::RunLock;
use super::run::RunFolder;
use super::setup::{Data, card, start_from, trainer};
use super::step::Trainer;
use super::trials::{Trials, check_trials};
use crate::config::{CacheChoice, Choices, TrainConfig};
use crate::console;
use crate::error::{Error, Result};
use crate::executor::DeviceChoice;
use crate::model::{ModelFile, init};
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
    let folder = config.project.join(format!(".dry-run-{}", std::process::id()));
    config.project.clone_from(&folder);
    let ended = begin(config, &device, data, Folder::Temporary);
    let removed = if folder.exists() { std::fs::remove_dir_all(&folder) } else { Ok(()) };
    ended?;
    removed.map_err(Error::io("remove", &folder))?;
    console::say(&format!(
        "dry run passed with one batch of the {} training and one of the {} validation images; its files were removed",
        images[0], images[1]
    ));
    Ok(())
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
    trainer.executor.edit_store(|store| init::initialise(store, config.seed))?;
    if let Some(file) = &config.weights {
        notes.extend(start_from(&mut trainer, file)?);
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
        best_epoch: None,
        kept_epoch: None,
        retries: 0,
        best_per_task: vec![None; tasks],
        elapsed_s: 0.0,
        data_fingerprint: data.fingerprint(),
        isa,
        tuning,
        past: vec![Vec::new(); tasks],
        mosaic_epochs: None,
        trials,
        means: EpochMeans::new(tasks),
    };
    for note in &notes {
        say(&mut folder, &format!("note: {note}"))?;
    }
    Run { data, card, folder, trainer, state, kept: keep == Folder::Permanent }.train_to_end()
}

/// Makes paths absolute, so that the run can be resumed and evaluated from any folder. If `weights` is a run's folder, its best
/// weights are taken.
fn make_absolute(config: &mut TrainConfig) -> Result<()> {
    for path in [&mut config.data, &mut config.weights].into_iter().flatten().chain([&mut config.project]) {
        *path = std::path::absolute(&*path).map_err(Error::io("find", &*path))?;
    }
    if let Some(run) = config.weights.take_if(|weights| weights.is_dir()) {
        config.weights = Some(ModelFile::locate(&run)?);
    }
    Ok(())
}

/// Continues the run in `path` from its last checkpoint. Choices in `given` that may change on resume replace the saved ones; the
/// others are ignored with a note.
///
/// # Errors
/// There is no checkpoint, it is corrupt, or the data set has changed since.
pub fn resume(path: &Path, given: &Choices) -> Result<PathBuf> {
    let path = &folder_of(path)?;
    let file = path.join(weights_file("last"));
    if !file.is_file() && !checkpoint::previous(&file).is_file() {
        return Err(Error::Usage(format!(
            "{}: no weights/last.safetensors there; --resume takes the folder of a run that saved at least once",
            path.display()
        )));
    }
    // Locked before the state is read, since another process may be writing it.
    let lock = RunLock::take(path)?;
    let (loaded, file, note) = checkpoint::load_last_or_previous(file)?;
    let mut state = loaded.state.clone();
    Trials::check(&state, &file)?;
    let resumed = given.apply_on_resume(&mut state.config)?;
    if given.has("time") {
        if Trials::are_open(&state) {
            return Err(Error::Usage(
                "--time: the run still tries methods (--balance auto), all for the same epochs: leave it out until one is chosen".into(),
            ));
        }
        end_by_time(&mut state, &loaded.state.config);
    }
    state.config.check_resumed()?;
    let device = DeviceChoice::parse(&state.config.device, state.config.threads)?;
    device.check()?;
    let mut data = Data::open(&state.config)?;
    data.mosaic_epochs = state.mosaic_epochs;
    check_same_data(&data, &loaded)?;
    let names: Vec<&str> = data.tasks.iter().map(|t| t.name.as_str()).collect();
    let mut folder = RunFolder::open(path, &names, lock)?;
    if let Some(note) = note {
        say(&mut folder, &note)?;
    }
    let mut trainer = trainer(&state.config, Trials::method(&state), &device, &data, &loaded.card)?;
    loaded.restore(&mut trainer, &file)?;
    for note in resumed.notes() {
        say(&mut folder, &note)?;
    }
    if given.has("time") || given.has("patience") {
        say(&mut folder, "note: --time or --patience has changed: the run may end at another epoch than planned")?;
    }
    note_numerics(&mut folder, &mut state, &trainer)?;
    say(&mut folder, &format!("resumed after epoch {}, step {}", state.epochs_done, state.step))?;
    Run { data, card: loaded.card, folder, trainer, state, kept: true }.train_to_end()
}

/// The run's folder. `path` is the folder itself or its `weights/last.safetensors`.
///
/// # Errors
/// `path` is any other file.
fn folder_of(path: &Path) -> Result<PathBuf> {
    if !path.is_file() {
        return Ok(path.to_path_buf());
    }
    let file = std::path::absolute(path).map_err(Error::io("find", path))?;
    match file.ancestors().nth(2).filter(|folder| file == folder.join(weights_file("last"))) {
        Some(folder) => Ok(folder.to_path_buf()),
        None => Err(Error::Usage(format!(
            "--resume {}: expected the folder of a run, or its weights/last.safetensors; --weights starts a new run from a file",
            path.display()
        ))),
    }
}

/// Sets the epochs of a resumed run from its `--time`. `before` holds its saved choices; mosaics still end at the epoch that
/// follows from them.
fn end_by_time(state: &mut RunState, before: &TrainConfig) {
    if before.time.is_none() {
        state.mosaic_epochs = Some(before.epochs);
    }
    // The time per epoch is not known before the first one is done.
    if let (Some(hours), true) = (state.config.time, state.epochs_done > 0) {
        let lost_s = Trials::lost_s(state);
        let epochs = epochs_that_fit(hours - lost_s / 3600.0, state.elapsed_s - lost_s, state.epochs_done);
        state.config.epochs = epochs;
    }
}

/// # Errors
/// The tasks or images differ from those that the run was started with.
fn check_same_data(data: &Data, loaded: &checkpoint::Loaded) -> Result<()> {
    if data.tasks != loaded.card.architecture.tasks {
        return Err(Error::Usage(format!(
            "{}: its tasks, classes or losses are not those this run was started with; restore the data set, or start a new run",
            data.name
        )));
    }
    if data.fingerprint() != loaded.state.data_fingerprint {
        return Err(Error::Usage(format!(
            "{}: its training or validation images are not those this run was started with ({} and {} now); restore them, or start a new run from its weights",
            data.name,
            data.train.len(),
            data.val.len()
        )));
    }
    Ok(())
}

/// Logs a changed instruction set or GPU tuning, since either makes sums round differently, and stores the new ones in the state.
fn note_numerics(folder: &mut RunFolder, state: &mut RunState, trainer: &Trainer) -> Result<()> {
    let (isa, tuning) = (trainer.executor.isa(), trainer.executor.tuning_hash());
    if let (Some(old), Some(new)) = (state.isa, isa)
        && old != new
    {
        let line = format!("note: the run began with {old} and goes on with {new}: sums round differently from here");
        say(folder, &line)?;
    }
    if let (Some(old), Some(new)) = (&state.tuning, &tuning)
        && old != new
    {
        let line = format!(
            "note: the GPU's tiles were tuned again ({old} before, now {new}): sums round differently from here"
        );
        say(folder, &line)?;
    }
    (state.isa, state.tuning) = (isa, tuning);
    Ok(())
}
