//! Binary cross-entropy against plain f64, its gradient against finite differences in f64, and changes that must not change the
//! loss.

use super::cpu::multi_label_loss;
use crate::ops::testing::{Expected, Random, check, golden, narrow, numbers, poisoned, wide};
use std::f64::consts::LN_2;

/// −ln of the probability that the sigmoid gives the true label, written so that nothing overflows.
pub(super) fn plain_loss(logits: &[f64], target: &[f32], denominator: f64) -> f64 {
    let entry = |(&x, &target): (&f64, &f32)| match target {
        t if t.is_nan() => 0.0,
        1.0 => (-x).max(0.0) + (1.0 + (-x.abs()).exp()).ln(),
        _ => x.max(0.0) + (1.0 + (-x.abs()).exp()).ln(),
    };
    logits.iter().zip(target).map(entry).sum::<f64>() / LN_2 / denominator
}

pub(super) fn plain_gradient(logits: &[f64], target: &[f32], denominator: f64) -> Vec<f64> {
    let slope = |(&x, &target): (&f64, &f32)| match target {
        t if t.is_nan() => 0.0,
        1.0 => -1.0 / (1.0 + x.exp()),
        _ => 1.0 / (1.0 + (-x).exp()),
    };
    logits.iter().zip(target).map(|entry| slope(entry) / LN_2 / denominator).collect()
}

/// `len` entries, of which every fourth is unlabelled.
pub(super) fn data(len: usize, spread: f32) -> (Vec<f32>, Vec<f32>) {
    let mut random = Random::new(len as u64);
    let target = (0..len).map(|i| if i % 4 == 2 { f32::NAN } else { random.below(2) as f32 }).collect();
    (random.vector(len, -spread, spread), target)
}

pub(super) fn labelled(target: &[f32]) -> f32 {
    target.iter().filter(|t| !t.is_nan()).count() as f32
}

fn run(logits: &[f32], target: &[f32], denominator: f32) -> Vec<Vec<f32>> {
    let (mut loss, mut dlogits) = (poisoned(1), poisoned(logits.len()));
    multi_label_loss(logits, target, denominator, &mut loss, &mut dlogits);
    vec![loss, dlogits]
}

#[test]
fn loss_and_gradient_match_f64() {
    for (len, spread) in [(1, 0.5), (5, 2.0), (33, 6.0), (12, 200.0), (0, 1.0)] {
        let (logits, target) = data(len, spread);
        let denominator = labelled(&target).max(1.0);
        let mut moving = wide(&logits);
        let value = |x: &[f64]| plain_loss(x, &target, f64::from(denominator));
        let loss = value(&moving);
        let dlogits = (0..len).map(|i| {
            let (old, step) = (moving[i], 1e-5);
            moving[i] = old + step;
            let above = value(&moving);
            moving[i] = old - step;
            let below = value(&moving);
            moving[i] = old;
            (above - below) / (2.0 * step)
        });
        // Finite differences of a loss up to 200 are accurate to 1e-8: a third of a rounding of the largest derivative.
        let share = 1.0 / LN_2 / f64::from(denominator);
        let expected =
            [Expected::near("loss", 1, vec![loss]), Expected::within("dlogits", 2, share, dlogits.collect())];
        check(&format!("multi-label loss {len} ±{spread}"), &expected, |_| run(&logits, &target, denominator));
    }
}

#[test]
fn the_loss_starts_at_one_and_does_not_overflow() {
    let start = run(&[0.0; 3], &[1.0, 0.0, 1.0], 3.0);
    let half = (0.5 / LN_2 / 3.0) as f32;
    assert_eq!(start, [vec![1.0], vec![-half, half, -half]]);
    let [loss, dlogits] = &run(&[200.0, -200.0, -200.0, 200.0], &[1.0, 0.0, 1.0, 0.0], 4.0)[..] else {
        panic!("two outputs")
    };
    assert!((f64::from(loss[0]) / (400.0 / LN_2 / 4.0) - 1.0).abs() < 1e-6);
    let share = (1.0 / LN_2 / 4.0) as f32;
    assert_eq!(dlogits[..], [0.0, 0.0, -share, share]);
}

#[test]
fn nothing_labelled_is_loss_zero() {
    for (target, denominator) in [([f32::NAN; 2], 0.0), ([f32::NAN; 2], 2.0), ([1.0; 2], 0.0)] {
        assert!(run(&[f32::NAN, -1.0], &target, denominator).iter().flatten().all(|&v| v == 0.0));
    }
}

/// Columns 0 … 3 of `[N, 4]` in another order.
fn permuted(values: &[f32], order: [usize; 4]) -> Vec<f32> {
    values.chunks_exact(4).flat_map(|row| order.map(|c| row[c])).collect()
}

#[test]
fn classes_may_change_places() {
    let (logits, target) = data(24, 3.0);
    let order = [2, 0, 3, 1];
    let (here, there) = (run(&logits, &target, 18.0), run(&permuted(&logits, order), &permuted(&target, order), 18.0));
    assert_eq!(permuted(&here[1], order), there[1]);
    // Sums in f64 in another order, rounded once.
    assert!((here[0][0] - there[0][0]).abs() <= f32::EPSILON * here[0][0]);
}

#[test]
fn a_class_without_labels_equals_an_absent_class() {
    let (mut logits, mut target) = data(24, 3.0);
    let without = |values: &[f32]| values.chunks_exact(4).flat_map(|row| [row[0], row[2], row[3]]).collect::<Vec<_>>();
    target.iter_mut().skip(1).step_by(4).for_each(|t| *t = f32::NAN);
    let absent = run(&without(&logits), &without(&target), 12.0);
    logits.iter_mut().skip(1).step_by(4).for_each(|x| *x = f32::NAN);
    let masked = run(&logits, &target, 12.0);
    assert_eq!((&masked[0], without(&masked[1])), (&absent[0], absent[1].clone()));
    assert!(masked[1].iter().skip(1).step_by(4).all(|&d| d == 0.0));
}

#[test]
fn nan_reaches_the_loss() {
    assert!(run(&[f32::NAN], &[0.0], 1.0).iter().all(|v| v[0].is_nan()));
    assert!(!run(&[f32::INFINITY], &[0.0], 1.0)[0][0].is_finite());
}

#[test]
fn loss_and_gradient_match_pytorch() {
    for case in golden("multi_label_loss").as_array().unwrap() {
        let (logits, target) = (narrow(&numbers(&case["logits"])), narrow(&numbers(&case["target"])));
        let denominator = case["denominator"].as_f64().unwrap();
        // Logits have three decimals, which are rounded to f32.
        let magnitude = logits.iter().fold(1.0, |a: f64, &b| a.max(f64::from(b.abs()))) / LN_2 / denominator;
        let expected = [
            Expected::within("loss", 4 * logits.len(), magnitude, numbers(&case["loss"])),
            Expected::within("gradient", 4, magnitude, numbers(&case["gradient"])),
        ];
        check(&case["name"].to_string(), &expected, |_| run(&logits, &target, denominator as f32));
    }
}
