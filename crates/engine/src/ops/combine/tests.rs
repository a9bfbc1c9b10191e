//! The seam's sum against plain f64 loops, and its rule that a task of weight 0 is the same as an absent task.

use super::cpu::*;
use crate::device::cpu::Cpu;
use crate::ir::TermForm::{self, Dense, Pooled};
use crate::ops::testing::{Expected, Random, check, poisoned};

fn gradients([n, hw, c]: [usize; 3], forms: &[TermForm]) -> Vec<Vec<f32>> {
    let mut random = Random::new((n * hw * c) as u64);
    let len = |form: &TermForm| if *form == Dense { n * hw * c } else { n * c };
    forms.iter().map(|form| random.vector(len(form), -1.0, 1.0)).collect()
}

fn run(cpu: &Cpu, shape: [usize; 3], forms: &[TermForm], weights: &[f32], gradients: &[Vec<f32>]) -> Vec<f32> {
    let terms: Vec<Term> = (forms.iter().zip(weights).zip(gradients))
        .map(|((&form, &weight), gradient)| Term { weight, gradient, form })
        .collect();
    let mut out = poisoned(shape.iter().product());
    combine(cpu, shape, &terms, &mut out);
    out
}

#[test]
fn sums_match_plain_loops() {
    for shape in [[1, 1, 1], [2, 49, 33], [3, 7, 64], [1, 700, 20], [0, 4, 8]] {
        for forms in [vec![], vec![Dense], vec![Pooled], vec![Dense, Pooled, Dense], vec![Pooled, Pooled, Dense]] {
            let [n, hw, c] = shape;
            let weights = &[0.7, 1.9, 0.4][..forms.len()];
            let gradients = gradients(shape, &forms);
            let out = (0..n * hw * c).map(|i| {
                let term = |(k, form): (usize, &TermForm)| match form {
                    Dense => f64::from(weights[k]) * f64::from(gradients[k][i]),
                    Pooled => f64::from(weights[k]) * f64::from(gradients[k][i / (hw * c) * c + i % c]) / hw as f64,
                };
                forms.iter().enumerate().map(term).sum()
            });
            let expected = [Expected::within("out", forms.len() + 2, 3.0, out.collect())];
            check(&format!("combine {shape:?} {forms:?}"), &expected, |cpu| {
                vec![run(cpu, shape, &forms, weights, &gradients)]
            });
        }
    }
}

/// The bits must be equal, even if the gradient is NaN.
#[test]
fn a_task_of_weight_zero_equals_an_absent_task() {
    let (shape, forms) = ([2, 9, 17], [Dense, Pooled, Dense, Pooled]);
    let mut all = gradients(shape, &forms);
    for absent in 0..4 {
        let mut weights = [0.3, 1.1, 0.9, 0.5];
        weights[absent] = 0.0;
        all[absent].fill(f32::NAN);
        let kept: Vec<usize> = (0..4).filter(|&i| i != absent).collect();
        let cpu = Cpu::new(2).unwrap();
        let with = run(&cpu, shape, &forms, &weights, &all);
        let few_forms: Vec<TermForm> = kept.iter().map(|&i| forms[i]).collect();
        let few_gradients: Vec<Vec<f32>> = kept.iter().map(|&i| all[i].clone()).collect();
        let few_weights: Vec<f32> = kept.iter().map(|&i| weights[i]).collect();
        let without = run(&cpu, shape, &few_forms, &few_weights, &few_gradients);
        assert!(with.iter().zip(&without).all(|(a, b)| a.to_bits() == b.to_bits()));
        all = gradients(shape, &forms);
    }
    let zeros = run(&Cpu::new(1).unwrap(), shape, &forms, &[0.0; 4], &all);
    assert!(zeros.iter().all(|v| v.to_bits() == 0));
}

#[test]
fn add_matches_plain_loops() {
    for len in [0, 1, 31, 20_001] {
        let mut random = Random::new(len as u64);
        let (a, b) = (random.vector(len, -1.0, 1.0), random.vector(len, -1.0, 1.0));
        let out = a.iter().zip(&b).map(|(&a, &b)| f64::from(a) + f64::from(b)).collect();
        check(&format!("add {len}"), &[Expected::near("out", 1, out)], |cpu| {
            let mut out = poisoned(len);
            add(cpu, &a, &b, &mut out);
            vec![out]
        });
    }
}

#[test]
fn clear_writes_zeros() {
    for len in [0, 1, 20_001] {
        check(&format!("clear {len}"), &[Expected::exact("out", vec![0.0; len])], |cpu| {
            let mut out = poisoned(len);
            clear(cpu, &mut out);
            vec![out]
        });
    }
}
