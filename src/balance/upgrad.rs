//! Unconflicting projection of gradients, UPGrad: projects each gradient onto the cone of directions that conflict with
//! no gradient.

use super::Rule;
use super::present::{ByGramian, one_on_average};
use super::solve::{Gramian, projections_mean};

/// The weights of the [mean of the projections](projections_mean) times the number K of tasks with labels, which is the
/// sum of the projections. It is the plain sum if nothing conflicts.
///
/// Source: Quinton & Rey 2024, arXiv 2406.16232.
pub fn rule() -> impl Rule {
    ByGramian(|gramian: &Gramian| one_on_average(projections_mean(gramian)))
}
