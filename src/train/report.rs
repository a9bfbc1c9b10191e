//! The lines about a run: at its start, after an epoch, and at its end.

use super::epochs::{Run, Session, say};
use super::files::DONE;
use super::progress::{Progress, epoch_lines, in_words};
use super::telemetry::solved_or_stuck;
use crate::config::TrainConfig;
use crate::data::Broken;
use crate::error::{Result, shown};
use crate::evaluate::{TaskResult, Validation, counted_as_zero, overall};
use crate::reading::{count_of, shell_word};

impl Run {
    pub(super) fn announce(&mut self, progress: &mut Progress) -> Result<()> {
        let config = &self.state.config;
        let tasks: Vec<String> = self.data.tasks.iter().map(|t| format!("{} ({})", t.name, t.kind_word())).collect();
        let batch = match config.accumulate {
            1 => format!("batch {}", config.batch),
            several => format!("{several} batches of {} a step", config.batch),
        };
        let steps = self.data.steps_per_epoch(config) as usize;
        let path = shown(&self.folder.path);
        let writing = if self.kept { format!("; writing {path}") } else { String::new() };
        let line = format!(
            "{}: {} training and {} validation images; tasks {}; {} at {} px, {batch}, {} of {}{writing}",
            self.data.name,
            self.data.train.len(),
            self.data.val.len(),
            tasks.join(", "),
            config.backbone.name(),
            config.imgsz,
            count_of(config.epochs as usize, "epoch"),
            count_of(steps, "step"),
        );
        progress.say(&mut self.folder, &line)
    }

    pub(super) fn report_broken(&mut self, broken: &[Broken], progress: &Progress) -> Result<()> {
        for b in broken {
            progress.say(&mut self.folder, &format!("unreadable, left out: {b}"))?;
        }
        Ok(())
    }

    /// Says how many files of the cache were damaged. They have been replaced, so that each is counted once.
    pub(super) fn report_damaged(&mut self, progress: &Progress) -> Result<()> {
        let (files, images) = match self.data.cache.as_ref().map_or(0, |cache| cache.take_damaged()) {
            0 => return Ok(()),
            1 => ("1 file".to_owned(), "its image was"),
            several => (format!("{several} files"), "their images were"),
        };
        let line = format!("note: {files} of the cache did not match the checksum; {images} decoded again");
        progress.say(&mut self.folder, &line)
    }

    pub(super) fn report(
        &mut self,
        epoch: u64,
        config: &TrainConfig,
        Validation { results, losses, .. }: &Validation,
        began_s: f64,
        session: &mut Session,
    ) -> Result<()> {
        let names: Vec<&str> = self.data.tasks.iter().map(|t| t.name.as_str()).collect();
        let of = (epoch + 1, config.epochs);
        let log_vars = self.trainer.balance.log_variances();
        let seconds = [self.state.elapsed_s - began_s, self.state.elapsed_s];
        let [done, all] = [self.state.means.steps(), self.data.steps_per_epoch(config)];
        let cut = (self.trainer.step < (epoch + 1) * all).then_some([done, all]);
        for line in epoch_lines(of, cut, &names, &self.state.means, &log_vars, seconds) {
            session.progress.say(&mut self.folder, &line)?;
        }
        if let Some(line) = self.state.means.gradients.line(&names) {
            session.progress.say(&mut self.folder, &format!("  {line}"))?;
        }
        session.progress.say(&mut self.folder, &format!("  {}", session.feed.end_epoch()))?;
        if let Some(warning) = session.feed.take_warning() {
            session.progress.say(&mut self.folder, &format!("  {warning}"))?;
        }
        for (result, loss) in results.iter().zip(losses) {
            session.progress.say(&mut self.folder, &format!("  {}", result.line_with_loss(*loss)))?;
        }
        if let Some(line) = self.overall_line(results) {
            session.progress.say(&mut self.folder, &format!("  {line}"))?;
        }
        for (task, past) in self.data.tasks.iter().zip(&self.state.past) {
            if let Some([old, now]) = solved_or_stuck(past) {
                let (name, figure) = (&task.name, task.spec.kind().fitness);
                let line = format!(
                    "{name}: solved or stuck: its {figure} stands still while its weight grew from {old:.2} to {now:.2}"
                );
                session.progress.say(&mut self.folder, &format!("  {line}"))?;
            }
        }
        self.report_overfitting(&session.progress)
    }

    /// The log line with the mean metric over the tasks and the best one so far.
    fn overall_line(&self, results: &[TaskResult]) -> Option<String> {
        let overall = overall(results)?;
        let line = match (self.state.best, self.state.kept_epoch) {
            _ if self.is_best(results) => format!("overall {overall:.3}, the best so far"),
            (Some(best), Some(epoch)) => {
                format!("overall {overall:.3}; the best so far is {best:.3}, of epoch {epoch}")
            }
            _ => format!("overall {overall:.3}"),
        };
        Some(line + &counted_as_zero(results))
    }

    /// Logs that a signal ended the run, and how to continue it.
    pub(super) fn say_stopped(&mut self) -> Result<()> {
        let (step, path) = (self.trainer.step, shell_word(self.folder.path.as_os_str()));
        let more = if self.kept { format!("; continue with: polyhead train --resume {path}") } else { String::new() };
        say(&mut self.folder, &format!("stopped after step {step}{more}"))
    }

    pub(super) fn log_summary(&mut self) -> Result<()> {
        let path = shell_word(self.folder.path.as_os_str());
        let mut parts = vec![format!("{DONE} {}", in_words(self.state.elapsed_s))];
        match (self.state.best, self.state.kept_epoch) {
            (Some(best), Some(epoch)) => parts.push(format!("best overall {best:.3}, of epoch {epoch}")),
            (None, Some(epoch)) => parts.push(format!("without metrics, `best` is the last epoch, {epoch}")),
            (_, None) if self.state.epochs_done == 0 => {
                parts.push("no epoch was finished, so there is no `best`, only `last`".to_owned());
            }
            (_, None) => {
                parts.push("the weights in `best` were lost; `last` has those after the last epoch".to_owned())
            }
        }
        if self.kept {
            parts.push(format!("predict with: polyhead predict {path} IMAGES…"));
        }
        let line = parts.join("; ");
        say(&mut self.folder, &line)
    }
}
