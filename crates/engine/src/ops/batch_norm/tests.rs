//! Every batch norm kernel against plain f64 loops, and the whole backward against finite differences in f64.

use super::STATISTICS_ROWS;
use super::cpu::*;
use crate::device::cpu::Cpu;
use crate::ops::testing::{Expected, Random, check, poisoned, wide};

pub(super) const EPSILON: f32 = 1e-5;
pub(super) const MOMENTUM: f32 = 0.1;

/// Rows and channels: single ones, channels that do not fill vectors, rows on and around the block size.
const CASES: [(usize, usize); 8] = [(1, 1), (2, 3), (167, 16), (168, 17), (169, 33), (337, 64), (500, 5), (1000, 19)];

pub(super) struct Data {
    pub rows: usize,
    pub c: usize,
    pub y: Vec<f32>,
    pub residual: Vec<f32>,
    pub g: Vec<f32>,
    pub gamma: Vec<f32>,
    pub beta: Vec<f32>,
}

impl Data {
    pub fn new(rows: usize, c: usize, offset: f32) -> Data {
        let mut random = Random::new((rows * 100 + c) as u64);
        let mut vector = |len, from: f32, to: f32| random.vector(len, from, to);
        let y = vector(rows * c, offset - 1.5, offset + 2.0);
        let (residual, g) = (vector(rows * c, -1.0, 1.0), vector(rows * c, -1.0, 1.0));
        Data { rows, c, y, residual, g, gamma: vector(c, -1.5, 1.5), beta: vector(c, -1.0, 1.0) }
    }

    fn parameters(&self) -> Parameters<'_> {
        Parameters { gamma: &self.gamma, beta: &self.beta, epsilon: EPSILON }
    }

    fn partials(&self) -> Vec<f32> {
        poisoned(self.rows.div_ceil(STATISTICS_ROWS) * 2 * self.c)
    }

    /// Mean and biased variance of each channel, in f64.
    fn plain_moments(&self) -> Vec<(f64, f64)> {
        (0..self.c)
            .map(|i| {
                let channel: Vec<f64> = self.y.iter().skip(i).step_by(self.c).map(|&y| f64::from(y)).collect();
                let mean = channel.iter().sum::<f64>() / self.rows as f64;
                (mean, channel.iter().map(|y| (y - mean).powi(2)).sum::<f64>() / self.rows as f64)
            })
            .collect()
    }
}

struct Finished {
    moments: Vec<f32>,
    affine: Vec<f32>,
    running_mean: Vec<f32>,
    running_variance: Vec<f32>,
}

fn run_statistics(cpu: &Cpu, data: &Data) -> Finished {
    let mut partials = data.partials();
    statistics(cpu, data.c, &data.y, &mut partials);
    let (mut moments, mut affine) = (poisoned(2 * data.c), poisoned(2 * data.c));
    let (mut running_mean, mut running_variance) = (vec![0.5; data.c], vec![1.0; data.c]);
    let running = Running { mean: &mut running_mean, variance: &mut running_variance, momentum: MOMENTUM };
    finish(data.rows, &partials, &data.parameters(), running, &mut moments, &mut affine);
    Finished { moments, affine, running_mean, running_variance }
}

/// Moments, affine, and the running statistics updated from mean 0.5 and variance 1.
pub(super) fn expected_statistics(data: &Data) -> [Expected; 4] {
    let plain = data.plain_moments();
    let rstd = |variance: f64| 1.0 / (variance + f64::from(EPSILON)).sqrt();
    let moments = plain.iter().map(|m| m.0).chain(plain.iter().map(|m| rstd(m.1))).collect();
    let largest = plain.iter().map(|m| m.0.abs() + 2.0).fold(0.0, f64::max);
    let scale = |i: usize| f64::from(data.gamma[i]) * rstd(plain[i].1);
    let shift = |i: usize| f64::from(data.beta[i]) - plain[i].0 * scale(i);
    let affine = (0..data.c).map(scale).chain((0..data.c).map(shift)).collect();
    let unbiased = |variance: f64| variance * data.rows as f64 / (data.rows.max(2) - 1) as f64;
    let moved = |old: f64, new: f64| old + f64::from(MOMENTUM) * (new - old);
    let running_mean = plain.iter().map(|m| moved(0.5, m.0)).collect();
    let running_variance = plain.iter().map(|m| moved(1.0, unbiased(m.1))).collect();
    let largest_scale = (0..data.c).map(|i| scale(i).abs()).fold(1.0, f64::max);
    // A deviation from the mean is accurate to one rounding of the mean, its square to two. The mean of a block is stored in f32;
    // it lies within a quarter of a deviation of the overall mean, so its rounding changes the variance by half of itself.
    let through_variance = 1.0 + 0.5 * largest * plain.iter().map(|m| rstd(m.1)).fold(0.0, f64::max);
    [
        Expected::within("moments", 8, largest * largest_scale.max(1.0), moments),
        Expected::within("affine", 16, largest * largest_scale * through_variance, affine),
        Expected::within("running mean", 8, largest, running_mean),
        Expected::within("running variance", 8, largest, running_variance),
    ]
}

fn check_statistics(data: &Data, case: &str) {
    check(case, &expected_statistics(data), |cpu| {
        let f = run_statistics(cpu, data);
        vec![f.moments, f.affine, f.running_mean, f.running_variance]
    });
}

#[test]
fn statistics_match_plain_loops() {
    for (rows, c) in CASES {
        check_statistics(&Data::new(rows, c, 0.0), &format!("statistics [{rows}, {c}]"));
    }
}

/// With a mean of a thousand deviations, the variance must keep its digits, apart from those that the inputs have lost.
#[test]
fn statistics_survive_a_large_mean() {
    for (rows, c) in [(337, 64), (1000, 19)] {
        let data = Data::new(rows, c, 1000.0);
        check_statistics(&data, &format!("large mean [{rows}, {c}]"));
        let finished = run_statistics(&Cpu::new(1).unwrap(), &data);
        for (i, (mean, variance)) in data.plain_moments().into_iter().enumerate() {
            assert!((f64::from(finished.moments[i]) - mean).abs() < 1e-4);
            let rstd = 1.0 / (variance + f64::from(EPSILON)).sqrt();
            assert!((f64::from(finished.moments[c + i]) / rstd - 1.0).abs() < 1e-5);
        }
    }
}

#[test]
fn fold_is_the_affine_of_the_running_statistics() {
    let data = Data::new(1, 19, 0.0);
    let (mean, variance) = (data.residual.clone(), Random::new(4).vector(19, 0.1, 2.0));
    let scale: Vec<f64> =
        (0..19).map(|i| f64::from(data.gamma[i]) / (f64::from(variance[i]) + f64::from(EPSILON)).sqrt()).collect();
    let shift = (0..19).map(|i| f64::from(data.beta[i]) - f64::from(mean[i]) * scale[i]);
    let expected = [Expected::within("affine", 1, 8.0, scale.iter().copied().chain(shift).collect())];
    check("fold", &expected, |_| {
        let mut affine = poisoned(38);
        fold(&data.parameters(), &mean, &variance, &mut affine);
        vec![affine]
    });
}

#[test]
fn apply_matches_plain_loops() {
    for (rows, c) in CASES.into_iter().chain([(0, 8)]) {
        let data = Data::new(rows, c, 0.0);
        let affine = Random::new(c as u64).vector(2 * c, -2.0, 2.0);
        for (with_residual, relu) in [(false, false), (false, true), (true, false), (true, true)] {
            let residual = with_residual.then_some(data.residual.as_slice());
            let plain = |i: usize| {
                let v = f64::from(data.y[i]) * f64::from(affine[i % c]) + f64::from(affine[c + i % c]);
                let v = v + residual.map_or(0.0, |r| f64::from(r[i]));
                if relu { v.max(0.0) } else { v }
            };
            let z = (0..rows * c).map(plain).collect();
            // Three operations on numbers up to 2·2 + 2 + 1.
            let expected = [Expected::within("z", 3, 7.0, z)];
            check(&format!("apply [{rows}, {c}] {with_residual} {relu}"), &expected, |cpu| {
                let mut z = poisoned(rows * c);
                apply(cpu, c, &data.y, &affine, residual, relu, &mut z);
                vec![z]
            });
        }
    }
}

#[test]
fn relu_lets_nan_pass() {
    let mut z = [0.0; 3];
    apply(&Cpu::new(1).unwrap(), 1, &[f32::NAN, -1.0, 1.0], &[1.0, 0.0], None, true, &mut z);
    assert!(z[0].is_nan() && z[1] == 0.0 && z[2] == 1.0);
}

/// The gradient g, masked by the residual in the role of z, and its partial sums.
pub(super) fn expected_sums(data: &Data, moments: &[f32], masked: bool) -> [Expected; 2] {
    let (rows, c, blocks) = (data.rows, data.c, data.rows.div_ceil(STATISTICS_ROWS));
    let dz = |i: usize| if masked && data.residual[i] <= 0.0 { 0.0 } else { f64::from(data.g[i]) };
    let (mut sums, mut magnitudes) = (vec![0.0; blocks * 2 * c], vec![0.0; blocks * 2 * c]);
    for i in 0..rows * c {
        let (at, channel) = (i / c / STATISTICS_ROWS * 2 * c + i % c, i % c);
        let mean = f64::from(moments[channel]);
        let normalised = (f64::from(data.y[i]) - mean) * f64::from(moments[c + channel]);
        sums[at] += dz(i);
        magnitudes[at] += dz(i).abs();
        sums[at + c] += dz(i) * normalised;
        magnitudes[at + c] += (dz(i) * normalised).abs();
    }
    [
        Expected::exact("dz", (0..rows * c).map(dz).collect()),
        Expected::new("partials", STATISTICS_ROWS + 4, (sums, magnitudes)),
    ]
}

#[test]
fn reduce_matches_plain_loops() {
    for (rows, c) in CASES {
        let data = Data::new(rows, c, 0.0);
        let moments: Vec<f32> = Random::new(9).vector(2 * c, 0.2, 0.8);
        for masked in [false, true] {
            let expected = expected_sums(&data, &moments, masked);
            check(&format!("reduce [{rows}, {c}] masked {masked}"), &expected, |cpu| {
                let z = masked.then_some(data.residual.as_slice());
                let inputs = Reduce { g: &data.g, z, y: &data.y, moments: &moments };
                let (mut dz, mut partials, mut again) = (poisoned(rows * c), data.partials(), data.partials());
                reduce(cpu, c, &inputs, Some(&mut dz), &mut partials);
                reduce(cpu, c, &inputs, None, &mut again);
                assert_eq!(partials, again, "the sums do not depend on whether dz is written");
                vec![dz, partials]
            });
        }
    }
}

/// Statistics, apply, reduce, finish and apply together give the gradient of Σ g·relu(norm(y) + residual).
#[test]
fn backward_matches_the_analytic_gradient() {
    for (rows, c) in CASES.into_iter().filter(|case| case.0 > 1) {
        let data = Data::new(rows, c, 0.5);
        let plain = plain_backward(&data);
        // Sums over the rows; the coefficients' division by the deviation adds a few roundings.
        let magnitude = 4.0 * 1.5 / 0.5;
        let expected = [
            Expected::within("dy", 32, magnitude, plain.0),
            Expected::within("dgamma", 40, (rows as f64).max(8.0), plain.1),
            Expected::within("dbeta", 40, (rows as f64).max(8.0), plain.2),
        ];
        check(&format!("backward [{rows}, {c}]"), &expected, |cpu| {
            let finished = run_statistics(cpu, &data);
            let mut z = poisoned(rows * c);
            apply(cpu, c, &data.y, &finished.affine, Some(&data.residual), true, &mut z);
            let inputs = Reduce { g: &data.g, z: Some(&z), y: &data.y, moments: &finished.moments };
            let (mut dz, mut partials) = (poisoned(rows * c), data.partials());
            reduce(cpu, c, &inputs, Some(&mut dz), &mut partials);
            let (mut coefficients, mut dgamma, mut dbeta) = (poisoned(3 * c), vec![1.0; c], vec![-1.0; c]);
            let moments = &finished.moments;
            backward_finish(rows, &partials, moments, &data.gamma, &mut coefficients, &mut dgamma, &mut dbeta);
            let mut dy = poisoned(rows * c);
            backward_apply(cpu, c, &dz, &data.y, &coefficients, &mut dy);
            vec![dy, dgamma, dbeta]
        });
    }
}

/// dy, dgamma + 1 and dbeta − 1 by the textbook formula; the mask comes from the f64 forward.
fn plain_backward(data: &Data) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let (rows, c) = (data.rows as f64, data.c);
    let (mut dgamma, mut dbeta) = (vec![0.0; c], vec![0.0; c]);
    let moments = data.plain_moments();
    let rstd: Vec<f64> = moments.iter().map(|m| 1.0 / (m.1 + f64::from(EPSILON)).sqrt()).collect();
    let gamma = wide(&data.gamma);
    let normalised = |i: usize| (f64::from(data.y[i]) - moments[i % c].0) * rstd[i % c];
    let dz = |i: usize| {
        let z = normalised(i) * gamma[i % c] + f64::from(data.beta[i % c]) + f64::from(data.residual[i]);
        if z > 0.0 { f64::from(data.g[i]) } else { 0.0 }
    };
    for i in 0..data.y.len() {
        dgamma[i % c] += dz(i) * normalised(i);
        dbeta[i % c] += dz(i);
    }
    let dy = (0..data.y.len()).map(|i| {
        let k = i % c;
        gamma[k] * rstd[k] * (dz(i) - dbeta[k] / rows - normalised(i) * dgamma[k] / rows)
    });
    (dy.collect(), dgamma.iter().map(|d| d + 1.0).collect(), dbeta.iter().map(|d| d - 1.0).collect())
}

/// scale·dz and dz, where dz is the gradient g masked by the residual in the role of z.
pub(super) fn expected_apply_backward(data: &Data, affine: &[f32], masked: bool) -> [Expected; 2] {
    let dz = |i: usize| if masked && data.residual[i] <= 0.0 { 0.0 } else { f64::from(data.g[i]) };
    let len = data.rows * data.c;
    let dy = (0..len).map(|i| dz(i) * f64::from(affine[i % data.c])).collect();
    // One product of numbers up to 2 and 1.
    [Expected::within("dy", 1, 2.0, dy).stored(), Expected::exact("dz", (0..len).map(dz).collect())]
}

#[test]
fn apply_backward_matches_plain_loops() {
    for (rows, c) in CASES.into_iter().chain([(0, 8)]) {
        let data = Data::new(rows, c, 0.0);
        let affine = Random::new(c as u64).vector(2 * c, -2.0, 2.0);
        for masked in [false, true] {
            let expected = expected_apply_backward(&data, &affine, masked);
            check(&format!("apply backward [{rows}, {c}] masked {masked}"), &expected, |cpu| {
                let z = masked.then_some(data.residual.as_slice());
                let [mut dz, mut dy, mut again] = [0; 3].map(|_| poisoned(rows * c));
                apply_backward(cpu, c, &data.g, z, &affine, masked.then_some(dz.as_mut_slice()), &mut dy);
                apply_backward(cpu, c, &data.g, z, &affine, None, &mut again);
                assert_eq!(dy, again, "dy does not depend on whether dz is written");
                vec![dy, if masked { dz } else { data.g.clone() }]
            });
        }
    }
}
