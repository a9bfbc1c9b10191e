//! DualProj: projects the mean gradient onto the cone of directions that conflict with no gradient.

use super::Rule;
use super::present::{ByGramian, one_on_average};
use super::solve::{Gramian, projected_mean};

/// The weights of the [projection](projected_mean) times the number K of tasks with labels, which is the projection of
/// the sum.
///
/// Source: Lopez-Paz & Ranzato 2017, arXiv 1706.08840, eq. 11, applied to tasks instead of past examples.
pub fn rule() -> impl Rule {
    ByGramian(|gramian: &Gramian| one_on_average(projected_mean(gramian)))
}
