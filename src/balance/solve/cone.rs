//! Projections onto the dual cone of the gradients, the set of directions that conflict with none of them.

use super::gramian::Gramian;
use super::nonnegative::{Outcome, nonnegative};

/// Weights of the direction closest to Σuᵢgᵢ that conflicts with no gradient: argmin vᵀGv over v ≥ u.
///
/// Source: Quinton & Rey 2024, arXiv 2406.16232, proposition 1.
fn projection(gramian: &Gramian, u: &[f64]) -> Vec<f64> {
    // v = u + x with x ≥ 0.
    let b: Vec<f64> = gramian.times(u).iter().map(|product| -product).collect();
    match nonnegative(gramian, &b) {
        Outcome::Minimum(x) => x.iter().zip(u).map(|(x, u)| x + u).collect(),
        // b lies in the range of G, so a minimum exists. Only rounding could lead here.
        Outcome::Unbounded(_) => u.to_vec(),
    }
}

/// The mean of the projections of the gradients onto their dual cone (UPGrad); each weight is at least 1/size.
///
/// Shapes: `[size]`.
///
/// Source: Quinton & Rey 2024, arXiv 2406.16232, its aggregator UPGrad.
pub fn projections_mean(gramian: &Gramian) -> Vec<f64> {
    let size = gramian.size();
    let share = 1.0 / size as f64;
    let Some((gramian, _)) = gramian.normalised() else { return vec![share; size] };
    let mut sum = vec![0.0; size];
    for task in 0..size {
        let mut u = vec![0.0; size];
        u[task] = share;
        sum.iter_mut().zip(projection(&gramian, &u)).for_each(|(sum, v)| *sum += v);
    }
    sum
}

/// The projection of the mean gradient onto the dual cone of the gradients (DualProj); each weight is at least 1/size.
///
/// Shapes: `[size]`.
///
/// Source: Lopez-Paz & Ranzato 2017, arXiv 1706.08840, eq. 11, with the mean gradient projected.
pub fn projected_mean(gramian: &Gramian) -> Vec<f64> {
    let size = gramian.size();
    let u = vec![1.0 / size as f64; size];
    gramian.normalised().map_or_else(|| u.clone(), |(gramian, _)| projection(&gramian, &u))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::solve::testing::gramian;

    #[test]
    fn nothing_conflicts_and_only_binding_gradients_are_added() {
        for (size, seed) in [2, 3, 8, 16].into_iter().flat_map(|size| (0..50).map(move |seed| (size, seed))) {
            let g = gramian(size, size + 2, seed);
            let v = projected_mean(&g);
            for (i, product) in g.times(&v).iter().enumerate() {
                let added = v[i] - 1.0 / size as f64;
                assert!(added > -1e-12 && *product > -1e-9 * g.trace(), "{size} {seed}");
                assert!(added < 1e-12 || product.abs() < 1e-9 * g.trace(), "{size} {seed}");
            }
            assert!(g.times(&projections_mean(&g)).iter().all(|product| *product > -1e-9 * g.trace()), "{size} {seed}");
        }
    }
}
