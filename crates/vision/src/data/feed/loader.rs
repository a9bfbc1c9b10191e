//! The loaders: background threads prepare batches for training and evaluation ahead of the step that uses them.
//! Workers read, draw and encode pieces of batches; one more thread assembles the pieces in order. The content of a
//! batch depends only on the seed and the batch's number, never on the number of threads.

use super::broken::{broken_allowed, too_many};
use super::order::{Epochs, Order};
use super::sampling::Sampler;
use super::{Batch, Broken, Item, LoaderOptions};
use crate::data::augment::{Composer, Drawn};
use crate::data::dataset::Sample;
use crate::data::images::Image;
use crate::data::random::Random;
use crate::device::cpu::memory::reserve;
use crate::error::{Error, Result};
use crate::threads::Threads;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// An endless shuffled stream of full batches. Each epoch is seeded by (seed, epoch) and is a permutation unless
/// [`Sampling`](super::Sampling) says otherwise; a batch may span two epochs. An unreadable image is replaced by the
/// next readable one.
pub struct TrainLoader {
    pipeline: Pipeline,
}

/// All samples once, in order. A batch is padded if images are unreadable or at the end of the list.
pub struct EvalLoader {
    pipeline: Pipeline,
    left: u64,
}

impl TrainLoader {
    /// Starts at batch number `start_batch`, as if the batches before it had been taken.
    ///
    /// Errors: `Usage` if there are no samples or an option is zero, `Threads` if the threads cannot be started.
    pub fn new(samples: Arc<[Sample]>, options: LoaderOptions, start_batch: u64) -> Result<Self> {
        let variety = &options.variety;
        let sampler = match &variety.mixture {
            Some(mixture) => Sampler::mixed(mixture),
            None => Sampler::new(&samples, variety.sampling, variety.repeat_factor),
        };
        let order = Order::Shuffled(Epochs::new(sampler, options.seed));
        let pipeline = Pipeline::start(samples, options, order, start_batch)?;
        Ok(TrainLoader { pipeline })
    }

    /// The largest number of batches that are finished or in progress while nobody takes any.
    pub fn backlog(&self) -> usize {
        self.pipeline.backlog()
    }

    /// Errors: `Other` if more images are unreadable than `max_broken` allows, naming the images.
    #[allow(clippy::should_implement_trait)] // endless, and an error ends it for good
    pub fn next(&mut self) -> Result<Batch> {
        self.pipeline.next()
    }

    /// The same, but gives up waiting once `stop` is set.
    ///
    /// # Errors
    /// The same, and `Interrupted`.
    pub fn next_unless(&mut self, stop: &AtomicBool) -> Result<Batch> {
        self.pipeline.next_unless(stop)
    }

    /// The number of images made so far.
    #[cfg(test)]
    pub fn made(&self) -> u64 {
        self.pipeline.shared.made.load(Ordering::Relaxed)
    }

    /// Returns a used image buffer, so that a later batch need not allocate one.
    pub fn recycle(&self, images: Vec<u8>) {
        self.pipeline.recycle(images);
    }

    /// The image rate the workers could reach, estimated from their work so far; NaN before the first image.
    pub fn images_per_second(&self) -> f64 {
        self.pipeline.images_per_second()
    }
}

impl EvalLoader {
    /// Starts the threads, which read every sample once in the given order.
    ///
    /// # Errors
    /// There are no samples, the batch or image size is 0, or the threads cannot be started.
    pub fn new(samples: Arc<[Sample]>, options: LoaderOptions) -> Result<Self> {
        let left = samples.len().div_ceil(options.batch.max(1)) as u64;
        let pipeline = Pipeline::start(samples, options, Order::Given, 0)?;
        Ok(EvalLoader { pipeline, left })
    }

    /// Returns a used image buffer, so that a later batch need not allocate one.
    pub fn recycle(&self, images: Vec<u8>) {
        self.pipeline.recycle(images);
    }
}

impl Iterator for EvalLoader {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let batch = self.pipeline.next();
        if batch.is_err() {
            self.left = 0;
        }
        Some(batch)
    }
}

/// The time after which a thread that waits for a batch looks whether it should stop.
const ATTENTIVE: Duration = Duration::from_millis(100);

fn stopped() -> Error {
    Error::Other("the data loader has stopped: an earlier batch failed".into())
}

/// Workers make pieces of batches; one more thread assembles them in order.
struct Pipeline {
    shared: Arc<Shared>,
    batches: Option<Receiver<Result<Batch>>>,
    threads: Vec<JoinHandle<()>>,
    /// Whether the process is about to end, so that nobody waits for the image that a worker decodes.
    is_abandoned: bool,
}

struct Shared {
    samples: Arc<[Sample]>,
    options: LoaderOptions,
    composer: Composer,
    order: Order,
    pieces_per_batch: u64,
    claims: Mutex<Claims>,
    wake: Condvar,
    /// Reusable buffers for pieces and for batches.
    pieces: Mutex<Vec<Vec<u8>>>,
    images: Mutex<Vec<Vec<u8>>>,
    /// The number of images made so far, and the total time all workers took for them in nanoseconds.
    made: AtomicU64,
    busy: AtomicU64,
}

/// The number of the next piece, and the limit up to which workers may work ahead.
struct Claims {
    next: u64,
    end: u64,
    stop: bool,
}

/// Consecutive images of one batch.
struct Piece {
    pixels: Vec<u8>,
    items: Vec<Item>,
    broken: Vec<Broken>,
}

/// The number of images in a piece. Small pieces make the first batch available soon and keep little waiting in memory.
const PIECE: usize = 4;

/// The way out if there is too little memory.
const ADVICE: &str = "lower --batch, --imgsz or --workers";

/// The number of pieces that workers may be ahead of the assembler.
fn pieces_ahead(pieces_per_batch: u64, workers: usize) -> u64 {
    pieces_per_batch + workers as u64
}

impl Pipeline {
    pub fn start(samples: Arc<[Sample]>, options: LoaderOptions, order: Order, start_batch: u64) -> Result<Self> {
        if samples.is_empty() || options.batch == 0 || options.imgsz == 0 {
            let message = format!(
                "{} images in batches of {} at {} pixels: each must be at least 1",
                samples.len(),
                options.batch,
                options.imgsz
            );
            return Err(Error::Usage(message));
        }
        let workers = options.workers.max(1);
        let prefetch = options.prefetch.max(1);
        let pieces_per_batch = options.batch.div_ceil(PIECE) as u64;
        let first = start_batch * pieces_per_batch;
        let ahead = pieces_ahead(pieces_per_batch, workers);
        let composer = Composer::new(Arc::clone(&samples), options.composing());
        let shared = Arc::new(Shared {
            samples,
            composer,
            options,
            order,
            pieces_per_batch,
            claims: Mutex::new(Claims { next: first, end: first + ahead, stop: false }),
            wake: Condvar::new(),
            pieces: Mutex::default(),
            images: Mutex::default(),
            made: AtomicU64::new(0),
            busy: AtomicU64::new(0),
        });
        let (piece_out, piece_in) = channel();
        let (batch_out, batch_in) = sync_channel(prefetch);
        let all = Threads { count: workers + 1, purpose: "to load images", lower: "--workers" };
        // If a thread cannot be started, dropping the pipeline ends the others.
        let mut pipeline = Pipeline { shared, batches: Some(batch_in), threads: Vec::new(), is_abandoned: false };
        for _ in 0..workers {
            let (shared, out) = (Arc::clone(&pipeline.shared), piece_out.clone());
            pipeline.threads.push(all.spawn(move || shared.work(&out))?);
        }
        let assembler = Arc::clone(&pipeline.shared);
        pipeline.threads.push(all.spawn(move || assembler.assemble(start_batch, &piece_in, &batch_out))?);
        Ok(pipeline)
    }

    pub fn next(&mut self) -> Result<Batch> {
        let received = self.batches.as_ref().and_then(|batches| batches.recv().ok());
        received.unwrap_or_else(|| Err(stopped()))
    }

    fn next_unless(&mut self, stop: &AtomicBool) -> Result<Batch> {
        let Some(batches) = &self.batches else { return Err(stopped()) };
        loop {
            match batches.recv_timeout(ATTENTIVE) {
                Ok(batch) => return batch,
                Err(RecvTimeoutError::Timeout) if stop.load(Ordering::Relaxed) => {
                    self.is_abandoned = true;
                    return Err(Error::Interrupted);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(stopped()),
            }
        }
    }
}

impl Pipeline {
    /// The image rate the workers could reach, estimated from their work so far.
    pub fn images_per_second(&self) -> f64 {
        let (made, busy) = (self.shared.made.load(Ordering::Relaxed), self.shared.busy.load(Ordering::Relaxed));
        made as f64 / (busy as f64 / 1e9) * self.shared.options.workers.max(1) as f64
    }

    /// The largest number of batches that are finished or in progress while nobody takes any: those in the channel, one
    /// held by the assembler, and those whose pieces workers may make ahead.
    pub fn backlog(&self) -> usize {
        let Shared { options, pieces_per_batch, .. } = &*self.shared;
        let pieces = pieces_ahead(*pieces_per_batch, options.workers.max(1));
        options.prefetch.max(1) + 1 + pieces.div_ceil(*pieces_per_batch) as usize
    }

    /// Keeps a buffer for a later batch; more than a few would waste memory.
    pub fn recycle(&self, images: Vec<u8>) {
        let mut kept = lock(&self.shared.images);
        if kept.len() < self.shared.options.prefetch + 2 {
            kept.push(images);
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        lock(&self.shared.claims).stop = true;
        self.shared.wake.notify_all();
        // The assembler may be blocked on handing over a batch; without a receiver it stops.
        drop(self.batches.take());
        if self.is_abandoned {
            return;
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // a panic in a worker was reported as an error already
        }
    }
}

/// The data behind these locks is consistent between statements, so a panic in another thread does not corrupt it.
fn lock<D>(mutex: &Mutex<D>) -> MutexGuard<'_, D> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn work(&self, out: &Sender<(u64, Result<Piece>)>) {
        while let Some(number) = self.claim() {
            let started = Instant::now();
            let made = catch_unwind(AssertUnwindSafe(|| self.piece(number)));
            if let Ok(Ok(piece)) = &made {
                self.made.fetch_add(piece.items.len() as u64, Ordering::Relaxed);
                self.busy.fetch_add(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
            }
            let piece =
                made.unwrap_or_else(|_| Err(Error::Other("a data worker panicked; its message is above".into())));
            if out.send((number, piece)).is_err() {
                return;
            }
        }
    }

    fn claim(&self) -> Option<u64> {
        let mut claims = lock(&self.claims);
        while !claims.stop && claims.next >= claims.end {
            claims = self.wake.wait(claims).unwrap_or_else(PoisonError::into_inner);
        }
        claims.next += 1;
        (!claims.stop).then_some(claims.next - 1)
    }

    /// The stream positions of a piece.
    fn positions(&self, number: u64) -> std::ops::Range<u64> {
        let batch = self.options.batch as u64;
        let start = number % self.pieces_per_batch * PIECE as u64;
        let end = (start + PIECE as u64).min(batch);
        let first = number / self.pieces_per_batch * batch;
        match self.order {
            Order::Shuffled(_) => first + start..first + end,
            Order::Given => {
                let samples = self.samples.len() as u64;
                (first + start).min(samples)..(first + end).min(samples)
            }
        }
    }

    fn piece(&self, number: u64) -> Result<Piece> {
        let batch = number / self.pieces_per_batch;
        let image_bytes = self.composer.side(batch).pow(2) * 3;
        let mut piece =
            Piece { pixels: lock(&self.pieces).pop().unwrap_or_default(), items: Vec::new(), broken: Vec::new() };
        reserve(&mut piece.pixels, PIECE * image_bytes, "the images of a batch", ADVICE)?;
        piece.pixels.resize(PIECE * image_bytes, 0);
        for position in self.positions(number) {
            if lock(&self.claims).stop {
                break;
            }
            let Some((index, image, random)) = self.readable(position, batch, &mut piece.broken)? else {
                continue;
            };
            let at = piece.items.len() * image_bytes;
            let item = self.draw(index, &image, batch, random, &mut piece.pixels[at..at + image_bytes]);
            piece.items.push(item);
        }
        piece.pixels.truncate(piece.items.len() * image_bytes);
        Ok(piece)
    }

    fn draw(&self, index: usize, image: &Image, batch: u64, mut random: Random, canvas: &mut [u8]) -> Item {
        let Drawn { geometry, labels, emptied } = self.composer.draw(index, image, batch, &mut random, canvas);
        let encoders = self.options.encoders.as_ref();
        let targets = encoders.map_or_else(Vec::new, |encoders| encoders.encode(&labels, geometry.size));
        Item { index, geometry, labels, targets, emptied }
    }

    /// The image at a position of the stream. In training, a broken image is replaced by the next readable one of its
    /// epoch.
    fn readable(
        &self,
        position: u64,
        batch: u64,
        broken: &mut Vec<Broken>,
    ) -> Result<Option<(usize, Arc<Image>, Random)>> {
        let samples = self.samples.len() as u64;
        let (epoch, slot) = (position / samples, position % samples);
        let (permutation, tries, repeats) = match &self.order {
            Order::Given => (None, 1, false),
            Order::Shuffled(epochs) => (Some(epochs.epoch(epoch)), samples, epochs.repeats()),
        };
        for skipped in 0..tries {
            let slot = ((slot + skipped) % samples) as usize;
            let index = permutation.as_ref().map_or(slot, |p| p[slot] as usize);
            let key = [self.options.seed, epoch, index as u64, skipped, slot as u64];
            // If an image occurs twice in an epoch, it must be transformed differently.
            let random = Random::new(if repeats { &key } else { &key[..4] });
            match self.composer.decode(index, batch, &random) {
                Ok(image) => return Ok(Some((index, image, random))),
                // The image may be whole. If it were left out, the result would depend on the memory that is free.
                Err(e @ Error::Memory { .. }) => return Err(e),
                Err(e) if broken.iter().all(|b| b.index != index) => {
                    broken.push(self.broken(index, &e));
                }
                Err(_) => {}
            }
            if broken.len() as u64 > self.allowed() {
                return Ok(None); // the assembler stops the run; no need to try them all
            }
        }
        match permutation {
            None => Ok(None),
            Some(_) => {
                let message = format!("none of {} images can be read", self.samples.len());
                Err(Error::Other(message))
            }
        }
    }

    fn broken(&self, index: usize, error: &Error) -> Broken {
        let name = self.samples[index].name.clone();
        Broken { index, name, message: error.reason() }
    }

    fn allowed(&self) -> u64 {
        broken_allowed(self.options.max_broken, self.samples.len()) as u64
    }

    /// Assembles pieces in order of their numbers and sends batches until the receiver is gone.
    fn assemble(&self, start_batch: u64, pieces: &Receiver<(u64, Result<Piece>)>, out: &SyncSender<Result<Batch>>) {
        let mut early: BTreeMap<u64, Result<Piece>> = BTreeMap::new();
        let mut all_broken: BTreeMap<usize, Broken> = BTreeMap::new();
        let mut next = start_batch * self.pieces_per_batch;
        loop {
            let batch = self.batch(&mut next, &mut early, pieces, &mut all_broken);
            let Some(batch) = batch else { return };
            let failed = batch.is_err();
            if out.send(batch).is_err() || failed {
                lock(&self.claims).stop = true;
                self.wake.notify_all();
                return;
            }
        }
    }

    /// The next batch; `None` if the workers have stopped.
    fn batch(
        &self,
        next: &mut u64,
        early: &mut BTreeMap<u64, Result<Piece>>,
        pieces: &Receiver<(u64, Result<Piece>)>,
        all_broken: &mut BTreeMap<usize, Broken>,
    ) -> Option<Result<Batch>> {
        let side = self.composer.side(*next / self.pieces_per_batch);
        let total = self.options.batch * side * side * 3;
        let images = lock(&self.images).pop().unwrap_or_default();
        let mut batch = Batch { images, side, items: Vec::new(), broken: Vec::new() };
        batch.images.clear();
        if let Err(e) = reserve(&mut batch.images, total, "the images of a batch", ADVICE) {
            return Some(Err(e));
        }
        for _ in 0..self.pieces_per_batch {
            let piece = loop {
                if let Some(piece) = early.remove(next) {
                    break piece;
                }
                let (number, piece) = pieces.recv().ok()?;
                early.insert(number, piece);
            };
            *next += 1;
            self.advance();
            let piece = match piece {
                Ok(piece) => piece,
                Err(e) => return Some(Err(e)),
            };
            batch.images.extend_from_slice(&piece.pixels);
            lock(&self.pieces).push(piece.pixels);
            batch.items.extend(piece.items);
            for broken in piece.broken {
                if all_broken.insert(broken.index, broken.clone()).is_none() {
                    batch.broken.push(broken);
                }
            }
            if all_broken.len() as u64 > self.allowed() {
                return Some(Err(too_many(all_broken, self.samples.len(), self.options.max_broken)));
            }
        }
        batch.images.resize(total, 0);
        Some(Ok(batch))
    }

    /// One piece was taken, so workers may work one piece further ahead.
    fn advance(&self) {
        lock(&self.claims).end += 1;
        self.wake.notify_one();
    }
}
