//! Multi-task learning as a bargaining game, Nash-MTL: every task gains the same in proportion.

use super::Rule;
use super::fairgrad::of_sum_k;
use super::present::ByGramian;
use super::solve::{Gramian, fair};

/// The direction of the α with Gα = 1/α, with weights that sum to the number K of tasks with labels. The paper's α makes every update
/// √K long, whatever the gradients are, and then clips it; a trainer's learning rate would lose its meaning.
///
/// Source: Navon et al. 2022, arXiv 2202.01017, claim 3.1; solved exactly in place of the paper's sequence of convex programs.
pub fn rule() -> impl Rule {
    ByGramian(|gramian: &Gramian| of_sum_k(fair(gramian, 1.0)))
}
