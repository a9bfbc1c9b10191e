//! The learning rate over the steps: a linear warm-up to the peak, then one of three kinds of decay.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Decay of the learning rate after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleKind {
    /// Half a cosine, down to --lrf times the peak
    #[default]
    Cosine,
    /// Multiplied by --gamma at each of the --milestones
    Step,
    /// Constant at the peak
    Constant,
}

/// The learning rate after the warm-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Decline {
    /// Half a cosine, down to `lr · final_share` at the last step.
    Cosine {
        /// The last learning rate as a share of the peak, from 0 to 1.
        final_share: f32,
    },
    /// Multiplied by `gamma` at each of these steps, in ascending order (PyTorch's MultiStepLR).
    Step {
        /// Step numbers, ascending.
        milestones: Vec<u64>,
        /// The factor at each milestone.
        gamma: f32,
    },
    /// The learning rate stays at the peak.
    Constant,
}

/// The learning rate over the steps of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Peak learning rate.
    pub lr: f32,
    /// The learning rate after the warm-up.
    pub decline: Decline,
    /// Number of steps of the linear rise to the peak.
    pub warmup_steps: u64,
    /// Number of steps of the run, including the warm-up.
    pub total_steps: u64,
}

impl Schedule {
    /// The learning rate of step `step`, counted from 0.
    pub fn learning_rate(&self, step: u64) -> f32 {
        if step < self.warmup_steps {
            return self.lr * (step + 1) as f32 / self.warmup_steps as f32;
        }
        match &self.decline {
            Decline::Cosine { final_share } => {
                let span = self.total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
                let done = ((step - self.warmup_steps) as f64 / span).min(1.0);
                let share = f64::from(*final_share);
                let cosine = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
                self.lr * (share + (1.0 - share) * cosine) as f32
            }
            Decline::Step { milestones, gamma } => {
                let passed = milestones.iter().filter(|m| **m <= step).count();
                (f64::from(self.lr) * f64::from(*gamma).powi(i32::try_from(passed).unwrap_or(i32::MAX))) as f32
            }
            Decline::Constant => self.lr,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(decline: Decline) -> Schedule {
        Schedule { lr: 0.1, decline, warmup_steps: 10, total_steps: 110 }
    }

    #[test]
    fn every_schedule_rises_to_the_peak_the_same_way() {
        let step = Decline::Step { milestones: vec![70], gamma: 0.1 };
        for decline in [Decline::Cosine { final_share: 0.01 }, step, Decline::Constant] {
            let s = schedule(decline);
            assert!((s.learning_rate(0) - 0.01).abs() < 1e-7);
            assert!((s.learning_rate(9) - 0.1).abs() < 1e-7);
            assert!((s.learning_rate(10) - 0.1).abs() < 1e-7);
        }
    }

    #[test]
    fn cosine_falls_to_its_share() {
        let s = schedule(Decline::Cosine { final_share: 0.01 });
        assert!((s.learning_rate(60) - 0.0505).abs() < 1e-4);
        assert!((s.learning_rate(110) - 0.001).abs() < 1e-7);
        assert!((s.learning_rate(1000) - 0.001).abs() < 1e-7);
        assert!((11..110).all(|t| s.learning_rate(t) <= s.learning_rate(t - 1)));
    }

    #[test]
    fn steps_fall_at_their_milestones_only() {
        // A milestone within the warm-up takes effect once the warm-up is over.
        for (milestones, after_warmup) in [(vec![60, 90], 0.1), (vec![5, 60, 90], 0.05)] {
            let s = schedule(Decline::Step { milestones, gamma: 0.5 });
            for (steps, rate) in [(10..60, after_warmup), (60..90, after_warmup / 2.0), (90..200, after_warmup / 4.0)] {
                assert!(steps.into_iter().all(|t| (s.learning_rate(t) - rate).abs() < 1e-8), "{rate}");
            }
            assert!((s.learning_rate(9) - 0.1).abs() < 1e-7);
        }
    }

    #[test]
    fn constant_stays() {
        assert!((10..1000).all(|t| schedule(Decline::Constant).learning_rate(t) == 0.1));
    }
}
