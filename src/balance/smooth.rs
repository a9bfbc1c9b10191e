//! Smoothed weights, CR-MOGM: wraps any other method.

use super::{Decision, Needs, Present, Rule};

/// Weights λₖ = αλₖ₋₁ + (1 − α)λ̂ₖ, where λ̂ are the other method's weights. A task's first weight is λ̂ itself.
///
/// Source: Zhou et al. 2022, "On the Convergence of Stochastic Multi-Objective Gradient Manipulation and Beyond", NeurIPS.
pub struct Smooth {
    alpha: f64,
    inner: Box<dyn Rule>,
    /// Per task.
    last: Vec<Last>,
}

#[derive(Clone, Copy, Default)]
struct Last {
    seam: f64,
    head: f64,
    /// 1 once the task has had a weight, else 0.
    known: f64,
}

impl Last {
    const STATE: usize = 3;
}

impl Smooth {
    /// Wraps a method for this many tasks.
    pub fn new(tasks: usize, alpha: f64, inner: Box<dyn Rule>) -> Smooth {
        Smooth { alpha, inner, last: vec![Last::default(); tasks] }
    }
}

impl Rule for Smooth {
    fn needs(&self) -> Needs {
        self.inner.needs()
    }

    fn weights(&self, step: &Present) -> Decision {
        let mut decision = self.inner.weights(step);
        for (&task, (seam, head)) in step.tasks.iter().zip(decision.seam.iter_mut().zip(&mut decision.heads)) {
            let last = self.last[task];
            if last.known > 0.0 {
                *seam = self.alpha * last.seam + (1.0 - self.alpha) * *seam;
                *head = self.alpha * last.head + (1.0 - self.alpha) * *head;
            }
        }
        decision
    }

    fn observe(&mut self, step: &Present) {
        // The method's state has not changed since the step's weights were computed, so this returns the same ones.
        let Decision { seam, heads } = self.weights(step);
        for (&task, (seam, head)) in step.tasks.iter().zip(seam.into_iter().zip(heads)) {
            self.last[task] = Last { seam, head, known: 1.0 };
        }
        self.inner.observe(step);
    }

    fn needs_losses_after_update(&self) -> bool {
        self.inner.needs_losses_after_update()
    }

    fn after_update(&mut self, step: &Present, losses: &[f64]) {
        self.inner.after_update(step, losses);
    }

    fn epoch_ended(&mut self) {
        self.inner.epoch_ended();
    }

    fn log_variance(&self, task: usize) -> f32 {
        self.inner.log_variance(task)
    }

    fn state(&self) -> Vec<f64> {
        let own = self.last.iter().flat_map(|last| [last.seam, last.head, last.known]);
        own.chain(self.inner.state()).collect()
    }

    fn restore(&mut self, state: &[f64]) {
        let (own, inner) = state.split_at(Last::STATE * self.last.len());
        let last = |s: &[f64]| Last { seam: s[0], head: s[1], known: s[2] };
        self.last = own.chunks(Last::STATE).map(last).collect();
        self.inner.restore(inner);
    }
}
