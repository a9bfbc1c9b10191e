//! Uncertainty weighting in closed form. In Σ ½e^{−s}L + ½s (Kendall, Gal & Cipolla 2018, eq. 7), s = log σ² is set to the
//! logarithm of a moving average of L. This is the fixed point that `learned` approaches with an optimizer.

use super::average::MovingAverage;
use super::{Decision, Needs, Present, Rule, SMALLEST_LOSS};

/// Share of the old average that is kept at each step.
const BETA: f64 = 0.99;
/// Cap on largest weight ÷ smallest weight, so that a memorised task cannot dominate the trunk.
const LARGEST_RATIO: f64 = 100.0;

/// Weight ∝ 1/average, normalised to sum to K over the K tasks that have labels, so that the learning rate keeps its
/// meaning.
pub struct ClosedForm {
    averages: Vec<MovingAverage>,
}

impl ClosedForm {
    /// The state for this many tasks, before any loss.
    pub fn new(tasks: usize) -> ClosedForm {
        ClosedForm { averages: vec![MovingAverage::default(); tasks] }
    }

    fn average(&self, task: usize) -> Option<f64> {
        self.averages[task].value(BETA).map(|average| average.max(SMALLEST_LOSS))
    }
}

impl Rule for ClosedForm {
    fn needs(&self) -> Needs {
        Needs::State
    }

    fn weights(&self, step: &Present) -> Decision {
        let inverse: Vec<Option<f64>> = step.tasks.iter().map(|&t| self.average(t).map(|v| 1.0 / v)).collect();
        let known: Vec<f64> = inverse.iter().copied().flatten().collect();
        // A task without a history gets the mean weight of the others.
        let unknown = if known.is_empty() { 1.0 } else { known.iter().sum::<f64>() / known.len() as f64 };
        let smallest = inverse.iter().map(|w| w.unwrap_or(unknown)).fold(f64::INFINITY, f64::min);
        let capped = |w: &Option<f64>| w.unwrap_or(unknown).min(LARGEST_RATIO * smallest);
        let total: f64 = inverse.iter().map(capped).sum();
        Decision::of_losses(inverse.iter().map(|w| capped(w) * step.len() as f64 / total).collect())
    }

    fn observe(&mut self, step: &Present) {
        for (&task, &loss) in step.tasks.iter().zip(step.losses()) {
            self.averages[task] = self.averages[task].with(loss, BETA);
        }
    }

    fn log_variance(&self, task: usize) -> f32 {
        self.average(task).map_or(f32::NAN, |v| v.ln() as f32)
    }

    fn state(&self) -> Vec<f64> {
        self.averages.iter().flat_map(|average| average.state()).collect()
    }

    fn restore(&mut self, state: &[f64]) {
        self.averages = state.chunks(MovingAverage::STATE).map(MovingAverage::of).collect();
    }
}
