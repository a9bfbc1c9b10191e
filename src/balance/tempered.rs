//! Tempered uncertainty weighting: a small exponent, a cap on the ratio of weights, and by default the length of a task's gradient in
//! place of its loss.

use super::average::MovingAverage;
use super::present::one_on_average;
use super::{Decision, Needs, Present, Rule, SMALLEST_LOSS};

/// Weights at the seam ∝ L^−γ · ‖g‖^−δ, where L and ‖g‖ are geometric moving averages of a task's loss and of the length of its
/// gradient at the shared features. Each weight is kept within a factor √r of their geometric mean, so the largest is at most r
/// times the smallest, and their mean is 1. The gradients are those that telemetry measures anyway, so they cost nothing.
///
/// By default γ = 0, δ = ½ and r = 4. With γ = 1 and δ = 0 this is `uncertainty-closed-form` with another cap; with both 0 all weights
/// are equal, and with γ below 0 larger losses weigh more. A task has weight
/// 1 until its loss and its gradient have been measured. If gradients are never measured and δ is not 0, all weights are 1.
///
/// Source: the closed form of Kendall 2018, arXiv 1705.07115, eq. 7. The exponents were chosen by the runs described in
/// docs/balancing.md.
pub struct Tempered {
    temper: Temper,
    tasks: Vec<Averages>,
}

/// Limits on how far weights follow losses and gradients.
#[derive(Clone, Copy, Debug)]
pub struct Temper {
    /// γ: the exponent of the loss.
    pub exponent: f64,
    /// δ: the exponent of the gradient's length.
    pub gradient_exponent: f64,
    /// r: largest weight ÷ smallest.
    pub cap: f64,
}

/// Share of the old average that is kept after a step, and after a measurement of the gradients.
const LOSS_BETA: f64 = 0.99;
const NORM_BETA: f64 = 0.8;

/// Moving averages of the logarithms of a task's loss and of its gradient's length.
#[derive(Clone, Copy, Default)]
struct Averages {
    loss: MovingAverage,
    norm: MovingAverage,
}

impl Averages {
    const STATE: usize = 2 * MovingAverage::STATE;
}

impl Tempered {
    /// The state for this many tasks before the first step.
    pub fn new(tasks: usize, temper: Temper) -> Tempered {
        Tempered { temper, tasks: vec![Averages::default(); tasks] }
    }

    /// The logarithm of a task's weight, up to a common factor.
    fn log_weight(&self, task: usize) -> Option<f64> {
        let Averages { loss, norm } = self.tasks[task];
        let part = |exponent: f64, average: Option<f64>| {
            if exponent == 0.0 { Some(0.0) } else { average.map(|a| -exponent * a) }
        };
        let loss = part(self.temper.exponent, loss.value(LOSS_BETA))?;
        Some(loss + part(self.temper.gradient_exponent, norm.value(NORM_BETA))?)
    }
}

impl Rule for Tempered {
    fn needs(&self) -> Needs {
        Needs::State
    }

    fn weights(&self, step: &Present) -> Decision {
        let logs: Vec<Option<f64>> = step.tasks.iter().map(|&task| self.log_weight(task)).collect();
        let known: Vec<f64> = logs.iter().copied().flatten().collect();
        let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
        let reach = 0.5 * self.temper.cap.ln();
        // A task without a history gets the mean weight of the others.
        let weight = |log: &Option<f64>| log.map_or(1.0, |log| (log - mean).clamp(-reach, reach).exp());
        let weights: Vec<f64> = logs.iter().map(weight).collect();
        let sum: f64 = weights.iter().sum();
        Decision::of_gradients(one_on_average(weights.iter().map(|weight| weight / sum).collect()))
    }

    fn observe(&mut self, step: &Present) {
        for (place, (&task, loss)) in step.tasks.iter().zip(step.positive_losses()).enumerate() {
            let averages = &mut self.tasks[task];
            averages.loss = averages.loss.with(loss.ln(), LOSS_BETA);
            let norm = step.measured_gramian().map_or(0.0, |gramian| gramian.norm(place));
            if norm > SMALLEST_LOSS * SMALLEST_LOSS {
                averages.norm = averages.norm.with(norm.ln(), NORM_BETA);
            }
        }
    }

    fn state(&self) -> Vec<f64> {
        self.tasks.iter().flat_map(|task| [task.loss.state(), task.norm.state()].concat()).collect()
    }

    fn restore(&mut self, state: &[f64]) {
        let averages = |s: &[f64]| {
            let (loss, norm) = s.split_at(MovingAverage::STATE);
            Averages { loss: MovingAverage::of(loss), norm: MovingAverage::of(norm) }
        };
        self.tasks = state.chunks(Averages::STATE).map(averages).collect();
    }
}
