//! The progress of a long job over many files: worker threads update it, and a progress bar reads it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The counts only grow within a stage; a reader may see them slightly late.
#[derive(Debug, Default)]
pub struct Progress {
    stage: Mutex<&'static str>,
    done: AtomicUsize,
    total: AtomicUsize,
}

impl Progress {
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
