//! The progress of a long job over many files: worker threads update it, and a progress bar reads it. A job that writes a folder
//! also learns here that it was interrupted.

use crate::error::{Error, Result};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// The counts only grow within a stage; a reader may see them slightly late.
#[derive(Debug, Default)]
pub struct Progress {
    stage: Mutex<&'static str>,
    done: AtomicUsize,
    total: AtomicUsize,
    listen: Option<fn() -> Result<Arc<AtomicBool>>>,
}

/// Whether a job that is writing was interrupted.
pub(crate) struct Stop(Option<Arc<AtomicBool>>);

impl Stop {
    /// Errors: `Interrupted` if the flag is set.
    pub fn check(&self) -> Result<()> {
        match &self.0 {
            Some(flag) if flag.load(Ordering::Relaxed) => Err(Error::Interrupted),
            _ => Ok(()),
        }
    }
}

impl Progress {
    /// The progress of a job that can be interrupted while it writes. `listen` is called when it begins to write and returns the
    /// flag that a signal sets; before that nothing has to be removed, and a signal may end the process.
    pub fn stoppable(listen: fn() -> Result<Arc<AtomicBool>>) -> Progress {
        Progress { listen: Some(listen), ..Progress::default() }
    }

    /// Listens for a signal from here on, until the result is dropped.
    pub(crate) fn stop(&self) -> Result<Stop> {
        self.listen.map(|listen| listen()).transpose().map(Stop)
    }

    /// Starts a stage such as `reading labels` with `total` items; 0 if the total is not known yet.
    pub(crate) fn begin(&self, stage: &'static str, total: usize) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
        *self.stage.lock().unwrap_or_else(|e| e.into_inner()) = stage;
    }

    pub(crate) fn count(&self, items: usize) {
        self.done.fetch_add(items, Ordering::Relaxed);
    }

    /// The stage, the number of finished items, and the total if it is known.
    pub fn now(&self) -> (&'static str, usize, Option<usize>) {
        let stage = *self.stage.lock().unwrap_or_else(|e| e.into_inner());
        let total = self.total.load(Ordering::Relaxed);
        (stage, self.done.load(Ordering::Relaxed), (total > 0).then_some(total))
    }
}
