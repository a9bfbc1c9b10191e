//! The progress of a long job over many files: the threads that work count it, and a progress bar reads it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts that only grow within a stage; a reader may see them a moment late.
#[derive(Debug, Default)]
pub struct Progress {
    stage: Mutex<&'static str>,
    done: AtomicUsize,
    total: AtomicUsize,
}

impl Progress {
    /// Starts a stage such as `reading labels`, of `total` items; 0 where nobody knows yet.
    pub(crate) fn begin(&self, stage: &'static str, total: usize) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
        *self.stage.lock().unwrap_or_else(|e| e.into_inner()) = stage;
    }

    pub(crate) fn count(&self, items: usize) {
        self.done.fetch_add(items, Ordering::Relaxed);
    }

    /// The stage, what is done of it, and of how many where that is known.
    pub fn now(&self) -> (&'static str, usize, Option<usize>) {
        let stage = *self.stage.lock().unwrap_or_else(|e| e.into_inner());
        let total = self.total.load(Ordering::Relaxed);
        (stage, self.done.load(Ordering::Relaxed), (total > 0).then_some(total))
    }
}
