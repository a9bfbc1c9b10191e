//! Uncertainty weighting with a learned parameter per task: the papers' objectives over one shared implementation. The
//! parameters have their own bias-corrected Adam without weight decay, independent of the network's optimizer.

use super::adam::Adam;
use super::{Decision, Needs, Present, Rule, SMALLEST_LOSS};
use crate::tasks::Likelihood;

/// A task's contribution to the total loss, and the meaning of its parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objective {
    /// ½e^{−s}L + ½s, s = log σ² (Kendall, Gal & Cipolla 2018, eq. 7).
    Gaussian,
    /// e^{−s}L + ½s, the likelihood of a scaled softmax (the same, eq. 10).
    Softmax,
    /// L/(2c²) + ln(1 + c²) (Liebel & Körner 2018, eq. 3): never negative, and its weight grows like 1/√L, not 1/L.
    Bounded,
    /// e^{p}L − p (IMTL-L of Liu et al., "Towards Impartial Multi-task Learning", ICLR 2021): twice the Gaussian form for s =
    /// −p.
    Impartial,
}

impl Objective {
    /// The term of eq. 10 for a loss with this likelihood.
    pub fn of(likelihood: Likelihood) -> Objective {
        match likelihood {
            Likelihood::Gaussian => Objective::Gaussian,
            Likelihood::Softmax => Objective::Softmax,
        }
    }

    /// The parameter's start value; σ = 1 in each.
    fn start(self) -> f64 {
        match self {
            Objective::Gaussian | Objective::Softmax | Objective::Impartial => 0.0,
            Objective::Bounded => 1.0,
        }
    }

    /// ∂/∂L.
    fn weight(self, p: f64) -> f64 {
        match self {
            Objective::Gaussian => 0.5 * (-p).exp(),
            Objective::Softmax => (-p).exp(),
            Objective::Bounded => 0.5 / (p * p),
            Objective::Impartial => p.exp(),
        }
    }

    /// ∂/∂p.
    fn gradient(self, p: f64, loss: f64) -> f64 {
        match self {
            Objective::Gaussian => 0.5 - 0.5 * (-p).exp() * loss,
            Objective::Softmax => 0.5 - (-p).exp() * loss,
            Objective::Bounded => 2.0 * p / (1.0 + p * p) - loss / (p * p * p),
            Objective::Impartial => p.exp() * loss - 1.0,
        }
    }

    /// Limits the parameter after a step. c stays positive, because its weight is undefined at 0. The limit is the c at
    /// which the smallest loss settles.
    fn confine(self, p: f64) -> f64 {
        match self {
            Objective::Gaussian | Objective::Softmax | Objective::Impartial => p,
            Objective::Bounded => p.max(bounded_fixed_point(SMALLEST_LOSS)),
        }
    }

    fn log_variance(self, p: f64) -> f64 {
        match self {
            Objective::Gaussian | Objective::Softmax => p,
            Objective::Bounded => (p * p).ln(),
            Objective::Impartial => -p,
        }
    }
}

/// The value of c at which a constant loss settles: c² = (L + √(L² + 8L))/4.
pub(super) fn bounded_fixed_point(loss: f64) -> f64 {
    ((loss + (loss * loss + 8.0 * loss).sqrt()) / 4.0).sqrt()
}

#[derive(Clone, Copy)]
struct Learner {
    objective: Objective,
    value: f64,
    adam: Adam,
}

impl Learner {
    fn new(objective: Objective) -> Learner {
        Learner { objective, value: objective.start(), adam: Adam::default() }
    }

    fn step(&mut self, loss: f64, learning_rate: f64) {
        // Without the lower bound on the loss, L = 0 would drive the weight to infinity.
        let gradient = self.objective.gradient(self.value, loss.max(SMALLEST_LOSS));
        self.value -= self.adam.step(gradient, learning_rate);
        self.value = self.objective.confine(self.value);
    }
}

/// The papers' weights, neither normalised nor capped.
pub struct Learned {
    learning_rate: f64,
    tasks: Vec<Learner>,
}

impl Learned {
    /// One objective per task.
    pub fn new(objectives: impl IntoIterator<Item = Objective>, learning_rate: f64) -> Learned {
        Learned { learning_rate, tasks: objectives.into_iter().map(Learner::new).collect() }
    }
}

impl Rule for Learned {
    fn needs(&self) -> Needs {
        Needs::State
    }

    fn weights(&self, step: &Present) -> Decision {
        let weight = |&task: &usize| self.tasks[task].objective.weight(self.tasks[task].value);
        Decision::of_losses(step.tasks.iter().map(weight).collect())
    }

    fn observe(&mut self, step: &Present) {
        // A task without labels is skipped: its regulariser alone would make the parameter drift.
        for (&task, &loss) in step.tasks.iter().zip(step.losses()) {
            self.tasks[task].step(loss, self.learning_rate);
        }
    }

    fn log_variance(&self, task: usize) -> f32 {
        self.tasks[task].objective.log_variance(self.tasks[task].value) as f32
    }

    fn state(&self) -> Vec<f64> {
        self.tasks.iter().flat_map(|t| [t.value].into_iter().chain(t.adam.state())).collect()
    }

    fn restore(&mut self, state: &[f64]) {
        for (task, s) in self.tasks.iter_mut().zip(state.chunks(1 + Adam::STATE)) {
            *task = Learner { value: s[0], adam: Adam::of(&s[1..]), ..*task };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(objective: Objective, p: f64, loss: f64) -> f64 {
        match objective {
            Objective::Gaussian => 0.5 * (-p).exp() * loss + 0.5 * p,
            Objective::Softmax => (-p).exp() * loss + 0.5 * p,
            Objective::Bounded => loss / (2.0 * p * p) + (1.0 + p * p).ln(),
            Objective::Impartial => p.exp() * loss - p,
        }
    }

    #[test]
    fn weight_and_gradient_are_the_slopes_of_the_papers_objective() {
        let h = 1e-5;
        for objective in [Objective::Gaussian, Objective::Softmax, Objective::Bounded, Objective::Impartial] {
            for (p, loss) in [(0.3, 2.0), (1.0, 0.05), (1.7, 9.0)] {
                let by_loss = (value(objective, p, loss + h) - value(objective, p, loss - h)) / (2.0 * h);
                let by_p = (value(objective, p + h, loss) - value(objective, p - h, loss)) / (2.0 * h);
                // The error of a central difference is h² times the third derivative, here at most a few thousand.
                assert!((objective.weight(p) - by_loss).abs() < 1e-6, "{objective:?} {p} {loss}");
                assert!((objective.gradient(p, loss) - by_p).abs() < 1e-6, "{objective:?} {p} {loss}");
            }
        }
    }

    #[test]
    fn each_objective_settles_where_its_paper_says() {
        // The factor ½ or 1 changes s, not the weight: Gaussian and softmax both settle at 1/(2L).
        let settled = |loss: f64| 0.5 / (bounded_fixed_point(loss) * bounded_fixed_point(loss));
        for loss in [0.01f64, 0.25, 2.0, 50.0] {
            for (objective, weight, s) in [
                (Objective::Gaussian, 0.5 / loss, loss.ln()),
                (Objective::Softmax, 0.5 / loss, (2.0 * loss).ln()),
                (Objective::Bounded, settled(loss), -(2.0 * settled(loss)).ln()),
                (Objective::Impartial, 1.0 / loss, loss.ln()),
            ] {
                let mut task = Learner::new(objective);
                for _ in 0..4000 {
                    task.step(loss, 0.025);
                }
                let got = objective.weight(task.value);
                assert!((got / weight - 1.0).abs() < 0.01, "{objective:?} {loss}: {got}, {weight} expected");
                assert!((objective.log_variance(task.value) - s).abs() < 0.01, "{objective:?} {loss}");
            }
        }
        // d/dc (L/(2c²) + ln(1 + c²)) = 0 there.
        for loss in [1e-8, 0.01, 1.0, 50.0] {
            let c = bounded_fixed_point(loss);
            assert!(Objective::Bounded.gradient(c, loss).abs() < 1e-9 * (1.0 + loss / c.powi(3)), "{loss}");
        }
    }
}
