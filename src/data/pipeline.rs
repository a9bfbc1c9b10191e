//! The threads behind the loaders: workers decode and draw pieces of batches, one more thread puts the pieces together in
//! order. Which image stands where is arithmetic on positions, so the number of workers changes nothing.

use super::dataset::Sample;
use super::decode::Image;
use super::loader::{Batch, Broken, Encode, Item, LoaderOptions};
use super::random::Random;
use super::sampling::Sampler;
use super::transforms::{Composer, Drawn};
use crate::error::{Error, Result, one_line};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

/// Workers make pieces of batches, one more thread puts them together in order.
pub struct Pipeline<T> {
    shared: Arc<Shared<T>>,
    batches: Option<Receiver<Result<Batch<T>>>>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared<T> {
    samples: Arc<[Sample]>,
    options: LoaderOptions,
    composer: Composer,
    encode: Encode<T>,
    order: Order,
    pieces_per_batch: u64,
    claims: Mutex<Claims>,
    wake: Condvar,
    /// Buffers to use again: of pieces, and of batches.
    pieces: Mutex<Vec<Vec<u8>>>,
    images: Mutex<Vec<Vec<u8>>>,
    /// Images made so far, and the nanoseconds all workers took for them.
    made: AtomicU64,
    busy: AtomicU64,
}

/// Which piece comes next, and how far ahead workers may go.
struct Claims {
    next: u64,
    end: u64,
    stop: bool,
}

pub enum Order {
    Given,
    Shuffled { sampler: Sampler, epochs: Mutex<BTreeMap<u64, Arc<[u32]>>> },
}

impl Order {
    pub(super) fn shuffled(sampler: Sampler) -> Order {
        Order::Shuffled { sampler, epochs: Mutex::default() }
    }
}

/// Consecutive images of one batch.
struct Piece<T> {
    pixels: Vec<u8>,
    items: Vec<Item<T>>,
    broken: Vec<Broken>,
}

/// Images of a piece: few, so that the first batch is there soon and little waits in memory.
const PIECE: usize = 4;

/// Pieces that workers may go ahead of the assembler.
fn pieces_ahead(pieces_per_batch: u64, workers: usize) -> u64 {
    pieces_per_batch + workers as u64
}

impl<T: Send + 'static> Pipeline<T> {
    pub fn start(
        samples: Arc<[Sample]>,
        options: LoaderOptions,
        encode: Encode<T>,
        order: Order,
        start_batch: u64,
    ) -> Result<Self> {
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
        let composer = Composer::new(Arc::clone(&samples), &options);
        let shared = Arc::new(Shared {
            samples,
            composer,
            options,
            encode,
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
        let mut threads = Vec::new();
        for _ in 0..workers {
            let (shared, out) = (shared.clone(), piece_out.clone());
            threads.push(std::thread::spawn(move || shared.work(&out)));
        }
        let assembler = shared.clone();
        threads.push(std::thread::spawn(move || assembler.assemble(start_batch, &piece_in, &batch_out)));
        Ok(Pipeline { shared, batches: Some(batch_in), threads })
    }

    pub fn next(&mut self) -> Result<Batch<T>> {
        let received = self.batches.as_ref().and_then(|batches| batches.recv().ok());
        received.unwrap_or_else(|| Err(Error::Other("the data loader has stopped: an earlier batch failed".into())))
    }
}

impl<T> Pipeline<T> {
    /// What the workers could deliver, by the time they took so far.
    pub fn images_per_second(&self) -> f64 {
        let (made, busy) = (self.shared.made.load(Ordering::Relaxed), self.shared.busy.load(Ordering::Relaxed));
        made as f64 / (busy as f64 / 1e9) * self.shared.options.workers.max(1) as f64
    }

    /// Batches that are finished or begun at most while nobody takes any: those that wait, one in the assembler's hand, and
    /// those of the pieces that workers may make ahead.
    pub fn backlog(&self) -> usize {
        let Shared { options, pieces_per_batch, .. } = &*self.shared;
        let pieces = pieces_ahead(*pieces_per_batch, options.workers.max(1));
        options.prefetch.max(1) + 1 + pieces.div_ceil(*pieces_per_batch) as usize
    }

    /// Keeps a buffer for a later batch; more than a few would only hold memory.
    pub fn recycle(&self, images: Vec<u8>) {
        let mut kept = lock(&self.shared.images);
        if kept.len() < self.shared.options.prefetch + 2 {
            kept.push(images);
        }
    }
}

impl<T> Drop for Pipeline<T> {
    fn drop(&mut self) {
        lock(&self.shared.claims).stop = true;
        self.shared.wake.notify_all();
        // The assembler may be waiting to hand over a batch: without a receiver it gives up.
        drop(self.batches.take());
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // a panic in a worker was reported as an error already
        }
    }
}

/// The data behind these locks is whole between statements, so a panic elsewhere does not spoil it.
fn lock<D>(mutex: &Mutex<D>) -> MutexGuard<'_, D> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Send + 'static> Shared<T> {
    fn work(&self, out: &Sender<(u64, Result<Piece<T>>)>) {
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
            Order::Shuffled { .. } => first + start..first + end,
            Order::Given => {
                let samples = self.samples.len() as u64;
                (first + start).min(samples)..(first + end).min(samples)
            }
        }
    }

    fn piece(&self, number: u64) -> Result<Piece<T>> {
        let batch = number / self.pieces_per_batch;
        let image_bytes = self.composer.side(batch).pow(2) * 3;
        let mut piece =
            Piece { pixels: lock(&self.pieces).pop().unwrap_or_default(), items: Vec::new(), broken: Vec::new() };
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

    fn draw(&self, index: usize, image: &Image, batch: u64, mut random: Random, canvas: &mut [u8]) -> Item<T> {
        let Drawn { geometry, labels, emptied } = self.composer.draw(index, image, batch, &mut random, canvas);
        let encoded = (self.encode)(&labels, geometry.size);
        Item { index, geometry, labels, encoded, emptied }
    }

    /// The image at a position of the stream; in training the next readable one of its epoch where that is broken.
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
            Order::Shuffled { sampler, epochs } => {
                (Some(self.epoch(sampler, epochs, epoch)), samples, sampler.repeats())
            }
        };
        for skipped in 0..tries {
            let slot = ((slot + skipped) % samples) as usize;
            let index = permutation.as_ref().map_or(slot, |p| p[slot] as usize);
            let key = [self.options.seed, epoch, index as u64, skipped, slot as u64];
            // An image that comes twice is to look otherwise.
            let random = Random::new(if repeats { &key } else { &key[..4] });
            match self.composer.decode(index, batch, &random) {
                Ok(image) => return Ok(Some((index, image, random))),
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

    fn epoch(&self, sampler: &Sampler, known: &Mutex<BTreeMap<u64, Arc<[u32]>>>, epoch: u64) -> Arc<[u32]> {
        let mut known = lock(known);
        if let Some(images) = known.get(&epoch) {
            return images.clone();
        }
        let images = sampler.epoch(self.options.seed, epoch);
        known.insert(epoch, images.clone());
        // Small data sets have several epochs in flight; old ones are not asked for again, or made anew.
        while known.len() > 16 {
            known.pop_first();
        }
        images
    }

    fn allowed(&self) -> u64 {
        broken_allowed(self.options.max_broken, self.samples.len()) as u64
    }

    /// Puts pieces together in order of their numbers and hands batches over until nobody takes them.
    fn assemble(
        &self,
        start_batch: u64,
        pieces: &Receiver<(u64, Result<Piece<T>>)>,
        out: &SyncSender<Result<Batch<T>>>,
    ) {
        let mut early: BTreeMap<u64, Result<Piece<T>>> = BTreeMap::new();
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

    /// The next batch; `None` when the workers are gone.
    fn batch(
        &self,
        next: &mut u64,
        early: &mut BTreeMap<u64, Result<Piece<T>>>,
        pieces: &Receiver<(u64, Result<Piece<T>>)>,
        all_broken: &mut BTreeMap<usize, Broken>,
    ) -> Option<Result<Batch<T>>> {
        let side = self.composer.side(*next / self.pieces_per_batch);
        let total = self.options.batch * side * side * 3;
        let images = lock(&self.images).pop().unwrap_or_default();
        let mut batch = Batch { images, side, items: Vec::new(), broken: Vec::new() };
        batch.images.clear();
        batch.images.reserve_exact(total);
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
                return Some(Err(self.too_many(all_broken)));
            }
        }
        batch.images.resize(total, 0);
        Some(Ok(batch))
    }

    /// One piece is taken: workers may go one further.
    fn advance(&self) {
        lock(&self.claims).end += 1;
        self.wake.notify_one();
    }

    fn too_many(&self, broken: &BTreeMap<usize, Broken>) -> Error {
        let shown: Vec<String> =
            broken.values().take(5).map(|b| format!("{} ({})", one_line(&b.name), b.message)).collect();
        let tail = if broken.len() > 5 { "; …" } else { "" };
        Error::Other(format!(
            "{} of {} images cannot be read, more than --max-broken {} allows: {}{tail}; repair or remove them, or raise --max-broken",
            broken.len(),
            self.samples.len(),
            self.options.max_broken,
            shown.join("; ")
        ))
    }
}

/// How many of so many images may be unreadable: the share a person wrote, in whole images, and one in any case unless it is 0.
pub fn broken_allowed(share: f32, images: usize) -> usize {
    // As it was written: 0.01, not the 0.00999999977 that single precision makes of it.
    let written: f64 = share.to_string().parse().unwrap_or_else(|_| f64::from(share));
    match written > 0.0 {
        true => ((written * images as f64 + 1e-6) as usize).max(1),
        false => 0,
    }
}
