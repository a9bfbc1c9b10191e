//! Fast adaptive multi-task optimisation, FAMO: lets all losses fall at the same relative rate, measured by a second forward
//! pass.

use super::adam::Adam;
use super::present::one_on_average;
use super::solve::{dot, softmax};
use super::{Decision, Needs, Present, Rule};

/// Weights of the gradient of c·Σ zᵢ log(Lᵢ + ε), where z = softmax(w) over the K tasks with labels and c makes the weights sum
/// to K; the paper's sum to 1. After the update, Adam moves w by how much each logarithm fell.
///
/// Source: Liu et al. 2023, arXiv 2306.03792, algorithm 2, with 0 as the lower bound of every loss.
pub struct Famo {
    learning_rate: f64,
    decay: f64,
    tasks: Vec<Logit>,
}

#[derive(Clone, Copy, Default)]
struct Logit {
    value: f64,
    adam: Adam,
}

/// Keeps the logarithm finite for a loss of 0.
const EPSILON: f64 = 1e-8;

impl Famo {
    /// The state for this many tasks before the first step.
    pub fn new(tasks: usize, learning_rate: f64, decay: f64) -> Famo {
        Famo { learning_rate, decay, tasks: vec![Logit::default(); tasks] }
    }

    /// z for the tasks with labels.
    fn shares(&self, step: &Present) -> Vec<f64> {
        softmax(&step.tasks.iter().map(|&task| self.tasks[task].value).collect::<Vec<_>>())
    }
}

impl Rule for Famo {
    fn needs(&self) -> Needs {
        Needs::Losses
    }

    fn weights(&self, step: &Present) -> Decision {
        let weights: Vec<f64> =
            self.shares(step).iter().zip(step.losses()).map(|(z, loss)| z / (loss + EPSILON)).collect();
        let sum: f64 = weights.iter().sum();
        Decision::of_losses(one_on_average(weights.iter().map(|weight| weight / sum).collect()))
    }

    fn needs_losses_after_update(&self) -> bool {
        true
    }

    fn after_update(&mut self, step: &Present, losses: &[f64]) {
        let shares = self.shares(step);
        let fall = |(before, after): (&f64, &f64)| (before + EPSILON).ln() - (after + EPSILON).ln();
        let falls: Vec<f64> = step.losses().iter().zip(losses).map(fall).collect();
        let mean = dot(&shares, &falls);
        for ((&task, z), fall) in step.tasks.iter().zip(&shares).zip(&falls) {
            let logit = &mut self.tasks[task];
            // The softmax's Jacobian times the falls of the logarithms.
            let gradient = z * (fall - mean) + self.decay * logit.value;
            logit.value -= logit.adam.step(gradient, self.learning_rate);
        }
    }

    fn state(&self) -> Vec<f64> {
        self.tasks.iter().flat_map(|t| [t.value].into_iter().chain(t.adam.state())).collect()
    }

    fn restore(&mut self, state: &[f64]) {
        let logit = |s: &[f64]| Logit { value: s[0], adam: Adam::of(&s[1..]) };
        self.tasks = state.chunks(1 + Adam::STATE).map(logit).collect();
    }
}
