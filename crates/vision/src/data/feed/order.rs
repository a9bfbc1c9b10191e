//! Maps each position of a loader's stream to an image. The result depends only on the position, never on the threads.

use super::sampling::Sampler;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The order of the images.
pub enum Order {
    /// Each sample once, as listed.
    Given,
    /// An endless sequence of a sampler's epochs.
    Shuffled(Epochs),
}

/// The epochs, each generated when it is first needed.
pub struct Epochs {
    sampler: Sampler,
    seed: u64,
    known: Mutex<BTreeMap<u64, Arc<[u32]>>>,
}

impl Epochs {
    pub fn new(sampler: Sampler, seed: u64) -> Epochs {
        Epochs { sampler, seed, known: Mutex::default() }
    }

    /// Whether an image may occur more than once in an epoch.
    pub fn repeats(&self) -> bool {
        self.sampler.repeats()
    }

    /// The images of an epoch, in order.
    pub fn epoch(&self, epoch: u64) -> Arc<[u32]> {
        // The map is consistent between statements, so a panic in another thread does not corrupt it.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(images) = known.get(&epoch) {
            return images.clone();
        }
        let images = self.sampler.epoch(self.seed, epoch);
        known.insert(epoch, images.clone());
        // For small data sets several epochs are in use at once. Older epochs are not needed again, or are generated
        // again.
        while known.len() > 16 {
            known.pop_first();
        }
        images
    }
}
