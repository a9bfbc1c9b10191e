//! Uncertainty weighting (Kendall, Gal & Cipolla 2018, eq. 7): Σ ½e^{−s}L + ½s with s = log σ². In closed form s is the
//! logarithm of a moving average of L, the fixed point no optimizer has to find; learned, s is moved by Adam.

use super::{Balance, expect_len};
use crate::error::Result;

/// Share of the old average that stays.
const BETA: f64 = 0.99;
/// Largest weight ÷ smallest: a memorised task must not take the trunk for itself.
const LARGEST_RATIO: f64 = 100.0;
/// Below this a loss is taken as this: L = 0 has no logarithm.
const SMALLEST_LOSS: f64 = 1e-8;

/// Weight ∝ 1/average, normalised to sum K over the K tasks that have labels, so that the learning rate keeps its meaning.
pub struct ClosedForm {
    tasks: Vec<MovingAverage>,
}

#[derive(Clone, Copy, Default)]
struct MovingAverage {
    sum: f64,
    /// Steps in which the task had labels.
    steps: u32,
}

impl MovingAverage {
    /// Bias-corrected, as Adam's moments; `None` before the first loss.
    fn value(self) -> Option<f64> {
        let correction = 1.0 - BETA.powi(i32::try_from(self.steps).unwrap_or(i32::MAX));
        (self.steps > 0).then(|| (self.sum / correction).max(SMALLEST_LOSS))
    }
}

impl ClosedForm {
    pub fn new(tasks: usize) -> ClosedForm {
        ClosedForm { tasks: vec![MovingAverage::default(); tasks] }
    }
}

impl Balance for ClosedForm {
    fn weights(&self, active: &[bool]) -> Vec<f32> {
        let inverse: Vec<Option<f64>> = self.tasks.iter().map(|t| t.value().map(|v| 1.0 / v)).collect();
        let present = || inverse.iter().zip(active).filter(|(_, a)| **a).map(|(w, _)| *w);
        let known: Vec<f64> = present().flatten().collect();
        // A task met for the first time weighs as much as the others do on average.
        let unknown = if known.is_empty() { 1.0 } else { known.iter().sum::<f64>() / known.len() as f64 };
        let smallest = present().map(|w| w.unwrap_or(unknown)).fold(f64::INFINITY, f64::min);
        let capped = |w: Option<f64>| w.unwrap_or(unknown).min(LARGEST_RATIO * smallest);
        let total: f64 = present().map(capped).sum();
        let count = active.iter().filter(|a| **a).count() as f64;
        let weight = |(w, &a): (&Option<f64>, &bool)| if a { (capped(*w) * count / total) as f32 } else { 0.0 };
        inverse.iter().zip(active).map(weight).collect()
    }

    fn observe(&mut self, losses: &[f32], active: &[bool]) {
        for ((task, &loss), &active) in self.tasks.iter_mut().zip(losses).zip(active) {
            if active {
                task.sum = BETA * task.sum + (1.0 - BETA) * f64::from(loss);
                task.steps += 1;
            }
        }
    }

    fn log_variances(&self) -> Vec<f32> {
        self.tasks.iter().map(|t| t.value().map_or(f32::NAN, |v| v.ln() as f32)).collect()
    }

    fn state(&self) -> Vec<f64> {
        self.tasks.iter().flat_map(|t| [t.sum, f64::from(t.steps)]).collect()
    }

    fn restore(&mut self, state: &[f64]) -> Result<()> {
        expect_len(state, 2 * self.tasks.len())?;
        for (task, s) in self.tasks.iter_mut().zip(state.chunks(2)) {
            *task = MovingAverage { sum: s[0], steps: s[1] as u32 };
        }
        Ok(())
    }
}

/// The paper's form: weight ½e^{−s}, not normalised, s moved by Adam without weight decay.
pub struct Learned {
    tasks: Vec<LogVariance>,
}

#[derive(Clone, Copy, Default)]
struct LogVariance {
    s: f64,
    first_moment: f64,
    second_moment: f64,
    steps: f64,
}

impl LogVariance {
    const LEARNING_RATE: f64 = 0.025;
    const BETAS: [f64; 2] = [0.9, 0.999];

    fn step(&mut self, loss: f64) {
        let gradient = 0.5 - 0.5 * (-self.s).exp() * loss;
        let [b1, b2] = Self::BETAS;
        self.steps += 1.0;
        self.first_moment = b1 * self.first_moment + (1.0 - b1) * gradient;
        self.second_moment = b2 * self.second_moment + (1.0 - b2) * gradient * gradient;
        let first = self.first_moment / (1.0 - b1.powf(self.steps));
        let second = self.second_moment / (1.0 - b2.powf(self.steps));
        self.s -= Self::LEARNING_RATE * first / (second.sqrt() + 1e-8);
    }
}

impl Learned {
    pub fn new(tasks: usize) -> Learned {
        Learned { tasks: vec![LogVariance::default(); tasks] }
    }
}

impl Balance for Learned {
    fn weights(&self, active: &[bool]) -> Vec<f32> {
        let weight = |t: &LogVariance| (0.5 * (-t.s).exp()) as f32;
        self.tasks.iter().zip(active).map(|(t, &a)| if a { weight(t) } else { 0.0 }).collect()
    }

    fn observe(&mut self, losses: &[f32], active: &[bool]) {
        for ((task, &loss), &active) in self.tasks.iter_mut().zip(losses).zip(active) {
            // Without labels neither the loss nor the regulariser ½s: s alone would drift.
            if active {
                task.step(f64::from(loss));
            }
        }
    }

    fn log_variances(&self) -> Vec<f32> {
        self.tasks.iter().map(|t| t.s as f32).collect()
    }

    fn state(&self) -> Vec<f64> {
        self.tasks.iter().flat_map(|t| [t.s, t.first_moment, t.second_moment, t.steps]).collect()
    }

    fn restore(&mut self, state: &[f64]) -> Result<()> {
        expect_len(state, 4 * self.tasks.len())?;
        for (task, s) in self.tasks.iter_mut().zip(state.chunks(4)) {
            *task = LogVariance { s: s[0], first_moment: s[1], second_moment: s[2], steps: s[3] };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settle(balance: &mut dyn Balance, losses: &[f32], steps: usize) -> Vec<f32> {
        let active = vec![true; losses.len()];
        for _ in 0..steps {
            balance.observe(losses, &active);
        }
        balance.weights(&active)
    }

    #[test]
    fn first_step_weighs_all_tasks_alike() {
        assert_eq!(ClosedForm::new(3).weights(&[true; 3]), [1.0; 3]);
    }

    #[test]
    fn closed_form_settles_at_one_over_loss_summing_to_k() {
        let w = settle(&mut ClosedForm::new(3), &[1.0, 2.0, 4.0], 5);
        assert!((w.iter().sum::<f32>() - 3.0).abs() < 1e-5);
        assert!((w[0] / w[1] - 2.0).abs() < 1e-4 && (w[1] / w[2] - 2.0).abs() < 1e-4);
    }

    #[test]
    fn learned_form_settles_where_the_paper_says() {
        // d/ds (½e^{−s}L + ½s) = 0 at s = log L, weight 1/(2L).
        let w = settle(&mut Learned::new(2), &[0.25, 2.0], 4000);
        assert!((w[0] - 2.0).abs() < 0.02, "{w:?}");
        assert!((w[1] - 0.25).abs() < 0.003, "{w:?}");
    }

    #[test]
    fn permuting_tasks_permutes_weights() {
        let (a, b) = ([0.3, 1.7, 0.9], [0.9, 0.3, 1.7]);
        for learned in [false, true] {
            let start = || -> Box<dyn Balance> {
                if learned { Box::new(Learned::new(3)) } else { Box::new(ClosedForm::new(3)) }
            };
            let (x, y) = (settle(start().as_mut(), &a, 50), settle(start().as_mut(), &b, 50));
            assert!((x[0] - y[1]).abs() < 1e-6 && (x[1] - y[2]).abs() < 1e-6 && (x[2] - y[0]).abs() < 1e-6);
        }
    }

    #[test]
    fn a_memorised_task_is_capped_and_a_zero_loss_stays_finite() {
        let w = settle(&mut ClosedForm::new(2), &[0.0, 1.0], 20);
        assert!((w[0] / w[1] - 100.0).abs() < 1e-2, "{w:?}");
    }

    #[test]
    fn an_absent_task_changes_nothing_and_does_not_drift() {
        for learned in [false, true] {
            let (mut two, mut three): (Box<dyn Balance>, Box<dyn Balance>) = if learned {
                (Box::new(Learned::new(2)), Box::new(Learned::new(3)))
            } else {
                (Box::new(ClosedForm::new(2)), Box::new(ClosedForm::new(3)))
            };
            for _ in 0..1000 {
                two.observe(&[0.5, 2.0], &[true; 2]);
                three.observe(&[0.5, 2.0, 9.0], &[true, true, false]);
            }
            let w = three.weights(&[true, true, false]);
            assert_eq!(w[..2], two.weights(&[true; 2])[..]);
            assert_eq!(w[2], 0.0);
            assert!(three.log_variances()[2].is_nan() || three.log_variances()[2] == 0.0);
        }
    }

    #[test]
    fn state_goes_round() {
        let mut a = Learned::new(2);
        settle(&mut a, &[0.1, 3.0], 7);
        let mut b = Learned::new(2);
        b.restore(&a.state()).unwrap();
        assert_eq!(a.weights(&[true; 2]), b.weights(&[true; 2]));
        assert!(b.restore(&[1.0]).is_err());
    }
}
