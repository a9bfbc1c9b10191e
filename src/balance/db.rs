//! Dual balancing, DB-MTL: takes logarithms of the losses and scales every task's gradient to the length of the
//! longest.

use super::average::MovingAverage;
use super::{Decision, Needs, Present, Rule};

/// A head learns from log L, so its factor is 1/L. At the seam the gradient of log L is also stretched to the longest one's norm,
/// using moving averages of squared norms that include the current step. Weights grow as losses shrink.
///
/// Source: Lin et al. 2023, arXiv 2308.12029. The paper averages the gradients themselves, which needs a copy of the trunk's
/// gradient per task. Only the norms are averaged here, so both agree for β = 0.
pub struct Db {
    beta: f64,
    /// Moving average of the squared norm of each task's gradient of log L.
    squares: Vec<MovingAverage>,
}

/// Upper limit of the stretch; a gradient that would need more is only rounding error.
const LARGEST_STRETCH: f64 = 1e8;

impl Db {
    /// The state for this many tasks before the first step.
    pub fn new(tasks: usize, beta: f64) -> Db {
        Db { beta, squares: vec![MovingAverage::default(); tasks] }
    }

    fn averages(&self, step: &Present) -> Vec<MovingAverage> {
        let losses = step.positive_losses();
        let square = |(place, loss): (usize, &f64)| step.gramian().at(place, place).max(0.0) / (loss * loss);
        let squares = losses.iter().enumerate().map(square);
        step.tasks.iter().zip(squares).map(|(&task, square)| self.squares[task].with(square, self.beta)).collect()
    }
}

impl Rule for Db {
    fn needs(&self) -> Needs {
        Needs::Gramian
    }

    fn weights(&self, step: &Present) -> Decision {
        let heads: Vec<f64> = step.positive_losses().iter().map(|loss| 1.0 / loss).collect();
        let norms: Vec<f64> =
            self.averages(step).iter().map(|average| average.value(self.beta).unwrap_or(0.0).sqrt()).collect();
        let longest = norms.iter().copied().fold(0.0, f64::max);
        let stretch = |norm: &f64| if *norm > 0.0 { (longest / norm).min(LARGEST_STRETCH) } else { 1.0 };
        Decision { seam: norms.iter().zip(&heads).map(|(norm, head)| stretch(norm) * head).collect(), heads }
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
