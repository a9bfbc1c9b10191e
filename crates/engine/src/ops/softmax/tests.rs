//! Softmax against plain f64, and the shared exponential.

use super::cpu::{exp_nonpositive, exponentials};
use crate::device::cpu::Cpu;
use crate::ops::testing::{Expected, Random, check, poisoned};

#[test]
fn softmax_matches_plain_loops() {
    for (n, k, spread) in [(1, 1, 1.0), (3, 2, 5.0), (5, 17, 20.0), (2, 1000, 3.0), (4, 33, 200.0), (0, 4, 1.0)] {
        let x = Random::new(k as u64).vector(n * k, -spread, spread);
        let y = x.chunks_exact(k).flat_map(plain_softmax).collect();
        // The difference from the maximum is rounded once, which e^x amplifies to up to |x| roundings.
        let expected = [Expected::near("y", 8 + 2 * spread as usize, y)];
        check(&format!("softmax [{n}, {k}] ±{spread}"), &expected, |cpu| {
            let mut y = poisoned(n * k);
            softmax(cpu, k, &x, &mut y);
            vec![y]
        });
    }
}

/// The softmax that the losses' kernels compute, on its own: y `[N, K]`, each row of x as probabilities.
fn softmax(cpu: &Cpu, k: usize, x: &[f32], y: &mut [f32]) {
    cpu.parallel_chunks(
        y,
        k,
        #[inline(always)]
        |row, y| {
            let x = &x[row * k..(row + 1) * k];
            let (_, sum) = exponentials(x, y);
            let scale = (1.0 / sum) as f32;
            y.iter_mut().for_each(|y| *y *= scale);
        },
    );
}

fn plain_softmax(x: &[f32]) -> Vec<f64> {
    let maximum = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = x.iter().map(|&x| (f64::from(x) - f64::from(maximum)).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|p| p / sum).collect()
}

#[test]
fn exponential_is_good_to_two_units_in_the_last_place() {
    for i in 0..=870_000 {
        let x = -i as f32 * 1e-4;
        let (got, exact) = (f64::from(exp_nonpositive(x)), f64::from(x).exp());
        assert!((got / exact - 1.0).abs() < 2.4e-7, "exp({x}) is {got}, not {exact}");
    }
    assert_eq!(exp_nonpositive(0.0), 1.0);
    assert_eq!(exp_nonpositive(-400.0), 0.0);
    assert_eq!(exp_nonpositive(f32::NEG_INFINITY), 0.0);
    assert!(exp_nonpositive(f32::NAN).is_nan());
}
