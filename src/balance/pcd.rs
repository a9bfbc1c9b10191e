//! Priority-constrained descent, PCD: one task leads, and every other makes at least a little progress.

use super::average::MovingAverage;
use super::solve::prioritised;
use super::{Decision, Needs, Present, Rule};

/// The [direction](prioritised) of the gradients over their usual norms, as long as the primary task's gradient: weights (1, 0, 0, …)
/// where the primary gradient satisfies everybody. A norm is the root of a moving average of squares that includes the step. A
/// step without labels of the primary task weighs the others alike, by 1.
///
/// Source: arXiv 2606.29521; the ε of its norms is 0, so that gradients of any scale are alike.
pub struct Pcd {
    primary: usize,
    tau: f64,
    beta: f64,
    /// Of each task's squared norm.
    squares: Vec<MovingAverage>,
}

/// Below this share of what cancels in it, the direction's squared norm is rounding, and there is no direction.
const CANCELLED: f64 = 1e-12;

impl Pcd {
    /// The state for this many tasks before the first step; `tau` is the share of its own progress for each that is not primary.
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
        // A gradient that was always zero is zero now: its scale does not matter.
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
