//! CAGrad's problem: within a ball around the mean gradient, find the direction whose smallest product with a gradient is
//! largest.

use super::cholesky::Cholesky;
use super::gramian::{Gramian, dot};
use super::nonnegative::{Outcome, nonnegative};

/// Weights of the d with ‖d − g₀‖ ≤ c‖g₀‖ that maximises minᵢ gᵢ·d, where g₀ is the mean gradient. They are 1/size + a with a ≥
/// 0 and √(aᵀGa) = c‖g₀‖, so a is the paper's c‖g₀‖/‖g_w‖·w with w on the simplex. If several d are equally good, the one
/// closest to g₀ is returned.
///
/// Shapes: `[size]`.
///
/// Source: Liu et al. 2021, arXiv 2110.14048, algorithm 1. For a given smallest product μ, the d closest to g₀ is a quadratic
/// program in a, and its distance from g₀ grows with μ. For a fixed set of binding gradients, the μ at the edge of the ball is a
/// root of a quadratic, so μ is exact once the set is found.
pub fn conflict_averse(gramian: &Gramian, c: f64) -> Vec<f64> {
    let size = gramian.size();
    let mean = vec![1.0 / size as f64; size];
    let Some((gramian, _)) = gramian.normalised() else { return mean };
    let products = gramian.times(&mean);
    let radius = c * gramian.squared_norm(&mean).sqrt();
    let added = Ball { gramian: &gramian, products: &products, radius }.farthest();
    mean.iter().zip(added).map(|(mean, added)| mean + added).collect()
}

struct Ball<'a> {
    gramian: &'a Gramian,
    /// Each gradient's inner product with the mean gradient.
    products: &'a [f64],
    radius: f64,
}

/// Enough bisections to reach the last bit of the bracket, besides the steps to roots of the quadratics.
const ITERATIONS: usize = 200;

impl Ball<'_> {
    fn farthest(&self) -> Vec<f64> {
        let size = self.products.len();
        let smallest = self.products.iter().copied().fold(f64::INFINITY, f64::min);
        if self.radius <= 0.0 {
            return vec![0.0; size];
        }
        // No direction in the ball has a larger product with the shortest gradient.
        let shortest = (0..size).map(|task| self.gramian.norm(task)).fold(f64::INFINITY, f64::min);
        let longest = self.gramian.squared_norm(&vec![1.0 / size as f64; size]).sqrt() + self.radius;
        let (mut low, mut high) = (smallest, (longest * shortest).max(smallest));
        let (mut level, mut inside) = (high, vec![0.0; size]);
        for iteration in 1..=ITERATIONS {
            let Some(added) = self.nearest(level) else {
                // Some combination of gradients is zero, so no direction has a level above zero.
                if level <= 0.0 || low >= 0.0 {
                    break;
                }
                (level, high) = (0.0, 0.0);
                continue;
            };
            let root = self.root(&added).filter(|(root, _)| (low..=high).contains(root));
            if self.gramian.squared_norm(&added).sqrt() > self.radius {
                high = level;
            } else {
                (low, inside) = (level, added);
            }
            level = match root {
                Some((root, exact)) if self.fits(&exact, root) => return exact,
                // Every fourth step bisects, in case the roots approach from one side only.
                Some((root, _)) if root > low && root < high && iteration % 4 != 0 => root,
                Some(_) | None => 0.5 * (low + high),
            };
            if level <= low || level >= high {
                break;
            }
        }
        inside
    }

    /// Per gradient, what the d closest to g₀ with gᵢ·d ≥ level adds to g₀; `None` if there is no such d.
    fn nearest(&self, level: f64) -> Option<Vec<f64>> {
        let missing: Vec<f64> = self.products.iter().map(|product| level - product).collect();
        match nonnegative(self.gramian, &missing) {
            Outcome::Minimum(a) => Some(a),
            Outcome::Unbounded(_) => None,
        }
    }

    /// Assumes that exactly the gradients that bind in `a` stay binding. Returns the level at which d reaches the edge of the
    /// ball, and what those gradients add there.
    fn root(&self, a: &[f64]) -> Option<(f64, Vec<f64>)> {
        let binding: Vec<usize> = (0..a.len()).filter(|&task| a[task] > 0.0).collect();
        let factor = Cholesky::new(binding.len(), |r, c| self.gramian.at(binding[r], binding[c]))?;
        // a = level·along − against.
        let along = factor.solve(vec![1.0; binding.len()]);
        let own: Vec<f64> = binding.iter().map(|&task| self.products[task]).collect();
        let against = factor.solve(own.clone());
        // aᵀGa = level²·p − 2·level·q + r.
        let (p, q, r) = (along.iter().sum::<f64>(), dot(&along, &own), dot(&against, &own));
        let level = (q + (q * q - p * (r - self.radius * self.radius)).max(0.0).sqrt()) / p;
        let mut exact = vec![0.0; a.len()];
        for (&task, (along, against)) in binding.iter().zip(along.iter().zip(&against)) {
            exact[task] = level * along - against;
        }
        level.is_finite().then_some((level, exact))
    }

    /// Whether `a` is optimal for this level: no negative entry, and no gradient's product below the level.
    fn fits(&self, a: &[f64], level: f64) -> bool {
        let products = self.gramian.times(a);
        let enough = |(added, product): (&f64, &f64)| added + product >= level - 1e-13;
        a.iter().all(|a| *a >= 0.0) && products.iter().zip(self.products).all(enough)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::solve::testing::{gramian, of_gradients};

    /// d is optimal if it lies on the ball's edge and only gradients with the smallest product with d are added to g₀.
    fn assert_optimal(g: &Gramian, c: f64, what: &str) {
        let size = g.size();
        let weights = conflict_averse(g, c);
        let (mean, added) = (vec![1.0 / size as f64; size], weights.iter().map(|w| w - 1.0 / size as f64));
        let added: Vec<f64> = added.collect();
        let (radius, products) = (c * g.squared_norm(&mean).sqrt(), g.times(&weights));
        let smallest = products.iter().copied().fold(f64::INFINITY, f64::min);
        // The checked values are differences of numbers as large as the trace.
        let tolerance = 1e-9 * g.trace();
        assert!((g.squared_norm(&added).sqrt() - radius).abs() < 1e-9 * g.trace().sqrt(), "{what}: {weights:?}");
        for (added, product) in added.iter().zip(products) {
            assert!(*added > -1e-12 && added * (product - smallest) < tolerance, "{what}: {weights:?}");
        }
    }

    #[test]
    fn only_gradients_of_the_smallest_product_are_added() {
        for c in [0.1, 0.4, 0.5, 0.9] {
            for (size, seed) in [1, 2, 3, 5, 8, 16].into_iter().flat_map(|size| (0..60).map(move |seed| (size, seed))) {
                assert_optimal(&gramian(size, size + 2, seed), c, &format!("{c} {size} {seed}"));
            }
        }
    }

    #[test]
    fn few_dimensions_leave_nothing_undecided() {
        // With more tasks than dimensions a combination of gradients may be zero. Then d is the projection of the mean onto
        // the dual cone, if that lies inside the ball.
        for (size, seed) in [3, 5, 8].into_iter().flat_map(|size| (0..100).map(move |seed| (size, seed))) {
            let g = gramian(size, 2, seed);
            let weights = conflict_averse(&g, 0.4);
            let smallest = |w: &[f64]| g.times(w).into_iter().fold(f64::INFINITY, f64::min);
            let mean = vec![1.0 / size as f64; size];
            let off: Vec<f64> = weights.iter().map(|w| w - 1.0 / size as f64).collect();
            assert!(g.squared_norm(&off).sqrt() < 0.4 * g.squared_norm(&mean).sqrt() + 1e-9, "{size} {seed}");
            assert!(smallest(&weights) >= smallest(&mean) - 1e-12, "{size} {seed}");
        }
    }

    #[test]
    fn a_zero_combination_inside_the_ball_leaves_the_mean() {
        let g = of_gradients(&[vec![0.0, 1.0], vec![0.0, -1.0], vec![1.0, 0.0]]);
        let weights = conflict_averse(&g, 0.4);
        assert!(weights.iter().all(|w| (w - 1.0 / 3.0).abs() < 1e-9), "{weights:?}");
    }
}
