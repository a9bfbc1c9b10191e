//! Checkpoints: one file with the whole state of a run, and smaller ones with only what prediction needs.

use super::content::Content;
use super::layer_gradients::SquaredSums;
use super::overfitting::Losses;
use super::step::{StepReport, Trainer};
use super::telemetry::{GradientMeans, WeightAndMetric, pairs};
use super::trials::Trials;
use crate::balance::Needs;
use crate::config::TrainConfig;
use crate::device::cpu::IsaName;
use crate::error::{Error, Result, shown};
use crate::executor::{ParameterSet, Store};
use crate::model::Card;
use crate::model::weights::{self, Slot, Tensors};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// The state of a run without its tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// The choices the run trains with; --resume may change only those under "Execution" in the help.
    pub config: TrainConfig,
    /// Optimizer steps done. A resumed run continues with the batches of the next step.
    pub step: u64,
    /// Epochs finished, which is also the number of the next one, counted from 0.
    pub epochs_done: u64,
    /// Steps per parameter group, from [`OptimizerState::steps`](crate::optim::OptimizerState::steps).
    pub optimizer_steps: Vec<u64>,
    /// The balancing method's numbers, from [`Balance::state`](crate::balance::Balance::state).
    pub balance: Vec<f64>,
    /// The best overall metric so far; `None` before the first.
    pub best: Option<f64>,
    /// The highest overall metric whose weights are lost, until an epoch exceeds it. `--patience` compares with it, too.
    #[serde(default)]
    pub lost_best: Option<f64>,
    /// The best metric of each task so far.
    pub best_per_task: Vec<Option<f64>>,
    /// The first epoch that reached the best metric, counted from 1; `--patience` counts from it.
    #[serde(default)]
    pub best_epoch: Option<u64>,
    /// The epoch whose weights are `best`, counted from 1: the last one that reached the best metric. `None` in files of older
    /// versions.
    #[serde(default)]
    pub kept_epoch: Option<u64>,
    /// The number of times that the run went back to a checkpoint because a loss was NaN or infinite.
    #[serde(default)]
    pub retries: u32,
    /// Seconds trained, over all sessions.
    pub elapsed_s: f64,
    /// A hash of the names of the training and validation images. A resumed run must have the same ones.
    pub data_fingerprint: u64,
    /// The run's id in its args.yaml; `None` in files of older versions.
    #[serde(default)]
    pub id: Option<String>,
    /// The checksums of the best weights, by the names of their files; empty in files of older versions.
    #[serde(default)]
    pub best_files: BTreeMap<String, String>,
    /// Hashes of the labels and of the image files' sizes; `None` in files of older versions.
    #[serde(default)]
    pub content: Option<Content>,
    /// The CPU instruction set that the ops ran with; `None` for runs on a GPU and in files of older versions.
    #[serde(default)]
    pub isa: Option<IsaName>,
    /// The hash of the tiles that the GPU's convolutions ran with; `None` in files of older versions.
    #[serde(default)]
    pub tuning: Option<String>,
    /// Per task, its weight and metric in each epoch; empty in files of older versions.
    #[serde(default)]
    pub past: Vec<Vec<WeightAndMetric>>,
    /// Per task, its losses in each epoch; empty in files of older versions.
    #[serde(default)]
    pub past_losses: Vec<Vec<Losses>>,
    /// The number of epochs that --close-mosaic counts back from, if --time was first given when the run was resumed.
    #[serde(default)]
    pub mosaic_epochs: Option<u64>,
    /// The trials of `--balance auto`; `None` for other methods.
    #[serde(default)]
    pub trials: Option<Trials>,
    /// Means over the current epoch.
    pub means: EpochMeans,
}

impl RunState {
    /// Checks that every list has the length that a run of this many tasks writes.
    fn check(&self, tasks: usize) -> std::result::Result<(), String> {
        let EpochMeans { losses, weights, weighted, gradients, .. } = &self.means;
        let [norms, weighted_norms, cosines] = gradients.lens();
        // Lists that older versions did not write are empty.
        let lists = [
            ("optimizer_steps", self.optimizer_steps.len(), tasks + 1, Empty::Refused),
            ("best_per_task", self.best_per_task.len(), tasks, Empty::Refused),
            ("past", self.past.len(), tasks, Empty::Allowed),
            ("past_losses", self.past_losses.len(), tasks, Empty::Allowed),
            ("means.losses", losses.len(), tasks, Empty::Refused),
            ("means.weights", weights.len(), tasks, Empty::Refused),
            ("means.weighted", weighted.len(), tasks, Empty::Allowed),
            ("means.gradients.norms", norms, tasks, Empty::Allowed),
            ("means.gradients.weighted", weighted_norms, tasks, Empty::Allowed),
            ("means.gradients.cosines", cosines, pairs(tasks).count(), Empty::Allowed),
        ];
        let fits = |len: usize, expected: usize, empty: Empty| len == expected || (len == 0 && empty == Empty::Allowed);
        match lists.into_iter().find(|&(_, len, expected, empty)| !fits(len, expected, empty)) {
            Some((list, len, expected, _)) => Err(format!("`{list}` has {len} entries, expected {expected}")),
            None if self.past_losses.iter().any(|past| past.len() as u64 > self.epochs_done) => {
                let len = self.past_losses.iter().map(Vec::len).max().unwrap_or_default();
                Err(format!("`past_losses` has the losses of {len} epochs, expected at most {}", self.epochs_done))
            }
            None if !(self.elapsed_s.is_finite() && self.elapsed_s >= 0.0) => {
                Err(format!("`elapsed_s` is {}, expected a number of at least 0", self.elapsed_s))
            }
            None => Ok(()),
        }
    }
}

/// Whether a list may be empty although there are tasks.
#[derive(Clone, Copy, PartialEq)]
enum Empty {
    Allowed,
    Refused,
}

/// Sums over an epoch's steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochMeans {
    /// Per task: the sum of its losses, and the number of steps in the sum.
    losses: Vec<(f64, u32)>,
    weights: Vec<f64>,
    steps: u32,
    /// Per task: the sum of weight · loss, and the number of steps in the sum. Files of older versions have none.
    #[serde(default)]
    weighted: Vec<(f64, u32)>,
    /// Norms and cosines of the tasks' gradients; empty in files of older versions.
    #[serde(default)]
    pub gradients: GradientMeans,
}

impl EpochMeans {
    /// Empty sums for this number of tasks.
    pub fn new(tasks: usize) -> EpochMeans {
        EpochMeans {
            losses: vec![(0.0, 0); tasks],
            weights: vec![0.0; tasks],
            steps: 0,
            weighted: vec![(0.0, 0); tasks],
            gradients: GradientMeans::default(),
        }
    }

    /// The number of steps added.
    pub fn steps(&self) -> u64 {
        self.steps.into()
    }

    /// Adds a step. Losses and weights that are NaN or infinite are skipped: JSON cannot represent them, so a checkpoint with one
    /// could not be read again.
    pub fn add(&mut self, report: &StepReport) {
        self.weighted.resize(self.losses.len(), (0.0, 0));
        let means = self.losses.iter_mut().zip(&mut self.weighted);
        for ((mean, weighted), (&loss, &weight)) in means.zip(report.losses.iter().zip(&report.weights)) {
            if loss.is_finite() && weight.is_finite() {
                *mean = (mean.0 + f64::from(loss), mean.1 + 1);
                *weighted = (weighted.0 + f64::from(weight) * f64::from(loss), weighted.1 + 1);
            }
        }
        for (sum, &weight) in self.weights.iter_mut().zip(&report.weights).filter(|(_, weight)| weight.is_finite()) {
            *sum += f64::from(weight);
        }
        if let Some(gramian) = &report.gramian {
            let active: Vec<bool> = report.losses.iter().map(|loss| !loss.is_nan()).collect();
            self.gradients.add(gramian, &report.weights, &active);
        }
        self.steps += 1;
    }

    /// Mean loss of a task over the steps in which it had labels; `None` if there were none.
    pub fn loss(&self, task: usize) -> Option<f64> {
        let (sum, count) = self.losses[task];
        (count > 0).then(|| sum / f64::from(count))
    }

    /// Mean of weight · loss over the same steps: the task's share of the minimised total.
    pub fn weighted(&self, task: usize) -> Option<f64> {
        self.weighted.get(task).filter(|w| w.1 > 0).map(|(sum, count)| sum / f64::from(*count))
    }

    /// Mean weight of a task over all steps, where NaN and infinite weights count as 0; `None` before the first step.
    pub fn weight(&self, task: usize) -> Option<f64> {
        (self.steps > 0).then(|| self.weights[task] / f64::from(self.steps))
    }
}

const STATE_KEY: &str = "polyhead.run";
const SQUARES: &str = "balance.squares.";

/// Writes the whole state: parameters, `ema.*`, `optim.*`, running statistics, card and run state. The state saved before
/// it is kept at [`previous`].
///
/// # Errors
/// The file cannot be written, or `NonFinite` if a number is NaN or infinite. The older checkpoint stays intact.
pub fn save(path: &Path, trainer: &mut Trainer, card: &Card, state: &RunState) -> Result<()> {
    let store = trainer.executor.store()?;
    let mut tensors = prediction_tensors(store, ParameterSet::Current, "")?;
    tensors.append(&mut prediction_tensors(store, ParameterSet::Average, "ema.")?);
    tensors.append(&mut weights::export_parameters(store, Slot::FirstMoment, "optim.first.")?);
    tensors.append(&mut weights::export_parameters(store, Slot::SecondMoment, "optim.second.")?);
    tensors.append(&mut squares(&trainer.squares)?);
    check_finite(&tensors, trainer.step)?;
    let state = serde_json::to_string(state)
        .map_err(|e| Error::checkpoint(path, format!("the run's state cannot be written: {e}")))?;
    let metadata = HashMap::from([(Card::KEY.to_owned(), card.to_json()), (STATE_KEY.to_owned(), state)]);
    weights::write_beside(path, &previous(path), &tensors, metadata)
}

/// A file with such numbers could not be read again, and the one saved before it is still good.
///
/// # Errors
/// `NonFinite` if a number is NaN or infinite.
fn check_finite(tensors: &Tensors, step: u64) -> Result<()> {
    match tensors.iter().find(|(_, tensor)| !weights::is_finite(tensor)) {
        None => Ok(()),
        Some((name, _)) => Err(Error::NonFinite {
            report: format!(
                "step {step}: `{name}` has numbers that are NaN or infinite, so it is not saved: lower --lr0, or set --clip-norm"
            ),
        }),
    }
}

/// The running sums of the tasks' squared gradients, named by the task's index. Tasks without sums are left out.
fn squares(sums: &SquaredSums) -> Result<Tensors> {
    let numbered = sums.0.iter().enumerate().filter(|(_, sums)| !sums.is_empty());
    numbered.map(|(task, sums)| Ok((format!("{SQUARES}{task}"), weights::to_tensor(sums, &[sums.len()])?))).collect()
}

/// The path of the state that was saved before the one at `path`.
pub fn previous(path: &Path) -> PathBuf {
    path.with_file_name("previous.safetensors")
}

/// Writes the averaged weights after `epoch` and the card, which prediction needs.
///
/// # Errors
/// The same as [`save`].
pub fn save_model(path: &Path, trainer: &mut Trainer, card: &Card, epoch: u64) -> Result<()> {
    let card = Card { epoch: Some(epoch), ..card.clone() };
    let tensors = prediction_tensors(trainer.executor.store()?, ParameterSet::Average, "")?;
    check_finite(&tensors, trainer.step)?;
    weights::write(path, &tensors, HashMap::from([(Card::KEY.to_owned(), card.to_json())]))
}

fn prediction_tensors(store: &Store, set: ParameterSet, prefix: &str) -> Result<Tensors> {
    let mut tensors = weights::export_parameters(store, Slot::Set(set), prefix)?;
    tensors.append(&mut weights::export_buffers(store, set, prefix)?);
    Ok(tensors)
}

/// A checkpoint read from disk, its tensors not yet in a Store.
pub struct Loaded {
    /// The model card in the file's metadata.
    pub card: Card,
    /// The run's state when the file was written.
    pub state: RunState,
    tensors: Tensors,
}

/// # Errors
/// The file is corrupt, or is not a checkpoint of a run.
pub fn load(path: &Path) -> Result<Loaded> {
    let file = weights::read(path)?;
    let no_run = || {
        Error::checkpoint(path, "holds a model but not a run's state: resume from weights/last.safetensors of a run")
    };
    let card = Card::from_json(file.metadata.get(Card::KEY).ok_or_else(no_run)?, path)?;
    let text = file.metadata.get(STATE_KEY).ok_or_else(no_run)?;
    let refused = |why: String| {
        Error::checkpoint(path, format!("its run state is not understood ({why}); was it written by another version?"))
    };
    let state: RunState = serde_json::from_str(text).map_err(|e| refused(e.to_string()))?;
    state.check(card.architecture.tasks.len()).map_err(refused)?;
    Ok(Loaded { card, state, tensors: file.tensors })
}

/// Loads the last state, saved in `file`, or if it is corrupt the one before it. Returns its file, and a note in the second case.
///
/// # Errors
/// Both are corrupt; the error is about the last one. Or the last one is there and the file system cannot read it.
pub fn load_last_or_previous(file: PathBuf) -> Result<(Loaded, PathBuf, Option<String>)> {
    let error = match load(&file) {
        Ok(loaded) => return Ok((loaded, file, None)),
        // A good file that cannot be read now must not be replaced by the older one.
        Err(error @ Error::Io { .. }) if file.exists() => return Err(error),
        Err(error) => error,
    };
    let before = previous(&file);
    match load(&before) {
        Ok(loaded) => {
            // Otherwise the next save would replace this file with the corrupt one.
            std::fs::rename(&before, &file).map_err(Error::io("rename", &before))?;
            let note = format!("note: {error}; going on from the state before it, {}", shown(&before));
            Ok((loaded, file, Some(note)))
        }
        Err(_) => Err(error),
    }
}

impl Loaded {
    /// Restores the whole state into a trainer that was built for the same architecture.
    ///
    /// # Errors
    /// Tensors are missing or have another shape.
    pub fn restore(&self, trainer: &mut Trainer, path: &Path) -> Result<()> {
        let missing = trainer.executor.edit_store(|store| self.fill(store))??;
        if let Some(first) = missing.first() {
            return Err(Error::checkpoint(path, format!("lacks {} tensors, `{first}` first", missing.len())));
        }
        trainer.balance.restore(&self.state.balance)?;
        trainer.squares = self.squares(self.card.architecture.tasks.len(), path)?;
        let lacks_squares = trainer.squares.0.iter().all(Vec::is_empty);
        if lacks_squares && self.state.step > 0 && trainer.balance.needs() == Needs::Excess {
            return Err(Error::checkpoint(
                path,
                format!("lacks the tensors `{SQUARES}…`, which its balancing method continues from"),
            ));
        }
        trainer.optimizer.steps.clone_from(&self.state.optimizer_steps);
        trainer.step = self.state.step;
        Ok(())
    }

    /// # Errors
    /// A tensor is not a vector of f32.
    fn squares(&self, tasks: usize, path: &Path) -> Result<SquaredSums> {
        let sums = |task: usize| match self.tensors.get(&format!("{SQUARES}{task}")) {
            None => Ok(Vec::new()),
            Some(tensor) => tensor.to_vec1::<f32>(),
        };
        let sums = (0..tasks).map(sums).collect::<Result<Vec<_>, _>>();
        sums.map(SquaredSums)
            .map_err(|e| Error::checkpoint(path, format!("the sums `{SQUARES}` are not understood: {e}")))
    }

    fn fill(&self, store: &mut Store) -> Result<Vec<String>> {
        // A failed step may have left gradients behind.
        store.gradients.f32_mut().fill(0.0);
        let slots = [
            (Slot::Set(ParameterSet::Current), ""),
            (Slot::Set(ParameterSet::Average), "ema."),
            (Slot::FirstMoment, "optim.first."),
            (Slot::SecondMoment, "optim.second."),
        ];
        let mut missing = Vec::new();
        for (slot, prefix) in slots {
            missing.extend(weights::import_parameters(store, slot, &self.tensors, prefix)?);
        }
        for (set, prefix) in [(ParameterSet::Current, ""), (ParameterSet::Average, "ema.")] {
            missing.extend(weights::import_buffers(store, set, &self.tensors, prefix)?);
        }
        Ok(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_json_has_no_word_for_do_not_make_a_checkpoint_unreadable() {
        let mut means = EpochMeans::new(3);
        let report = |losses: [f32; 3], weights: [f32; 3]| StepReport {
            losses: losses.to_vec(),
            weights: weights.to_vec(),
            gradient_norm: 1.0,
            learning_rate: 0.1,
            gramian: Some(vec![f64::INFINITY; 9]),
        };
        // A loss may be infinite if its task has weight 0.
        means.add(&report([2.0, f32::INFINITY, f32::NAN], [1.0, 0.0, 0.0]));
        means.add(&report([4.0, 3.0, f32::NAN], [1.0, 2.0, f32::INFINITY]));
        assert_eq!([0, 1, 2].map(|task| means.loss(task)), [Some(3.0), Some(3.0), None]);
        assert_eq!([0, 1, 2].map(|task| means.weighted(task)), [Some(3.0), Some(6.0), None]);
        assert_eq!([0, 1, 2].map(|task| means.weight(task)), [Some(1.0), Some(1.0), Some(0.0)]);
        let text = serde_json::to_string(&means).unwrap();
        assert_eq!(serde_json::from_str::<EpochMeans>(&text).unwrap(), means);
    }
}
