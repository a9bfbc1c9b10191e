//! Random numbers for the data path: a small counter-based generator keyed by purpose (seed, epoch, image), so that no
//! draw depends on the thread that makes it or on the order of draws.

use crate::random::{GAMMA, fnv, mix};

/// SplitMix64 (Steele, Lea, Flood 2014); its start is a hash of the key.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The stream of `key`; equal keys give equal streams.
    pub fn new(key: &[u64]) -> Self {
        let state = key.iter().fold(0x243F_6A88_85A3_08D3, |state, part| mix(state ^ mix(part.wrapping_add(GAMMA))));
        Random { state }
    }

    /// The next 64 bits of the stream.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GAMMA);
        mix(self.state)
    }

    /// Uniform in `[0, 1)`.
    pub fn unit(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Uniform between `low` and `high`.
    pub fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Uniform in `0..bound`; `bound` at least 1. Multiply-shift: the bias is below 2⁻³² for any bound that fits memory.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }

    /// Shuffles by Fisher–Yates.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// A seeded hash of a string (FNV-1a, finished by `mix`). It decides the split of a path, equally on every machine.
pub fn hash_text(seed: u64, text: &str) -> u64 {
    mix(fnv(text) ^ mix(seed.wrapping_add(GAMMA)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_those_of_every_version_before() {
        assert_eq!(
            (Random::new(&[1, 2, 3]).next_u64(), hash_text(7, "side")),
            (0x4fac_a477_98e6_9561, 0x584c_7191_8398_2644)
        );
    }

    #[test]
    fn equal_keys_give_equal_streams_and_others_differ() {
        let draw = |key: &[u64]| Random::new(key).next_u64();
        assert_eq!(draw(&[1, 2, 3]), draw(&[1, 2, 3]));
        assert_ne!(draw(&[1, 2, 3]), draw(&[1, 3, 2]));
        assert_ne!(draw(&[1, 2]), draw(&[1, 2, 0]));
    }

    #[test]
    fn draws_are_uniform_enough() {
        let mut random = Random::new(&[7]);
        let mut counts = [0usize; 10];
        for _ in 0..100_000 {
            counts[random.below(10)] += 1;
        }
        assert!(counts.iter().all(|c| (9_600..10_400).contains(c)), "{counts:?}");
        let mean = (0..100_000).map(|_| random.unit()).sum::<f32>() / 1e5;
        assert!((mean - 0.5).abs() < 0.005, "{mean}");
    }
}
