//! Uncertainty weighting in closed form: s = log σ² of Σ ½e^{−s}L + ½s (Kendall, Gal & Cipolla 2018, eq. 7) is the logarithm
//! of a moving average of L, the fixed point that `learned` approaches with an optimizer.

use super::{Balance, Needs, SMALLEST_LOSS, Signals, Weights, expect_len};
use crate::error::Result;

/// Share of the old average that stays.
const BETA: f64 = 0.99;
/// Largest weight ÷ smallest: a memorised task must not take the trunk for itself.
const LARGEST_RATIO: f64 = 100.0;

/// Weight ∝ 1/average, normalised to sum K over the K tasks that have labels, so that the learning rate keeps its meaning.
pub struct ClosedForm {
    tasks: Vec<MovingAverage>,
}

#[derive(Clone, Copy, Default)]
struct MovingAverage {
    sum: f64,
    /// Steps in which the task had labels.
    steps: u32,
}

impl MovingAverage {
    /// Bias-corrected, as Adam's moments; `None` before the first loss.
    fn value(self) -> Option<f64> {
        let correction = 1.0 - BETA.powi(i32::try_from(self.steps).unwrap_or(i32::MAX));
        (self.steps > 0).then(|| (self.sum / correction).max(SMALLEST_LOSS))
    }
}

impl ClosedForm {
    /// The state for this many tasks, before any loss was seen.
    pub fn new(tasks: usize) -> ClosedForm {
        ClosedForm { tasks: vec![MovingAverage::default(); tasks] }
    }
}

impl Balance for ClosedForm {
    fn needs(&self) -> Needs {
        Needs::State
    }

    fn weights(&self, signals: &Signals) -> Weights {
        let active = signals.active;
        let inverse: Vec<Option<f64>> = self.tasks.iter().map(|t| t.value().map(|v| 1.0 / v)).collect();
        let present = || inverse.iter().zip(active).filter(|(_, a)| **a).map(|(w, _)| *w);
        let known: Vec<f64> = present().flatten().collect();
        // A task met for the first time weighs as much as the others do on average.
        let unknown = if known.is_empty() { 1.0 } else { known.iter().sum::<f64>() / known.len() as f64 };
        let smallest = present().map(|w| w.unwrap_or(unknown)).fold(f64::INFINITY, f64::min);
        let capped = |w: Option<f64>| w.unwrap_or(unknown).min(LARGEST_RATIO * smallest);
        let total: f64 = present().map(capped).sum();
        let count = active.iter().filter(|a| **a).count() as f64;
        let weight = |(w, &a): (&Option<f64>, &bool)| if a { (capped(*w) * count / total) as f32 } else { 0.0 };
        Weights::of_losses(inverse.iter().zip(active).map(weight).collect())
    }

    fn observe(&mut self, losses: &[f32], active: &[bool]) {
        for ((task, &loss), &active) in self.tasks.iter_mut().zip(losses).zip(active) {
            if active {
                task.sum = BETA * task.sum + (1.0 - BETA) * f64::from(loss);
                task.steps += 1;
            }
        }
    }

    fn log_variances(&self) -> Vec<f32> {
        self.tasks.iter().map(|t| t.value().map_or(f32::NAN, |v| v.ln() as f32)).collect()
    }

    fn state(&self) -> Vec<f64> {
        self.tasks.iter().flat_map(|t| [t.sum, f64::from(t.steps)]).collect()
    }

    fn restore(&mut self, state: &[f64]) -> Result<()> {
        expect_len(state, 2 * self.tasks.len())?;
        for (task, s) in self.tasks.iter_mut().zip(state.chunks(2)) {
            *task = MovingAverage { sum: s[0], steps: s[1] as u32 };
        }
        Ok(())
    }
}
