//! PCD's quadratic program: the direction closest to the primary gradient on which every other task makes some
//! progress.

use super::gramian::Gramian;
use super::nonnegative::{Outcome, nonnegative};

/// Weights of the d closest to the primary gradient g with gⱼ·d ≥ τ‖gⱼ‖² for every other task: 1 for the primary task, and
/// the constraints' multipliers for the others. The multipliers are 0 if no direction satisfies all constraints.
///
/// Shapes: `[size]`.
///
/// Source: Priority-Constrained Descent, arXiv 2606.29521, the program of its definition. Solved as in TorchJD 0.18, by Goldfarb
/// & Idnani's dual method on the multipliers.
pub fn prioritised(gramian: &Gramian, primary: usize, tau: f64) -> Vec<f64> {
    let size = gramian.size();
    let others: Vec<usize> = (0..size).filter(|task| *task != primary).collect();
    let mut weights = vec![0.0; size];
    weights[primary] = 1.0;
    let missing: Vec<f64> = others.iter().map(|&j| tau * gramian.at(j, j) - gramian.at(j, primary)).collect();
    if let Outcome::Minimum(multipliers) = nonnegative(&gramian.of(&others), &missing) {
        others.iter().zip(multipliers).for_each(|(&task, multiplier)| weights[task] = multiplier);
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::solve::testing::gramian;

    #[test]
    fn every_other_task_makes_its_progress_and_none_is_helped_without_need() {
        for (size, seed) in [1, 2, 3, 8].into_iter().flat_map(|size| (0..50).map(move |seed| (size, seed))) {
            let (g, tau, primary) = (gramian(size, size + 2, seed), 0.1, size / 2);
            let w = prioritised(&g, primary, tau);
            let products = g.times(&w);
            for j in (0..size).filter(|j| *j != primary) {
                let slack = products[j] - tau * g.at(j, j);
                assert!(w[j] >= 0.0 && slack > -1e-9, "{size} {seed}: {slack}");
                assert!(w[j] == 0.0 || slack.abs() < 1e-9, "{size} {seed}: {slack}");
            }
        }
    }

    #[test]
    fn constraints_that_nothing_meets_are_dropped() {
        let g = Gramian::new(3, vec![1.0, 0.5, -0.5, 0.5, 1.0, -1.0, -0.5, -1.0, 1.0]);
        assert_eq!(prioritised(&g, 0, 0.02), [1.0, 0.0, 0.0]);
    }
}
