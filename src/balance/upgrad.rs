//! Unconflicting projection of gradients, UPGrad: each gradient is projected on the directions that conflict with none.

use super::Rule;
use super::present::{ByGramian, one_on_average};
use super::solve::{Gramian, projections_mean};

/// The weights of the [mean of the projections](projections_mean) times the number K of tasks with labels: the sum of the
/// projections, which is the plain sum where nothing conflicts.
///
/// Source: Quinton & Rey 2024, arXiv 2406.16232.
pub fn rule() -> impl Rule {
    ByGramian(|gramian: &Gramian| one_on_average(projections_mean(gramian)))
}
