//! Fair resource allocation, FairGrad: tasks share the progress α-fairly.

use super::Rule;
use super::present::ByGramian;
use super::solve::{Gramian, fair};

/// The direction of the w with Gw = w^(−1/α), with weights that sum to the number K of tasks with labels: the paper's length of it
/// depends on the gradients' scale in a way that a trainer's learning rate is not made for. α = 0 is the sum, 1 is Nash-MTL, and
/// large ones favour the worst-off task.
///
/// Source: Ban & Ji 2024, arXiv 2402.15638, eq. 4; the authors train with α = 2.
pub fn rule(alpha: f64) -> impl Rule {
    ByGramian(move |gramian: &Gramian| of_sum_k(fair(gramian, alpha)))
}

/// Positive weights scaled to sum K.
pub(super) fn of_sum_k(weights: Vec<f64>) -> Vec<f64> {
    let (count, sum) = (weights.len() as f64, weights.iter().sum::<f64>());
    weights.into_iter().map(|weight| weight / sum * count).collect()
}
