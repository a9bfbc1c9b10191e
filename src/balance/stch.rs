//! Smooth Tchebycheff scalarisation, STCH: a smooth maximum of the losses, relative to their values after a warm-up.

use super::solve::softmax;
use super::{Decision, Needs, Present, Rule, SMALLEST_LOSS};

/// The gradient with respect to f of μ·log Σ exp(λ(f − z)/μ).
///
/// Shapes: f, λ, z and the result `[tasks]`.
///
/// Source: Lin et al. 2024, arXiv 2402.19078, its STCH scalarisation.
pub fn smooth_maximum_gradient(f: &[f64], lambda: &[f64], z: &[f64], mu: f64) -> Vec<f64> {
    let exponents: Vec<f64> = f.iter().zip(lambda).zip(z).map(|((f, lambda), z)| lambda * (f - z) / mu).collect();
    softmax(&exponents).iter().zip(lambda).map(|(share, lambda)| share * lambda).collect()
}

/// K times the smooth maximum of f = log(L/nadir) over the K tasks with labels, with λ = 1 and z = 0 as in the authors'
/// multi-task code. The weights are K·softmax(f/μ)/L. The nadir is a task's mean loss over the last epoch of the warm-up, or
/// over the first later epoch with its labels. A task without a nadir has f = 0, so the warm-up trains on Σ log L.
///
/// Source: Lin et al. 2024, arXiv 2402.19078. The authors warm up for 5 of 200 epochs.
pub struct Stch {
    mu: f64,
    warmup_epochs: f64,
    epochs: f64,
    tasks: Vec<Losses>,
}

#[derive(Clone, Copy, Default)]
struct Losses {
    /// Sum of the current epoch's losses so far.
    sum: f64,
    steps: f64,
    /// 0 while unknown.
    nadir: f64,
}

impl Losses {
    const STATE: usize = 3;
}

impl Stch {
    /// The state for this many tasks before the first step.
    pub fn new(tasks: usize, mu: f64, warmup_epochs: f64) -> Stch {
        Stch { mu, warmup_epochs, epochs: 0.0, tasks: vec![Losses::default(); tasks] }
    }
}

impl Rule for Stch {
    fn needs(&self) -> Needs {
        Needs::Losses
    }

    fn weights(&self, step: &Present) -> Decision {
        let (losses, count) = (step.positive_losses(), step.len());
        let height = |(&task, loss): (&usize, &f64)| match self.tasks[task].nadir {
            nadir if nadir > 0.0 => (loss / nadir).ln(),
            _ => 0.0,
        };
        let heights: Vec<f64> = step.tasks.iter().zip(&losses).map(height).collect();
        let slopes = smooth_maximum_gradient(&heights, &vec![1.0; count], &vec![0.0; count], self.mu);
        Decision::of_losses(slopes.iter().zip(&losses).map(|(slope, loss)| count as f64 * slope / loss).collect())
    }

    fn observe(&mut self, step: &Present) {
        for (&task, loss) in step.tasks.iter().zip(step.positive_losses()) {
            self.tasks[task].sum += loss;
            self.tasks[task].steps += 1.0;
        }
    }

    fn epoch_ended(&mut self) {
        self.epochs += 1.0;
        for task in &mut self.tasks {
            if self.epochs >= self.warmup_epochs && task.nadir == 0.0 && task.steps > 0.0 {
                task.nadir = (task.sum / task.steps).max(SMALLEST_LOSS);
            }
            (task.sum, task.steps) = (0.0, 0.0);
        }
    }

    fn state(&self) -> Vec<f64> {
        self.tasks.iter().flat_map(|task| [task.sum, task.steps, task.nadir]).chain([self.epochs]).collect()
    }

    fn restore(&mut self, state: &[f64]) {
        let (tasks, epochs) = state.split_at(Losses::STATE * self.tasks.len());
        let losses = |s: &[f64]| Losses { sum: s[0], steps: s[1], nadir: s[2] };
        self.tasks = tasks.chunks(Losses::STATE).map(losses).collect();
        self.epochs = epochs[0];
    }
}
