//! Multi-task learning as a bargaining game, Nash-MTL: every task gains the same in proportion.

use super::Rule;
use super::fairgrad::scaled_to_sum_k;
use super::present::ByGramian;
use super::solve::{Gramian, fair};

/// Weights with the direction of the α that solves Gα = 1/α, scaled to sum to the number K of tasks with labels. The paper's α
/// makes every update √K long, whatever the gradients are, and then clips it; that would change the meaning of the learning rate.
///
/// Source: Navon et al. 2022, arXiv 2202.01017, claim 3.1; solved exactly instead of by the paper's sequence of convex
/// programs.
pub fn rule() -> impl Rule {
    ByGramian(|gramian: &Gramian| scaled_to_sum_k(fair(gramian, 1.0)))
}
