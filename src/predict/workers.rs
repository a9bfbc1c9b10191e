//! What runs beside the executor: a feeder that follows the sources, and workers that decode, letterbox, draw and describe.
//! How many images are on their way at once is bounded, from the source to the line.

use super::answer::Answered;
use super::formats::{Numbers, Sheet, yolo};
use super::names::Spared;
use super::picture::annotate;
use super::sight::Sight;
use super::sources::Found;
use crate::data::images::decode::decode;
use crate::data::{Geometry, Image};
use crate::draw;
use crate::error::{Error, Result};
use crate::tasks::HeadOutput;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// An image on its way, by its place in the order of the sources.
pub struct Asked {
    pub index: u64,
    pub found: Found,
    number: u64,
}

/// An image as the network takes it.
pub struct Ready {
    pub asked: Asked,
    pub geometry: Geometry,
    /// `[size, size, 3]`
    pub canvas: Vec<u8>,
    /// Kept only to be drawn on.
    pub image: Option<Image>,
}

/// To the executor.
pub enum Arrival {
    /// Nothing where the image could not be read.
    Decoded(u64, Option<Ready>),
    /// The number of images that were fed, and why there are no more.
    End(u64, Option<Error>),
}

/// To the writer.
pub struct Finished {
    pub index: u64,
    /// One piece per sheet.
    pub pieces: Result<Vec<String>>,
    /// The file and what is wrong with it.
    pub broken: Option<String>,
}

enum Job {
    Decode(Asked),
    Finish { ready: Ready, outputs: Arc<Vec<HeadOutput>>, row: usize },
}

/// What waits for a worker, and how many images may still set out.
pub struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    decode: VecDeque<Asked>,
    finish: VecDeque<Job>,
    free: usize,
    fed: u64,
    /// No image sets out any more, and no worker waits.
    closed: bool,
}

impl Queue {
    /// At most `window` images are on their way at once.
    pub fn new(window: usize) -> Queue {
        Queue { state: Mutex::new(State { free: window, ..State::default() }), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between statements, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until one more image may set out; false where none may any more.
    fn may_feed(&self) -> bool {
        let mut state = self.lock();
        while state.free == 0 && !state.closed {
            state = self.wait(state);
        }
        !state.closed
    }

    fn feed(&self, asked: Asked) {
        let mut state = self.lock();
        state.free -= 1;
        state.fed += 1;
        state.decode.push_back(asked);
        drop(state);
        self.changed.notify_all();
    }

    /// How many images have set out.
    pub fn fed(&self) -> u64 {
        self.lock().fed
    }

    /// The line of an image is written.
    pub fn arrived(&self) {
        self.lock().free += 1;
        self.changed.notify_all();
    }

    /// Hands a batch and its outputs to the workers.
    pub fn finish(&self, batch: Vec<Ready>, outputs: Vec<HeadOutput>) {
        let outputs = Arc::new(outputs);
        let jobs = batch.into_iter().enumerate();
        let jobs = jobs.map(|(row, ready)| Job::Finish { ready, outputs: Arc::clone(&outputs), row });
        self.lock().finish.extend(jobs);
        self.changed.notify_all();
    }

    /// Workers finish what was computed and end; what was not is dropped.
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

    /// Closes when dropped: a panic on one thread must not leave the others waiting.
    pub fn close_at_end(&self) -> CloseAtEnd<'_> {
        CloseAtEnd(self)
    }

    /// The next work to do, the one nearest to its line first.
    fn take(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.finish.pop_front() {
                return Some(job);
            }
            if let Some(asked) = state.decode.pop_front() {
                return Some(Job::Decode(asked));
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

/// Follows the sources until they or the queue end. Where a list is waited for, the process may end before this does.
pub fn feed(mut sources: impl Iterator<Item = Result<Found>>, queue: &Queue, out: &Sender<Arrival>) {
    let followed = catch_unwind(AssertUnwindSafe(|| {
        let mut numbers = Numbers::default();
        while queue.may_feed() {
            match sources.next() {
                Some(Ok(found)) => {
                    let index = queue.fed();
                    let number = numbers.next(&found.path, index + 1);
                    queue.feed(Asked { index, found, number });
                }
                Some(Err(e)) => return Some(e),
                None => break,
            }
        }
        None
    }));
    let panicked = |_| Some(Error::Other("reading the sources panicked; the message is above".into()));
    // If the queue was closed, nobody listens any more.
    let _ = out.send(Arrival::End(queue.fed(), followed.unwrap_or_else(panicked)));
}

/// What a worker does with an image.
pub trait Handling: Sync {
    /// The image as the network takes it, or the line of one that cannot be read.
    fn decode(&self, asked: Asked) -> Result<Ready, Finished>;

    /// One piece per sheet, from row `row` of a batch's outputs.
    fn finish(&self, ready: &Ready, outputs: &[HeadOutput], row: usize) -> Result<Vec<String>>;
}

/// One worker's life.
pub fn run(handling: &impl Handling, queue: &Queue, arrivals: &Sender<Arrival>, finished: &Sender<Finished>) {
    // If nobody listens any more, the run has ended.
    while let Some(job) = queue.take() {
        match job {
            Job::Decode(asked) => {
                let index = asked.index;
                let ready = match handling.decode(asked) {
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
                let _ = finished.send(Finished { index: ready.asked.index, pieces, broken: None });
            }
        }
    }
}

/// What a worker needs to know.
pub struct Work<'a> {
    pub sight: &'a Sight<'a>,
    pub sheets: &'a [Sheet],
    pub labels: Option<yolo::Labels>,
    pub pictures: Option<Pictures>,
}

/// The folder pictures are drawn into, and the images they must not be drawn over.
pub struct Pictures {
    pub out: PathBuf,
    pub spared: Spared,
}

impl Work<'_> {
    fn broken(&self, asked: &Asked, reason: &str) -> Finished {
        let file = &asked.found.path;
        let pieces = self.sheets.iter().map(|sheet| sheet.broken(file, reason)).collect();
        Finished { index: asked.index, pieces, broken: Some(format!("{}: {reason}", file.display())) }
    }
}

impl Handling for Work<'_> {
    fn decode(&self, asked: Asked) -> Result<Ready, Finished> {
        // A decoder that panics has met a broken image; the others are none the worse.
        let image = match catch_unwind(|| decode(&asked.found.path)) {
            Ok(Ok(image)) => image,
            Ok(Err(e)) => return Err(self.broken(&asked, &e.reason())),
            Err(_) => return Err(self.broken(&asked, "cannot decode this image: the decoder panicked")),
        };
        let mut canvas = vec![0; self.sight.image_bytes()];
        let geometry = self.sight.draw(&image, &mut canvas);
        let image = self.pictures.is_some().then_some(image);
        Ok(Ready { asked, geometry, canvas, image })
    }

    fn finish(&self, ready: &Ready, outputs: &[HeadOutput], row: usize) -> Result<Vec<String>> {
        let answer = self.sight.answer(outputs, row, &ready.geometry);
        let card = self.sight.card;
        let tasks = &card.architecture.tasks;
        let Found { path, name } = &ready.asked.found;
        let size = ready.geometry.source;
        let answered = Answered { card, file: path, number: ready.asked.number, size, answer: &answer };
        if let (Some(Pictures { out, spared }), Some(image)) = (&self.pictures, &ready.image) {
            let picture = out.join(name.with_ending(path, "png"));
            spared.check(&picture)?;
            if let Some(folder) = picture.parent() {
                std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
            }
            draw::write_png(&picture, &annotate(tasks, image, &answer))?;
        }
        if let Some(labels) = &self.labels {
            labels.write(&name.with_ending(path, "txt"), &answered)?;
        }
        self.sheets.iter().map(|sheet| sheet.piece(&answered)).collect()
    }
}
