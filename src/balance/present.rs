//! Handles partial labels for all methods: reduces a step to the tasks that have labels, lets the method decide on those alone,
//! and spreads its weights over all tasks.

use super::solve::Gramian;
use super::{Balance, Needs, SMALLEST_LOSS, Signals, Weights};
use crate::error::{Error, Result};

/// The tasks of a step that have labels (at least one), and their losses and gradient products.
pub struct Present {
    /// Index of each task among all tasks, ascending.
    pub tasks: Vec<usize>,
    losses: Option<Vec<f64>>,
    gramian: Option<Gramian>,
    cross: Option<Gramian>,
    excess: Option<Vec<f64>>,
}

impl Present {
    /// Collects the signals of the tasks with labels; `None` if no task has any.
    pub(super) fn new(signals: &Signals) -> Option<Present> {
        let all = signals.active.len();
        let tasks: Vec<usize> = (0..all).filter(|&task| signals.active[task]).collect();
        let square = |values: &[f64]| {
            let values = tasks.iter().flat_map(|row| tasks.iter().map(move |column| values[row * all + column]));
            Gramian::new(tasks.len(), values.collect())
        };
        let present = Present {
            losses: signals.losses.map(|losses| tasks.iter().map(|&task| f64::from(losses[task])).collect()),
            gramian: signals.gramian.map(square),
            cross: signals.cross.map(square),
            excess: signals.excess.map(|excess| tasks.iter().map(|&task| excess[task]).collect()),
            tasks,
        };
        (!present.tasks.is_empty()).then_some(present)
    }

    /// Number of tasks with labels.
    #[expect(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Shapes: `[len]`.
    pub fn losses(&self) -> &[f64] {
        self.losses
            .as_deref()
            .expect("the trainer gives the losses to methods that need them, and to all after the step")
    }

    /// The losses, raised to at least `SMALLEST_LOSS` so that their logarithms are finite.
    pub fn positive_losses(&self) -> Vec<f64> {
        self.losses().iter().map(|loss| loss.max(SMALLEST_LOSS)).collect()
    }

    /// Shapes: `[len, len]`.
    pub fn gramian(&self) -> &Gramian {
        self.gramian.as_ref().expect("the trainer gives the Gramian to methods that need it")
    }

    /// The Gramian if it was computed in this step. Telemetry computes it once in many steps, whatever the method
    /// needs.
    ///
    /// Shapes: `[len, len]`.
    pub fn measured_gramian(&self) -> Option<&Gramian> {
        self.gramian.as_ref()
    }

    /// The inner products between two independent batches, which are not symmetric.
    ///
    /// Shapes: `[len, len]`.
    pub fn cross(&self) -> &Gramian {
        self.cross.as_ref().expect("the trainer gives the products of two batches to methods that need them")
    }

    /// Shapes: `[len]`.
    pub fn excess(&self) -> &[f64] {
        self.excess.as_deref().expect("the trainer gives the excess risks to methods that need them")
    }
}

/// A method's decision for the tasks that have labels.
///
/// Shapes: each `[len]`.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The weight of each task's gradient in the sum of the tasks' gradients at the shared features.
    pub seam: Vec<f64>,
    /// The factor of the gradients of each task's own head.
    pub heads: Vec<f64>,
}

impl Decision {
    /// For weights that scale the losses: they scale the heads' gradients too.
    pub fn of_losses(weights: Vec<f64>) -> Decision {
        Decision { heads: weights.clone(), seam: weights }
    }

    /// For weights that combine the gradients of the shared features: each head learns from its own loss alone.
    pub fn of_gradients(weights: Vec<f64>) -> Decision {
        Decision { heads: vec![1.0; weights.len()], seam: weights }
    }
}

/// A balancing method, seen from a step: tasks without labels do not exist for it. State of a task is looked up by
/// [`Present::tasks`]; the state of tasks without labels does not change.
pub trait Rule: Send {
    /// The signals that [`Rule::weights`] needs.
    fn needs(&self) -> Needs;

    /// The weights of one step.
    fn weights(&self, step: &Present) -> Decision;

    /// Updates the state after the step that [`Rule::weights`] was called for. Its losses are available now.
    fn observe(&mut self, _step: &Present) {}

    /// Whether [`Rule::after_update`] needs the losses after the update.
    fn needs_losses_after_update(&self) -> bool {
        false
    }

    /// Receives the losses of the step's batch after the update.
    fn after_update(&mut self, _step: &Present, _losses: &[f64]) {}

    /// Called at the end of every epoch.
    fn epoch_ended(&mut self) {}

    /// s = log σ² of a task, NaN for a method without it.
    fn log_variance(&self, _task: usize) -> f32 {
        f32::NAN
    }

    /// See [`Balance::state`]. The length never changes.
    fn state(&self) -> Vec<f64> {
        Vec::new()
    }

    /// Restores a state of the same length as [`Rule::state`].
    fn restore(&mut self, _state: &[f64]) {}
}

/// Makes a [`Balance`] for K tasks from a rule, for steps in which some tasks have no labels.
pub struct Masked {
    tasks: usize,
    rule: Box<dyn Rule>,
}

impl Masked {
    /// A rule whose state is for `tasks` tasks.
    pub fn new(tasks: usize, rule: Box<dyn Rule>) -> Masked {
        Masked { tasks, rule }
    }
}

/// Clamps to the range of f32: 1/√G of a nearly vanished gradient exceeds it.
fn to_f32(weight: f64) -> f32 {
    weight.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32
}

impl Balance for Masked {
    fn needs(&self) -> Needs {
        self.rule.needs()
    }

    fn weights(&self, signals: &Signals) -> Weights {
        let mut weights = Weights::of_losses(vec![0.0; self.tasks]);
        if let Some(present) = Present::new(signals) {
            let Decision { seam, heads } = self.rule.weights(&present);
            for (&task, (seam, head)) in present.tasks.iter().zip(seam.into_iter().zip(heads)) {
                (weights.seam[task], weights.heads[task]) = (to_f32(seam), to_f32(head));
            }
        }
        weights
    }

    fn observe(&mut self, signals: &Signals) {
        if let Some(present) = Present::new(signals) {
            self.rule.observe(&present);
        }
    }

    fn needs_losses_after_update(&self) -> bool {
        self.rule.needs_losses_after_update()
    }

    fn after_update(&mut self, signals: &Signals, losses: &[f32]) {
        if let Some(present) = Present::new(signals) {
            let losses: Vec<f64> = present.tasks.iter().map(|&task| f64::from(losses[task])).collect();
            self.rule.after_update(&present, &losses);
        }
    }

    fn epoch_ended(&mut self) {
        self.rule.epoch_ended();
    }

    fn log_variances(&self) -> Vec<f32> {
        (0..self.tasks).map(|task| self.rule.log_variance(task)).collect()
    }

    fn state(&self) -> Vec<f64> {
        self.rule.state()
    }

    fn restore(&mut self, state: &[f64]) -> Result<()> {
        let own = self.rule.state().len();
        if state.len() != own {
            return Err(Error::Other(format!(
                "the balancing state holds {} numbers where this method has {own}: it belongs to another method or other tasks",
                state.len()
            )));
        }
        self.rule.restore(state);
        Ok(())
    }
}

/// A stateless rule whose weights depend on the losses alone.
pub(super) struct ByLosses<F>(pub F);

impl<F: Fn(&[f64]) -> Vec<f64> + Send> Rule for ByLosses<F> {
    fn needs(&self) -> Needs {
        Needs::Losses
    }

    fn weights(&self, step: &Present) -> Decision {
        Decision::of_losses(self.0(&step.positive_losses()))
    }
}

/// A stateless rule whose weights depend on the Gramian alone.
pub(super) struct ByGramian<F>(pub F);

impl<F: Fn(&Gramian) -> Vec<f64> + Send> Rule for ByGramian<F> {
    fn needs(&self) -> Needs {
        Needs::Gramian
    }

    fn weights(&self, step: &Present) -> Decision {
        Decision::of_gradients(self.0(step.gramian()))
    }
}

/// Rescales weights that sum to 1 so that their mean is 1, which the trainer's learning rates assume.
pub(super) fn one_on_average(weights: Vec<f64>) -> Vec<f64> {
    let count = weights.len() as f64;
    weights.into_iter().map(|weight| weight * count).collect()
}
