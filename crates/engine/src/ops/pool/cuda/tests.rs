//! The kernels of pooling and dropout against plain loops. Dropout must also give the same bits as the CPU's.

use super::*;
use crate::device::cpu::Cpu;
use crate::ops::pool::cpu;
use crate::ops::pool::tests::{STEM, plain_backward, plain_max_pool, problem};
use crate::ops::testing::{Expected, Random, check_kernels, wide};

/// One pixel, one row, partly filled strips and blocks, and several of them.
const SHAPES: [[usize; 4]; 6] =
    [[1, 1, 1, 8], [2, 1, 5, 8], [1, 8, 7, 24], [2, 17, 12, 64], [1, 20, 37, 72], [1, 7, 2, 1032]];

#[test]
fn max_pool_and_its_backward_match_plain_loops() {
    for shape in SHAPES {
        let problem = problem(shape, STEM);
        let len = shape.iter().product();
        let mut random = Random::new(len as u64);
        // Few distinct values, so that maxima tie; some windows hold only −∞, some hold NaN.
        let mut value = || match random.below(60) {
            0 => f32::NAN,
            1..=30 => f32::NEG_INFINITY,
            other => (other % 4) as f32 - 2.0,
        };
        let x: Vec<f32> = (0..len).map(|_| value()).collect();
        let (y, argmax) = plain_max_pool(&problem, &wide(&x));
        let dy = random.activations(y.len(), -1.0, 1.0);
        let dx = plain_backward(&problem, &dy, &argmax);
        // A pixel lies in at most four windows.
        let expected =
            [Expected::exact("y", y), Expected::exact("argmax", argmax), Expected::within("dx", 4, 4.0, dx).stored()];
        check_kernels(&format!("max pool {shape:?}"), &expected, |board| {
            let outputs = dy.len();
            let (x, dy) = (board.activations(&x), board.activations(&dy));
            let (y, without) = (board.activations_out(outputs), board.activations_out(outputs));
            let (argmax, dx) = (board.poisoned(outputs), board.activations_out(len));
            board.run(&[
                max_pool(shape, x, y, Some(argmax)),
                max_pool(shape, x, without, None),
                max_pool_backward(shape, dy, argmax, dx),
            ]);
            let bytes = outputs * board.precision().bytes();
            assert_eq!(board.read_bytes(y, bytes), board.read_bytes(without, bytes));
            let taps = board.read_bytes(argmax, outputs).iter().map(|&tap| f32::from(tap)).collect();
            vec![board.read_activations(y, outputs), taps, board.read_activations(dx, len)]
        });
    }
}

#[test]
fn global_pool_matches_plain_loops() {
    for (n, hw, c) in [(1, 1, 8), (2, 49, 24), (3, 64, 64), (1, 300, 136), (2, 7, 200)] {
        let x = Random::new((hw * c) as u64).activations(n * hw * c, -1.0, 3.0);
        let (mut y, mut magnitudes) = (vec![0.0; n * c], vec![0.0; n * c]);
        for (i, &v) in x.iter().enumerate() {
            let at = i / (hw * c) * c + i % c;
            y[at] += f64::from(v) / hw as f64;
            magnitudes[at] += f64::from(v.abs()) / hw as f64;
        }
        // A sixteenth of the pixels in a row, then the sixteen sums, and a product with a rounded constant.
        let expected = [Expected::new("y", hw.div_ceil(16) + 16 + 2, (y, magnitudes))];
        check_kernels(&format!("global pool [{n}, {hw}, {c}]"), &expected, |board| {
            let (x, y) = (board.activations(&x), board.floats_out(n * c));
            board.run(&[global_pool([n, hw, c], x, y)]);
            vec![board.read_floats(y, n * c)]
        });
    }
}

#[test]
fn dropout_drops_what_the_cpu_drops() {
    for (len, probability, counter, salt) in [(1, 0.5, 0, 1), (1000, 0.2, 7, 0x9e37), (777, 0.9, u64::MAX, 3)] {
        let x = Random::new(len as u64).vector(len, -1.0, 2.0);
        let mut y = vec![f32::NAN; len];
        cpu::dropout(&Cpu::new(1).unwrap(), counter ^ salt, probability, &x, &mut y);
        check_kernels(&format!("dropout {len} {probability}"), &[Expected::exact("y", wide(&y))], |board| {
            let (counter, x) = (board.bytes(&counter.to_ne_bytes()), board.floats(&x));
            let y = board.floats_out(len);
            board.run(&[dropout(len, counter, salt, probability, x, y)]);
            vec![board.read_floats(y, len)]
        });
    }
}
