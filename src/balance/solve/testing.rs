//! Gramians of known rank for tests.

use super::gramian::Gramian;

/// A number in −1..1 from a seed and an index.
pub fn uniform(seed: u64, index: u64) -> f64 {
    let z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ index.wrapping_add(1).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let z = (z ^ (z >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((z ^ (z >> 32)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

/// The Gramian of `size` gradients of `dimension` random numbers.
pub fn gramian(size: usize, dimension: usize, seed: u64) -> Gramian {
    let gradient =
        |task: usize| -> Vec<f64> { (0..dimension).map(|i| uniform(seed, (task * dimension + i) as u64)).collect() };
    of_gradients(&(0..size).map(gradient).collect::<Vec<_>>())
}

/// The Gramian of gradients, one per row.
pub fn of_gradients(gradients: &[Vec<f64>]) -> Gramian {
    let product = |a: &Vec<f64>, b: &Vec<f64>| a.iter().zip(b).map(|(a, b)| a * b).sum();
    let values = gradients.iter().flat_map(|a| gradients.iter().map(move |b| product(a, b))).collect();
    Gramian::new(gradients.len(), values)
}
