//! Trains the epochs of a run: its steps, validation, log lines and checkpoints.

use super::checkpoint::{self, EpochMeans, RunState};
use super::estimate::Estimate;
use super::feed::Feed;
use super::files::{NOTHING_LEFT, TABLE, best_of};
use super::limits::{Clock, SaveTimer, epochs_that_fit, is_out_of_patience, last_epoch_ended_s};
use super::progress::{Progress, StepLine};
use super::run::RunFolder;
use super::setup::{Data, loader, schedule};
use super::step::Trainer;
use super::table::ResultsTable;
use super::trials::Trials;
use crate::config::{OnNan, TrainConfig};
use crate::console;
use crate::data::random::hash_text;
use crate::error::{Error, Result};
use crate::evaluate::{Settings, TaskResult, overall};
use crate::model::{Card, ValidationPlan, weights};
use crate::reading::count_of;
use crate::tasks::DecodeOptions;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Logs and prints a line while no progress bar is shown.
pub(super) fn say(folder: &mut RunFolder, line: &str) -> Result<()> {
    let logged = folder.log(line);
    console::say(line);
    logged
}

/// Everything a run consists of.
pub(super) struct Run {
    pub data: Data,
    pub card: Card,
    pub folder: RunFolder,
    pub trainer: Trainer,
    pub state: RunState,
    /// Whether the folder is kept when the run ends.
    pub kept: bool,
    /// Whether the run had ended, with its last picture, before it was resumed.
    pub has_ended: bool,
}

/// The parts of a run that exist only while its epochs are trained and are not saved.
pub(super) struct Session {
    pub plan: ValidationPlan,
    pub feed: Feed,
    pub table: ResultsTable,
    pub progress: Progress,
    pub clock: Clock,
    /// When the epoch began that this session continues, in seconds trained.
    began_s: Option<f64>,
    save: SaveTimer,
    estimate: Estimate,
    pub interrupted: Arc<AtomicBool>,
    /// Names of the unreadable validation images that were reported.
    pub broken: HashSet<String>,
}

/// Printed at the first Ctrl-C.
pub const CTRL_C: &str = "finishing the step, then saving; Ctrl-C again stops at once without saving";

/// The number of times that `--on-nan retry` goes back to the last checkpoint before the run fails.
const RETRIES: u32 = 3;

/// The reason why a run ends, and what continues it.
struct End {
    why: String,
    more: &'static str,
}

impl Run {
    /// Trains until the last epoch is done, or until `--time`, `--patience`, Ctrl-C or an error ends the run.
    pub fn train_to_end(mut self) -> Result<PathBuf> {
        if let Some(warning) = self.folder.lock.warning.take() {
            say(&mut self.folder, &warning)?;
        }
        self.drop_trial_files()?;
        let clock = Clock::new(self.state.elapsed_s, &self.state.config);
        if let Some(end) = self.end(&clock) {
            return self.stay_ended(&end);
        }
        let mut session = self.session(clock)?;
        match self.train(&mut session) {
            Err(Error::Interrupted) => {
                session.progress.finish();
                self.say_stopped()?;
                return Err(Error::Interrupted);
            }
            ended => ended?,
        }
        session.progress.finish();
        self.draw_last(&session.plan)?;
        self.log_summary()?;
        Ok(self.folder.path)
    }

    /// Ends a resumed run that has nothing left to train. If it was killed before its last picture, that is drawn.
    fn stay_ended(mut self, end: &End) -> Result<PathBuf> {
        if self.has_ended || self.state.step == 0 {
            self.draw_missing()?;
            let more = "a new run with --from starts from its choices and weights";
            say(&mut self.folder, &format!("{NOTHING_LEFT}: {}; {}, and {more}", end.why, end.more))?;
            return Ok(self.folder.path);
        }
        say(&mut self.folder, &end.why)?;
        let plan = self.validation_plan()?;
        self.draw_last(&plan)?;
        self.log_summary()?;
        Ok(self.folder.path)
    }

    /// Whether steps of an epoch are done that is not finished.
    fn is_within_epoch(&self) -> bool {
        self.trainer.step > self.state.epochs_done * self.data.steps_per_epoch(&self.state.config)
    }

    /// Trains the epochs that are left, unless `--time` or `--patience` ends the run before.
    fn train(&mut self, session: &mut Session) -> Result<()> {
        self.announce(&mut session.progress)?;
        // Saved before the first step, so that the run can be resumed no matter when it is stopped.
        self.save_last()?;
        self.announce_trial(session)?;
        while self.state.epochs_done < self.state.config.epochs || self.is_within_epoch() {
            if Trials::one_is_over(&self.state) {
                self.end_trial(session, None)?;
                continue;
            }
            match self.epoch(session) {
                Ok(()) => {}
                Err(Error::NonFinite { report }) if Trials::are_open(&self.state) => {
                    self.end_trial(session, Some(&report))?;
                    continue;
                }
                Err(Error::NonFinite { report }) if self.state.config.on_nan == OnNan::Retry => {
                    self.start_over(session, &report)?;
                    continue;
                }
                Err(e) => return Err(e),
            }
            if let Some(end) = self.end_early(&session.clock) {
                session.progress.say(&mut self.folder, &end.why)?;
                // With the time saved, a resumed run knows that it is over.
                self.state.elapsed_s = session.clock.elapsed_s();
                self.save_last()?;
                break;
            }
        }
        Ok(())
    }

    fn session(&mut self, clock: Clock) -> Result<Session> {
        let config = self.state.config.clone();
        let table = ResultsTable::open(&self.folder, &self.columns(), self.state.epochs_done, &self.saved_columns())?;
        if let Some(note) = &table.note {
            say(&mut self.folder, note)?;
        }
        let (done, missing) = (self.state.epochs_done, self.state.epochs_done.saturating_sub(table.rows));
        if missing > 0 {
            let line = format!(
                "warning: {TABLE} lacks the rows of {missing} of {}; they are not written again",
                count_of(done as usize, "finished epoch")
            );
            say(&mut self.folder, &line)?;
        }
        let plan = self.validation_plan()?;
        let progress = Progress::new(self.trainer.step, config.epochs * self.data.steps_per_epoch(&config));
        let interrupted = console::interrupt_flag(CTRL_C)?;
        let (feed, save) = (self.feed(&config, &interrupted)?, SaveTimer::new(&config));
        let began_s = if self.is_within_epoch() && !Trials::are_open(&self.state) {
            last_epoch_ended_s(&self.folder.path, done)
        } else {
            None
        };
        let estimate = Estimate::default();
        Ok(Session { plan, feed, table, progress, clock, began_s, save, estimate, interrupted, broken: HashSet::new() })
    }

    /// Trains one epoch, or the rest of it: steps, validation, checkpoint.
    fn epoch(&mut self, session: &mut Session) -> Result<()> {
        let epoch = self.state.epochs_done;
        let began_s = session.began_s.take().unwrap_or_else(|| session.clock.elapsed_s());
        // The intervals were measured with weights that training now changes.
        let intervals = std::mem::take(&mut self.card.intervals);
        self.steps(epoch, session)?;
        self.state.elapsed_s = session.clock.elapsed_s();
        if session.interrupted.load(Ordering::Relaxed) {
            self.save_last()?;
            return Err(Error::Interrupted);
        }
        if self.state.means.steps() == 0 && session.clock.is_over() {
            // An epoch without a step is none.
            self.card.intervals = intervals;
            return if self.trainer.step == 0 { Err(self.no_time()) } else { Ok(()) };
        }
        let config = self.state.config.clone();
        let validation = match self.validate(session) {
            Ok(validation) => validation,
            Err(e) => {
                // The epoch's steps are saved; a resumed run repeats only the validation.
                self.save_last()?;
                return Err(e);
            }
        };
        self.state.elapsed_s = session.clock.elapsed_s();
        let results = &validation.results;
        self.card.intervals = results.iter().map(TaskResult::half_widths).collect();
        self.state.epochs_done = epoch + 1;
        self.trainer.balance.epoch_ended();
        self.remember(&validation);
        let is_best = self.is_best(results);
        self.report_damaged(&session.progress)?;
        self.report(epoch, &config, &validation, began_s, session)?;
        session.table.row(&self.row(epoch, &validation, is_best))?;
        self.state.means = EpochMeans::new(self.data.tasks.len());
        self.fit_epochs_to_time(&mut session.progress);
        // Drawn before the save: a run that is killed in between repeats the epoch's end and draws again.
        self.draw(results, is_best, &mut session.progress)?;
        self.save(results)?;
        session.save.restart();
        Ok(())
    }

    /// Trains the steps that are left of an epoch, unless interrupted or out of time.
    fn steps(&mut self, epoch: u64, session: &mut Session) -> Result<()> {
        let names: Vec<String> = self.data.tasks.iter().map(|t| t.name.clone()).collect();
        let config = self.state.config.clone();
        let last = (epoch + 1) * self.data.steps_per_epoch(&config);
        while self.trainer.step < last && !session.interrupted.load(Ordering::Relaxed) && !session.clock.is_over() {
            let more = self.trainer.step + 1 < last;
            let began = Instant::now();
            let report = match session.feed.step(&mut self.trainer, more) {
                Ok(report) => report,
                Err(e @ (Error::NonFinite { .. } | Error::Interrupted)) => return Err(e),
                Err(e) => {
                    // Saves the steps before this one.
                    self.state.elapsed_s = session.clock.elapsed_s();
                    self.save_last()?;
                    return Err(e);
                }
            };
            let took = began.elapsed();
            self.report_broken(&session.feed.take_broken(), &session.progress)?;
            self.state.means.add(&report);
            session.progress.step(&StepLine {
                epoch: epoch + 1,
                epochs: config.epochs,
                step: self.trainer.step,
                images_per_second: session.feed.pace().images_per_second(),
                tasks: &names,
                losses: &report.losses,
                weights: &report.weights,
            });
            if !Trials::are_open(&self.state) {
                let (step, on_cpu) = (self.trainer.step, self.state.isa.is_some());
                let left = session.progress.left(step);
                if let Some(line) = session.estimate.step(took, step, left, &config, on_cpu) {
                    session.progress.say(&mut self.folder, &line)?;
                }
            }
            if session.save.is_due() {
                self.state.elapsed_s = session.clock.elapsed_s();
                self.save_last()?;
                session.save.restart();
            }
        }
        Ok(())
    }

    /// With `--time`, stretches the schedule over the epochs that fit into it.
    fn fit_epochs_to_time(&mut self, progress: &mut Progress) {
        let Some(hours) = self.state.config.time else { return };
        let lost_s = Trials::lost_s(&self.state);
        let (hours, elapsed_s) = (hours - lost_s / 3600.0, self.state.elapsed_s - lost_s);
        self.state.config.epochs = epochs_that_fit(hours, elapsed_s, self.state.epochs_done);
        self.trainer.config.schedule = schedule(&self.state.config, &self.data);
        progress.set_total(self.trainer.config.schedule.total_steps);
    }

    /// `--time` ended before the first step: there is nothing to keep as `best`.
    fn no_time(&self) -> Error {
        let hours = self.state.config.time.unwrap_or_default();
        Error::Other(format!("--time {hours} h was over before the first step: give more time"))
    }

    /// The reason to train no more, if there is one. A run that was stopped within an epoch closes it first: with all its steps, or with
    /// those that were done when `--time` is over.
    fn end(&self, clock: &Clock) -> Option<End> {
        let (done, epochs) = (self.state.epochs_done, self.state.config.epochs);
        let all_done = (done >= epochs).then(|| End {
            why: format!("{epochs} of {} done", count_of(epochs as usize, "epoch")),
            more: "--epochs N continues to epoch N",
        });
        self.end_early(clock).or(all_done).filter(|_| !self.is_within_epoch())
    }

    /// The reason to end the run before its last epoch, if there is one.
    fn end_early(&self, clock: &Clock) -> Option<End> {
        let RunState { config, best_epoch, epochs_done, .. } = &self.state;
        let more = "a larger --time continues it";
        if clock.is_over() {
            return Some(End { why: format!("--time {} h is over", config.time.unwrap_or_default()), more });
        }
        if let Some(hours) = config.time.filter(|_| *epochs_done >= config.epochs) {
            return Some(End { why: format!("another epoch would not end within --time {hours} h"), more });
        }
        let best = best_epoch.filter(|_| is_out_of_patience(config.patience, *best_epoch, *epochs_done))?;
        let why = format!("no better epoch than epoch {best} within --patience {}", config.patience);
        Some(End { why, more: "a larger --patience, or 0, continues it" })
    }

    /// Returns to the last checkpoint, with half the learning rate and the images in another order.
    fn start_over(&mut self, session: &mut Session, report: &str) -> Result<()> {
        let file = self.folder.weights("last");
        let retries = self.state.retries + 1;
        if retries > RETRIES {
            let report =
                format!("{report}. It happened again after {RETRIES} retries with ever smaller learning rates");
            return Err(Error::NonFinite { report });
        }
        session.progress.say(&mut self.folder, report)?;
        let lr0 = 0.5 * self.state.config.lr0;
        let (loaded, file, note) = checkpoint::load_last_or_previous(file)?;
        loaded.restore(&mut self.trainer, &file)?;
        // With the intervals of its weights, which the epoch has cleared.
        self.card = loaded.card.clone();
        self.state = RunState { retries, elapsed_s: session.clock.elapsed_s(), ..loaded.state };
        self.state.config.lr0 = lr0;
        self.trainer.config.schedule = schedule(&self.state.config, &self.data);
        note.map_or(Ok(()), |note| session.progress.say(&mut self.folder, &note))?;
        let line = format!(
            "retry {retries} of {RETRIES}: back to step {}, learning rate {lr0:e}, images in another order",
            self.state.step
        );
        session.progress.say(&mut self.folder, &line)?;
        self.save_last()?;
        session.table =
            ResultsTable::open(&self.folder, &self.columns(), self.state.epochs_done, &self.saved_columns())?;
        session.feed = self.feed(&self.state.config.clone(), &session.interrupted)?;
        session.progress.restart(self.trainer.step);
        Ok(())
    }

    pub(super) fn feed(&self, config: &TrainConfig, stop: &Arc<AtomicBool>) -> Result<Feed> {
        let seed = match self.state.retries {
            0 => config.seed,
            retries => hash_text(config.seed, &format!("retry {retries}")),
        };
        let first = self.trainer.step * config.accumulate as u64;
        let loader = loader(&TrainConfig { seed, ..config.clone() }, &self.data, &self.card, first)?;
        Ok(Feed::new(loader, Arc::clone(&self.data.train), config.accumulate, Arc::clone(stop)))
    }

    pub(super) fn settings(&self, config: &TrainConfig) -> Settings {
        Settings {
            batch: config.batch,
            imgsz: config.imgsz,
            workers: config.workers,
            max_broken: config.max_broken,
            cache: self.data.cache.clone(),
            boxes: DecodeOptions::default(),
        }
    }

    /// Whether these results replace `best`. Between equal results the later epoch wins, since it was trained on more images.
    /// Without any metric, `best` is the last epoch. While `--balance auto` tries methods, nothing replaces `best`.
    pub(super) fn is_best(&self, results: &[TaskResult]) -> bool {
        let is_as_good = match (overall(results), self.state.best) {
            (Some(new), Some(old)) => new >= old,
            (new, old) => new.is_some() || old.is_none(),
        };
        !Trials::are_open(&self.state) && is_as_good
    }

    /// Saves the weights if they are the best overall or for a task, then the whole state.
    pub(super) fn save(&mut self, results: &[TaskResult]) -> Result<()> {
        let tried = Trials::are_open(&self.state);
        for (task, result) in results.iter().enumerate().filter(|_| !tried) {
            let best = self.state.best_per_task[task];
            if let Some(value) = result.fitness().filter(|new| best.is_none_or(|old| *new >= old)) {
                self.state.best_per_task[task] = Some(value);
                self.save_best(&best_of(&result.task.name))?;
            }
        }
        if self.is_best(results) {
            // An equal result replaces the weights, but only a better one restarts --patience.
            let overall = overall(results);
            if overall > self.state.best && overall > self.state.lost_best {
                self.state.best_epoch = Some(self.state.epochs_done);
                self.state.lost_best = None;
            }
            self.state.best = overall.or(self.state.best);
            self.state.kept_epoch = Some(self.state.epochs_done);
            self.save_best("best")?;
        }
        self.save_last()
    }

    /// Saves the weights as `name`, and their checksum in the state.
    fn save_best(&mut self, name: &str) -> Result<()> {
        let path = self.folder.weights(name);
        checkpoint::save_model(&path, &mut self.trainer, &self.card, self.state.epochs_done)?;
        self.state.best_files.extend(weights::checksum_in(&path).map(|sum| (name.to_owned(), sum)));
        Ok(())
    }

    pub(super) fn save_last(&mut self) -> Result<()> {
        self.state.step = self.trainer.step;
        self.state.optimizer_steps.clone_from(&self.trainer.optimizer.steps);
        self.state.balance = self.trainer.balance.state();
        if self.state.balance.iter().any(|number| !number.is_finite()) {
            // JSON cannot represent it, so the checkpoint could not be read again.
            let (step, method) = (self.state.step, Trials::method(&self.state));
            let report =
                format!("step {step}: the state of --balance {method} is NaN or infinite: change its parameters");
            return Err(Error::NonFinite { report });
        }
        checkpoint::save(&self.folder.weights("last"), &mut self.trainer, &self.card, &self.state)
    }
}
