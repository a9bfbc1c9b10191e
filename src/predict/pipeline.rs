//! How images pass from the sources to their lines: the feeder, the workers, the writer, and the batches on the calling
//! thread. Not here: what a worker does with an image, and what computes a batch.

use super::batches::{Batches, Next, Order, Wait};
use super::output::{self, Outputs};
use super::sources::Found;
use super::workers::{self, Finished, Handling, Queue, Ready};
use super::{Ended, Event, Tally};
use crate::error::Result;
use crate::tasks::HeadOutput;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};

/// How the work is cut.
pub struct Plan {
    /// Images that are computed at once.
    pub batch: usize,
    /// Images that may be on their way at once, from the source to the line: at least 1.
    pub window: usize,
    pub workers: usize,
    /// Whether the sources may stay silent for any time.
    pub pauses: bool,
}

/// What computes batches.
pub trait Computing {
    /// Brings a batch to the device, where the one that was started may still be computing. `total` is the number of all
    /// images, once that is known.
    fn load(&mut self, batch: &[Ready], total: Option<u64>) -> Result<()>;

    /// Starts on the batch loaded last.
    fn start(&mut self) -> Result<()>;

    /// The answers to the batch started last, as soon as they are there.
    fn answers(&mut self) -> Result<Vec<HeadOutput>>;
}

/// Runs feeder, workers, writer, and on this thread the executor.
pub fn answer_all<E: FnMut(Event) + Send>(
    plan: &Plan,
    sources: impl Iterator<Item = Result<Found>> + Send + 'static,
    handling: &impl Handling,
    network: &mut impl Computing,
    mut writing: Writing<E>,
    interrupt: &AtomicBool,
) -> Result<Ended> {
    let queue = Arc::new(Queue::new(plan.window));
    let (arrived, arrivals) = channel();
    let (finish, finished) = channel();
    let feeder = (Arc::clone(&queue), arrived.clone());
    // Not waited for: it may be reading from somebody who keeps silent.
    std::thread::spawn(move || workers::feed(sources, &feeder.0, &feeder.1));
    let queue = &*queue;
    std::thread::scope(|scope| {
        for _ in 0..plan.workers {
            let (arrived, finish) = (arrived.clone(), finish.clone());
            scope.spawn(move || {
                let _close = queue.close_at_end();
                workers::run(handling, queue, &arrived, &finish);
            });
        }
        drop((arrived, finish));
        let writer = scope.spawn(move || {
            let _close = queue.close_at_end();
            writing.run(&finished, queue)
        });
        let Plan { batch, window, pauses, .. } = *plan;
        let mut batches = Batches { arrivals, queue, batch, window, pauses, order: Order::default() };
        let stopped = || interrupt.load(Ordering::Relaxed) || queue.is_closed();
        let close = queue.close_at_end();
        let computed = compute_all(&mut batches, network, stopped);
        drop(close);
        let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match written {
            Err(e) if output::is_closed(&e) => return Ok(Ended::Unread),
            written => written?,
        }
        computed?;
        Ok(if interrupt.load(Ordering::Relaxed) { Ended::Interrupted } else { Ended::Whole })
    })
}

/// Takes batches as they come and hands their outputs on. The next batch travels to a GPU while one computes.
fn compute_all(batches: &mut Batches, network: &mut impl Computing, stopped: impl Fn() -> bool) -> Result<()> {
    let mut running = None;
    loop {
        let wait = if running.is_some() { Wait::No } else { Wait::Yes };
        match batches.next(wait, &stopped)? {
            Next::Batch(batch) => {
                network.load(&batch, batches.total())?;
                if let Some(previous) = running.take() {
                    batches.queue.finish(previous, network.answers()?);
                }
                network.start()?;
                running = Some(batch);
            }
            Next::Nothing | Next::End if running.is_some() => {
                let outputs = network.answers()?;
                running.take().into_iter().for_each(|batch| batches.queue.finish(batch, outputs.clone()));
            }
            Next::Nothing => {}
            Next::End => return Ok(()),
        }
    }
}

/// Who writes and counts the lines.
pub struct Writing<'a, E> {
    pub outputs: &'a mut Outputs,
    pub tally: &'a mut Tally,
    pub events: &'a mut E,
}

impl<E: FnMut(Event)> Writing<'_, E> {
    /// Writes what workers finish, in order, and before every wait all that is whole.
    fn run(&mut self, finished: &Receiver<Finished>, queue: &Queue) -> Result<()> {
        let mut early = BTreeMap::new();
        loop {
            let next = match finished.try_recv() {
                Ok(next) => Some(next),
                Err(_) => {
                    self.outputs.flush()?;
                    (self.events)(Event::Lines(self.tally.lines));
                    finished.recv().ok()
                }
            };
            // The workers have ended.
            let Some(next) = next else { return Ok(()) };
            early.insert(next.index, next);
            while let Some(Finished { pieces, broken, .. }) = early.remove(&self.tally.lines) {
                self.outputs.add(&pieces?)?;
                queue.arrived();
                if let Some(broken) = &broken {
                    (self.events)(Event::Broken(broken));
                }
                self.tally.count(broken)?;
            }
        }
    }
}
