//! Cross-entropy against plain f64, its gradient against finite differences in f64, and changes that must not change the loss.

use super::cpu::{Mixed, Shares, class_loss};
use crate::device::cpu::Cpu;
use crate::ops::testing::{Expected, Random, check, golden, narrow, numbers, poisoned, wide};

pub(super) fn plain_loss(k: usize, logits: &[f64], class: &[i32], denominator: f64) -> f64 {
    let row = |(x, &class): (&[f64], &i32)| {
        let Ok(class) = usize::try_from(class) else { return 0.0 };
        let maximum = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        maximum + x.iter().map(|x| (x - maximum).exp()).sum::<f64>().ln() - x[class]
    };
    let sum: f64 = logits.chunks_exact(k).zip(class).map(row).sum();
    if denominator == 0.0 { 0.0 } else { sum / (k as f64).ln() / denominator }
}

fn run(cpu: &Cpu, k: usize, logits: &[f32], class: &[i32], denominator: f32) -> Vec<Vec<f32>> {
    shared(cpu, k, logits, class, Shares::default(), denominator)
}

fn shared(cpu: &Cpu, k: usize, logits: &[f32], class: &[i32], shares: Shares, denominator: f32) -> Vec<Vec<f32>> {
    let (mut loss, mut dlogits) = (poisoned(1), poisoned(logits.len()));
    class_loss(cpu, k, (logits, class), shares, denominator, &mut loss, &mut dlogits);
    vec![loss, dlogits]
}

/// Loss and gradient from the definition in f64, where a label is a share of every class.
pub(super) fn plain_shared(
    k: usize,
    logits: &[f64],
    class: &[i32],
    weights: Option<&[f32]>,
    smoothing: f32,
    denominator: f64,
) -> [Vec<f64>; 2] {
    let (smoothing, scale) = (f64::from(smoothing), 1.0 / (k as f64).ln() / denominator);
    let weight = |c: usize| weights.map_or(1.0, |w| f64::from(w[c]));
    let (mut loss, mut gradient) = (0.0, Vec::new());
    for (x, &class) in logits.chunks_exact(k).zip(class) {
        let Ok(class) = usize::try_from(class) else {
            gradient.extend(vec![0.0; k]);
            continue;
        };
        let maximum = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = x.iter().map(|x| (x - maximum).exp()).sum();
        let of_label = |c: usize| if c == class { (1.0 - smoothing) * weight(class) } else { 0.0 };
        let q: Vec<f64> = (0..k).map(|c| of_label(c) + smoothing / k as f64 * weight(c)).collect();
        let total: f64 = q.iter().sum();
        loss += x.iter().zip(&q).map(|(x, q)| q * (maximum + sum.ln() - x)).sum::<f64>() * scale;
        gradient.extend(x.iter().zip(&q).map(|(x, q)| scale * (total * (x - maximum).exp() / sum - q)));
    }
    [vec![loss], gradient]
}

/// For each row, a second class and the first class's part. Every fourth row has no second class, and some have the same class
/// twice.
pub(super) fn mixtures(n: usize, k: usize) -> (Vec<i32>, Vec<f32>) {
    let mut random = Random::new((n * 31 + k) as u64);
    let other = (0..n).map(|row| if row % 4 == 3 { -1 } else { random.below(k) as i32 }).collect();
    (other, random.vector(n, 0.0, 1.0))
}

/// Loss, gradient and denominator of mixed labels: the sum of each single label's, weighted by its part.
pub(super) fn plain_mixed(k: usize, logits: &[f64], class: &[i32], shares: Shares) -> [Vec<f64>; 3] {
    let Mixed { other, part } = shares.mixed.unwrap();
    let weight = |c: i32| shares.weights.map_or(1.0, |w| f64::from(w[c as usize]));
    let (mut loss, mut gradient, mut denominator) = (0.0, Vec::new(), 0.0);
    for (row, x) in logits.chunks_exact(k).enumerate() {
        let first = if other[row] < 0 { 1.0 } else { f64::from(part[row]) };
        let mut mixed = vec![0.0; k];
        for (label, part) in [(class[row], first), (other[row], 1.0 - first)] {
            if class[row] < 0 || part == 0.0 {
                continue;
            }
            let smoothing = shares.smoothing;
            let [of_label, slopes] = plain_shared(k, x, &[label], shares.weights, smoothing, 1.0);
            // The evenly spread part of smoothing belongs to the row. Both labels include it, and their parts sum to 1.
            loss += part * of_label[0];
            mixed.iter_mut().zip(slopes).for_each(|(m, s)| *m += part * s);
            denominator += part * weight(label);
        }
        gradient.extend(mixed);
    }
    // The caller divides in f32.
    let rounded = f64::from(denominator as f32);
    [vec![loss / rounded], gradient.iter().map(|g| g / rounded).collect(), vec![rounded]]
}

/// A weight for each class.
pub(super) fn class_weights(k: usize) -> Vec<f32> {
    (0..k).map(|c| 0.25 + (c * 7 % 5) as f32 / 2.0).collect()
}

/// The sum of the weights of the labelled rows.
pub(super) fn weight_sum(class: &[i32], weights: Option<&[f32]>) -> f32 {
    class.iter().filter_map(|&c| usize::try_from(c).ok()).map(|c| weights.map_or(1.0, |w| w[c])).sum()
}

/// `n` rows, of which every third is unlabelled.
pub(super) fn data(n: usize, k: usize, spread: f32) -> (Vec<f32>, Vec<i32>) {
    let mut random = Random::new((n * 100 + k) as u64);
    let class = (0..n).map(|row| if row % 3 == 1 { -1 } else { random.below(k) as i32 }).collect();
    (random.vector(n * k, -spread, spread), class)
}

#[test]
fn loss_and_gradient_match_f64() {
    for (n, k, spread) in
        [(1, 2, 1.0), (3, 5, 4.0), (7, 17, 8.0), (130, 3, 2.0), (2, 100, 3.0), (5, 4, 200.0), (0, 3, 1.0)]
    {
        let (logits, class) = data(n, k, spread);
        let denominator = class.iter().filter(|&&c| c >= 0).count() as f32;
        let mut moving = wide(&logits);
        let value = |x: &[f64]| plain_loss(k, x, &class, f64::from(denominator));
        let loss = value(&moving);
        let step = 1e-5;
        let dlogits = (0..logits.len()).map(|i| {
            let old = moving[i];
            moving[i] = old + step;
            let above = value(&moving);
            moving[i] = old - step;
            let below = value(&moving);
            moving[i] = old;
            (above - below) / (2.0 * step)
        });
        // The loss is as accurate as the differences from the maximum; a share is at most 1 ÷ (ln K · denominator).
        let share = 1.0 / (k as f64).ln() / f64::from(denominator.max(1.0));
        let dlogits = Expected::within("dlogits", 8 + 2 * spread as usize, share, dlogits.collect());
        let expected = [Expected::within("loss", 8, loss + 1.0, vec![loss]), dlogits];
        check(&format!("class loss [{n}, {k}] ±{spread}"), &expected, |cpu| run(cpu, k, &logits, &class, denominator));
    }
}

#[test]
fn logits_of_two_hundred_do_not_overflow() {
    let [loss, dlogits] = &run(&Cpu::new(1).unwrap(), 2, &[200.0, -200.0, -200.0, 200.0], &[0, 0], 2.0)[..] else {
        panic!("two outputs")
    };
    let exact = 400.0 / 2f64.ln() / 2.0;
    assert!((f64::from(loss[0]) / exact - 1.0).abs() < 1e-6);
    let share = (1.0 / 2f64.ln() / 2.0) as f32;
    assert_eq!(dlogits[..], [0.0, 0.0, -share, share]);
}

#[test]
fn nothing_labelled_is_loss_zero() {
    let (logits, _) = data(4, 3, f32::NAN);
    for (class, denominator) in [([-1; 4], 0.0), ([-1; 4], 3.0), ([1; 4], 0.0)] {
        let outputs = run(&Cpu::new(2).unwrap(), 3, &logits, &class, denominator);
        assert!(outputs.iter().flatten().all(|&v| v == 0.0));
    }
}

#[test]
fn unlabelled_rows_change_nothing() {
    let cpu = Cpu::new(2).unwrap();
    let (mut logits, class) = data(9, 5, 3.0);
    let before = run(&cpu, 5, &logits, &class, 6.0);
    for row in (0..9).filter(|&row| class[row] < 0) {
        logits[row * 5..(row + 1) * 5].fill(f32::NAN);
    }
    assert_eq!(run(&cpu, 5, &logits, &class, 6.0), before);
}

#[test]
fn rows_may_change_places() {
    let cpu = Cpu::new(2).unwrap();
    let (logits, class) = data(9, 5, 3.0);
    let forward = run(&cpu, 5, &logits, &class, 6.0);
    let turned: Vec<f32> = logits.chunks_exact(5).rev().flatten().copied().collect();
    let backward = run(&cpu, 5, &turned, &class.iter().rev().copied().collect::<Vec<_>>(), 6.0);
    assert!((forward[0][0] - backward[0][0]).abs() < 1e-6);
    let returned: Vec<f32> = backward[1].chunks_exact(5).rev().flatten().copied().collect();
    assert_eq!(forward[1], returned);
}

#[test]
fn nan_reaches_the_loss() {
    let outputs = run(&Cpu::new(1).unwrap(), 2, &[f32::NAN, 0.0], &[1], 1.0);
    assert!(outputs[0][0].is_nan());
    let outputs = run(&Cpu::new(1).unwrap(), 2, &[f32::INFINITY, 0.0], &[1], 1.0);
    assert!(!outputs[0][0].is_finite());
}

#[test]
fn loss_and_gradient_match_pytorch() {
    for case in golden("class_loss").as_array().unwrap() {
        let logits = numbers(&case["logits"]);
        let class: Vec<i32> = numbers(&case["class"]).iter().map(|&c| c as i32).collect();
        let k = logits.len() / class.len();
        let (loss, denominator) = (numbers(&case["loss"]), case["denominator"].as_f64().unwrap());
        // Logits have three decimals, which are rounded to f32.
        let largest = logits.iter().fold(1.0, |a: f64, b| a.max(b.abs()));
        let magnitude = largest / (k as f64).ln() / denominator;
        let expected = [
            Expected::within("loss", 4 * class.len(), magnitude, loss),
            Expected::within("gradient", 8, magnitude, numbers(&case["gradient"])),
        ];
        check(&case["name"].to_string(), &expected, |cpu| run(cpu, k, &narrow(&logits), &class, denominator as f32));
    }
}

#[test]
fn labels_that_are_shares_match_f64() {
    for (n, k, spread) in [(3, 2, 1.0), (7, 17, 8.0), (130, 3, 2.0), (5, 4, 200.0)] {
        let (logits, class) = data(n, k, spread);
        let weights = class_weights(k);
        for (weights, smoothing) in [(Some(&weights[..]), 0.0), (None, 0.1), (Some(&weights[..]), 0.25)] {
            let denominator = weight_sum(&class, weights);
            let [loss, dlogits] = plain_shared(k, &wide(&logits), &class, weights, smoothing, f64::from(denominator));
            // The bound without shares, because the shares sum to at most the largest weight.
            let share = 2.25 / (k as f64).ln() / f64::from(denominator);
            let expected = [
                Expected::within("loss", 8, loss[0] + 1.0, loss),
                Expected::within("dlogits", 8 + 2 * spread as usize, share, dlogits),
            ];
            let case =
                format!("class loss [{n}, {k}] ±{spread} smoothed by {smoothing}, weighted: {}", weights.is_some());
            let shares = Shares { weights, smoothing, mixed: None };
            check(&case, &expected, |cpu| shared(cpu, k, &logits, &class, shares, denominator));
        }
    }
}

#[test]
fn shares_match_pytorch() {
    for case in golden("weighted_class_loss").as_array().unwrap() {
        let logits = numbers(&case["logits"]);
        let class: Vec<i32> = numbers(&case["class"]).iter().map(|&c| c as i32).collect();
        let k = logits.len() / class.len();
        let weights = case["weights"].as_array().map(|_| narrow(&numbers(&case["weights"])));
        let smoothing = case["smoothing"].as_f64().unwrap() as f32;
        let denominator = weight_sum(&class, weights.as_deref());
        assert_eq!(f64::from(denominator), case["denominator"].as_f64().unwrap());
        // Logits have three decimals and the smoothing two digits, which are rounded to f32; no weight is above 4.
        let largest = logits.iter().fold(1.0, |a: f64, b| a.max(b.abs()));
        let magnitude = 4.0 * largest / (k as f64).ln() / f64::from(denominator);
        let expected = [
            Expected::within("loss", 4 * class.len(), magnitude, numbers(&case["loss"])),
            Expected::within("gradient", 8, magnitude, numbers(&case["gradient"])),
        ];
        let shares = Shares { weights: weights.as_deref(), smoothing, mixed: None };
        check(&case["name"].to_string(), &expected, |cpu| {
            shared(cpu, k, &narrow(&logits), &class, shares, denominator)
        });
    }
}

#[test]
fn equal_weights_and_almost_no_smoothing_are_none() {
    let cpu = Cpu::new(2).unwrap();
    let (logits, class) = data(9, 5, 3.0);
    let plain = run(&cpu, 5, &logits, &class, 6.0);
    for (weight, smoothing) in [(1.0, 0.0), (2.5, 0.0), (1.0, f32::MIN_POSITIVE)] {
        let shares = Shares { weights: Some(&[weight; 5]), smoothing, mixed: None };
        let outputs = shared(&cpu, 5, &logits, &class, shares, weight * 6.0);
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 4.0 * f32::EPSILON * b.abs();
        assert!(outputs.iter().flatten().zip(plain.iter().flatten()).all(near), "{weight} {smoothing}");
    }
    let no_shares = Shares { weights: None, smoothing: 0.0, mixed: None };
    assert_eq!(shared(&cpu, 5, &logits, &class, no_shares, 6.0), plain);
}

#[test]
fn classes_may_change_places() {
    let cpu = Cpu::new(2).unwrap();
    let (logits, class) = data(9, 5, 3.0);
    let (weights, order) = (class_weights(5), [3, 0, 4, 1, 2]);
    let permuted = |values: &[f32]| values.chunks_exact(5).flat_map(|row| order.map(|c| row[c])).collect::<Vec<_>>();
    let place = |c: i32| if c < 0 { c } else { order.iter().position(|&o| o as i32 == c).unwrap() as i32 };
    let turned: Vec<i32> = class.iter().map(|&c| place(c)).collect();
    for smoothing in [0.0, 0.1] {
        let (here, there) = (Shares { weights: Some(&weights), smoothing, mixed: None }, permuted(&weights));
        let there = Shares { weights: Some(&there), smoothing, mixed: None };
        let here = shared(&cpu, 5, &logits, &class, here, 6.0);
        let there = shared(&cpu, 5, &permuted(&logits), &turned, there, 6.0);
        // Sums in f64 in another order, rounded once.
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 2.0 * f32::EPSILON * b.abs().max(1e-3);
        assert!(permuted(&here[1]).iter().zip(&there[1]).all(near) && near((&here[0][0], &there[0][0])));
    }
}

#[test]
fn unlabelled_shares_have_no_loss_and_large_logits_do_not_overflow() {
    let cpu = Cpu::new(1).unwrap();
    let shares = Shares { weights: Some(&[2.0, 0.5]), smoothing: 0.2, mixed: None };
    for (class, denominator) in [([-1; 2], 0.0), ([-1; 2], 3.0), ([1; 2], 0.0)] {
        let outputs = shared(&cpu, 2, &[f32::NAN; 4], &class, shares, denominator);
        assert!(outputs.iter().flatten().all(|&v| v == 0.0));
    }
    let outputs = shared(&cpu, 2, &[200.0, -200.0, -200.0, 200.0], &[0, 0], shares, 4.0);
    assert!(outputs.iter().flatten().all(|v| v.is_finite()));
}

#[test]
fn mixed_labels_match_f64() {
    for (n, k, spread) in [(1, 2, 1.0), (7, 17, 8.0), (130, 3, 2.0), (2, 100, 3.0), (5, 4, 200.0)] {
        let ((logits, class), (other, part)) = (data(n, k, spread), mixtures(n, k));
        let (weights, mixed) = (class_weights(k), Mixed { other: &other, part: &part });
        for (weights, smoothing) in [(None, 0.0), (Some(&weights[..]), 0.0), (None, 0.1), (Some(&weights[..]), 0.25)] {
            let shares = Shares { weights, smoothing, mixed: Some(mixed) };
            let [loss, dlogits, denominator] = plain_mixed(k, &wide(&logits), &class, shares);
            // The bound without mixing.
            let share = 2.25 / (k as f64).ln() / denominator[0];
            let expected = [
                Expected::within("loss", 8, loss[0] + 1.0, loss),
                Expected::within("dlogits", 8 + 2 * spread as usize, share, dlogits),
            ];
            let case = format!("mixed class loss [{n}, {k}] ±{spread} smoothed by {smoothing}");
            let denominator = denominator[0] as f32;
            check(&case, &expected, |cpu| shared(cpu, k, &logits, &class, shares, denominator));
        }
    }
}

#[test]
fn a_label_mixed_with_itself_or_with_nothing_is_itself() {
    let cpu = Cpu::new(2).unwrap();
    let (logits, class) = data(9, 5, 3.0);
    let plain = run(&cpu, 5, &logits, &class, 6.0);
    for (other, part) in [(class.clone(), 0.3), (vec![-1; 9], 0.3), (vec![2; 9], 1.0)] {
        let mixed = Some(Mixed { other: &other, part: &[part; 9] });
        let outputs = shared(&cpu, 5, &logits, &class, Shares { weights: None, smoothing: 0.0, mixed }, 6.0);
        // The parts are rounded to f32 once.
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 4.0 * f32::EPSILON * b.abs().max(0.1);
        assert!(outputs.iter().flatten().zip(plain.iter().flatten()).all(near), "{part}");
    }
}
