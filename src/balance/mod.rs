//! Balancing: computes the tasks' weights from a step's losses and gradient products. It does not depend on images or the
//! network.

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

/// The numbers that a method needs from a step. All but `State` include the losses. None of the last three includes another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// Only its state from before the step, so nothing has to wait.
    State,
    /// The step's own losses: the step waits for K numbers before the trunk's backward.
    Losses,
    /// Also the inner products of the tasks' gradients at the shared features or layer: the step waits for K×K numbers.
    Gramian,
    /// Also each task's excess risk, which needs the running sum of every task's squared gradient.
    Excess,
    /// Its state from before the step for the weights, and after the step the inner products between two of its independent
    /// batches.
    Cross,
}

impl Needs {
    /// Whether the weights depend on the step itself, so that the trunk's backward pass waits for them.
    pub fn waits(self) -> bool {
        match self {
            Needs::State | Needs::Cross => false,
            Needs::Losses | Needs::Gramian | Needs::Excess => true,
        }
    }
}

/// The numbers that a step provides on its K tasks. Optional ones are given only to methods that need them.
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
    /// The signals that are known before the step runs.
    pub fn before(active: &'a [bool]) -> Signals<'a> {
        Signals { active, losses: None, gramian: None, cross: None, excess: None }
    }

    /// The signals that are known once the losses are.
    pub fn of_losses(active: &'a [bool], losses: &'a [f32]) -> Signals<'a> {
        Signals { losses: Some(losses), ..Signals::before(active) }
    }
}

/// The weights that a method computes, one per task; exactly 0 for a task without labels in the step.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// The weight of the task's gradient in the sum at the shared features.
    pub seam: Vec<f32>,
    /// The factor for the gradients of the task's own head.
    pub heads: Vec<f32>,
}

impl Weights {
    /// The weights of a method that only scales losses: each task has the same weight in its head as at the shared features.
    pub fn of_losses(weights: Vec<f32>) -> Weights {
        Weights { heads: weights.clone(), seam: weights }
    }
}

/// A balancing method. It computes a step's weights from its state and the signals that it [needs](Balance::needs). Its state
/// changes only after a successful update, when it gets the step's signals once more.
///
/// Methods implement [`Rule`], which sees only the tasks that have labels. [`Masked`] turns a rule into a `Balance`.
pub trait Balance: Send {
    /// The signals of a step that [`Balance::weights`] needs.
    fn needs(&self) -> Needs;

    /// Computes the weights of one step. `signals` holds the numbers that the method needs.
    fn weights(&self, signals: &Signals) -> Weights;

    /// Updates the state after a step. `signals` holds those that the weights were computed from, and always the losses.
    fn observe(&mut self, signals: &Signals);

    /// Whether the step's batch has to be run forward once more after the update, for [`Balance::after_update`].
    fn needs_losses_after_update(&self) -> bool {
        false
    }

    /// Updates the state from the same batch's losses after the update. `signals` are those of [`Balance::observe`].
    fn after_update(&mut self, _signals: &Signals, _losses: &[f32]) {}

    /// Updates the state at the end of an epoch.
    fn epoch_ended(&mut self) {}

    /// s = log σ² per task if the method has it, otherwise NaN.
    fn log_variances(&self) -> Vec<f32>;

    /// The state for the checkpoint: everything that the next step depends on, as finite numbers. The tasks' numbers come first,
    /// task by task and equally many for each, then those that belong to no task. Smoothing puts its three numbers per task
    /// before its method's.
    fn state(&self) -> Vec<f64>;

    /// # Errors
    /// The state is from another method or for another number of tasks.
    fn restore(&mut self, state: &[f64]) -> Result<()>;
}

/// Smaller losses are raised to this value, because 0 has no logarithm.
const SMALLEST_LOSS: f64 = 1e-8;
