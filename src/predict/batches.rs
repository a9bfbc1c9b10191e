//! Decoded images arrive in any order; here they become batches in the order of the sources.
//!
//! A batch ends when it is full or when the whole window that begins with its first image has arrived, whichever comes
//! first. All images before that first one get their lines without this batch, which frees every place of the window; so
//! every image of the window sets out and arrives, readable or not, and the batch always ends.
//!
//! Which images share a batch therefore follows from the images alone, not from the number of workers or from timing. Only a
//! list that pauses changes it, and an answer does not depend on it. A batch is cut short where fewer images of a window can
//! be read than fill it: under `predict`, where more than half of them cannot.

use super::workers::{Arrival, Queue, Ready};
use crate::error::{Error, Result};
use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How long a list may pause before the images read so far are answered without the rest of their batch.
const PAUSE: Duration = Duration::from_millis(200);

/// How often a wait looks up whether the run was ended.
const TICK: Duration = Duration::from_millis(20);

pub struct Batches<'a> {
    pub arrivals: Receiver<Arrival>,
    pub queue: &'a Queue,
    pub batch: usize,
    /// The queue's window.
    pub window: usize,
    /// Whether a pause ends a batch: where a list may stay silent for ever.
    pub pauses: bool,
    pub order: Order,
}

/// The images that have arrived, and how far they are in order.
#[derive(Default)]
pub struct Order {
    early: BTreeMap<u64, Option<Ready>>,
    next: u64,
    arrived: u64,
    /// In order, without those that cannot be read.
    waiting: VecDeque<Ready>,
    end: Option<(u64, Option<Error>)>,
}

/// What there is to compute.
pub enum Next {
    Batch(Vec<Ready>),
    /// Nothing yet.
    Nothing,
    /// Nothing any more.
    End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    Yes,
    No,
}

impl Batches<'_> {
    /// The next batch, full but for the last and those that a pause or the window ended.
    ///
    /// # Errors
    /// The sources', after all that came before.
    pub fn next(&mut self, wait: Wait, stopped: impl Fn() -> bool) -> Result<Next> {
        let mut quiet_since = Instant::now();
        loop {
            if stopped() {
                return Ok(Next::End);
            }
            let order = &mut self.order;
            let full = order.waiting.len() >= self.batch;
            let over = order.waiting.front().is_some_and(|first| order.next - first.asked.index >= self.window as u64);
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

    /// How many images there are, once that is known.
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
