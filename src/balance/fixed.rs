//! Fixed weights: Σ w_i L_i. The baseline to beat (Kurin 2022; Xin 2022).

use super::{Balance, Needs, Signals, Weights, expect_len};
use crate::error::Result;

/// Weights that the user chose; they never change.
pub struct Fixed {
    weights: Vec<f32>,
}

impl Fixed {
    /// One weight per task.
    pub fn new(weights: Vec<f32>) -> Fixed {
        Fixed { weights }
    }
}

impl Balance for Fixed {
    fn needs(&self) -> Needs {
        Needs::State
    }

    fn weights(&self, signals: &Signals) -> Weights {
        Weights::of_losses(self.weights.iter().zip(signals.active).map(|(&w, &a)| if a { w } else { 0.0 }).collect())
    }

    fn observe(&mut self, _losses: &[f32], _active: &[bool]) {}

    fn log_variances(&self) -> Vec<f32> {
        vec![f32::NAN; self.weights.len()]
    }

    fn state(&self) -> Vec<f64> {
        Vec::new()
    }

    fn restore(&mut self, state: &[f64]) -> Result<()> {
        expect_len(state, 0)
    }
}
