//! Conflict-averse gradient descent, CAGrad: near the mean gradient, finds the direction that helps the worst task
//! most.

use super::Rule;
use super::present::{ByGramian, one_on_average};
use super::solve::{Gramian, conflict_averse};

/// Scales the direction back to the mean gradient's size. The authors' code has the same three choices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rescale {
    /// No scaling, as in the paper.
    None,
    /// Divided by 1 + c².
    Square,
    /// Divided by 1 + c.
    Sum,
}

/// The weights of the [direction](conflict_averse) times the number K of tasks with labels: the paper starts from the mean
/// gradient, this code from the sum.
///
/// Source: Liu et al. 2021, arXiv 2110.14048, algorithm 1.
pub fn rule(c: f64, rescale: Rescale) -> impl Rule {
    let divisor = match rescale {
        Rescale::None => 1.0,
        Rescale::Square => 1.0 + c * c,
        Rescale::Sum => 1.0 + c,
    };
    ByGramian(move |gramian: &Gramian| {
        one_on_average(conflict_averse(gramian, c)).into_iter().map(|weight| weight / divisor).collect()
    })
}
