//! `--balance auto`: trains the first epochs with each candidate method in turn, from the same start and on the same images, and
//! continues with the method whose validation metrics are best.
//!
//! Every checkpoint holds the state of the trials, so a run that was stopped during them can be resumed like any other. Until a
//! method is chosen, `weights/` holds two more files: the run's start, and its state at the end of the best trial so far.

use super::checkpoint::{self, RunState};
use super::epochs::{Run, Session};
use super::files::{START, TABLE, TRIAL};
use super::setup::{Data, balance};
use super::table::ResultsTable;
use crate::balance::{Method, TRIAL_SHARE, by_name};
use crate::config::TrainConfig;
use crate::data::Sample;
use crate::error::{Error, Result};
use crate::evaluate::mean_figure;
use crate::files;
use crate::reading::count_of;
use crate::tasks::Label;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The state of a run's trials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trials {
    /// The method on trial or, if `decided`, the chosen one.
    #[serde(with = "by_name")]
    pub method: &'static Method,
    /// The number of epochs that each method is tried for.
    epochs: u64,
    /// The overall metric that each candidate reached so far, in order; `None` if its loss was NaN or infinite.
    reached: Vec<Option<f64>>,
    /// The index of the best candidate so far.
    leader: Option<usize>,
    /// The results table of that candidate's trial.
    table: String,
    decided: bool,
    /// Seconds spent on trials of the methods that were not chosen; 0 until one is chosen.
    lost_s: f64,
    /// The checksums of the two files that trials are restored from, [`START`] and [`TRIAL`], in hexadecimal; `None` before
    /// they are written, and in files of older versions.
    #[serde(default)]
    checksums: [Option<String>; 2],
}

impl Trials {
    /// The methods that a run with this many tasks may train with. With one task there is
    /// nothing to balance, so only one method is left.
    pub fn candidates(config: &TrainConfig, tasks: usize) -> Vec<&'static Method> {
        let mut methods = config.balance.candidates();
        methods.truncate(if tasks < 2 { 1 } else { methods.len() });
        methods
    }

    /// The trials of a new run with these validation images; `None` if there is only one method to train with.
    ///
    /// # Errors
    /// No validation image has labels, or the trials would leave no epochs.
    pub fn new(config: &TrainConfig, tasks: usize, val: &[Sample]) -> Result<Option<Trials>> {
        let [first, _, ..] = Trials::candidates(config, tasks)[..] else { return Ok(None) };
        if !val.iter().any(|sample| sample.labels.iter().any(Label::is_labelled)) {
            return Err(Error::Usage(
                "--balance auto chooses a method by labelled validation images, and there are none: add some, or name a method"
                    .into(),
            ));
        }
        let share = config.balance_parameters.balance_trial.unwrap_or(TRIAL_SHARE);
        let epochs = (share * config.epochs as f64 - 1e-9).ceil().max(1.0) as u64;
        if epochs >= config.epochs {
            return Err(Error::Usage(format!(
                "--balance auto would try each method for {epochs} of {}, which leaves none to train: give more --epochs, or name a method",
                count_of(config.epochs as usize, "epoch")
            )));
        }
        Ok(Some(Trials {
            method: first,
            epochs,
            reached: Vec::new(),
            leader: None,
            table: String::new(),
            decided: false,
            lost_s: 0.0,
            checksums: [None, None],
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

    /// Whether the method on trial has trained all its epochs.
    pub fn one_is_over(state: &RunState) -> bool {
        state.trials.as_ref().is_some_and(|trials| !trials.decided && state.epochs_done >= trials.epochs)
    }

    /// Seconds of the run spent on trials whose weights were not kept.
    pub fn lost_s(state: &RunState) -> f64 {
        state.trials.as_ref().map_or(0.0, |trials| trials.lost_s)
    }

    /// Checks the trials in a checkpoint before it is resumed, so that an edited file cannot decide the choice.
    ///
    /// # Errors
    /// The trials hold values that no run writes.
    pub fn check(state: &RunState, file: &Path) -> Result<()> {
        let Some(trials) = &state.trials else { return Ok(()) };
        let candidates = state.config.balance.candidates();
        let tried = trials.reached.len();
        let is_sound = candidates.contains(&trials.method)
            && trials.epochs >= 1
            // A run that has chosen may be given as few epochs as a trial has.
            && trials.epochs < state.config.epochs + u64::from(trials.decided)
            && trials.leader.is_none_or(|leader| leader < tried)
            && if trials.decided { tried == candidates.len() } else { candidates.get(tried) == Some(&trials.method) };
        match is_sound {
            true => Ok(()),
            false => Err(Error::checkpoint(file, "its trials of --balance auto are not understood: start a new run")),
        }
    }

    /// The log's line when a trial begins or continues.
    pub fn line(&self, config: &TrainConfig) -> String {
        let (number, all) = (self.reached.len() + 1, config.balance.candidates().len());
        let epochs = count_of(self.epochs as usize, "epoch");
        format!("trial {number} of {all}: {} for {epochs}", self.method)
    }
}

/// Checks that a run with these choices can try its methods on these data, if it has to try any.
///
/// # Errors
/// The same as [`Trials::new`].
pub fn check_trials(config: &TrainConfig, data: &Data) -> Result<()> {
    Trials::new(config, data.tasks.len(), &data.val).map(drop)
}

impl Run {
    /// Logs the method on trial, if there is one. At step 0, saves the run's start for the other methods.
    ///
    /// # Errors
    /// The log or the file cannot be written, or a file that the trials need is missing or has changed.
    pub(super) fn announce_trial(&mut self, session: &Session) -> Result<()> {
        let Some(mut trials) = self.state.trials.clone().filter(|trials| !trials.decided) else { return Ok(()) };
        if self.state.step == 0 && trials.reached.is_empty() {
            trials.checksums[0] = Some(self.keep_last_as(START)?);
        }
        // A run killed at the end of a trial may have written a new `TRIAL` that its checkpoint does not know yet. It ends the trial
        // again and writes the same file.
        let needed = [(START, true), (TRIAL, trials.leader.is_some() && !Trials::one_is_over(&self.state))];
        for ((name, _), checksum) in needed.iter().zip(&trials.checksums).filter(|((_, needed), _)| *needed) {
            self.check_file(name, checksum.as_deref())?;
        }
        let line = trials.line(&self.state.config);
        self.state.trials = Some(trials);
        session.progress.say(&mut self.folder, &line)
    }

    /// Ends a trial, then begins the next one or chooses a method. `failure` is the report if a loss was NaN or infinite.
    ///
    /// # Errors
    /// A file cannot be read or written, or every candidate had such a loss.
    pub(super) fn end_trial(&mut self, session: &mut Session, failure: Option<&str>) -> Result<()> {
        let candidates = self.state.config.balance.candidates();
        let Some(mut trials) = self.state.trials.clone() else { return Ok(()) };
        let reached = if failure.is_some() { None } else { self.last_overall() };
        let line = match (failure, reached) {
            (Some(report), _) => format!("{} is out: {report}", trials.method),
            (None, Some(figure)) => format!("{} reached {figure:.3} (mean over the tasks)", trials.method),
            (None, None) => {
                return Err(Error::Usage(
                    "--balance auto: no task has a figure on the validation images to choose by (R² needs two labelled images): add labelled images, or name a method"
                        .into(),
                ));
            }
        };
        session.progress.say(&mut self.folder, &line)?;
        // Between equal metrics the earlier candidate wins.
        let best = trials.leader.and_then(|leader| trials.reached[leader]);
        if failure.is_none() && (trials.leader.is_none() || reached > best) {
            trials.leader = Some(trials.reached.len());
            trials.table = String::from_utf8_lossy(&read(&self.folder.path.join(TABLE))?).into_owned();
            trials.checksums[1] = Some(self.keep_last_as(TRIAL)?);
        }
        trials.reached.push(reached);
        match candidates.get(trials.reached.len()) {
            Some(&next) => self.next_trial(Trials { method: next, ..trials }, session),
            None => self.choose(trials, session),
        }
    }

    /// The overall metric of the last epoch.
    fn last_overall(&self) -> Option<f64> {
        mean_figure(self.state.past.iter().map(|epochs| epochs.last().and_then(|epoch| epoch.1)))
    }

    /// Begins the next trial from the run's start.
    fn next_trial(&mut self, trials: Trials, session: &mut Session) -> Result<()> {
        session.progress.say(&mut self.folder, &trials.line(&self.state.config))?;
        self.go_back_to(START, trials, session)?;
        self.save_last()?;
        session.table =
            ResultsTable::open(&self.folder, &self.columns(), self.state.epochs_done, &self.saved_columns())?;
        Ok(())
    }

    /// Continues from the end of the best trial.
    fn choose(&mut self, mut trials: Trials, session: &mut Session) -> Result<()> {
        let candidates = self.state.config.balance.candidates();
        let Some(leader) = trials.leader else {
            let report = "every method of --balance auto ended with a loss that is NaN or infinite; lower --lr0, or raise --warmup-epochs";
            let report = report.to_owned();
            return Err(Error::NonFinite { report });
        };
        let elapsed_s = session.clock.elapsed_s();
        let lost_s = elapsed_s * (1.0 - 1.0 / candidates.len() as f64);
        let table = std::mem::take(&mut trials.table);
        let trials = Trials { method: candidates[leader], decided: true, lost_s, ..trials };
        let is_tie = trials.reached.iter().filter(|reached| **reached == trials.reached[leader]).count() > 1;
        let tie = if is_tie { " (a tie: the method tried first wins)" } else { "" };
        let line = format!("continuing with {} from the end of its trial{tie}", trials.method);
        session.progress.say(&mut self.folder, &line)?;
        self.go_back_to(TRIAL, trials, session)?;
        // The last column tells whether an epoch is the best so far. The trial's last epoch now is.
        let table = table.strip_suffix("0\n").map_or(table.clone(), |rows| format!("{rows}1\n"));
        files::write_synced(&self.folder.path.join(TABLE), table.as_bytes())?;
        session.table =
            ResultsTable::open(&self.folder, &self.columns(), self.state.epochs_done, &self.saved_columns())?;
        // The trial's last epoch is the run's first `best`.
        // If a signal interrupts this, a resumed run ends the trial and chooses again.
        let results = self.validate(session)?.results;
        self.draw(&results, self.is_best(&results), &mut session.progress)?;
        self.save(&results)?;
        // Saved twice, so that `previous` too is a state that no longer needs the trials' files.
        self.save_last()?;
        self.drop_trial_files()
    }

    /// Removes the files that only trials need, once a method is chosen.
    ///
    /// # Errors
    /// A file exists and cannot be removed.
    pub(super) fn drop_trial_files(&self) -> Result<()> {
        if self.state.trials.as_ref().is_none_or(|trials| !trials.decided) {
            return Ok(());
        }
        for file in [START, TRIAL].map(|name| self.folder.weights(name)) {
            match std::fs::remove_file(&file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", &file)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Copies `last` to another name and returns the file's checksum.
    fn keep_last_as(&self, name: &str) -> Result<String> {
        let bytes = read(&self.folder.weights("last"))?;
        files::write_synced(&self.folder.weights(name), &bytes)?;
        Ok(hexadecimal(&bytes))
    }

    /// # Errors
    /// The file cannot be read, or differs from the one that the run wrote. Without a checksum it only has to be readable.
    fn check_file(&self, name: &str, checksum: Option<&str>) -> Result<()> {
        let file = self.folder.weights(name);
        match std::fs::read(&file) {
            Ok(bytes) if checksum.is_none_or(|checksum| checksum == hexadecimal(&bytes)) => Ok(()),
            outcome => {
                let what = if outcome.is_ok() { "is not the file that the run wrote" } else { "cannot be read" };
                let report = format!("{what}, and the run needs it to go on trying methods: start a new run");
                Err(Error::checkpoint(&file, report))
            }
        }
    }

    /// Restores the state from one of the trials' files.
    fn go_back_to(&mut self, name: &str, trials: Trials, session: &mut Session) -> Result<()> {
        let file = self.folder.weights(name);
        self.check_file(name, trials.checksums[usize::from(name == TRIAL)].as_deref())?;
        let loaded = checkpoint::load(&file)?;
        self.trainer.balance = balance(&loaded.state.config, Trials::method(&loaded.state), &self.data)?;
        loaded.restore(&mut self.trainer, &file)?;
        // The file of the start holds the first candidate's state; the other file holds the leader's.
        if Trials::method(&loaded.state) != trials.method {
            self.trainer.balance = balance(&loaded.state.config, trials.method, &self.data)?;
        }
        self.card = loaded.card;
        self.state = RunState {
            // The current choices, since --resume may have changed them.
            config: self.state.config.clone(),
            trials: Some(trials),
            elapsed_s: session.clock.elapsed_s(),
            isa: self.state.isa,
            tuning: self.state.tuning.take(),
            ..loaded.state
        };
        session.feed = self.feed(&self.state.config.clone(), &session.interrupted)?;
        session.progress.restart(self.trainer.step);
        Ok(())
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    format!("{:032x}", files::checksum(&[bytes]))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(Error::io("read", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::AUTO;

    #[test]
    fn a_trial_lasts_a_share_of_the_epochs_in_whole_ones_and_needs_labelled_images() {
        let config = |epochs| TrainConfig { balance: &AUTO, epochs, ..TrainConfig::default() };
        let labelled = |label| Sample { image: "a.png".into(), name: "a.png".into(), labels: vec![label] };
        let val = [labelled(Label::UNLABELLED), labelled(Label::of(crate::tasks::regress::Values::from(&[1.0][..])))];
        let epochs = |of| Trials::new(&config(of), 2, &val).unwrap().unwrap().epochs;
        assert_eq!([2, 10, 11, 25, 30, 100].map(epochs), [1, 1, 2, 3, 3, 10]);
        assert_eq!(Trials::new(&config(30), 1, &val).unwrap(), None);
        let refused = |epochs, val: &[Sample]| Trials::new(&config(epochs), 2, val).unwrap_err().to_string();
        assert!(refused(1, &val).contains("for 1 of 1 epoch,"));
        assert!(refused(30, &val[..1]).contains("labelled validation images, and there are none"));
        let named = TrainConfig { epochs: 30, ..TrainConfig::default() };
        assert_eq!(Trials::new(&named, 2, &val).unwrap(), None);
    }
}
