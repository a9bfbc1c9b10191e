//! Every batch norm kernel against plain f64 loops.

use super::*;
use crate::ops::batch_norm::tests::{
    Data, EPSILON, MOMENTUM, expected_apply_backward, expected_statistics, expected_sums,
};
use crate::ops::testing::{Board, Expected, Random, check_kernels, wide};

/// Rows and channels: one row, partly filled tiles, several tiles along both axes.
const CASES: [(usize, usize); 5] = [(1, 8), (37, 24), (128, 64), (300, 72), (1000, 136)];

/// Numbers that are exact in bf16.
fn data(rows: usize, c: usize, offset: f32) -> Data {
    let mut data = Data::new(rows, c, offset);
    for values in [&mut data.y, &mut data.residual, &mut data.g] {
        values.iter_mut().for_each(|v| *v = f32::from_bits(v.to_bits() & 0xffff_0000));
    }
    data
}

fn parameters(board: &mut Board, gamma: &[f32], beta: &[f32]) -> Parameters {
    Parameters { gamma: board.floats(gamma), beta: board.floats(beta), epsilon: EPSILON }
}

#[test]
fn statistics_and_their_merging_match_plain_loops() {
    for (rows, c) in CASES {
        // The second offset is a mean of forty deviations, which is still exact in bf16.
        for offset in [0.0, 40.0] {
            let data = data(rows, c, offset);
            check_kernels(&format!("statistics [{rows}, {c}] at {offset}"), &expected_statistics(&data), |board| {
                let y = board.activations(&data.y);
                let partials = board.floats_out(rows.div_ceil(STATISTICS_ROWS) * 2 * c);
                let (moments, affine) = (board.floats_out(2 * c), board.floats_out(2 * c));
                let (mean, variance) = (board.floats(&vec![0.5; c]), board.floats(&vec![1.0; c]));
                let running = Running { mean, variance, momentum: MOMENTUM };
                let parameters = parameters(board, &data.gamma, &data.beta);
                board.run(&[
                    statistics([rows, c], y, partials),
                    finish([rows, c], partials, &parameters, &running, moments, affine),
                ]);
                vec![
                    board.read_floats(moments, 2 * c),
                    board.read_floats(affine, 2 * c),
                    board.read_floats(mean, c),
                    board.read_floats(variance, c),
                ]
            });
        }
    }
}

/// More blocks than a thread block has lanes, with means that are far apart.
#[test]
fn merging_takes_any_number_of_blocks() {
    for (rows, c) in [(128usize, 8), (128 * 257 + 1, 24), (128 * 700 - 5, 8)] {
        let blocks = rows.div_ceil(STATISTICS_ROWS);
        let mut random = Random::new(rows as u64);
        let partials: Vec<f32> =
            (0..blocks).flat_map(|_| [random.vector(c, -20.0, 30.0), random.vector(c, 0.0, 900.0)].concat()).collect();
        let (gamma, beta) = (random.vector(c, -1.5, 1.5), random.vector(c, -1.0, 1.0));
        let count = |block: usize| STATISTICS_ROWS.min(rows - block * STATISTICS_ROWS) as f64;
        let at = |block: usize, i: usize| f64::from(partials[block * 2 * c + i]);
        let mean = |i: usize| (0..blocks).map(|b| count(b) * at(b, i)).sum::<f64>() / rows as f64;
        let variance = |i: usize| {
            let mean = mean(i);
            let m2 = (0..blocks).map(|b| at(b, c + i) + count(b) * (at(b, i) - mean).powi(2));
            m2.sum::<f64>() / rows as f64
        };
        let rstd = |i: usize| 1.0 / (variance(i) + f64::from(EPSILON)).sqrt();
        let scale = |i: usize| f64::from(gamma[i]) * rstd(i);
        let moments = (0..c).map(mean).chain((0..c).map(rstd)).collect();
        let affine = (0..c).map(scale).chain((0..c).map(|i| f64::from(beta[i]) - mean(i) * scale(i))).collect();
        // Everything is in f64 except the last rounding.
        let expected = [Expected::near("moments", 1, moments), Expected::near("affine", 1, affine)];
        check_kernels(&format!("merging {blocks} × {c}"), &expected, |board| {
            let (partials, parameters) = (board.floats(&partials), parameters(board, &gamma, &beta));
            let (moments, affine) = (board.floats_out(2 * c), board.floats_out(2 * c));
            let (mean, variance) = (board.floats(&vec![0.0; c]), board.floats(&vec![1.0; c]));
            let running = Running { mean, variance, momentum: MOMENTUM };
            board.run(&[finish([rows, c], partials, &parameters, &running, moments, affine)]);
            vec![board.read_floats(moments, 2 * c), board.read_floats(affine, 2 * c)]
        });
    }
}

#[test]
fn fold_is_the_affine_of_the_running_statistics() {
    for c in [8, 24, 200] {
        let mut random = Random::new(c as u64);
        let [gamma, beta, mean] = [0; 3].map(|_| random.vector(c, -1.0, 1.0));
        let variance = random.vector(c, 0.1, 2.0);
        let scale = |i: usize| f64::from(gamma[i]) / (f64::from(variance[i]) + f64::from(EPSILON)).sqrt();
        let shift = |i: usize| f64::from(beta[i]) - f64::from(mean[i]) * scale(i);
        let expected = [Expected::near("affine", 1, (0..c).map(scale).chain((0..c).map(shift)).collect())];
        check_kernels(&format!("fold {c}"), &expected, |board| {
            let parameters = parameters(board, &gamma, &beta);
            let (mean, variance) = (board.floats(&mean), board.floats(&variance));
            let affine = board.floats_out(2 * c);
            board.run(&[fold(c, &parameters, mean, variance, affine)]);
            vec![board.read_floats(affine, 2 * c)]
        });
    }
}

#[test]
fn apply_matches_plain_loops() {
    for (rows, c) in CASES {
        let data = data(rows, c, 0.0);
        let affine = Random::new(c as u64).vector(2 * c, -1.5, 1.5);
        for (with_residual, relu) in [(false, false), (false, true), (true, false), (true, true)] {
            let plain = |i: usize| {
                let (scale, shift) = (f64::from(affine[i % c]), f64::from(affine[c + i % c]));
                let residual = if with_residual { f64::from(data.residual[i]) } else { 0.0 };
                let v = f64::from(data.y[i]) * scale + shift + residual;
                if relu { v.max(0.0) } else { v }
            };
            let z = (0..rows * c).map(plain).collect();
            // Three operations on numbers up to 2 · 1.5 + 1.5 + 1.
            let expected = [Expected::within("z", 3, 5.5, z).stored()];
            check_kernels(&format!("apply [{rows}, {c}] {with_residual} {relu}"), &expected, |board| {
                let (y, affine) = (board.activations(&data.y), board.floats(&affine));
                let residual = with_residual.then(|| board.activations(&data.residual));
                let z = board.activations_out(rows * c);
                board.run(&[apply([rows, c], y, affine, residual, relu, z)]);
                vec![board.read_activations(z, rows * c)]
            });
        }
    }
}

#[test]
fn relu_lets_nan_pass() {
    let y = [f32::NAN, -1.0, 1.0, 0.0, 2.0, -2.0, 3.0, -3.0];
    let expected = [Expected::exact("z", vec![f64::NAN, 0.0, 1.0, 0.0, 2.0, 0.0, 3.0, 0.0])];
    check_kernels("relu of NaN", &expected, |board| {
        let (y, affine) = (board.activations(&y), board.floats(&[[1.0; 8], [0.0; 8]].concat()));
        let z = board.activations_out(8);
        board.run(&[apply([1, 8], y, affine, None, true, z)]);
        vec![board.read_activations(z, 8)]
    });
}

#[test]
fn reduce_matches_plain_loops() {
    for (rows, c) in CASES {
        let data = data(rows, c, 0.0);
        let moments = Random::new(9).vector(2 * c, 0.2, 0.8);
        let len = rows.div_ceil(STATISTICS_ROWS) * 2 * c;
        for masked in [false, true] {
            check_kernels(
                &format!("reduce [{rows}, {c}] masked {masked}"),
                &expected_sums(&data, &moments, masked),
                |board| {
                    let z = masked.then(|| board.activations(&data.residual));
                    let (g, y) = (board.activations(&data.g), board.activations(&data.y));
                    let inputs = Reduce { g, z, y, moments: board.floats(&moments) };
                    let dz = board.activations_out(rows * c);
                    let (partials, again) = (board.floats_out(len), board.floats_out(len));
                    board.run(&[
                        reduce([rows, c], &inputs, Some(dz), partials),
                        reduce([rows, c], &inputs, None, again),
                    ]);
                    let sums = board.read_floats(partials, len);
                    assert_eq!(sums, board.read_floats(again, len), "the sums do not depend on whether dz is written");
                    vec![board.read_activations(dz, rows * c), sums]
                },
            );
        }
    }
}

#[test]
fn backward_finish_adds_up_any_number_of_blocks() {
    for (rows, c, blocks) in [(1, 8, 1), (500, 24, 9), (90_000, 8, 704)] {
        let mut random = Random::new(rows as u64);
        let partials = random.vector(blocks * 2 * c, -3.0, 4.0);
        let (moments, gamma) = (random.vector(2 * c, 0.2, 0.8), random.vector(c, -1.5, 1.5));
        let total = |at: usize| (0..blocks).map(|b| f64::from(partials[b * 2 * c + at])).sum::<f64>();
        let (mean, rstd) = (|i: usize| f64::from(moments[i]), |i: usize| f64::from(moments[c + i]));
        let of_dz = |i: usize| f64::from(gamma[i]) * rstd(i);
        let of_y = |i: usize| -of_dz(i) * rstd(i) * total(c + i) / rows as f64;
        let constant = |i: usize| -of_dz(i) * total(i) / rows as f64 - of_y(i) * mean(i);
        let coefficients = (0..c).map(of_dz).chain((0..c).map(of_y)).chain((0..c).map(constant)).collect();
        // The old value, and two roundings: of the total to f32, and of the sum.
        let accumulated = |name, first: f64, totals: Vec<f64>| {
            let magnitudes = totals.iter().map(|t| t.abs() + 1.0).collect();
            Expected::new(name, 2, (totals.iter().map(|t| first + t).collect(), magnitudes))
        };
        let expected = [
            Expected::near("coefficients", 1, coefficients),
            accumulated("dgamma", 1.0, (0..c).map(|i| total(c + i)).collect()),
            accumulated("dbeta", -1.0, (0..c).map(total).collect()),
        ];
        check_kernels(&format!("backward finish {blocks} × {c}"), &expected, |board| {
            let (partials, moments) = (board.floats(&partials), board.floats(&moments));
            let (gamma, coefficients) = (board.floats(&gamma), board.floats_out(3 * c));
            let (dgamma, dbeta) = (board.floats(&vec![1.0; c]), board.floats(&vec![-1.0; c]));
            board.run(&[backward_finish([rows, c], blocks, partials, moments, gamma, coefficients, dgamma, dbeta)]);
            vec![board.read_floats(coefficients, 3 * c), board.read_floats(dgamma, c), board.read_floats(dbeta, c)]
        });
    }
}

#[test]
fn backward_apply_matches_plain_loops() {
    for (rows, c) in CASES {
        let data = data(rows, c, 0.0);
        let coefficients = Random::new(c as u64).vector(3 * c, -1.5, 1.5);
        let wide_coefficients = wide(&coefficients);
        let dy = (0..rows * c).map(|i| {
            let [a, b, constant] = [0, c, 2 * c].map(|first| wide_coefficients[first + i % c]);
            a * f64::from(data.g[i]) + b * f64::from(data.y[i]) + constant
        });
        // Four operations on numbers up to 1.5 · (1 + 2 + 1).
        let expected = [Expected::within("dy", 4, 6.0, dy.collect()).stored()];
        check_kernels(&format!("backward apply [{rows}, {c}]"), &expected, |board| {
            let (dz, y) = (board.activations(&data.g), board.activations(&data.y));
            let (coefficients, dy) = (board.floats(&coefficients), board.activations_out(rows * c));
            board.run(&[backward_apply([rows, c], dz, y, coefficients, dy)]);
            vec![board.read_activations(dy, rows * c)]
        });
    }
}

#[test]
fn apply_backward_matches_plain_loops() {
    for (rows, c) in CASES {
        let data = data(rows, c, 0.0);
        let affine = Random::new(c as u64).vector(2 * c, -1.5, 1.5);
        for masked in [false, true] {
            check_kernels(
                &format!("apply backward [{rows}, {c}] masked {masked}"),
                &expected_apply_backward(&data, &affine, masked),
                |board| {
                    let g = board.activations(&data.g);
                    let z = masked.then(|| board.activations(&data.residual));
                    let affine = board.floats(&affine);
                    let [dz, dy, again] = [0; 3].map(|_| board.activations_out(rows * c));
                    board.run(&[
                        apply_backward([rows, c], g, z, affine, Some(dz), dy),
                        apply_backward([rows, c], g, z, affine, None, again),
                    ]);
                    let read = [dy, dz, again].map(|at| board.read_activations(at, rows * c));
                    assert_eq!(read[0], read[2], "dy does not depend on whether dz is written");
                    read[..2].to_vec()
                },
            );
        }
    }
}
