//! The validation after each epoch of a run, and the record of its losses.

use super::epochs::{Run, Session};
use super::overfitting::{Losses, overfits_now};
use super::progress::Progress;
use super::setup::regions;
use crate::data::Broken;
use crate::error::Result;
use crate::evaluate::{self, TaskResult, Validation};
use crate::model::ValidationPlan;
use crate::tasks::{LabelFeatures, Mixing};

impl Run {
    /// The plan by which the run validates.
    ///
    /// # Errors
    /// The device cannot run it.
    pub(super) fn validation_plan(&mut self) -> Result<ValidationPlan> {
        // Validation images are never mixed.
        let labels = LabelFeatures { mixing: Mixing::Never, regions: regions(&self.data.val) };
        let shape = [self.state.config.batch, self.state.config.imgsz];
        let factors = self.trainer.loss_factors.clone();
        ValidationPlan::prepare(&mut self.trainer.executor, &self.card, shape, labels, factors)
    }

    /// # Errors
    /// `Interrupted` if a signal arrives before the last batch, and the errors of [`evaluate::evaluate`].
    pub(super) fn validate(&mut self, session: &mut Session) -> Result<Validation> {
        if self.data.val.is_empty() {
            return Ok(Validation { results: Vec::new(), losses: Vec::new(), broken: Vec::new() });
        }
        let settings = self.settings(&self.state.config);
        let (executor, val, stop) = (&mut self.trainer.executor, &self.data.val, &session.interrupted);
        let validation = evaluate::validate(executor, &session.plan, &self.card, val, &settings, stop)?;
        // An image may become unreadable while the run trains. Each is named once.
        let new = validation.broken.iter().filter(|broken| session.broken.insert(broken.name.clone()));
        let new: Vec<Broken> = new.cloned().collect();
        self.report_broken(&new, &session.progress)?;
        Ok(validation)
    }

    /// Adds the epoch's weight and metric to each task's history, and its losses.
    pub(super) fn remember(&mut self, Validation { results, losses, .. }: &Validation) {
        let tasks = self.data.tasks.len();
        self.state.past.resize(tasks, Vec::new());
        self.state.past_losses.resize(tasks, Vec::new());
        for task in 0..tasks {
            let weight = self.state.means.weight(task).unwrap_or(0.0);
            self.state.past[task].push((weight, results.get(task).and_then(TaskResult::fitness)));
            let training = self.state.means.loss(task);
            let validation = losses.get(task).copied().flatten();
            // JSON cannot represent NaN and infinity.
            let number = |loss: Option<f64>| loss.filter(|loss| loss.is_finite());
            self.state.past_losses[task].push(Losses { training: number(training), validation: number(validation) });
        }
    }

    /// Says of each task, once in a run, that it overfits.
    pub(super) fn report_overfitting(&mut self, progress: &Progress) -> Result<()> {
        for (task, past) in self.data.tasks.iter().zip(&self.state.past_losses) {
            // A resumed run of an older version has no losses of its first epochs.
            let first = (self.state.epochs_done as usize).saturating_sub(past.len());
            let Some(overfit) = overfits_now(past) else { continue };
            let (name, fitness) = (&task.name, task.spec.kind().fitness);
            let line = format!(
                "{name} overfits: its validation loss was lowest in epoch {}, {:.3}, and is now {:.3}, while its training loss fell. `best` follows the {fitness}, not the loss. --patience ends a run that no longer improves; more images, stronger augmentation or more --weight-decay may help",
                first + overfit.epoch,
                overfit.least,
                overfit.now
            );
            progress.say(&mut self.folder, &format!("  {line}"))?;
        }
        Ok(())
    }
}
