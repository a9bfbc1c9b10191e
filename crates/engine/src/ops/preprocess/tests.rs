//! Normalisation against plain f64, for every byte value and colour.

use super::cpu::normalise;
use super::{DEVIATION, MEAN};
use crate::ops::testing::{Expected, Random, check, poisoned};

#[test]
fn normalisation_matches_plain_loops() {
    for pixels in [0, 1, 5, 256, 8191, 8192 * 3 + 1] {
        let mut random = Random::new(pixels as u64);
        let images: Vec<u8> = match pixels {
            256 => (0..768).map(|i| (i / 3) as u8).collect(),
            _ => (0..pixels * 3).map(|_| random.bits() as u8).collect(),
        };
        let plain =
            |(i, &v): (usize, &u8)| (f64::from(v) / 255.0 - f64::from(MEAN[i % 3])) / f64::from(DEVIATION[i % 3]);
        let x = images.iter().enumerate().map(plain).collect();
        // Two rounded constants, a product and a sum of numbers below 4.5.
        let expected = [Expected::within("x", 4, 4.5, x)];
        check(&format!("preprocess {pixels} pixels"), &expected, |cpu| {
            let mut x = poisoned(pixels * 3);
            normalise(cpu, &images, MEAN, DEVIATION, &mut x);
            vec![x]
        });
    }
}
