//! Random weights, RLW: a baseline. A method that does worse than random weights is not useful.

use super::draws::Draws;
use super::present::one_on_average;
use super::solve::softmax;
use super::{Decision, Needs, Present, Rule};

/// Weights K·softmax(z) over the K tasks with labels, with z drawn from a normal distribution in every step; the
/// paper's sum to 1.
///
/// Source: Lin et al. 2022, arXiv 2111.10603, algorithm 2.
pub struct Random {
    draws: Draws,
}

impl Random {
    /// The draws that this seed determines.
    pub fn new(seed: u64) -> Random {
        Random { draws: Draws::new(seed) }
    }
}

impl Rule for Random {
    fn needs(&self) -> Needs {
        Needs::State
    }

    fn weights(&self, step: &Present) -> Decision {
        let normal: Vec<f64> = (0..step.len()).map(|place| self.draws.normal(place)).collect();
        Decision::of_losses(one_on_average(softmax(&normal)))
    }

    fn observe(&mut self, _step: &Present) {
        self.draws.advance();
    }

    fn state(&self) -> Vec<f64> {
        self.draws.state().to_vec()
    }

    fn restore(&mut self, state: &[f64]) {
        self.draws.restore(state);
    }
}
