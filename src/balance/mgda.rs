//! Multiple-gradient descent, MGDA: the shortest convex combination of the gradients conflicts with none of them.

use super::Rule;
use super::present::{ByGramian, one_on_average};
use super::solve::{Gramian, shortest};

/// The weights of the [shortest] combination times the number K of tasks with labels; the paper's sum to 1.
///
/// Source: Sener & Koltun 2018, arXiv 1810.04650.
pub fn rule() -> impl Rule {
    ByGramian(|gramian: &Gramian| one_on_average(shortest(gramian)))
}
