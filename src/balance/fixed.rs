//! Fixed weights: Σ w_i L_i. The baseline that other methods have to beat (Kurin 2022; Xin 2022).

use super::{Decision, Needs, Present, Rule};

/// Constant weights that the user chose, one per task.
pub struct Fixed(pub Vec<f32>);

impl Rule for Fixed {
    fn needs(&self) -> Needs {
        Needs::State
    }

    fn weights(&self, step: &Present) -> Decision {
        Decision::of_losses(step.tasks.iter().map(|&task| f64::from(self.0[task])).collect())
    }
}
