//! Max pooling, the mean over an image, and dropout against plain loops.

use super::cpu::*;
use crate::device::cpu::Cpu;
use crate::ops::testing::{Expected, Random, check, poisoned, wide};

pub(super) const STEM: [usize; 3] = [3, 2, 1];

pub(super) fn problem([n, h, w, c]: [usize; 4], [kernel, stride, padding]: [usize; 3]) -> MaxPool {
    MaxPool { n, h, w, c, kernel, stride, padding }
}

/// Values and taps of the first maximum in each window, as PyTorch chooses them.
pub(super) fn plain_max_pool(problem: &MaxPool, x: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let (mut y, mut argmax) = (Vec::new(), Vec::new());
    for at in 0..problem.n * problem.p() * problem.q() * problem.c {
        let (row, channel) = (at / problem.c, at % problem.c);
        let (i, j, image) = (row / problem.q() % problem.p(), row % problem.q(), row / problem.q() / problem.p());
        let (mut best, mut tap) = (f64::NEG_INFINITY, None);
        for t in 0..problem.kernel * problem.kernel {
            let a = (i * problem.stride + t / problem.kernel).wrapping_sub(problem.padding);
            let b = (j * problem.stride + t % problem.kernel).wrapping_sub(problem.padding);
            if a < problem.h && b < problem.w {
                let v = x[((image * problem.h + a) * problem.w + b) * problem.c + channel];
                if tap.is_none() || v > best || v.is_nan() {
                    (best, tap) = (v, Some(t));
                }
            }
        }
        y.push(best);
        argmax.push(tap.unwrap() as f64);
    }
    (y, argmax)
}

pub(super) fn plain_backward(problem: &MaxPool, dy: &[f32], argmax: &[f64]) -> Vec<f64> {
    let mut dx = vec![0.0; problem.n * problem.h * problem.w * problem.c];
    for (at, (dy, tap)) in dy.iter().zip(argmax).enumerate() {
        let (row, channel, tap) = (at / problem.c, at % problem.c, *tap as usize);
        let i = row / problem.q() % problem.p() * problem.stride + tap / problem.kernel - problem.padding;
        let j = row % problem.q() * problem.stride + tap % problem.kernel - problem.padding;
        let image = row / problem.q() / problem.p();
        dx[((image * problem.h + i) * problem.w + j) * problem.c + channel] += f64::from(*dy);
    }
    dx
}

#[test]
fn max_pool_matches_plain_loops() {
    for problem in [
        problem([1, 1, 1, 1], STEM),
        problem([2, 1, 5, 3], STEM),
        problem([2, 8, 7, 17], STEM),
        problem([1, 9, 12, 64], STEM),
        problem([3, 6, 6, 33], [2, 2, 0]),
        problem([1, 7, 5, 16], [3, 1, 1]),
        problem([1, 11, 10, 5], [5, 3, 2]),
        problem([1, 8, 8, 20], [2, 3, 0]),
        problem([0, 8, 8, 16], STEM),
    ] {
        let len = problem.n * problem.h * problem.w * problem.c;
        let mut random = Random::new(len as u64);
        // Few distinct values, so that maxima tie.
        let x: Vec<f32> = (0..len).map(|_| random.below(5) as f32 - 3.0).collect();
        let (y, argmax) = plain_max_pool(&problem, &wide(&x));
        let dy = random.vector(y.len(), -1.0, 1.0);
        let dx = plain_backward(&problem, &dy, &argmax);
        // A pixel lies in at most ⌈kernel/stride⌉² windows.
        let windows = problem.kernel.div_ceil(problem.stride).pow(2);
        let expected = [
            Expected::exact("y", y.clone()),
            Expected::exact("argmax", argmax),
            Expected::within("dx", windows, windows as f64, dx),
        ];
        check(&format!("{problem:?}"), &expected, |cpu| {
            let (mut y, mut without) = (poisoned(dy.len()), poisoned(dy.len()));
            let (mut argmax, mut dx) = (vec![255; dy.len()], poisoned(len));
            max_pool(cpu, &problem, &x, &mut y, Some(&mut argmax));
            max_pool(cpu, &problem, &x, &mut without, None);
            assert_eq!(y, without);
            max_pool_backward(cpu, &problem, &dy, &argmax, &mut dx);
            vec![y, argmax.iter().map(|&tap| f32::from(tap)).collect(), dx]
        });
    }
}

#[test]
fn nan_and_infinity_match_pytorch() {
    let problem = problem([1, 2, 2, 1], [2, 2, 0]);
    let cpu = Cpu::new(1).unwrap();
    let pool = |x: [f32; 4]| {
        let (mut y, mut argmax) = ([0.0], [255]);
        max_pool(&cpu, &problem, &x, &mut y, Some(&mut argmax));
        (y[0], argmax[0])
    };
    let (y, tap) = pool([1.0, f32::NAN, 2.0, 3.0]);
    assert!(y.is_nan() && tap == 1);
    assert_eq!(pool([f32::NEG_INFINITY; 4]), (f32::NEG_INFINITY, 0));
}

#[test]
fn global_pool_matches_plain_loops() {
    for (n, hw, c) in [(1, 1, 1), (2, 49, 33), (3, 64, 16), (1, 300, 40), (2, 65, 5), (0, 4, 8)] {
        let x = Random::new((hw * c) as u64).vector(n * hw * c, -1.0, 3.0);
        let (mut y, mut magnitudes) = (vec![0.0; n * c], vec![0.0; n * c]);
        for (i, &v) in x.iter().enumerate() {
            let at = i / (hw * c) * c + i % c;
            y[at] += f64::from(v) / hw as f64;
            magnitudes[at] += f64::from(v.abs()) / hw as f64;
        }
        let expected = [Expected::new("y", 64 + hw / 64 + 3, (y, magnitudes))];
        check(&format!("global pool [{n}, {hw}, {c}]"), &expected, |cpu| {
            let mut y = poisoned(n * c);
            global_pool(cpu, hw, c, &x, &mut y);
            vec![y]
        });
    }
}

#[test]
fn dropout_keeps_its_share_and_scales_it() {
    for (len, probability) in [(0, 0.5), (1, 0.5), (40_001, 0.2), (40_001, 0.5), (40_001, 0.9)] {
        let x = Random::new(5).vector(len, 1.0, 2.0);
        let run = |cpu: &Cpu, counter: u64, x: &[f32]| {
            let mut y = poisoned(len);
            dropout(cpu, counter, probability, x, &mut y);
            y
        };
        let cpu = Cpu::new(1).unwrap();
        let y = run(&cpu, 7, &x);
        let scale = 1.0 / (1.0 - probability);
        assert!(y.iter().zip(&x).all(|(&y, &x)| y == 0.0 || y == x * scale));
        check("dropout", &[Expected::exact("y", wide(&y))], |cpu| vec![run(cpu, 7, &x)]);
        if len > 1 {
            // The tolerance is five standard deviations of a binomial count.
            let kept = y.iter().filter(|y| **y != 0.0).count() as f64;
            let (expected, q) = (len as f64 * f64::from(1.0 - probability), f64::from(probability));
            assert!((kept - expected).abs() < 5.0 * (expected * q).sqrt(), "{kept} of {len} kept at {probability}");
            // Another counter gives another mask, not a shifted copy of the same one.
            let other = run(&cpu, 8, &x);
            let pairs = |shift: usize| {
                (shift..len).filter(|&i| (y[i] == 0.0) == (other[i - shift] == 0.0)).count() as f64 / len as f64
            };
            let alike = q * q + (1.0 - q) * (1.0 - q);
            assert!((0..3).all(|shift| (pairs(shift) - alike).abs() < 0.02));
            // The backward drops what the forward dropped.
            let dx = run(&cpu, 7, &vec![1.0; len]);
            assert!(dx.iter().zip(&y).all(|(dx, y)| (*dx == 0.0) == (*y == 0.0)));
        }
    }
}

#[test]
fn dropout_of_nothing_is_the_identity() {
    let x = Random::new(5).vector(100, -1.0, 2.0);
    let mut y = poisoned(100);
    dropout(&Cpu::new(1).unwrap(), 3, 0.0, &x, &mut y);
    assert_eq!(x, y);
}
