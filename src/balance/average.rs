//! An exponential moving average, bias-corrected.

/// A moving average whose decay is known to who holds it.
#[derive(Clone, Copy, Debug, Default)]
pub struct MovingAverage {
    sum: f64,
    steps: u32,
}

impl MovingAverage {
    /// How many numbers [`MovingAverage::state`] holds.
    pub const STATE: usize = 2;

    /// The average with one more value, of which `beta` of the old one stays.
    pub fn with(self, value: f64, beta: f64) -> MovingAverage {
        MovingAverage { sum: beta * self.sum + (1.0 - beta) * value, steps: self.steps.saturating_add(1) }
    }

    /// Bias-corrected, as Adam's moments; `None` before the first value.
    pub fn value(self, beta: f64) -> Option<f64> {
        let correction = 1.0 - beta.powi(i32::try_from(self.steps).unwrap_or(i32::MAX));
        (self.steps > 0).then(|| self.sum / correction)
    }

    /// What [`MovingAverage::of`] reads.
    pub fn state(self) -> [f64; MovingAverage::STATE] {
        [self.sum, f64::from(self.steps)]
    }

    /// That of a [state](MovingAverage::state).
    pub fn of(state: &[f64]) -> MovingAverage {
        MovingAverage { sum: state[0], steps: state[1] as u32 }
    }
}
