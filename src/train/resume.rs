//! Continues a run from its last checkpoint: what may have changed since, and what must not.

use super::best;
use super::checkpoint::{self, RunState};
use super::content::Content;
use super::epochs::{Run, say};
use super::files::{ARGS, is_finished, weights_file};
use super::limits::{epochs_that_fit, last_epoch_ended_s};
use super::lock::RunLock;
use super::run::{RunFolder, id_of};
use super::setup::{Data, schedule, trainer};
use super::step::Trainer;
use super::trials::Trials;
use crate::config::{Choices, DATA_SET, Resumed, TrainConfig};
use crate::error::{Error, Result, shown};
use crate::executor::DeviceChoice;
use crate::new_folder::project_of;
use crate::reading::{count_of, shell_word};
use crate::tasks::Task;
use clap::ValueEnum;
use std::path::{Path, PathBuf};

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
            shown(path)
        )));
    }
    // Locked before the state is read, since another process may be writing it.
    let lock = RunLock::take(path)?;
    let has_ended = is_finished(path);
    let (loaded, file, note) = checkpoint::load_last_or_previous(file)?;
    check_same_run(path, &loaded, &file)?;
    let (mut state, changes) = choose(path, given, &loaded, &file)?;
    let device = DeviceChoice::parse(&state.config.device, state.config.threads)?;
    device.check()?;
    let data = open_data(path, &mut state, &loaded)?;
    if given.has("epochs") {
        check_epochs(&state, &data)?;
    }
    let names: Vec<&str> = data.tasks.iter().map(|t| t.name.as_str()).collect();
    let mut folder = RunFolder::open(path, &names, lock)?;
    for note in note.into_iter().chain(best::forget_lost(path, &mut state, &names)) {
        say(&mut folder, &note)?;
    }
    let mut trainer = trainer(&state.config, Trials::method(&state), &device, &data, &loaded.card)?;
    loaded.restore(&mut trainer, &file)?;
    for note in changes.notes() {
        say(&mut folder, &note)?;
    }
    let before = &loaded.state.config;
    if state.config.time != before.time || state.config.patience != before.patience {
        say(&mut folder, "note: --time or --patience has changed: the run may end at another epoch than planned")?;
    }
    if given.has("epochs")
        && let Some(note) = schedule_note(&state, &loaded.state.config, &data)
    {
        say(&mut folder, &note)?;
    }
    note_numerics(&mut folder, &mut state, &trainer)?;
    if !changes.changed.is_empty() {
        // Kept even if nothing is left to train. args.yaml follows the checkpoint.
        checkpoint::save(&folder.weights("last"), &mut trainer, &loaded.card, &state)?;
    }
    let has_args = folder.path.join(ARGS).exists();
    if !has_args {
        say(&mut folder, "note: args.yaml was missing and is written again from the checkpoint")?;
    }
    if !has_args || !changes.changed.is_empty() {
        folder.rewrite_args(&names, &state)?;
    }
    say(&mut folder, &format!("resumed after epoch {}, step {}", state.epochs_done, state.step))?;
    Run { data, card: loaded.card, folder, trainer, state, kept: true, has_ended }.train_to_end()
}

/// The state with the choices in `given`, and the changes.
///
/// # Errors
/// A choice does not fit the run.
fn choose(path: &Path, given: &Choices, loaded: &checkpoint::Loaded, file: &Path) -> Result<(RunState, Resumed)> {
    let mut state = loaded.state.clone();
    Trials::check(&state, file)?;
    let mut changes = given.apply_on_resume(&mut state.config)?;
    if given.has("time") {
        if Trials::are_open(&state) {
            return Err(Error::Usage(
                "--time: the run still tries methods (--balance auto), all for the same epochs: leave it out until one is chosen".into(),
            ));
        }
        if state.config.time != loaded.state.config.time {
            end_by_time(path, &mut state, &loaded.state.config);
        }
    }
    place_in(path, &mut state.config)?;
    state.config.check_resumed()?;
    if state.config.data == loaded.state.config.data {
        // The same place, perhaps written as a relative path.
        changes.changed.retain(|change| !change.starts_with(DATA_SET));
    }
    Ok((state, changes))
}

/// Opens the data set of the run in `path`.
///
/// # Errors
/// It cannot be read, or is not the one that the run was started with.
fn open_data(path: &Path, state: &mut RunState, loaded: &checkpoint::Loaded) -> Result<Data> {
    if let Some(data) = state.config.data.as_ref().filter(|data| !data.exists()) {
        return Err(Error::Other(format!(
            "{}: the data set of this run is not there; if it was moved: polyhead train NEW-PATH --resume {}",
            shown(data),
            shell_word(path.as_os_str())
        )));
    }
    let mut data = Data::open(&state.config)?;
    data.mosaic_epochs = state.mosaic_epochs;
    let content = Content::of(&data);
    check_same_data(&data, &content, loaded)?;
    state.content = Some(content);
    Ok(data)
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
            shown(path)
        ))),
    }
}

/// Sets the epochs of the resumed run in `folder` from its `--time`. `before` holds its saved choices; mosaics still end at the epoch that
/// follows from them.
fn end_by_time(folder: &Path, state: &mut RunState, before: &TrainConfig) {
    if before.time.is_none() {
        state.mosaic_epochs = Some(before.epochs);
    }
    // The time per epoch is not known before the first one is done.
    if let (Some(hours), true) = (state.config.time, state.epochs_done > 0) {
        let lost_s = Trials::lost_s(state);
        // Without the time of an epoch that is not finished.
        let elapsed_s = last_epoch_ended_s(folder, state.epochs_done).unwrap_or(state.elapsed_s);
        let epochs = epochs_that_fit(hours - lost_s / 3600.0, elapsed_s - lost_s, state.epochs_done);
        state.config.epochs = epochs;
    }
}

/// Checks `--epochs` of a resumed run.
///
/// # Errors
/// The run ends by `--time`, still tries methods, or has begun a later epoch.
fn check_epochs(state: &RunState, data: &Data) -> Result<()> {
    let (epochs, done) = (state.config.epochs, state.epochs_done);
    let least = state.step.div_ceil(data.steps_per_epoch(&state.config)).max(done);
    if let Some(hours) = state.config.time {
        return Err(Error::Usage(format!(
            "--epochs {epochs}: this run ends by --time {hours} h, which replaces --epochs: give another --time"
        )));
    }
    if Trials::are_open(state) {
        return Err(Error::Usage(format!(
            "--epochs {epochs}: the run still tries methods (--balance auto), all for the same epochs: leave it out until one is chosen"
        )));
    }
    if epochs < least {
        let within = if least > done { format!(" and begun epoch {least}") } else { String::new() };
        return Err(Error::Usage(format!(
            "--epochs {epochs}: the run has done {}{within}; expected at least {least}",
            count_of(done as usize, "epoch")
        )));
    }
    Ok(())
}

/// A note on the learning rate if `--epochs` changes it.
fn schedule_note(state: &RunState, before: &TrainConfig, data: &Data) -> Option<String> {
    let rate = |config: &TrainConfig| schedule(config, data).learning_rate(state.step);
    let (old, new) = (rate(before), rate(&state.config));
    let kind = state.config.schedule.to_possible_value();
    let kind = kind.as_ref().map_or("", |kind| kind.get_name());
    (old != new).then(|| {
        format!(
            "note: the {kind} schedule now ends with epoch {}: the run continues with the learning rate {new:.3e}, instead of {old:.3e}",
            state.config.epochs
        )
    })
}

/// Makes the run write where its folder lies, which may have been moved or come from another machine.
fn place_in(folder: &Path, config: &mut TrainConfig) -> Result<()> {
    config.project = project_of(folder)?;
    if let Some(data) = &mut config.data {
        *data = std::path::absolute(&*data).map_err(Error::io("find", &*data))?;
    }
    Ok(())
}

/// # Errors
/// The state in the run's folder is another run's. Runs of older versions have no id and cannot be told apart.
fn check_same_run(folder: &Path, loaded: &checkpoint::Loaded, file: &Path) -> Result<()> {
    match (id_of(folder), &loaded.state.id) {
        (Some(own), Some(id)) if own != *id => Err(Error::checkpoint(
            file,
            format!(
                "is the state of another run (its id is {id}, and {ARGS} says {own}): put this run's own file back, or start a new run from it with --weights"
            ),
        )),
        _ => Ok(()),
    }
}

/// # Errors
/// The tasks, images or labels differ from those that the run was started with.
fn check_same_data(data: &Data, content: &Content, loaded: &checkpoint::Loaded) -> Result<()> {
    let refused = |what: String| {
        let restore = "restore the data set, or start a new run from this one's weights with --weights";
        Err(Error::Usage(format!("{}: {what}; {restore}", data.name)))
    };
    if let Some(difference) = task_difference(&loaded.card.architecture.tasks, &data.tasks) {
        return refused(difference);
    }
    if data.fingerprint() != loaded.state.data_fingerprint {
        let (now, then) = (content.images(), loaded.state.content.as_ref().map(Content::images));
        let what = match then {
            Some(then) if then == now => "other names".to_owned(),
            Some(then) => format!("{now} now, {then} then"),
            None => format!("{now} now"),
        };
        return refused(format!("its training or validation images are not those this run was started with ({what})"));
    }
    // Files of older versions have no hashes of the content.
    match loaded.state.content.as_ref().and_then(|then| then.difference(content, &data.tasks)) {
        Some(difference) => refused(format!("{difference} changed since this run was started")),
        None => Ok(()),
    }
}

/// The first difference between the tasks that a run was started with and those of its data set now.
fn task_difference(then: &[Task], now: &[Task]) -> Option<String> {
    let names = |tasks: &[Task]| tasks.iter().map(|task| task.name.as_str()).collect::<Vec<_>>().join(", ");
    if names(then) != names(now) {
        return Some(format!("its tasks are {}, and this run was started with {}", names(now), names(then)));
    }
    let (then, now) = then.iter().zip(now).find(|(then, now)| then != now)?;
    let name = &now.name;
    if then.kind_word() != now.kind_word() {
        return Some(format!(
            "its task {name} is a {}, and this run was started with a {}",
            now.kind_word(),
            then.kind_word()
        ));
    }
    let (old, new) = (then.classes(), now.classes());
    Some(match (old.iter().find(|class| !new.contains(class)), new.iter().find(|class| !old.contains(class))) {
        (Some(gone), None) => format!("its task {name} no longer has the class {gone}"),
        (None, Some(added)) => format!("its task {name} has a new class {added}"),
        (Some(gone), Some(added)) => format!("its task {name} has a new class {added} and no longer {gone}"),
        (None, None) if old != new => format!("the classes of its task {name} are in another order"),
        (None, None) => {
            format!("the columns, units or losses of its task {name} are not those this run was started with")
        }
    })
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
