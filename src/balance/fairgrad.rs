//! Fair resource allocation, FairGrad: shares progress α-fairly among the tasks.

use super::Rule;
use super::present::ByGramian;
use super::solve::{Gramian, fair};

/// Weights with the direction of the w that solves Gw = w^(−1/α), scaled to sum to the number K of tasks with labels. The length
/// of the paper's w depends on the gradients' scale, which would change the meaning of the learning rate. α = 0 is the plain sum,
/// α = 1 is Nash-MTL, and large α favour the worst-off task.
///
/// Source: Ban & Ji 2024, arXiv 2402.15638, eq. 4; the authors train with α = 2.
pub fn rule(alpha: f64) -> impl Rule {
    ByGramian(move |gramian: &Gramian| scaled_to_sum_k(fair(gramian, alpha)))
}

/// Scales positive weights to sum to their number K.
pub(super) fn scaled_to_sum_k(weights: Vec<f64>) -> Vec<f64> {
    let (count, sum) = (weights.len() as f64, weights.iter().sum::<f64>());
    weights.into_iter().map(|weight| weight / sum * count).collect()
}
