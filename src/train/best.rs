//! Checks the files with a run's best weights when it is resumed. A file that is missing, damaged or of another run must not count
//! as the best of this one.

use super::checkpoint::RunState;
use super::files::{best_of, weights_file};
use crate::error::{Error, shown};
use crate::model::{Card, weights};
use std::path::Path;

/// Forgets the metrics whose weights are lost, so that the next epoch's weights are kept in their place. Returns a warning for each
/// file.
pub(super) fn forget_lost(folder: &Path, state: &mut RunState, tasks: &[&str]) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut is_lost = |name: &str| {
        let Some(checksum) = state.best_files.get(name) else { return false };
        let Some(problem) = problem(&folder.join(weights_file(name)), checksum, state.epochs_done) else {
            return false;
        };
        let file = weights_file(name);
        let file = shown(&file);
        warnings.push(format!(
            "warning: {file} {problem}: the run goes on without it, and the weights after the next epoch, if there is one, take its place, whatever their metrics"
        ));
        true
    };
    let lost_best = is_lost("best");
    let lost: Vec<bool> = tasks.iter().map(|task| is_lost(&best_of(task))).collect();
    if lost_best {
        // The next epoch's weights are kept, but --patience goes on counting from the best epoch so far: only its file is lost.
        state.lost_best = [state.best, state.lost_best].into_iter().flatten().reduce(f64::max);
        (state.best, state.kept_epoch) = (None, None);
        state.best_files.remove("best");
    }
    for (index, task) in tasks.iter().enumerate().filter(|(index, _)| lost[*index]) {
        state.best_per_task[index] = None;
        state.best_files.remove(&best_of(task));
    }
    warnings
}

/// A description of the fault, if the file is not the one that the run saved with this checksum.
fn problem(file: &Path, checksum: &str, epochs_done: u64) -> Option<String> {
    if !file.is_file() {
        return Some("is missing".to_owned());
    }
    let read = match weights::read(file) {
        Ok(read) => read,
        Err(Error::Checkpoint { message, .. }) => return Some(format!("cannot be used ({message})")),
        Err(error) => return Some(format!("cannot be used ({})", error.reason())),
    };
    if weights::checksum_in(file).is_some_and(|found| found == checksum) {
        return None;
    }
    // A run that is killed at the end of an epoch may have saved the best weights and not yet its state. It repeats the end of that
    // epoch, whose weights then take the file's place. The file itself must not count: another run's may have that epoch, too.
    let card = read.metadata.get(Card::KEY).and_then(|text| Card::from_json(text, file).ok());
    let next = epochs_done + 1;
    Some(match card.is_some_and(|card| card.epoch == Some(next)) {
        true => format!("is of epoch {next}, which the run's state does not include"),
        false => "is not the file that this run saved".to_owned(),
    })
}
