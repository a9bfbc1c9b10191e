//! Bias-corrected Adam (Kingma & Ba 2015, arXiv 1412.6980, algorithm 1) for one number that a balancing method learns.

const BETAS: [f64; 2] = [0.9, 0.999];

/// Adam's moments for one learned number, and its step count.
#[derive(Clone, Copy, Debug, Default)]
pub struct Adam {
    first_moment: f64,
    second_moment: f64,
    steps: f64,
}

impl Adam {
    /// Length of [`Adam::state`].
    pub const STATE: usize = 3;

    /// The amount to subtract from the learned number.
    pub fn step(&mut self, gradient: f64, learning_rate: f64) -> f64 {
        let [b1, b2] = BETAS;
        self.steps += 1.0;
        self.first_moment = b1 * self.first_moment + (1.0 - b1) * gradient;
        self.second_moment = b2 * self.second_moment + (1.0 - b2) * gradient * gradient;
        let first = self.first_moment / (1.0 - b1.powf(self.steps));
        let second = self.second_moment / (1.0 - b2.powf(self.steps));
        learning_rate * first / (second.sqrt() + 1e-8)
    }

    /// The moments and the number of steps.
    pub fn state(self) -> [f64; Adam::STATE] {
        [self.first_moment, self.second_moment, self.steps]
    }

    /// Rebuilds the optimizer from a saved [state](Adam::state).
    pub fn of(state: &[f64]) -> Adam {
        Adam { first_moment: state[0], second_moment: state[1], steps: state[2] }
    }
}
