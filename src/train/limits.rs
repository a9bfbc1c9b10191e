//! Decides when a run ends before its last epoch: after too many epochs without improvement, or at its time limit.

use super::files::TABLE;
use crate::config::TrainConfig;
use std::path::Path;
use std::time::{Duration, Instant};

/// Seconds of an hour.
const HOUR: f64 = 3600.0;

/// The time spent on a run over all its sessions.
pub(super) struct Clock {
    before: f64,
    started: Instant,
    budget: Option<f64>,
}

impl Clock {
    /// Starts the clock of a session after `elapsed_s` seconds in earlier ones.
    pub fn new(elapsed_s: f64, config: &TrainConfig) -> Clock {
        Clock { before: elapsed_s, started: Instant::now(), budget: config.time.map(|hours| hours * HOUR) }
    }

    /// Seconds trained.
    pub fn elapsed_s(&self) -> f64 {
        self.before + self.started.elapsed().as_secs_f64()
    }

    pub fn is_over(&self) -> bool {
        self.budget.is_some_and(|budget| self.elapsed_s() >= budget)
    }
}

/// The number of whole epochs that fit into the run's time limit, estimated from the finished ones; at least those.
pub(super) fn epochs_that_fit(hours: f64, elapsed_s: f64, epochs_done: u64) -> u64 {
    let each = elapsed_s / epochs_done.max(1) as f64;
    ((hours * HOUR / each.max(1e-9)) as u64).max(epochs_done)
}

/// Whether `patience` epochs have passed since the best one; 0 disables the check.
pub(super) fn is_out_of_patience(patience: u64, best_epoch: Option<u64>, epochs_done: u64) -> bool {
    patience > 0 && best_epoch.is_some_and(|best| epochs_done >= best + patience)
}

/// Seconds trained until the end of the last of `epochs_done` epochs, from the results table; `None` if that lacks it.
pub(super) fn last_epoch_ended_s(folder: &Path, epochs_done: u64) -> Option<f64> {
    if epochs_done == 0 {
        return Some(0.0);
    }
    let mut reader = csv::Reader::from_path(folder.join(TABLE)).ok()?;
    let row = reader.records().last()?.ok()?;
    (row.get(0)? == epochs_done.to_string()).then(|| row.get(1)?.parse().ok()).flatten()
}

/// Decides when to save within an epoch.
pub(super) struct SaveTimer {
    every: Duration,
    last: Instant,
}

impl SaveTimer {
    pub fn new(config: &TrainConfig) -> SaveTimer {
        SaveTimer {
            every: Duration::try_from_secs_f32(60.0 * config.save_minutes).unwrap_or(Duration::MAX),
            last: Instant::now(),
        }
    }

    pub fn is_due(&self) -> bool {
        self.last.elapsed() >= self.every
    }

    pub fn restart(&mut self) {
        self.last = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_counts_from_the_best_epoch() {
        let over = |patience, best, done| is_out_of_patience(patience, best, done);
        assert!(!over(0, Some(1), 1000) && !over(3, None, 1000));
        assert!(!over(3, Some(5), 7) && over(3, Some(5), 8) && over(3, Some(5), 9));
    }

    #[test]
    fn the_end_of_the_last_epoch_is_in_the_table() {
        let folder = std::env::temp_dir().join(format!("polyhead-limits-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        assert_eq!((last_epoch_ended_s(&folder, 0), last_epoch_ended_s(&folder, 2)), (Some(0.0), None));
        std::fs::write(folder.join(TABLE), "epoch,time,lr\n1,5.5,1\n2,11.0,1\n").unwrap();
        assert_eq!((last_epoch_ended_s(&folder, 2), last_epoch_ended_s(&folder, 3)), (Some(11.0), None));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_epochs_fit_the_time_limit() {
        assert_eq!(epochs_that_fit(1.0, 600.0, 2), 12);
        assert_eq!(epochs_that_fit(1.0, 610.0, 2), 11);
        // After the time limit, finished epochs stay counted.
        assert_eq!(epochs_that_fit(0.1, 600.0, 5), 5);
        assert!(epochs_that_fit(1.0, 0.0, 1) > 1000);
    }
}
