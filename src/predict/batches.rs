//! Decoded images arrive in any order; this file turns them into batches in the order of the sources.
//!
//! A batch ends when it is full, or when the whole window that starts with its first image has arrived, whichever comes
//! first. All images before that first one get their lines without this batch, which frees all places of the window. So
//! every image of the window is fed and arrives, readable or not, and the batch always ends.
//!
//! The images that share a batch therefore depend on the images alone, not on the number of workers or on timing. Only a
//! list that pauses changes them, and predictions do not depend on them. A batch stays smaller if too few images of a window
//! can be read to fill it; in `predict` that means more than half are unreadable.

use super::workers::{Arrival, Queue, Ready};
use crate::error::{Error, Result};
use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// If a list pauses for longer than this, the images read so far are processed without waiting for a full batch.
const PAUSE: Duration = Duration::from_millis(200);

/// Polling interval for the end of the run.
const TICK: Duration = Duration::from_millis(20);

pub struct Batches<'a> {
    pub arrivals: Receiver<Arrival>,
    pub queue: &'a Queue,
    pub batch: usize,
    /// The queue's window.
    pub window: usize,
    /// Whether a pause ends a batch. Needed for a list, which may stay silent for ever.
    pub pauses: bool,
    pub order: Order,
}

/// The images that have arrived, and the progress in their order.
#[derive(Default)]
pub struct Order {
    early: BTreeMap<u64, Option<Ready>>,
    next: u64,
    arrived: u64,
    /// In order, without unreadable images.
    waiting: VecDeque<Ready>,
    end: Option<(u64, Option<Error>)>,
}

/// The next work for the network.
pub enum Next {
    Batch(Vec<Ready>),
    /// Nothing at the moment.
    Nothing,
    /// No more work.
    End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    Yes,
    No,
}

impl Batches<'_> {
    /// The next batch. It is full unless it is the last, or a pause or the window ended it.
    ///
    /// # Errors
    /// The error of the sources, after all batches before it.
    pub fn next(&mut self, wait: Wait, stopped: impl Fn() -> bool) -> Result<Next> {
        let mut quiet_since = Instant::now();
        loop {
            if stopped() {
                return Ok(Next::End);
            }
            let order = &mut self.order;
            let full = order.waiting.len() >= self.batch;
            let over = order.waiting.front().is_some_and(|first| order.next - first.queued.index >= self.window as u64);
            let last = order.end.as_ref().is_some_and(|end| end.0 == order.next);
            let paused = self.pauses && quiet_since.elapsed() >= PAUSE && self.queue.fed() == order.arrived;
            if full || over || ((last || paused) && !order.waiting.is_empty()) {
                let count = self.batch.min(order.waiting.len());
                return Ok(Next::Batch(order.waiting.drain(..count).collect()));
            }
            if last {
                let failure = order.end.as_mut().and_then(|end| end.1.take());
                return failure.map_or(Ok(Next::End), Err);
            }
            let arrival = match wait {
                Wait::Yes => self.arrivals.recv_timeout(TICK),
                Wait::No => self.arrivals.recv_timeout(Duration::ZERO),
            };
            match arrival {
                Ok(arrival) => {
                    self.order.take(arrival);
                    quiet_since = Instant::now();
                }
                Err(RecvTimeoutError::Timeout) if wait == Wait::Yes => {}
                Err(RecvTimeoutError::Timeout) => return Ok(Next::Nothing),
                Err(RecvTimeoutError::Disconnected) => return Ok(Next::End),
            }
        }
    }

    /// The number of images, once it is known.
    pub fn total(&self) -> Option<u64> {
        self.order.end.as_ref().map(|end| end.0)
    }
}

impl Order {
    fn take(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::End(total, failure) => self.end = Some((total, failure)),
            Arrival::Decoded(index, ready) => {
                self.arrived += 1;
                self.early.insert(index, ready);
                while let Some(ready) = self.early.remove(&self.next) {
                    self.next += 1;
                    self.waiting.extend(ready);
                }
            }
        }
    }
}
