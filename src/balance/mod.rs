//! Balancing: from a step's numbers to the tasks' weights. It never sees an image.

mod adam;
mod aligned;
mod average;
mod cagrad;
mod closed_form;
mod db;
mod draws;
mod dualproj;
mod dwa;
mod excess;
mod fairgrad;
mod famo;
mod fixed;
mod geometric;
mod gradnorm;
mod gradvac;
mod imtl_g;
mod learned;
mod log_loss;
mod methods;
mod mgda;
mod modo;
mod nash;
mod parameters;
mod pcd;
mod pcgrad;
mod present;
mod random;
mod sdmgrad;
mod smooth;
pub mod solve;
mod stch;
mod tempered;
#[cfg(test)]
mod tests;
mod upgrad;
mod uw_so;

pub use methods::{AUTO, METHODS, Method, Setup, TRIAL_SHARE, by_name};
pub use parameters::{Parameter, Parameters};
pub use present::{Decision, Masked, Present, Rule};

use crate::error::Result;

/// What a method needs of a step. Each but the first includes the losses; of the last three none includes another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// Its state before the step. Nobody waits for anything.
    State,
    /// The step's own losses: the step waits for K numbers before the trunk's backward.
    Losses,
    /// Also the inner products of the tasks' gradients at what is shared: the step waits for K×K numbers.
    Gramian,
    /// Also each task's excess risk, which needs the running sum of every task's squared gradient.
    Excess,
    /// Its state before the step for the weights, and after it the inner products between two independent batches of the step.
    Cross,
}

impl Needs {
    /// Whether the weights are made of the step itself, so that the trunk's backward waits for them.
    pub fn waits(self) -> bool {
        match self {
            Needs::State | Needs::Cross => false,
            Needs::Losses | Needs::Gramian | Needs::Excess => true,
        }
    }
}

/// What a step says of its K tasks. Each number is given to methods that need it.
#[derive(Clone, Copy, Debug)]
pub struct Signals<'a> {
    /// Whether the task has labels in the step.
    pub active: &'a [bool],
    /// The step's losses, NaN for a task without labels.
    pub losses: Option<&'a [f32]>,
    /// `[K, K]`, row by row: the inner products of the tasks' unweighted gradients over all shared features, 0 for a task without
    /// labels.
    pub gramian: Option<&'a [f64]>,
    /// `[K, K]`, row by row: entry (i, j) is the inner product of task i's gradient on the step's first batch and task j's on
    /// its second, independent one. Not symmetric. Known after the step.
    pub cross: Option<&'a [f64]>,
    /// `[K]`: gᵀ·diag(S)^(−1/2)·g with S the sum of the squares of the task's gradients up to this step, itself included.
    pub excess: Option<&'a [f64]>,
}

impl<'a> Signals<'a> {
    /// What is known before the step runs.
    pub fn before(active: &'a [bool]) -> Signals<'a> {
        Signals { active, losses: None, gramian: None, cross: None, excess: None }
    }

    /// What is known once the losses are.
    pub fn of_losses(active: &'a [bool], losses: &'a [f32]) -> Signals<'a> {
        Signals { losses: Some(losses), ..Signals::before(active) }
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

/// A way of balancing. A step's weights come from the state and what the method [needs](Balance::needs); the step's signals are
/// shown to the method once more after an update that went well, and only then does its state move.
///
/// Methods implement [`Rule`], which sees only the tasks that have labels; [`Masked`] makes a `Balance` of it.
pub trait Balance: Send {
    /// The facts about a step that [`Balance::weights`] needs.
    fn needs(&self) -> Needs;

    /// The weights of one step, whose signals hold what the method needs.
    fn weights(&self, signals: &Signals) -> Weights;

    /// Learns from a step: the signals its weights were made from, and always its losses.
    fn observe(&mut self, signals: &Signals);

    /// Whether the step's batch has to be run forward once more after the update, for [`Balance::after_update`].
    fn needs_losses_after_update(&self) -> bool {
        false
    }

    /// Learns the losses of the same batch after the update. `signals` are those of [`Balance::observe`].
    fn after_update(&mut self, _signals: &Signals, _losses: &[f32]) {}

    /// Learns that an epoch has ended.
    fn epoch_ended(&mut self) {}

    /// s = log σ² per task where the method has it, else NaN.
    fn log_variances(&self) -> Vec<f32>;

    /// Everything the next step depends on, for the checkpoint: finite numbers, first as many for each task, task by task, then
    /// those that belong to no task. What smoothing keeps, three numbers per task, comes before its method's.
    fn state(&self) -> Vec<f64>;

    /// # Errors
    /// A state of another method or number of tasks.
    fn restore(&mut self, state: &[f64]) -> Result<()>;
}

/// Below this a loss is taken as this: L = 0 has no logarithm.
const SMALLEST_LOSS: f64 = 1e-8;
