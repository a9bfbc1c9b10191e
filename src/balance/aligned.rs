//! Independent component alignment, Aligned-MTL: the gradients' principal components are made equally long.

use super::Rule;
use super::present::{ByGramian, one_on_average};
use super::solve::{Gramian, eigen};

/// Bb with b = 1/K, B = √λ_min·VΛ^{−½}Vᵀ and G = VΛVᵀ without the eigenvalues that are zero; b if all are.
///
/// Shapes: `[size]`.
///
/// Source: Senushkin et al. 2023, arXiv 2305.19000, algorithm 1.
pub fn aligned(gramian: &Gramian) -> Vec<f64> {
    let size = gramian.size();
    let mean = vec![1.0 / size as f64; size];
    let Some((gramian, _)) = gramian.normalised() else { return mean };
    let eigen = eigen(&gramian);
    let smallest = eigen.significant().map(|(value, _)| value).fold(f64::INFINITY, f64::min);
    eigen.apply(|value| (smallest / value).sqrt(), &mean)
}

/// The [aligned] weights times the number K of tasks with labels: b = 1, which leaves orthogonal gradients of one length as they are.
pub fn rule() -> impl Rule {
    ByGramian(|gramian: &Gramian| one_on_average(aligned(gramian)))
}
