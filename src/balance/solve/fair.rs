//! α-fair weights, Gw = w^(−1/α), by a damped Newton method. α = 1 gives the Nash bargaining solution.

use super::cholesky::Cholesky;
use super::gramian::{Gramian, dot};

/// The w > 0 with (Gw)ᵢ = wᵢ^(−1/α). It minimises ½wᵀGw − Σu(wᵢ), where u is increasing and concave with u' = w^(−1/α). A task
/// whose gradient is zero gets weight 0. All weights are 1 if all gradients are zero, and for α = 0. If a convex combination of
/// gradients is zero there is no solution, and large weights that nearly cancel the gradients are returned.
///
/// Shapes: `[size]`.
///
/// Units: a gradient's norm to the power −2α/(α+1).
///
/// Source: Ban & Ji 2024, arXiv 2402.15638, eq. 4; α = 1: Navon et al. 2022, arXiv 2202.01017, claim 3.1.
pub fn fair(gramian: &Gramian, alpha: f64) -> Vec<f64> {
    let size = gramian.size();
    let Some((normalised, trace)) = gramian.normalised().filter(|_| alpha > 0.0) else { return vec![1.0; size] };
    let tasks: Vec<usize> = (0..size).filter(|&task| normalised.at(task, task) > SMALLEST_SHARE).collect();
    let share = alpha / (alpha + 1.0);
    // In units of each weight without the other tasks, the solution is 1 for orthogonal gradients.
    let alone: Vec<f64> = tasks.iter().map(|&task| normalised.at(task, task).powf(-share)).collect();
    let problem = Problem { gramian: normalised.of(&tasks).rows_scaled(&alone), power: 1.0 / alpha };
    let mut weights = vec![0.0; size];
    for ((&task, relative), alone) in tasks.iter().zip(problem.solve()).zip(alone) {
        weights[task] = relative * alone * trace.powf(-share);
    }
    weights
}

/// A squared norm below this share of their sum is rounding error.
const SMALLEST_SHARE: f64 = 1e-30;

/// Gx = diag(G)·x^(−power).
struct Problem {
    gramian: Gramian,
    power: f64,
}

/// About ten iterations are enough for gradients that do not nearly cancel, some forty for those that do.
const ITERATIONS: usize = 60;
/// Added to the diagonal, relative to it. Without it, opposite gradients would drive the weights to infinity.
const RIDGE: f64 = 1e-14;

impl Problem {
    fn solve(&self) -> Vec<f64> {
        let size = self.gramian.size();
        let mut x = vec![1.0; size];
        let mut last = f64::INFINITY;
        for _ in 0..ITERATIONS {
            let downhill = (0..size).map(|i| -self.slope(i, &x)).collect();
            let Some(factor) = Cholesky::new(size, |r, c| self.curvature(r, c, &x)) else { break };
            let step = factor.solve(downhill);
            let relative = step.iter().zip(&x).map(|(step, x)| (step / x).abs()).fold(0.0, f64::max);
            // Near the solution each error is about the square of the previous one, until only rounding error is left.
            if relative.is_nan() || relative < 1e-15 || (last < 1e-4 && relative >= last) {
                break;
            }
            // Within a relative step r the curvature of a utility grows by less than (1 − r)^(−power − 1), so a step of this
            // length always lowers the objective, and no entry turns negative.
            let length = 1.0 / (1.0 + (self.power + 1.0) * relative);
            x.iter_mut().zip(step).for_each(|(x, step)| *x += length * step);
            last = relative;
        }
        x
    }

    fn diagonal(&self, i: usize) -> f64 {
        self.gramian.at(i, i)
    }

    fn slope(&self, i: usize, x: &[f64]) -> f64 {
        dot(self.gramian.row(i), x) + self.diagonal(i) * (RIDGE * x[i] - x[i].powf(-self.power))
    }

    fn curvature(&self, r: usize, c: usize, x: &[f64]) -> f64 {
        let own = self.diagonal(r) * (RIDGE + self.power * x[r].powf(-self.power - 1.0));
        self.gramian.at(r, c) + if r == c { own } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::solve::testing::gramian;

    #[test]
    fn the_equation_of_the_paper_holds_for_every_fairness() {
        for alpha in [0.2, 0.5, 1.0, 2.0, 5.0] {
            for (size, seed) in [1, 2, 3, 8, 16].into_iter().flat_map(|size| (0..40).map(move |seed| (size, seed))) {
                let g = gramian(size, size + 4, seed);
                let w = fair(&g, alpha);
                for (product, w) in g.times(&w).iter().zip(&w) {
                    let expected = w.powf(-1.0 / alpha);
                    // The ridge is 1e-14 of a diagonal entry, and weights go up to a few hundred.
                    assert!((product / expected - 1.0).abs() < 1e-8, "{alpha} {size} {seed}: {product}, {expected}");
                }
            }
        }
    }

    #[test]
    fn the_weights_of_nash_have_the_product_of_the_number_of_tasks() {
        for (size, seed) in [1, 2, 3, 8, 16].into_iter().flat_map(|size| (0..40).map(move |seed| (size, seed))) {
            let g = gramian(size, size + 4, seed);
            assert!((g.squared_norm(&fair(&g, 1.0)) / size as f64 - 1.0).abs() < 1e-9, "{size} {seed}");
        }
    }
}
