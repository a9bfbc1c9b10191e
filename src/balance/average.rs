//! A bias-corrected exponential moving average.

/// A moving average. The caller passes the decay to each method.
#[derive(Clone, Copy, Debug, Default)]
pub struct MovingAverage {
    sum: f64,
    steps: u32,
}

impl MovingAverage {
    /// Length of [`MovingAverage::state`].
    pub const STATE: usize = 2;

    /// Adds a value: the old average keeps the share `beta`.
    pub fn with(self, value: f64, beta: f64) -> MovingAverage {
        MovingAverage { sum: beta * self.sum + (1.0 - beta) * value, steps: self.steps.saturating_add(1) }
    }

    /// The bias-corrected average, as for Adam's moments; `None` before the first value.
    pub fn value(self, beta: f64) -> Option<f64> {
        let correction = 1.0 - beta.powi(i32::try_from(self.steps).unwrap_or(i32::MAX));
        (self.steps > 0).then(|| self.sum / correction)
    }

    /// The numbers to save; [`MovingAverage::of`] reads them.
    pub fn state(self) -> [f64; MovingAverage::STATE] {
        [self.sum, f64::from(self.steps)]
    }

    /// Rebuilds the average from a saved [state](MovingAverage::state).
    pub fn of(state: &[f64]) -> MovingAverage {
        MovingAverage { sum: state[0], steps: state[1] as u32 }
    }
}
