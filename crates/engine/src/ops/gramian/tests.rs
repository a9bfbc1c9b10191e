//! The inner products against plain f64 loops, and adding the op to a graph.

use super::cpu::{Term, gramian as run, gramian_scratch};
use super::*;
use crate::device::cpu::memory::Aligned;
use crate::ir::Mode;
use crate::ir::TermForm::{Dense, Pooled};
use crate::ops::testing::{Expected, Random, check, poisoned};

/// The gradients of the terms, in numbers that are exact in bf16.
pub(super) fn case([n, hw, c]: [usize; 3], terms: &[(usize, TermForm)]) -> Vec<Vec<f32>> {
    let mut random = Random::new((n * hw * c) as u64);
    let len = |form: TermForm| if form == Dense { n * hw * c } else { n * c };
    terms.iter().map(|term| random.activations(len(term.1), -1.0, 1.0)).collect()
}

/// The results in f64, with every task's gradient expanded to a whole map; `operations` roundings are allowed.
pub(super) fn expected(
    [n, hw, c]: [usize; 3],
    tasks: usize,
    terms: &[(usize, TermForm)],
    gradients: &[Vec<f32>],
    operations: usize,
) -> Expected {
    let (mut whole, mut sizes) = (vec![vec![0.0; n * hw * c]; tasks], vec![vec![0.0; n * hw * c]; tasks]);
    for (&(task, form), gradient) in terms.iter().zip(gradients) {
        for at in 0..n * hw * c {
            let v: f64 = match form {
                Dense => f64::from(gradient[at]),
                Pooled => f64::from(gradient[at / (hw * c) * c + at % c]) / hw as f64,
            };
            whole[task][at] += v;
            sizes[task][at] += v.abs();
        }
    }
    let products = |of: &[Vec<f64>]| -> Vec<f64> {
        let product = |i: usize| of[i / tasks].iter().zip(&of[i % tasks]).map(|(a, b)| a * b).sum();
        (0..tasks * tasks).map(product).collect()
    };
    Expected::new("products", operations, (products(&whole), products(&sizes)))
}

#[test]
fn products_match_plain_loops() {
    // The last shape has several pieces per pixel and several parallel tasks per image.
    for shape in [[1, 1, 1], [2, 49, 33], [3, 7, 64], [0, 4, 8], [2, 0, 8], [1, 300, 20], [2, 9, 5000]] {
        for (tasks, terms) in [
            (0, vec![]),
            (2, vec![]),
            (1, vec![(0, Dense)]),
            (2, vec![(1, Pooled), (0, Pooled)]),
            (3, vec![(0, Dense), (1, Pooled), (2, Pooled), (2, Dense)]),
            (16, (0..18).map(|i| (i * 7 % 16, if i % 4 == 1 { Pooled } else { Dense })).collect()),
        ] {
            let gradients = case(shape, &terms);
            // In a piece of at most 2048 elements a lane adds 64 products; f64 follows, and one rounding of the result.
            let expected = [expected(shape, tasks, &terms, &gradients, 2 * 64 + 2)];
            let forms: Vec<TermForm> = terms.iter().map(|term| term.1).collect();
            check(&format!("gramian {shape:?}, {} terms", terms.len()), &expected, |cpu| {
                let own = terms.iter().zip(&gradients);
                let terms: Vec<Term> = own.map(|(&(task, form), gradient)| Term { task, form, gradient }).collect();
                let mut scratch = Aligned::zeroed(4 * gramian_scratch(shape, &forms));
                scratch.f32_mut().fill(f32::NAN);
                let mut out = poisoned(tasks * tasks);
                run(cpu, shape, &terms, scratch.f32_mut(), &mut out);
                for i in 0..tasks * tasks {
                    assert_eq!(out[i].to_bits(), out[i % tasks * tasks + i / tasks].to_bits(), "symmetric");
                }
                vec![out]
            });
        }
    }
}

#[test]
fn gradients_of_different_maps_are_refused_and_each_is_read_once() {
    let mut graph = Graph::new(Mode::Train);
    let feature = graph.arena("c5", &[2, 3, 5, 8], DType::F32);
    let dense = graph.arena("dense", &[2, 3, 5, 8], DType::F32);
    let pooled = graph.arena("pooled", &[2, 8], DType::F32);
    let out = gramian(&mut graph, feature, 4, &[(0, Dense, dense), (3, Pooled, pooled), (3, Dense, dense)]);
    let node = graph.nodes[0].clone();
    let Op::Gramian(op) = &node.op else { panic!("{node:?}") };
    assert_eq!((graph.shape(out), op.pixels, graph.outputs.as_slice()), (&[4, 4][..], 15, &[out][..]));
    assert!(op.check(&graph, &node.inputs).is_ok());
    assert_eq!(op.cost(&graph, &node).bytes, 4 * (2 * 240 + 16 + 16));
    assert_eq!(op.sizes(&graph, &node), "3 of 2×3×5×8");

    let other = graph.arena("other", &[2, 5, 5, 8], DType::F32);
    let narrow = graph.arena("narrow", &[2, 7], DType::F32);
    for wrong in [[other, pooled, dense], [dense, narrow, dense], [pooled, pooled, dense], [dense, dense, dense]] {
        assert!(op.check(&graph, &wrong).is_err(), "{wrong:?}");
    }
    assert!(op.check(&graph, &node.inputs[..2]).is_err());
    assert!(Gramian { tasks: 3, ..op.clone() }.check(&graph, &node.inputs).is_err());
}
