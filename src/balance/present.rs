//! The only place that knows of partial labels: a step is reduced to the tasks that have labels, a method decides on those alone,
//! and its weights are spread over all tasks.

use super::solve::Gramian;
use super::{Balance, Needs, SMALLEST_LOSS, Signals, Weights};
use crate::error::{Error, Result};

/// The tasks of a step that have labels, and their numbers without gaps. There is at least one.
pub struct Present {
    /// The index of each among all tasks, ascending.
    pub tasks: Vec<usize>,
    losses: Option<Vec<f64>>,
    gramian: Option<Gramian>,
    cross: Option<Gramian>,
    excess: Option<Vec<f64>>,
}

impl Present {
    /// What a step says of the tasks with labels; `None` if no task has any.
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

    /// How many tasks have labels.
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

    /// The losses, none below the smallest that has a logarithm.
    pub fn positive_losses(&self) -> Vec<f64> {
        self.losses().iter().map(|loss| loss.max(SMALLEST_LOSS)).collect()
    }

    /// Shapes: `[len, len]`.
    pub fn gramian(&self) -> &Gramian {
        self.gramian.as_ref().expect("the trainer gives the Gramian to methods that need it")
    }

    /// The Gramian, where somebody looked: telemetry does once in many steps, whatever the method needs.
    ///
    /// Shapes: `[len, len]`.
    pub fn looked_at(&self) -> Option<&Gramian> {
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

/// What a method decides for the tasks that have labels.
///
/// Shapes: `[len]` each.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The weight of each task's gradient in the sum at what is shared.
    pub seam: Vec<f64>,
    /// The factor of the gradients of each task's own head.
    pub heads: Vec<f64>,
}

impl Decision {
    /// The weights scale the losses, so they scale the heads' gradients too.
    pub fn of_losses(weights: Vec<f64>) -> Decision {
        Decision { heads: weights.clone(), seam: weights }
    }

    /// The weights combine the gradients at what is shared; each head learns from its own loss alone.
    pub fn of_gradients(weights: Vec<f64>) -> Decision {
        Decision { heads: vec![1.0; weights.len()], seam: weights }
    }
}

/// A method, as it sees a step: the tasks without labels do not exist. State that belongs to a task is looked up by
/// [`Present::tasks`], and that of other tasks stays as it is.
pub trait Rule: Send {
    /// The facts about a step that [`Rule::weights`] needs.
    fn needs(&self) -> Needs;

    /// The weights of one step.
    fn weights(&self, step: &Present) -> Decision;

    /// Moves the state by the step that [`Rule::weights`] decided on, whose losses are known now.
    fn observe(&mut self, _step: &Present) {}

    /// Whether [`Rule::after_update`] wants the losses after the update.
    fn looks_again(&self) -> bool {
        false
    }

    /// Learns the losses of the step's batch after the update.
    fn after_update(&mut self, _step: &Present, _losses: &[f64]) {}

    /// Learns that an epoch has ended.
    fn epoch_ended(&mut self) {}

    /// s = log σ² of a task, NaN for a method without it.
    fn log_variance(&self, _task: usize) -> f32 {
        f32::NAN
    }

    /// See [`Balance::state`]. Always as many numbers.
    fn state(&self) -> Vec<f64> {
        Vec::new()
    }

    /// Takes over a state of as many numbers as its own.
    fn restore(&mut self, _state: &[f64]) {}
}

/// A rule for K tasks of which some may have no labels in a step.
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

/// A number that f32 can hold: 1/√G of a gradient that has all but vanished cannot.
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

    fn looks_again(&self) -> bool {
        self.rule.looks_again()
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

/// A rule without state that weighs tasks by the losses alone.
pub(super) struct ByLosses<F>(pub F);

impl<F: Fn(&[f64]) -> Vec<f64> + Send> Rule for ByLosses<F> {
    fn needs(&self) -> Needs {
        Needs::Losses
    }

    fn weights(&self, step: &Present) -> Decision {
        Decision::of_losses(self.0(&step.positive_losses()))
    }
}

/// A rule without state that combines gradients by their Gramian alone.
pub(super) struct ByGramian<F>(pub F);

impl<F: Fn(&Gramian) -> Vec<f64> + Send> Rule for ByGramian<F> {
    fn needs(&self) -> Needs {
        Needs::Gramian
    }

    fn weights(&self, step: &Present) -> Decision {
        Decision::of_gradients(self.0(step.gramian()))
    }
}

/// Weights that sum to 1 as weights that are 1 on average: the trainer's learning rates are made for those.
pub(super) fn one_on_average(weights: Vec<f64>) -> Vec<f64> {
    let count = weights.len() as f64;
    weights.into_iter().map(|weight| weight * count).collect()
}
