//! Robust learning with excess risks, ExcessMTL: gives more weight to tasks that are far from their best reachable
//! loss.

use super::present::one_on_average;
use super::solve::softmax;
use super::{Decision, Needs, Present, Rule};

/// Exponentiated weights that sum to the number K of tasks with labels; the paper's sum to 1. Every step multiplies each weight
/// by exp(η·E/E₀), where E is the task's excess risk and E₀ its excess risk in its first step. The first step leaves the weight
/// unchanged.
///
/// Source: He et al. 2024, "Robust Multi-Task Learning with Excess Risks", ICML, eq. 6, 7 and 9; E₀ as in the authors' code.
pub struct Excess {
    learning_rate: f64,
    tasks: Vec<Risk>,
}

#[derive(Clone, Copy, Default)]
struct Risk {
    log_weight: f64,
    first: f64,
    /// 1 if `first` is known, else 0.
    known: f64,
}

impl Risk {
    const STATE: usize = 3;
}

/// Avoids a division by zero if the first risk is 0.
const EPSILON: f64 = 1e-7;

impl Excess {
    /// The state for this many tasks before the first step.
    pub fn new(tasks: usize, learning_rate: f64) -> Excess {
        Excess { learning_rate, tasks: vec![Risk::default(); tasks] }
    }

    /// The state of the step's tasks after this step.
    fn moved(&self, step: &Present) -> Vec<Risk> {
        let mut tasks: Vec<Risk> = step.tasks.iter().map(|&task| self.tasks[task]).collect();
        let growth = |(task, risk): (&Risk, &f64)| task.known * self.learning_rate * risk / (task.first + EPSILON);
        let growths: Vec<f64> = tasks.iter().zip(step.excess()).map(growth).collect();
        let known: f64 = tasks.iter().map(|task| task.known).sum();
        // Subtracting the mean leaves the softmax unchanged and keeps absent tasks from falling behind.
        let mean = growths.iter().sum::<f64>() / known.max(1.0);
        for ((task, growth), risk) in tasks.iter_mut().zip(growths).zip(step.excess()) {
            if task.known > 0.0 {
                task.log_weight += growth - mean;
            } else {
                (task.first, task.known) = (*risk, 1.0);
            }
        }
        tasks
    }
}

impl Rule for Excess {
    fn needs(&self) -> Needs {
        Needs::Excess
    }

    fn weights(&self, step: &Present) -> Decision {
        let log_weights: Vec<f64> = self.moved(step).iter().map(|task| task.log_weight).collect();
        Decision::of_losses(one_on_average(softmax(&log_weights)))
    }

    fn observe(&mut self, step: &Present) {
        let moved = self.moved(step);
        step.tasks.iter().zip(moved).for_each(|(&task, moved)| self.tasks[task] = moved);
    }

    fn state(&self) -> Vec<f64> {
        self.tasks.iter().flat_map(|task| [task.log_weight, task.first, task.known]).collect()
    }

    fn restore(&mut self, state: &[f64]) {
        let risk = |s: &[f64]| Risk { log_weight: s[0], first: s[1], known: s[2] };
        self.tasks = state.chunks(Risk::STATE).map(risk).collect();
    }
}
