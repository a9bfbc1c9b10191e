//! The threads beside the executor: a feeder that iterates over the sources, and workers that decode, letterbox, draw and
//! describe. The number of images in the pipeline is bounded, from the source to the line.

use super::answer::Answered;
use super::formats::{Numbers, Sheet, yolo};
use super::highest_scores::HighestScores;
use super::image_processor::ImageProcessor;
use super::picture::{Pictures, annotate};
use super::sources::Found;
use crate::data::images::decode::decode;
use crate::data::{Geometry, Image};
use crate::device::cpu::memory::{check_available, zeroed_bytes};
use crate::error::{Error, Result, shown};
use crate::tasks::HeadOutput;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// An image in the pipeline, with its index in the order of the sources.
pub struct QueuedImage {
    pub index: u64,
    pub found: Found,
    number: u64,
}

/// A decoded image as network input.
pub struct Ready {
    pub queued: QueuedImage,
    pub geometry: Geometry,
    /// `[size, size, 3]`
    pub canvas: Vec<u8>,
    /// Kept only if a picture will be drawn.
    pub image: Option<Image>,
}

/// A message to the executor.
pub enum Arrival {
    /// `None` for an unreadable image.
    Decoded(u64, Option<Ready>),
    /// The number of images that were fed, and the error that ended the sources, if any.
    End(u64, Option<Error>),
}

/// A message to the writer.
pub struct Finished {
    pub index: u64,
    /// One piece per sheet.
    pub pieces: Result<Vec<String>>,
    /// The file and the reason, for an unreadable image.
    pub broken: Option<String>,
}

enum Job {
    Decode(QueuedImage),
    Finish { ready: Ready, outputs: Arc<Vec<HeadOutput>>, row: usize },
}

/// The jobs for the workers, and the number of images that may still be fed.
pub struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    decode: VecDeque<QueuedImage>,
    finish: VecDeque<Job>,
    free: usize,
    fed: u64,
    /// No more images are fed, and no worker waits.
    closed: bool,
}

impl Queue {
    /// Limits the pipeline to `window` images at a time.
    pub fn new(window: usize) -> Queue {
        Queue { state: Mutex::new(State { free: window, ..State::default() }), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is consistent between statements, so a panic elsewhere does not corrupt it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until one more image may be fed; false once none may be.
    fn may_feed(&self) -> bool {
        let mut state = self.lock();
        while state.free == 0 && !state.closed {
            state = self.wait(state);
        }
        !state.closed
    }

    fn feed(&self, queued: QueuedImage) {
        let mut state = self.lock();
        state.free -= 1;
        state.fed += 1;
        state.decode.push_back(queued);
        drop(state);
        self.changed.notify_all();
    }

    /// Number of images fed so far.
    pub fn fed(&self) -> u64 {
        self.lock().fed
    }

    /// Records that the line of an image was written.
    pub fn arrived(&self) {
        self.lock().free += 1;
        self.changed.notify_all();
    }

    /// Passes a batch and its outputs to the workers.
    pub fn finish(&self, batch: Vec<Ready>, outputs: Vec<HeadOutput>) {
        let outputs = Arc::new(outputs);
        let jobs = batch.into_iter().enumerate();
        let jobs = jobs.map(|(row, ready)| Job::Finish { ready, outputs: Arc::clone(&outputs), row });
        self.lock().finish.extend(jobs);
        self.changed.notify_all();
    }

    /// Lets the workers finish computed batches and end; other images are dropped.
    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.decode.clear();
        drop(state);
        self.changed.notify_all();
    }

    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Closes the queue when dropped, so that a panic on one thread does not leave the others waiting.
    pub fn close_at_end(&self) -> CloseAtEnd<'_> {
        CloseAtEnd(self)
    }

    /// The next job; the one closest to being written comes first.
    fn take(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.finish.pop_front() {
                return Some(job);
            }
            if let Some(queued) = state.decode.pop_front() {
                return Some(Job::Decode(queued));
            }
            if state.closed {
                return None;
            }
            state = self.wait(state);
        }
    }
}

/// See [`Queue::close_at_end`].
pub struct CloseAtEnd<'a>(&'a Queue);

impl Drop for CloseAtEnd<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Iterates over the sources until they or the queue end. If it waits for a list, the process may exit first.
pub fn feed(mut sources: impl Iterator<Item = Result<Found>>, queue: &Queue, out: &Sender<Arrival>) {
    let followed = catch_unwind(AssertUnwindSafe(|| {
        let mut numbers = Numbers::default();
        while queue.may_feed() {
            match sources.next() {
                Some(Ok(found)) => {
                    let index = queue.fed();
                    let number = numbers.next(&found.path, index + 1);
                    queue.feed(QueuedImage { index, found, number });
                }
                Some(Err(e)) => return Some(e),
                None => break,
            }
        }
        None
    }));
    let panicked = |_| Some(Error::Other("reading the sources panicked; the message is above".into()));
    // If the queue was closed, the receiver may be gone.
    let _ = out.send(Arrival::End(queue.fed(), followed.unwrap_or_else(panicked)));
}

/// A worker's handling of an image.
pub trait Handling: Sync {
    /// The image as network input, or the line of an unreadable one.
    fn decode(&self, queued: QueuedImage) -> Result<Ready, Finished>;

    /// One piece per sheet, from row `row` of a batch's outputs.
    fn finish(&self, ready: &Ready, outputs: &[HeadOutput], row: usize) -> Result<Vec<String>>;
}

/// The loop of a worker.
pub fn run(handling: &impl Handling, queue: &Queue, arrivals: &Sender<Arrival>, finished: &Sender<Finished>) {
    // A failed send means that the run has ended.
    while let Some(job) = queue.take() {
        match job {
            Job::Decode(queued) => {
                let index = queued.index;
                let ready = match handling.decode(queued) {
                    Ok(ready) => Some(ready),
                    Err(line) => {
                        let _ = finished.send(line);
                        None
                    }
                };
                let _ = arrivals.send(Arrival::Decoded(index, ready));
            }
            Job::Finish { ready, outputs, row } => {
                let made = catch_unwind(AssertUnwindSafe(|| handling.finish(&ready, &outputs, row)));
                let panicked = |_| Err(Error::Other("a worker panicked; its message is above".into()));
                let pieces = made.unwrap_or_else(panicked);
                let _ = finished.send(Finished { index: ready.queued.index, pieces, broken: None });
            }
        }
    }
}

/// The shared data of the workers.
pub struct Work<'a> {
    pub processor: &'a ImageProcessor<'a>,
    pub sheets: &'a [Sheet],
    pub labels: Option<yolo::Labels>,
    pub pictures: Option<Pictures>,
    pub scores: &'a HighestScores,
}

impl Work<'_> {
    fn broken(&self, queued: &QueuedImage, reason: &str) -> Finished {
        let file = &queued.found.path;
        let pieces = self.sheets.iter().map(|sheet| sheet.broken(file, reason)).collect();
        Finished { index: queued.index, pieces, broken: Some(format!("{}: {reason}", shown(file))) }
    }
}

/// What the user can do if there is too little memory.
pub const ADVICE: &str = "lower --imgsz, --batch or --workers, or leave the pictures out with --no-images";

/// The end of the whole prediction at this image.
fn failed(queued: &QueuedImage, error: Error) -> Finished {
    Finished { index: queued.index, pieces: Err(error), broken: None }
}

impl Handling for Work<'_> {
    fn decode(&self, queued: QueuedImage) -> Result<Ready, Finished> {
        // A panic of the decoder means a broken image; other images are unaffected.
        let image = match catch_unwind(|| decode(&queued.found.path)) {
            Ok(Ok(image)) => image,
            // The image may be whole. If it were left out, the answers would depend on the memory that is free.
            Ok(Err(e @ Error::Memory { .. })) => return Err(failed(&queued, e)),
            Ok(Err(e)) => return Err(self.broken(&queued, &e.reason())),
            Err(_) => return Err(self.broken(&queued, "cannot decode this image: the decoder panicked")),
        };
        let canvas = zeroed_bytes(self.processor.image_bytes(), "the image of a batch", ADVICE);
        let mut canvas = canvas.map_err(|e| failed(&queued, e))?;
        let geometry = self.processor.draw(&image, &mut canvas);
        let image = self.pictures.is_some().then_some(image);
        Ok(Ready { queued, geometry, canvas, image })
    }

    fn finish(&self, ready: &Ready, outputs: &[HeadOutput], row: usize) -> Result<Vec<String>> {
        let answer = self.processor.answer(outputs, row, &ready.geometry);
        let card = self.processor.card;
        let tasks = &card.architecture.tasks;
        let Found { path, name } = &ready.queued.found;
        let size = ready.geometry.source;
        let answered = Answered { card, file: path, number: ready.queued.number, size, answer: &answer };
        self.scores.add(&answer, || self.processor.answer_above_zero(outputs, row, &ready.geometry));
        if let (Some(pictures), Some(image)) = (&self.pictures, &ready.image) {
            check_available(2 * image.rgb.len(), &format!("the picture of {}", shown(path)), ADVICE)?;
            pictures.write(&ready.queued.found, &annotate(tasks, image, &answer))?;
        }
        if let Some(labels) = &self.labels {
            labels.write(&name.with_ending(path, "txt"), &answered)?;
        }
        self.sheets.iter().map(|sheet| sheet.piece(&answered)).collect()
    }
}
