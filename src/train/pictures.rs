//! Draws the pictures in a run's folder.

use super::balance_picture;
use super::epochs::{Run, say};
use super::files::{ANSWERS, BALANCE, OLD_ANSWERS};
use super::progress::Progress;
use crate::config::TrainConfig;
use crate::data::{Batch, Sample};
use crate::draw::{self, PictureFormat};
use crate::error::{Error, Result};
use crate::evaluate::{self, TaskResult};
use crate::executor::ParameterSet;
use crate::model::ValidationPlan;
use crate::predict;
use crate::reading::{list_some, shell_word};
use crate::tasks::Task;
use std::io::ErrorKind;
use std::sync::Arc;

impl Run {
    /// Draws the epoch's pictures. A failure is only a warning: the epoch is still saved.
    pub(super) fn draw(&mut self, results: &[TaskResult], is_best: bool, progress: &mut Progress) -> Result<()> {
        let of_best = if is_best { evaluate::write_pictures(&self.folder.path, results) } else { Ok(()) };
        for error in [of_best.err(), self.draw_balance().err()].into_iter().flatten() {
            progress.say(&mut self.folder, &format!("  warning: a picture was not drawn: {error}"))?;
        }
        Ok(())
    }

    /// Draws the tasks' weights, gradient norms and cosines over the epochs so far, from the results table.
    fn draw_balance(&self) -> Result<()> {
        let names: Vec<&str> = self.data.tasks.iter().map(|t| t.name.as_str()).collect();
        match names.len() {
            0 | 1 => Ok(()),
            _ => balance_picture::write(&self.folder.path, &names),
        }
    }

    /// Draws the pictures of an ended run that are not there, and says how to draw those of its best weights.
    pub(super) fn draw_missing(&mut self) -> Result<()> {
        let folder = self.folder.path.clone();
        if self.state.step == 0 {
            return Ok(());
        }
        if !folder.join(BALANCE).is_file() {
            self.draw_balance().or_else(|error| self.warn_of_picture(&error))?;
        }
        if !folder.join(ANSWERS).is_file() {
            let plan = self.validation_plan()?;
            self.draw_last(&plan)?;
        }
        let is_missing = |(index, task): &(usize, &Task)| {
            task.spec.kind().picture.is_some()
                && self.data.val.iter().any(|sample| sample.labels[*index].is_labelled())
                && evaluate::picture_names(&task.name).all(|name| !folder.join(name).is_file())
        };
        let missing = self.data.tasks.iter().enumerate().filter(is_missing).map(|(_, task)| task.name.as_str());
        let missing: Vec<&str> = missing.collect();
        if missing.is_empty() {
            return Ok(());
        }
        let line = format!(
            "the pictures of {} are missing; to draw them: polyhead evaluate {1} --out {1}",
            list_some(&missing, 3),
            shell_word(folder.as_os_str())
        );
        say(&mut self.folder, &line)
    }

    /// Draws the run's last picture. A failure is only a warning, because the run is complete without it.
    pub(super) fn draw_last(&mut self, plan: &ValidationPlan) -> Result<()> {
        let config = self.state.config.clone();
        match self.draw_predictions(plan, &config) {
            Ok(()) => Ok(()),
            Err(error) => self.warn_of_picture(&error),
        }
    }

    fn warn_of_picture(&mut self, error: &Error) -> Result<()> {
        say(&mut self.folder, &format!("warning: a picture was not drawn: {error}"))
    }

    /// Draws the final network's predictions on the first nine validation images as one picture.
    fn draw_predictions(&mut self, plan: &ValidationPlan, config: &TrainConfig) -> Result<()> {
        let shown: Arc<[Sample]> = self.data.val.iter().take(9).cloned().collect();
        if shown.is_empty() {
            return Ok(());
        }
        let mut settings = self.settings(config);
        settings.boxes.score_threshold = 0.25;
        settings.max_broken = 1.0;
        let mut pictures = Vec::new();
        let (executor, tasks) = (&mut self.trainer.executor, &self.card.architecture.tasks);
        let run = |batch: &Batch| Ok(plan.run(executor, ParameterSet::Average, &batch.images, &[])?.0);
        evaluate::evaluate(&self.card, &shown, &settings, None, run, |sample, answer| {
            pictures.push(predict::annotate(tasks, &crate::data::images::decode::decode(&sample.image)?, answer));
            Ok(())
        })?;
        // A sheet of very wide images is shrunk to the longest side that JPEG can hold.
        let (sheet, _) = draw::grid(&pictures, 3).shrunk(usize::from(u16::MAX));
        draw::write_picture(&self.folder.path.join(ANSWERS), &sheet, PictureFormat::Jpeg)?;
        // The same picture of an older version would not match the weights any more.
        match std::fs::remove_file(self.folder.path.join(OLD_ANSWERS)) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                Err(Error::io("remove", self.folder.path.join(OLD_ANSWERS))(e))
            }
            _ => Ok(()),
        }
    }
}
