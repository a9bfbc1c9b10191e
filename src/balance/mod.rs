//! Balancing: from a step's numbers to the tasks' weights. It never sees an image.

#![warn(missing_docs)]

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
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What a method needs of a step to weigh its tasks. Each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// Its state before the step. Nobody waits for anything.
    State,
    /// The step's own losses: the step waits for K numbers before the trunk's backward.
    Losses,
    /// Also the inner products of the tasks' gradients at the shared features: the step waits for K×K numbers.
    Gramian,
}

/// What a step says of its K tasks.
#[derive(Clone, Copy, Debug)]
pub struct Signals<'a> {
    /// Whether the task has labels in the step.
    pub active: &'a [bool],
    /// The step's losses, NaN for a task without labels; given to methods that need them.
    pub losses: Option<&'a [f32]>,
    /// `[K, K]`, row by row: the inner products of the tasks' unweighted gradients over all shared features, 0 for a task without
    /// labels; given to methods that need them.
    pub gramian: Option<&'a [f64]>,
}

impl<'a> Signals<'a> {
    /// What is known before the step runs.
    pub fn before(active: &'a [bool]) -> Signals<'a> {
        Signals { active, losses: None, gramian: None }
    }
}

/// What a method decides, per task; exactly 0 for a task without labels in the step.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// The weight of the task's gradient in the sum at the shared features.
    pub seam: Vec<f32>,
    /// The factor of the gradients of the task's own head.
    pub heads: Vec<f32>,
}

impl Weights {
    /// A task weighs as much in its head as at the seam: what a method that only scales losses decides.
    pub fn of_losses(weights: Vec<f32>) -> Weights {
        Weights { heads: weights.clone(), seam: weights }
    }
}

/// A way of balancing. A step's weights come from the state and what the method [needs](Balance::needs); its losses are shown
/// to the method afterwards.
pub trait Balance: Send {
    /// The facts about a step that [`Balance::weights`] needs.
    fn needs(&self) -> Needs;

    /// The weights of one step, whose signals hold what the method needs.
    fn weights(&self, signals: &Signals) -> Weights;

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

/// The methods that `--balance` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Uncertainty weighting in closed form: each weight is proportional to one over the moving average of the loss
    Uncertainty,
    /// Learned log-variances, the Gaussian form for every task
    UncertaintyLearned,
    /// Learned log-variances, the form of each task according to its kind
    UncertaintyKind,
    /// Learned, with a regulariser that keeps the total above zero and the weights smaller
    UncertaintyBounded,
    /// The weights given with --task-weight
    Fixed,
}

impl Method {
    /// All methods with their words, the default first.
    pub const ALL: [(&str, Method); 5] = [
        ("uncertainty", Method::Uncertainty),
        ("uncertainty-learned", Method::UncertaintyLearned),
        ("uncertainty-kind", Method::UncertaintyKind),
        ("uncertainty-bounded", Method::UncertaintyBounded),
        ("fixed", Method::Fixed),
    ];

    /// The word that `--balance` takes.
    pub fn name(self) -> &'static str {
        Method::ALL.into_iter().find(|m| m.1 == self).map_or("", |m| m.0)
    }

    /// A fresh state for these tasks and their fixed weights (which only `Fixed` uses).
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
