//! Balancing: from the tasks' losses to one weight per task. It sees numbers, never an image.

mod fixed;
mod learned;
#[cfg(test)]
mod tests;
mod uncertainty;

pub use fixed::Fixed;
pub use learned::{Learned, Objective};
pub use uncertainty::ClosedForm;

use crate::error::{Error, Result};
use crate::tasks::Task;
use serde::{Deserialize, Serialize};

/// A way of balancing. Weights are taken before a step, from the state; losses are shown to it afterwards.
pub trait Balance: Send {
    /// One weight per task for the coming step; exactly 0 for a task without labels in it.
    fn weights(&self, active: &[bool]) -> Vec<f32>;

    /// Learns the step's losses of the tasks that had labels.
    fn observe(&mut self, losses: &[f32], active: &[bool]);

    /// s = log σ² per task where the method has it, else NaN.
    fn log_variances(&self) -> Vec<f32>;

    /// Everything the next step depends on, for the checkpoint.
    fn state(&self) -> Vec<f64>;

    /// # Errors
    /// A state of another method or number of tasks.
    fn restore(&mut self, state: &[f64]) -> Result<()>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Uncertainty weighting in closed form: weight ∝ 1/moving average of the loss.
    Uncertainty,
    /// Learned log-variances, the Gaussian form for every task.
    UncertaintyLearned,
    /// Learned log-variances, each task's form after its kind.
    UncertaintyKind,
    /// Learned, with a regulariser that keeps the total above zero and the weights smaller.
    UncertaintyBounded,
    Fixed,
}

impl Method {
    pub const ALL: [(&str, Method); 5] = [
        ("uncertainty", Method::Uncertainty),
        ("uncertainty-learned", Method::UncertaintyLearned),
        ("uncertainty-kind", Method::UncertaintyKind),
        ("uncertainty-bounded", Method::UncertaintyBounded),
        ("fixed", Method::Fixed),
    ];

    pub fn name(self) -> &'static str {
        Method::ALL.into_iter().find(|m| m.1 == self).map_or("", |m| m.0)
    }

    /// # Errors
    /// A word that names no method.
    pub fn parse(word: &str) -> Result<Method> {
        Method::ALL.into_iter().find(|m| m.0 == word).map(|m| m.1).ok_or_else(|| {
            Error::Usage(format!("--balance {word}: expected one of {}", Method::ALL.map(|m| m.0).join(", ")))
        })
    }

    /// A fresh state for these tasks and their fixed weights (which only `Fixed` heeds).
    pub fn start(self, tasks: &[Task], weights: &[f32]) -> Box<dyn Balance> {
        match self {
            Method::Uncertainty => Box::new(ClosedForm::new(tasks.len())),
            Method::UncertaintyLearned => Box::new(Learned::new(tasks.iter().map(|_| Objective::Gaussian))),
            Method::UncertaintyKind => Box::new(Learned::new(tasks.iter().map(|t| Objective::of(t.spec.likelihood())))),
            Method::UncertaintyBounded => Box::new(Learned::new(tasks.iter().map(|_| Objective::Bounded))),
            Method::Fixed => Box::new(Fixed::new(weights.to_vec())),
        }
    }
}

/// Below this a loss is taken as this: L = 0 has no logarithm.
const SMALLEST_LOSS: f64 = 1e-8;

fn expect_len(state: &[f64], len: usize) -> Result<()> {
    if state.len() == len {
        return Ok(());
    }
    Err(Error::Other(format!(
        "the balancing state holds {} numbers where this method has {len}: it belongs to another method or other tasks",
        state.len()
    )))
}
