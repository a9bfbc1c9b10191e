//! Which image stands at which position of a loader's stream: it depends on the position alone, never on the threads.

use super::sampling::Sampler;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The order in which images come.
pub enum Order {
    /// Each sample once, as listed.
    Given,
    /// The epochs of a sampler, without end.
    Shuffled(Epochs),
}

/// The epochs, each made when it is first asked for.
pub struct Epochs {
    sampler: Sampler,
    seed: u64,
    known: Mutex<BTreeMap<u64, Arc<[u32]>>>,
}

impl Epochs {
    pub fn new(sampler: Sampler, seed: u64) -> Epochs {
        Epochs { sampler, seed, known: Mutex::default() }
    }

    /// Whether an image may come more than once an epoch.
    pub fn repeats(&self) -> bool {
        self.sampler.repeats()
    }

    /// The images of an epoch in their order.
    pub fn epoch(&self, epoch: u64) -> Arc<[u32]> {
        // The map is whole between statements, so a panic elsewhere does not spoil it.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(images) = known.get(&epoch) {
            return images.clone();
        }
        let images = self.sampler.epoch(self.seed, epoch);
        known.insert(epoch, images.clone());
        // Small data sets have several epochs in flight; old ones are not asked for again, or are made again.
        while known.len() > 16 {
            known.pop_first();
        }
        images
    }
}
