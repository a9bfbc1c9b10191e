//! The fully connected layer against plain f64 loops.

use super::cpu::*;
use crate::ops::testing::{Expected, Random, check, poisoned};

/// The sum of the products of `terms`, and the sum of their magnitudes.
pub(super) fn sum(terms: impl Iterator<Item = (f32, f32)>) -> (f64, f64) {
    terms.fold((0.0, 0.0), |(value, magnitude), (a, b)| {
        let product = f64::from(a) * f64::from(b);
        (value + product, magnitude + product.abs())
    })
}

/// A layer `[N, C]` → `[N, K]` with its results in f64: y, dx, dweight (starting from 1), dbias (starting from −1).
pub(super) struct Layer {
    pub x: Vec<f32>,
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
    pub dy: Vec<f32>,
    pub expected: [Expected; 4],
}

pub(super) fn layer([n, c, k]: [usize; 3]) -> Layer {
    let mut random = Random::new((n * 1000 + c * 10 + k) as u64);
    let (x, weight, bias) =
        (random.vector(n * c, -1.0, 1.0), random.vector(k * c, -1.0, 1.0), random.vector(k, -1.0, 1.0));
    let dy = random.vector(n * k, -1.0, 1.0);
    let y = (0..n * k).map(|i| {
        let (x, weight) = (&x[i / k * c..][..c], &weight[i % k * c..][..c]);
        sum(x.iter().copied().zip(weight.iter().copied()).chain([(bias[i % k], 1.0)]))
    });
    let dx = (0..n * c).map(|i| sum((0..k).map(|j| (dy[i / c * k + j], weight[j * c + i % c]))));
    let dweight =
        (0..k * c).map(|i| sum((0..n).map(|image| (dy[image * k + i / c], x[image * c + i % c])).chain([(1.0, 1.0)])));
    let dbias = (0..k).map(|i| sum((0..n).map(|image| (dy[image * k + i], 1.0)).chain([(-1.0, 1.0)])));
    let expected = [
        Expected::new("y", c + 2, y.unzip()),
        Expected::new("dx", k + 1, dx.unzip()),
        Expected::new("dweight", n + 2, dweight.unzip()),
        Expected::new("dbias", n + 2, dbias.unzip()),
    ];
    Layer { x, weight, bias, dy, expected }
}

#[test]
fn layer_matches_plain_loops() {
    for (n, c, k) in [(1, 1, 1), (1, 16, 2), (3, 17, 5), (4, 64, 10), (9, 300, 33), (8, 515, 4), (0, 8, 3)] {
        let Layer { x, weight, bias, dy, expected } = layer([n, c, k]);
        check(&format!("linear [{n}, {c}] → {k}"), &expected, |cpu| {
            let (mut y, mut dx) = (poisoned(n * k), poisoned(n * c));
            forward(cpu, c, &x, &weight, &bias, &mut y);
            let inputs = BackwardInputs { dy: &dy, x: &x, weight: &weight };
            let (mut dweight, mut dbias) = (vec![1.0; k * c], vec![-1.0; k]);
            backward(cpu, c, &inputs, Some(&mut dx), &mut dweight, &mut dbias);
            let (mut again, mut dbias_again) = (vec![1.0; k * c], vec![-1.0; k]);
            backward(cpu, c, &inputs, None, &mut again, &mut dbias_again);
            assert_eq!((&again, &dbias_again), (&dweight, &dbias));
            vec![y, dx, dweight, dbias]
        });
    }
}
