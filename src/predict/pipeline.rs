//! The pipeline from the sources to the written lines: the feeder, the workers, the writer, and the batches on the
//! calling thread. A worker's handling of an image and the computation of a batch are elsewhere.

use super::batches::{Batches, Next, Order, Wait};
use super::output::{self, Outputs};
use super::sources::Found;
use super::tally::Tally;
use super::workers::{self, Finished, Handling, Queue, Ready};
use super::{Ended, Event};
use crate::error::Result;
use crate::tasks::HeadOutput;
use crate::threads::Threads;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};

/// Sizes of the pipeline.
pub struct Plan {
    /// Batch size.
    pub batch: usize,
    /// Maximum number of images in the pipeline, from the source to the line; at least 1.
    pub window: usize,
    pub workers: usize,
    /// Whether the sources may pause for any length of time.
    pub pauses: bool,
}

/// Computes batches.
pub trait Computing {
    /// Copies a batch to the device. The batch that was started may still be computing. `total` is the number of all
    /// images, once it is known.
    fn load(&mut self, batch: &[Ready], total: Option<u64>) -> Result<()>;

    /// Starts computing the batch that was loaded last.
    fn start(&mut self) -> Result<()>;

    /// Waits for the outputs of the batch that was started last.
    fn answers(&mut self) -> Result<Vec<HeadOutput>>;
}

/// Runs feeder, workers and writer, and the executor on this thread.
///
/// # Errors
/// A thread cannot be started, the sources or the network fail, or writing fails.
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
    let all = Threads { count: plan.workers + 2, purpose: "to read images and write predictions", lower: "--workers" };
    // Not joined, because it may be waiting for a silent source.
    all.spawn(move || workers::feed(sources, &feeder.0, &feeder.1))?;
    let queue = &*queue;
    std::thread::scope(|scope| {
        // Also ends the threads that have started if the next one cannot be.
        let close = queue.close_at_end();
        for _ in 0..plan.workers {
            let (arrived, finish) = (arrived.clone(), finish.clone());
            all.spawn_scoped(scope, move || {
                let _close = queue.close_at_end();
                workers::run(handling, queue, &arrived, &finish);
            })?;
        }
        drop((arrived, finish));
        let writer = all.spawn_scoped(scope, move || {
            let _close = queue.close_at_end();
            writing.run(&finished, queue)
        })?;
        let Plan { batch, window, pauses, .. } = *plan;
        let mut batches = Batches { arrivals, queue, batch, window, pauses, order: Order::default() };
        let stopped = || interrupt.load(Ordering::Relaxed) || queue.is_closed();
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

/// Computes batches as they arrive and passes their outputs on. The next batch is copied to a GPU while one computes.
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

/// Writes and counts the lines.
pub struct Writing<'a, E> {
    pub outputs: &'a mut Outputs,
    pub tally: &'a mut Tally,
    pub events: &'a mut E,
}

impl<E: FnMut(Event)> Writing<'_, E> {
    /// Writes the finished pieces in order, and flushes before every wait.
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
            // All workers have ended.
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
