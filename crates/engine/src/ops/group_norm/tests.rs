//! Group norm with its ReLU against plain f64 loops. The reference's gradient is checked against finite differences in f64.

use super::Shape;
use super::cpu::*;
use crate::ops::batch_norm::cpu::Parameters;
use crate::ops::testing::{Expected, Random, check, poisoned};

const EPSILON: f32 = 1e-5;

pub(super) struct Data {
    pub shape: Shape,
    pub x: Vec<f64>,
    pub dy: Vec<f64>,
    pub gamma: Vec<f64>,
    pub beta: Vec<f64>,
}

/// The forward in f64: y, and (mean, 1/deviation) per image and group.
pub(super) fn plain_forward(data: &Data) -> (Vec<f64>, Vec<f64>) {
    let Shape { n, hw, c, groups } = data.shape;
    let width = c / groups;
    let (mut y, mut moments) = (vec![0.0; n * hw * c], Vec::new());
    for image in 0..n {
        for group in 0..groups {
            let members =
                || (0..hw).flat_map(move |row| (0..width).map(move |i| (image * hw + row) * c + group * width + i));
            let count = (hw * width) as f64;
            let mean = members().map(|i| data.x[i]).sum::<f64>() / count;
            let variance = members().map(|i| (data.x[i] - mean).powi(2)).sum::<f64>() / count;
            let rstd = 1.0 / (variance + f64::from(EPSILON)).sqrt();
            moments.extend([mean, rstd]);
            for i in members() {
                y[i] = ((data.x[i] - mean) * rstd * data.gamma[i % c] + data.beta[i % c]).max(0.0);
            }
        }
    }
    (y, moments)
}

/// The backward in f64: dx, dgamma, dbeta.
pub(super) fn plain_backward(data: &Data) -> [Vec<f64>; 3] {
    let Shape { n, hw, c, groups } = data.shape;
    let (width, count) = (c / groups, (hw * c / groups) as f64);
    let (y, moments) = plain_forward(data);
    let (mut dgamma, mut dbeta) = (vec![0.0; c], vec![0.0; c]);
    let mut sums = vec![[0.0; 2]; n * groups];
    let of = |i: usize| i / (hw * c) * groups + i % c / width;
    let normalised = |i: usize| (data.x[i] - moments[2 * of(i)]) * moments[2 * of(i) + 1];
    let dz = |i: usize| if y[i] > 0.0 { data.dy[i] } else { 0.0 };
    for i in 0..y.len() {
        dgamma[i % c] += dz(i) * normalised(i);
        dbeta[i % c] += dz(i);
        sums[of(i)][0] += dz(i) * data.gamma[i % c];
        sums[of(i)][1] += dz(i) * data.gamma[i % c] * normalised(i);
    }
    let dx = (0..y.len()).map(|i| {
        let [sum, dot] = sums[of(i)];
        moments[2 * of(i) + 1] * (dz(i) * data.gamma[i % c] - sum / count - normalised(i) * dot / count)
    });
    [dx.collect(), dgamma, dbeta]
}

fn data(n: usize, hw: usize, c: usize, groups: usize, offset: f32) -> Data {
    let mut random = Random::new((n * 1000 + hw * 10 + c) as u64);
    let mut vector = |len, from: f32, to: f32| random.vector(len, from, to).iter().map(|&v| f64::from(v)).collect();
    let shape = Shape { n, hw, c, groups };
    let (x, dy) = (vector(n * hw * c, offset - 1.5, offset + 2.0), vector(n * hw * c, -1.0, 1.0));
    Data { shape, x, dy, gamma: vector(c, -1.5, 1.5), beta: vector(c, -1.0, 1.0) }
}

#[test]
fn kernels_match_plain_loops() {
    for (n, hw, c, groups, offset) in [
        (1, 1, 4, 1, 0.0),
        (2, 1, 12, 3, 0.0),
        (3, 9, 6, 6, 0.0),
        (2, 168, 32, 32, 0.0),
        (2, 169, 20, 4, 0.0),
        (1, 400, 128, 32, 0.0),
        (3, 350, 35, 5, 100.0),
        (5, 900, 8, 2, 0.0),
        (0, 9, 8, 2, 0.0),
    ] {
        let data = data(n, hw, c, groups, offset);
        let (y, moments) = plain_forward(&data);
        let [dx, dgamma, dbeta] = plain_backward(&data);
        let narrow = |v: &[f64]| -> Vec<f32> { v.iter().map(|&v| v as f32).collect() };
        let [x, dy, gamma, beta] = [&data.x, &data.dy, &data.gamma, &data.beta].map(|v| narrow(v));
        let largest_rstd = moments.iter().skip(1).step_by(2).fold(1.0, |a: f64, &b| a.max(b));
        // scale·x and shift are at most as large as the product of x, gamma and 1/deviation.
        let magnitude = (3.5 + f64::from(offset)) * 1.5 * largest_rstd;
        let count = (n * hw) as f64;
        let expected = [
            Expected::within("y", 8, magnitude, y),
            Expected::within("moments", 8, magnitude * largest_rstd, moments),
            Expected::within("dx", 24, magnitude * largest_rstd, dx),
            Expected::within("dgamma", 24, (count * magnitude).max(8.0), dgamma),
            Expected::within("dbeta", 24, count.max(8.0), dbeta),
        ];
        check(&format!("group norm {:?}", data.shape), &expected, |cpu| {
            let shape = &data.shape;
            let parameters = Parameters { gamma: &gamma, beta: &beta, epsilon: EPSILON };
            let (mut y, mut moments) = (poisoned(x.len()), poisoned(n * groups * 2));
            forward(cpu, shape, &x, &parameters, &mut y, &mut moments, &mut poisoned(forward_workspace(shape) + 99));
            let inputs = BackwardInputs { dy: &dy, x: &x, y: &y, moments: &moments, gamma: &gamma };
            let (mut dx, mut dgamma, mut dbeta) = (poisoned(x.len()), vec![0.0; c], vec![0.0; c]);
            // A workspace may be longer than needed, because ops share one.
            let mut workspace = poisoned(backward_workspace(shape) + 99);
            backward(cpu, shape, &inputs, &mut dx, &mut dgamma, &mut dbeta, &mut workspace);
            vec![y, moments, dx, dgamma, dbeta]
        });
    }
}

#[test]
fn the_reference_gradient_matches_differences() {
    let mut data = data(2, 9, 6, 3, 0.0);
    let value = |data: &Data| -> f64 { plain_forward(data).0.iter().zip(&data.dy).map(|(y, g)| y * g).sum() };
    let [dx, dgamma, dbeta] = plain_backward(&data);
    let step = 1e-6;
    let slope = |data: &mut Data, field: fn(&mut Data) -> &mut Vec<f64>, i: usize| {
        let old = field(data)[i];
        field(data)[i] = old + step;
        let above = value(data);
        field(data)[i] = old - step;
        let below = value(data);
        field(data)[i] = old;
        (above - below) / (2.0 * step)
    };
    for (i, dx) in dx.iter().enumerate() {
        assert!((slope(&mut data, |d| &mut d.x, i) - dx).abs() < 1e-6);
    }
    for i in 0..6 {
        assert!((slope(&mut data, |d| &mut d.gamma, i) - dgamma[i]).abs() < 1e-6);
        assert!((slope(&mut data, |d| &mut d.beta, i) - dbeta[i]).abs() < 1e-6);
    }
}

/// Gradients are added to the old values.
#[test]
fn parameter_gradients_accumulate() {
    let shape = Shape { n: 1, hw: 4, c: 2, groups: 1 };
    let (x, dy) = (Random::new(1).vector(8, -1.0, 1.0), vec![1.0; 8]);
    let cpu = crate::device::cpu::Cpu::new(1).unwrap();
    let inputs = BackwardInputs { dy: &dy, x: &x, y: &[1.0; 8], moments: &[0.0, 1.0], gamma: &[1.0, 1.0] };
    let run = |start: f32| {
        let (mut dx, mut dgamma, mut dbeta) = (poisoned(8), vec![start; 2], vec![start; 2]);
        let mut workspace = poisoned(backward_workspace(&shape));
        backward(&cpu, &shape, &inputs, &mut dx, &mut dgamma, &mut dbeta, &mut workspace);
        (dgamma, dbeta)
    };
    let (from_zero, from_eight) = (run(0.0), run(8.0));
    for i in 0..2 {
        assert!((from_eight.0[i] - from_zero.0[i] - 8.0).abs() < 1e-5);
        assert_eq!(from_eight.1[i], from_zero.1[i] + 8.0);
    }
}
