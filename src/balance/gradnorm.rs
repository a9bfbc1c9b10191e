//! Gradient normalisation, GradNorm: learns weights that make the gradients alike, so that all tasks train at the same
//! rate.

use super::adam::Adam;
use super::{Decision, Needs, Present, Rule, SMALLEST_LOSS};

/// Weights that sum to the number K of tasks with labels, as in the paper, and scale the losses, heads included. After each step,
/// Adam moves them down the slope of Σ|wᵢ‖gᵢ‖ − mean(w‖g‖)·rᵢ^α|, with the second term held fixed. Here rᵢ is Lᵢ divided by the
/// task's first loss, relative to the mean over tasks.
///
/// Source: Chen et al. 2018, arXiv 1711.02257, eq. 2 and algorithm 1. Slopes are in units of the mean norm; Adam cancels the
/// unit.
pub struct GradNorm {
    alpha: f64,
    learning_rate: f64,
    tasks: Vec<Learner>,
}

#[derive(Clone, Copy)]
struct Learner {
    /// The mean over all tasks is 1.
    weight: f64,
    adam: Adam,
    /// 0 before the first step with labels.
    first_loss: f64,
}

impl Learner {
    const STATE: usize = 2 + Adam::STATE;
}

/// Lower limit of a weight: Adam could make it negative, which has no meaning.
const SMALLEST_WEIGHT: f64 = 1e-3;

impl GradNorm {
    /// The state for this many tasks before the first step.
    pub fn new(tasks: usize, alpha: f64, learning_rate: f64) -> GradNorm {
        let learner = Learner { weight: 1.0, adam: Adam::default(), first_loss: 0.0 };
        GradNorm { alpha, learning_rate, tasks: vec![learner; tasks] }
    }

    fn sum(&self, step: &Present) -> f64 {
        step.tasks.iter().map(|&task| self.tasks[task].weight).sum()
    }

    fn normalised(&self, step: &Present) -> Vec<f64> {
        let factor = step.len() as f64 / self.sum(step);
        step.tasks.iter().map(|&task| self.tasks[task].weight * factor).collect()
    }

    /// Per task: 1 if its weighted gradient is longer than it should be, −1 if shorter, else 0, times its norm in units of the
    /// mean weighted norm. `None` if all gradients are zero.
    fn slopes(&self, step: &Present) -> Option<Vec<f64>> {
        let (count, weights) = (step.len() as f64, self.normalised(step));
        let norms: Vec<f64> = (0..step.len()).map(|place| step.gramian().norm(place)).collect();
        let mean = weights.iter().zip(&norms).map(|(weight, norm)| weight * norm).sum::<f64>() / count;
        let losses = step.positive_losses();
        let progress: Vec<f64> =
            step.tasks.iter().zip(losses).map(|(&task, loss)| loss / self.tasks[task].first_loss).collect();
        let mean_progress = progress.iter().sum::<f64>() / count;
        let slope = |((weight, norm), progress): ((&f64, &f64), f64)| {
            let excess = weight * norm - mean * (progress / mean_progress).powf(self.alpha);
            // `signum` would return 1 for 0.
            norm / mean * if excess == 0.0 { 0.0 } else { excess.signum() }
        };
        (mean > 0.0).then(|| weights.iter().zip(&norms).zip(progress).map(slope).collect())
    }
}

impl Rule for GradNorm {
    fn needs(&self) -> Needs {
        Needs::Gramian
    }

    fn weights(&self, step: &Present) -> Decision {
        Decision::of_losses(self.normalised(step))
    }

    fn observe(&mut self, step: &Present) {
        for (&task, loss) in step.tasks.iter().zip(step.losses()) {
            if self.tasks[task].first_loss == 0.0 {
                self.tasks[task].first_loss = loss.max(SMALLEST_LOSS);
            }
        }
        let Some(slopes) = self.slopes(step) else { return };
        let before = self.sum(step);
        for ((&task, slope), weight) in step.tasks.iter().zip(slopes).zip(self.normalised(step)) {
            let learner = &mut self.tasks[task];
            learner.weight = (weight - learner.adam.step(slope, self.learning_rate)).max(SMALLEST_WEIGHT);
        }
        // Keep the sum over the step's tasks, so that absent tasks keep their share.
        let factor = before / self.sum(step);
        step.tasks.iter().for_each(|&task| self.tasks[task].weight *= factor);
    }

    fn state(&self) -> Vec<f64> {
        self.tasks.iter().flat_map(|t| [t.weight, t.first_loss].into_iter().chain(t.adam.state())).collect()
    }

    fn restore(&mut self, state: &[f64]) {
        let learner = |s: &[f64]| Learner { weight: s[0], first_loss: s[1], adam: Adam::of(&s[2..]) };
        self.tasks = state.chunks(Learner::STATE).map(learner).collect();
    }
}
