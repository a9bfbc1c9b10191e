//! Multi-objective descent with double sampling, MoDo: approaches MGDA's weights by one projected step at a time; a
//! second batch keeps the step unbiased.

use super::present::one_on_average;
use super::solve::onto_simplex;
use super::{Decision, Needs, Present, Rule};

/// Weights λ on the simplex, times the number K of tasks with labels, because λ sums to 1. After every step λ moves by −γ(Aλ +
/// ρλ) and is projected back; A holds the products of gradients between two independent batches. The learning rate γ has the unit
/// of an inverse squared gradient. A step uses the λ from the end of the previous step, because its first batch is combined
/// before the second is available.
///
/// Source: Chen et al. 2024, JMLR 25, 23-1287, eq. 2.9; γ and ρ as in the authors' code.
pub struct Modo {
    learning_rate: f64,
    rho: f64,
    shares: Shares,
}

/// Weights on a simplex over the tasks with labels. In each step they are normalised by their sum, and the sum is restored
/// afterwards.
#[derive(Clone)]
pub(super) struct Shares {
    /// The mean over all tasks is 1.
    values: Vec<f64>,
}

impl Shares {
    pub(super) fn new(tasks: usize) -> Shares {
        Shares { values: vec![1.0; tasks] }
    }

    fn sum(&self, step: &Present) -> f64 {
        step.tasks.iter().map(|&task| self.values[task]).sum()
    }

    /// The shares of the tasks with labels, with sum 1.
    pub(super) fn of(&self, step: &Present) -> Vec<f64> {
        let sum = self.sum(step);
        let share = |&task: &usize| if sum > 0.0 { self.values[task] / sum } else { 1.0 / step.len() as f64 };
        step.tasks.iter().map(share).collect()
    }

    pub(super) fn set(&mut self, step: &Present, shares: &[f64]) {
        let sum = self.sum(step);
        step.tasks.iter().zip(shares).for_each(|(&task, share)| self.values[task] = share * sum);
    }

    pub(super) fn state(&self) -> Vec<f64> {
        self.values.clone()
    }

    pub(super) fn restore(&mut self, state: &[f64]) {
        self.values = state.to_vec();
    }
}

impl Modo {
    /// The state for this many tasks before the first step.
    pub fn new(tasks: usize, learning_rate: f64, rho: f64) -> Modo {
        Modo { learning_rate, rho, shares: Shares::new(tasks) }
    }

    fn moved(&self, step: &Present) -> Vec<f64> {
        let shares = self.shares.of(step);
        let slopes = step.cross().times(&shares);
        let moved = |(share, slope): (&f64, f64)| share - self.learning_rate * (slope + self.rho * share);
        onto_simplex(&shares.iter().zip(slopes).map(moved).collect::<Vec<_>>())
    }
}

impl Rule for Modo {
    fn needs(&self) -> Needs {
        Needs::Cross
    }

    fn weights(&self, step: &Present) -> Decision {
        Decision::of_gradients(one_on_average(self.shares.of(step)))
    }

    fn observe(&mut self, step: &Present) {
        self.shares.set(step, &self.moved(step));
    }

    fn state(&self) -> Vec<f64> {
        self.shares.state()
    }

    fn restore(&mut self, state: &[f64]) {
        self.shares.restore(state);
    }
}
