//! Independent component alignment, Aligned-MTL: scales the gradients' principal components to equal length.

use super::Rule;
use super::present::{ByGramian, one_on_average};
use super::solve::{Gramian, eigen};

/// The weights Bb with b = 1/K and B = √λ_min·VΛ^{−½}Vᵀ, where G = VΛVᵀ without its zero eigenvalues. The result is b
/// if all eigenvalues are zero.
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

/// The [aligned] weights times the number K of tasks with labels. That makes b = 1, so orthogonal gradients of equal length stay
/// unchanged.
pub fn rule() -> impl Rule {
    ByGramian(|gramian: &Gramian| one_on_average(aligned(gramian)))
}
