//! Priority-constrained descent, PCD: one task leads, and every other makes at least a little progress.

use super::average::MovingAverage;
use super::solve::prioritised;
use super::{Decision, Needs, Present, Rule};

/// Weights of the [direction](prioritised) computed on gradients divided by their usual norms, scaled to the length of the
/// primary task's gradient. The weights are (1, 0, 0, …) if the primary gradient satisfies all constraints. A usual norm is the
/// root of a moving average of squared norms that includes the current step. In a step without labels of the primary task, the
/// others have weight 1.
///
/// Source: arXiv 2606.29521, with ε = 0 in its norms, so that the scale of the gradients does not matter.
pub struct Pcd {
    primary: usize,
    tau: f64,
    beta: f64,
    /// Moving average of each task's squared norm.
    squares: Vec<MovingAverage>,
}

/// If the direction's squared norm is below this share of the terms that cancel in it, it is rounding error and there
/// is no direction.
const CANCELLED: f64 = 1e-12;

impl Pcd {
    /// The state for this many tasks before the first step; `tau` is the share of its own progress that each other task is
    /// guaranteed.
    pub fn new(tasks: usize, primary: usize, tau: f64, beta: f64) -> Pcd {
        Pcd { primary, tau, beta, squares: vec![MovingAverage::default(); tasks] }
    }

    fn averages(&self, step: &Present) -> Vec<MovingAverage> {
        let average = |(place, &task): (usize, &usize)| {
            self.squares[task].with(step.gramian().at(place, place).max(0.0), self.beta)
        };
        step.tasks.iter().enumerate().map(average).collect()
    }
}

impl Rule for Pcd {
    fn needs(&self) -> Needs {
        Needs::Gramian
    }

    fn weights(&self, step: &Present) -> Decision {
        let Some(primary) = step.tasks.iter().position(|task| *task == self.primary) else {
            return Decision::of_gradients(vec![1.0; step.len()]);
        };
        let usual: Vec<f64> =
            self.averages(step).iter().map(|average| average.value(self.beta).unwrap_or(0.0).sqrt()).collect();
        // A gradient that was always zero is zero now as well, so its scale does not matter.
        let scales: Vec<f64> = usual.iter().map(|norm| if *norm > 0.0 { 1.0 / norm } else { 0.0 }).collect();
        let scaled = step.gramian().rows_scaled(&scales);
        let coefficients = prioritised(&scaled, primary, self.tau);
        let length = scaled.squared_norm(&coefficients).sqrt();
        let cancelled: f64 = coefficients.iter().enumerate().map(|(task, c)| c * scaled.norm(task)).sum();
        let factor = match length * length > CANCELLED * cancelled * cancelled {
            true => step.gramian().norm(primary) / length,
            false => 0.0,
        };
        Decision::of_gradients(coefficients.iter().zip(scales).map(|(c, scale)| c * scale * factor).collect())
    }

    fn observe(&mut self, step: &Present) {
        let averages = self.averages(step);
        step.tasks.iter().zip(averages).for_each(|(&task, average)| self.squares[task] = average);
    }

    fn state(&self) -> Vec<f64> {
        self.squares.iter().flat_map(|average| average.state()).collect()
    }

    fn restore(&mut self, state: &[f64]) {
        self.squares = state.chunks(MovingAverage::STATE).map(MovingAverage::of).collect();
    }
}
