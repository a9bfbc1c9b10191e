//! `--balance auto`: trains the first epochs with each candidate method in turn, from the same start and on the same images, and goes
//! on with the method whose validation figures are best.
//!
//! The state of the trials is part of every checkpoint, so a run that was stopped within them goes on as any other. Two more files
//! lie beside `last` until a method is chosen: the run's start, and its state at the end of the best trial so far.

use super::checkpoint::{self, RunState};
use super::epochs::{Run, Session};
use super::files::{START, TABLE, TRIAL};
use super::setup::{balance, schedule};
use super::table::ResultsTable;
use super::telemetry::Lived;
use crate::balance::{Method, TRIAL_SHARE, by_name};
use crate::config::TrainConfig;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The state of a run's trials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trials {
    /// The method that is being tried or, if `decided`, the one that was chosen.
    #[serde(with = "by_name")]
    pub method: &'static Method,
    /// How many epochs each method is tried for.
    epochs: u64,
    /// What each candidate reached so far, in order; `None` for one whose loss was NaN or infinite.
    reached: Vec<Option<f64>>,
    /// The number of the best candidate so far.
    leader: Option<usize>,
    /// The results table of that candidate's trial.
    table: String,
    decided: bool,
}

impl Trials {
    /// The trials of a new run; `None` if its method is given, or if there is nothing to balance.
    ///
    /// # Errors
    /// No validation images to choose by, or no epochs left after the trials.
    pub fn new(config: &TrainConfig, tasks: usize, val_images: usize) -> Result<Option<Trials>> {
        let candidates = config.balance.candidates();
        let [first, _, ..] = candidates[..] else { return Ok(None) };
        if tasks < 2 {
            return Ok(None);
        }
        if val_images == 0 {
            return Err(Error::Usage(
                "--balance auto chooses a method by the validation images, and there are none: add some, or name a method".into(),
            ));
        }
        let share = config.balance_parameters.balance_trial.unwrap_or(TRIAL_SHARE);
        let epochs = (share * config.epochs as f64 - 1e-9).ceil().max(1.0) as u64;
        if epochs >= config.epochs {
            return Err(Error::Usage(format!(
                "--balance auto would try each method for {epochs} of {} epochs, which leaves none to train: give more --epochs, or name a method",
                config.epochs
            )));
        }
        Ok(Some(Trials {
            method: first,
            epochs,
            reached: Vec::new(),
            leader: None,
            table: String::new(),
            decided: false,
        }))
    }

    /// The method that trains a run with this state.
    pub fn method(state: &RunState) -> &'static Method {
        match &state.trials {
            Some(trials) => trials.method,
            None => state.config.balance.candidates()[0],
        }
    }

    /// Whether the run with this state is still trying methods.
    pub fn are_open(state: &RunState) -> bool {
        state.trials.as_ref().is_some_and(|trials| !trials.decided)
    }

    /// Whether the method that is being tried has had its epochs.
    pub fn one_is_over(state: &RunState) -> bool {
        state.trials.as_ref().is_some_and(|trials| !trials.decided && state.epochs_done >= trials.epochs)
    }

    /// What is said when a trial begins or goes on.
    pub fn line(&self, config: &TrainConfig) -> String {
        let (number, all) = (self.reached.len() + 1, config.balance.candidates().len());
        let epochs = if self.epochs == 1 { "1 epoch".to_owned() } else { format!("{} epochs", self.epochs) };
        format!("trial {number} of {all}: {} for {epochs}", self.method)
    }
}

/// The mean of the tasks' figures in the last epoch, where a negative one counts as 0.
fn figure(past: &[Vec<Lived>]) -> Option<f64> {
    let last = past.iter().filter_map(|epochs| epochs.last()?.1).map(|figure| figure.max(0.0));
    let figures: Vec<f64> = last.collect();
    (!figures.is_empty()).then(|| figures.iter().sum::<f64>() / figures.len() as f64)
}

impl Run {
    /// Says which method is being tried, if one is, and keeps the run's start for the others.
    ///
    /// # Errors
    /// The log cannot be written, or the file.
    pub(super) fn announce_trial(&mut self, session: &Session) -> Result<()> {
        let Some(trials) = self.state.trials.as_ref().filter(|trials| !trials.decided) else { return Ok(()) };
        if self.state.step == 0 && trials.reached.is_empty() {
            crate::files::write_synced(&self.folder.weights(START), &read(&self.folder.weights("last"))?)?;
        }
        let line = trials.line(&self.state.config);
        session.progress.say(&mut self.folder, &line)
    }

    /// Ends the trial of a method, whose loss was NaN or infinite if there is a `failure`, and begins the next one, or chooses.
    ///
    /// # Errors
    /// Files that cannot be read or written, or no candidate that trained without such a loss.
    pub(super) fn end_trial(&mut self, session: &mut Session, failure: Option<&str>) -> Result<()> {
        let candidates = self.state.config.balance.candidates();
        let Some(mut trials) = self.state.trials.clone() else { return Ok(()) };
        let reached = if failure.is_some() { None } else { figure(&self.state.past) };
        let line = match (failure, reached) {
            (Some(report), _) => format!("{} is out: {report}", trials.method),
            (None, Some(figure)) => format!("{} reached {figure:.3} (mean over the tasks)", trials.method),
            (None, None) => format!("{} reached nothing: no task has labels in the validation images", trials.method),
        };
        session.progress.say(&mut self.folder, &line)?;
        // Among equals the earlier candidate wins.
        let best = trials.leader.and_then(|leader| trials.reached[leader]);
        if failure.is_none() && (trials.leader.is_none() || reached > best) {
            trials.leader = Some(trials.reached.len());
            trials.table = String::from_utf8_lossy(&read(&self.folder.path.join(TABLE))?).into_owned();
            crate::files::write_synced(&self.folder.weights(TRIAL), &read(&self.folder.weights("last"))?)?;
        }
        trials.reached.push(reached);
        match candidates.get(trials.reached.len()) {
            Some(&next) => self.next_trial(Trials { method: next, ..trials }, session),
            None => self.choose(trials, session),
        }
    }

    /// Begins the next trial where the run began.
    fn next_trial(&mut self, trials: Trials, session: &mut Session) -> Result<()> {
        session.progress.say(&mut self.folder, &trials.line(&self.state.config))?;
        self.go_back_to(START, trials, session)?;
        self.save_last()?;
        session.table = ResultsTable::open(&self.folder, &self.columns(), self.state.epochs_done)?;
        Ok(())
    }

    /// Goes on from the end of the best trial.
    fn choose(&mut self, trials: Trials, session: &mut Session) -> Result<()> {
        let candidates = self.state.config.balance.candidates();
        let Some(leader) = trials.leader else {
            let report = "every candidate of --balance auto ended with a loss that is NaN or infinite".to_owned();
            return Err(Error::NonFinite { report });
        };
        let trials = Trials { method: candidates[leader], decided: true, ..trials };
        let line = format!("going on with {} from the end of its trial", trials.method);
        session.progress.say(&mut self.folder, &line)?;
        let table = trials.table.clone();
        self.go_back_to(TRIAL, trials, session)?;
        crate::files::write_synced(&self.folder.path.join(TABLE), table.as_bytes())?;
        session.table = ResultsTable::open(&self.folder, &self.columns(), self.state.epochs_done)?;
        // From here on there is a `best`, and this is the first.
        let config = self.state.config.clone();
        let results = self.validate(&session.plan, &config, &mut session.progress)?;
        let is_best = self.is_best(&results);
        self.save(&results)?;
        self.draw(&results, is_best, &mut session.progress)?;
        for file in [START, TRIAL].map(|name| self.folder.weights(name)) {
            std::fs::remove_file(&file).map_err(Error::io("remove", &file))?;
        }
        Ok(())
    }

    /// Takes the state of one of the trials' files.
    fn go_back_to(&mut self, name: &str, trials: Trials, session: &mut Session) -> Result<()> {
        let file = self.folder.weights(name);
        let loaded = checkpoint::load(&file)?;
        self.trainer.balance = balance(&loaded.state.config, Trials::method(&loaded.state), &self.data)?;
        loaded.restore(&mut self.trainer, &file)?;
        // The file at the start holds the first candidate's state, the other one the leader's own.
        if Trials::method(&loaded.state) != trials.method {
            self.trainer.balance = balance(&loaded.state.config, trials.method, &self.data)?;
        }
        self.card = loaded.card;
        self.state = RunState {
            // What --resume may have changed stays.
            config: TrainConfig { lr0: loaded.state.config.lr0, ..self.state.config.clone() },
            trials: Some(trials),
            elapsed_s: session.clock.elapsed_s(),
            isa: self.state.isa,
            tuning: self.state.tuning.take(),
            ..loaded.state
        };
        self.trainer.config.schedule = schedule(&self.state.config, &self.data);
        session.feed = self.feed(&self.state.config.clone())?;
        Ok(())
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(Error::io("read", path))
}
