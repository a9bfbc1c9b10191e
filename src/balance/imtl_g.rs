//! Impartial multi-task learning by gradients, IMTL-G: the combined gradient has equal projections onto all gradients.

use super::Rule;
use super::present::{ByGramian, one_on_average};
use super::solve::{Gramian, eigen};

/// α = v/Σv with v = G⁺d, dᵢ = ‖gᵢ‖. All 0 if Σv is 0, because then no combination has equal projections. Entries may be
/// negative.
///
/// Shapes: `[size]`.
///
/// Source: Liu et al., "Towards Impartial Multi-task Learning", ICLR 2021. The pseudo-inverse, for dependent gradients, is
/// from Quinton & Rey 2024, arXiv 2406.16232.
pub fn impartial(gramian: &Gramian) -> Vec<f64> {
    let size = gramian.size();
    let Some((gramian, _)) = gramian.normalised() else { return vec![0.0; size] };
    let norms: Vec<f64> = (0..size).map(|task| gramian.norm(task)).collect();
    let v = eigen(&gramian).apply(|value| 1.0 / value, &norms);
    let sum: f64 = v.iter().sum();
    // If the entries cancel, the remaining sum is rounding error.
    let cancelled = v.iter().map(|v| v.abs()).sum::<f64>() * 1e-12;
    v.iter().map(|v| if sum.abs() > cancelled.max(1e-12) { v / sum } else { 0.0 }).collect()
}

/// The [impartial] weights times the number K of tasks with labels; the paper's sum to 1.
pub fn rule() -> impl Rule {
    ByGramian(|gramian: &Gramian| one_on_average(impartial(gramian)))
}
