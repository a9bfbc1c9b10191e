//! One optimizer step: batch in, losses out. The whole life of a step is [`Trainer::step`].

use crate::balance::Balance;
use crate::error::{Error, Result};
use crate::executor::compare::NodeComparison;
use crate::executor::{DeviceChoice, Executor, NodeTime, ParameterSet, PlanId, StepScalars};
use crate::graph::fuse::Fusion;
use crate::graph::ir::{Segment, ValueId};
use crate::losses::{BatchTarget, Encoded, TaskLoss, TrainingNetwork, gather};
use crate::model::Architecture;
use crate::optim::{OptimizerConfig, OptimizerState};

/// A network in training: everything a step reads and moves, and nothing about data.
pub struct Trainer {
    pub executor: Executor,
    pub balance: Box<dyn Balance>,
    pub optimizer: OptimizerState,
    pub config: OptimizerConfig,
    /// Steps done.
    pub step: u64,
    names: Vec<String>,
    plan: PlanId,
    images: ValueId,
    losses: Vec<TaskLoss>,
}

/// What a step did.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    /// Per task; NaN where no image of the batch was labelled.
    pub losses: Vec<f32>,
    /// Per task, as used in this step.
    pub weights: Vec<f32>,
    pub gradient_norm: f64,
    pub learning_rate: f32,
}

impl Trainer {
    /// Plans the step for batches of `shape` `[N, H, W]`; the Store is all zero until somebody fills it.
    ///
    /// # Errors
    /// A network that cannot be built for this shape, or a device that cannot be had.
    pub fn new(
        architecture: &Architecture,
        shape: [usize; 3],
        device: &DeviceChoice,
        config: OptimizerConfig,
        balance: Box<dyn Balance>,
    ) -> Result<Trainer> {
        Trainer::fused(architecture, shape, device, config, balance, Fusion::On)
    }

    /// As [`Trainer::new`], fused or not.
    ///
    /// # Errors
    /// As [`Trainer::new`].
    pub fn fused(
        architecture: &Architecture,
        shape: [usize; 3],
        device: &DeviceChoice,
        config: OptimizerConfig,
        balance: Box<dyn Balance>,
        fusion: Fusion,
    ) -> Result<Trainer> {
        let TrainingNetwork { network, losses } = TrainingNetwork::new(architecture, shape)?;
        let mut executor = Executor::new(device, &network.graph.parameters, &network.graph.buffers)?;
        let images = network.images;
        let plan = executor.prepare(network.graph, fusion)?;
        Ok(Trainer {
            executor,
            balance,
            optimizer: OptimizerState::new(1 + architecture.tasks.len()),
            config,
            step: 0,
            names: architecture.tasks.iter().map(|t| t.name.clone()).collect(),
            plan,
            images,
            losses,
        })
    }

    /// Shapes: images u8 `[N, H, W, 3]`, one list of targets per image.
    ///
    /// # Errors
    /// [`Error::NonFinite`] when a loss is; nothing has been updated then.
    pub fn step(&mut self, images: &[u8], targets: &[Vec<Encoded>]) -> Result<StepReport> {
        let (active, scalars) = self.write(images, targets)?;
        for segment in [Segment::Forward, Segment::HeadsBackward, Segment::TrunkBackward] {
            self.executor.run(self.plan, segment, ParameterSet::Current, &scalars)?;
        }
        let losses = self.read_losses(&active)?;
        self.check_finite(&losses, &scalars.task_weights)?;
        let update = self.optimizer.advance(&self.config, self.step, &scalars.task_weights);
        let gradient_norm = self.executor.update(&update)?;
        if !gradient_norm.is_finite() {
            return Err(self.non_finite("the gradient", &losses, &scalars.task_weights));
        }
        self.balance.observe(&losses, &active);
        let learning_rate = self.config.schedule.learning_rate(self.step);
        self.step += 1;
        Ok(StepReport { losses, weights: scalars.task_weights, gradient_norm, learning_rate })
    }

    /// The batch to the device; which tasks have labels in it, and the step's scalars.
    fn write(&mut self, images: &[u8], targets: &[Vec<Encoded>]) -> Result<(Vec<bool>, StepScalars)> {
        let targets: Vec<BatchTarget> = (0..self.losses.len()).map(|task| gather(targets.iter(), task)).collect();
        self.executor.write_u8(self.plan, self.images, images)?;
        for (loss, target) in self.losses.iter().zip(&targets) {
            loss.write(&mut self.executor, self.plan, target)?;
        }
        let active: Vec<bool> = targets.iter().map(|t| t.active).collect();
        let scalars = StepScalars {
            task_weights: self.balance.weights(&active),
            denominators: targets.iter().map(|t| t.denominator).collect(),
            dropout_counter: self.step,
        };
        Ok((active, scalars))
    }

    /// Times every node of segments 1 to 3 on one batch; see [`Executor::time_nodes`].
    ///
    /// # Errors
    /// A GPU that refuses a call.
    pub fn time_nodes(&mut self, images: &[u8], targets: &[Vec<Encoded>], repeats: usize) -> Result<Vec<NodeTime>> {
        let (_, scalars) = self.write(images, targets)?;
        self.executor.time_nodes(self.plan, &scalars, repeats)
    }

    /// Holds every node of segments 1 to 3 on one batch to the same step's on the CPU; see [`Executor::compare_nodes`].
    ///
    /// # Errors
    /// As there.
    pub fn compare_nodes(
        &mut self,
        cpu: &mut Trainer,
        images: &[u8],
        targets: &[Vec<Encoded>],
    ) -> Result<Vec<NodeComparison>> {
        let (_, scalars) = self.write(images, targets)?;
        cpu.write(images, targets)?;
        self.executor.compare_nodes(self.plan, (&mut cpu.executor, cpu.plan), &scalars)
    }

    fn read_losses(&self, active: &[bool]) -> Result<Vec<f32>> {
        let read = |(loss, &active): (&TaskLoss, &bool)| match active {
            true => self.executor.read_f32(self.plan, loss.loss).map(|loss| loss[0]),
            false => Ok(f32::NAN),
        };
        self.losses.iter().zip(active).map(read).collect()
    }

    fn check_finite(&self, losses: &[f32], weights: &[f32]) -> Result<()> {
        let broken = |(&loss, &weight): (&f32, &f32)| weight != 0.0 && !loss.is_finite();
        if !losses.iter().zip(weights).any(broken) {
            return Ok(());
        }
        Err(self.non_finite("a loss", losses, weights))
    }

    fn non_finite(&self, what: &str, losses: &[f32], weights: &[f32]) -> Error {
        let tasks = self.names.iter().zip(losses).zip(weights);
        let report: Vec<String> =
            tasks.map(|((name, loss), weight)| format!("{name}: loss {loss}, weight {weight:.3}")).collect();
        Error::NonFinite {
            report: format!(
                "step {}: {what} left the real numbers ({}); lower --lr0 or raise --warmup-epochs, and check the labels with `polyhead data check`",
                self.step,
                report.join("; ")
            ),
        }
    }
}
