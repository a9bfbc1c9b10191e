//! The learning rate over the steps: a linear warm-up, then half a cosine down to a share of the peak.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Peak learning rate.
    pub lr: f32,
    /// The last learning rate is `lr · final_share`.
    pub final_share: f32,
    pub warmup_steps: u64,
    pub total_steps: u64,
}

impl Schedule {
    /// The learning rate of step `step`, counted from 0.
    pub fn learning_rate(&self, step: u64) -> f32 {
        if step < self.warmup_steps {
            return self.lr * (step + 1) as f32 / self.warmup_steps as f32;
        }
        let span = self.total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let done = ((step - self.warmup_steps) as f64 / span).min(1.0);
        let share = f64::from(self.final_share);
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
        self.lr * (share + (1.0 - share) * cosine) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_to_the_peak_and_falls_to_its_share() {
        let s = Schedule { lr: 0.1, final_share: 0.01, warmup_steps: 10, total_steps: 110 };
        assert!((s.learning_rate(0) - 0.01).abs() < 1e-7);
        assert!((s.learning_rate(9) - 0.1).abs() < 1e-7);
        assert!((s.learning_rate(10) - 0.1).abs() < 1e-7);
        assert!((s.learning_rate(60) - 0.0505).abs() < 1e-4);
        assert!((s.learning_rate(110) - 0.001).abs() < 1e-7);
        assert!((s.learning_rate(1000) - 0.001).abs() < 1e-7);
        assert!((11..110).all(|t| s.learning_rate(t) <= s.learning_rate(t - 1)));
    }
}
