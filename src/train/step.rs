//! One optimizer step: batch in, losses out. The whole life of a step is [`Trainer::load`], [`Trainer::start`] and
//! [`Trainer::finish`].

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
    /// What the host knows of the batch loaded last.
    loaded: Option<Loaded>,
    /// Active tasks and weights of the step that was started.
    running: Option<(Vec<bool>, Vec<f32>)>,
}

struct Loaded {
    active: Vec<bool>,
    denominators: Vec<f32>,
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
            loaded: None,
            running: None,
        })
    }

    /// One whole step on one batch.
    ///
    /// Shapes: images u8 `[N, H, W, 3]`, one list of targets per image.
    ///
    /// # Errors
    /// As [`Trainer::finish`].
    pub fn step(&mut self, images: &[u8], targets: &[Vec<Encoded>]) -> Result<StepReport> {
        self.load(images, targets)?;
        self.start()?;
        self.finish()
    }

    /// Brings the next batch to the device; between [`Trainer::start`] and [`Trainer::finish`] it travels while the step computes.
    ///
    /// # Errors
    /// A GPU that refuses a call.
    pub fn load(&mut self, images: &[u8], targets: &[Vec<Encoded>]) -> Result<()> {
        let targets: Vec<BatchTarget> = (0..self.losses.len()).map(|task| gather(targets.iter(), task)).collect();
        self.executor.write_u8(self.plan, self.images, images)?;
        for (loss, target) in self.losses.iter().zip(&targets) {
            loss.write(&mut self.executor, self.plan, target)?;
        }
        self.loaded = Some(Loaded {
            active: targets.iter().map(|t| t.active).collect(),
            denominators: targets.iter().map(|t| t.denominator).collect(),
        });
        Ok(())
    }

    /// Starts segments 1 to 3 on the batch loaded last.
    ///
    /// # Errors
    /// A GPU that refuses a call.
    pub fn start(&mut self) -> Result<()> {
        let (active, scalars) = self.take_loaded();
        for segment in [Segment::Forward, Segment::HeadsBackward, Segment::TrunkBackward] {
            self.executor.run(self.plan, segment, ParameterSet::Current, &scalars)?;
        }
        self.running = Some((active, scalars.task_weights));
        Ok(())
    }

    /// Waits for the losses of what was started, updates, and lets balancing see them.
    ///
    /// # Errors
    /// [`Error::NonFinite`] when a loss is; nothing has been updated then.
    pub fn finish(&mut self) -> Result<StepReport> {
        let (active, weights) = self.running.take().unwrap_or_else(|| unreachable!("a step is started before it ends"));
        let losses = self.read_losses(&active)?;
        self.check_finite(&losses, &weights)?;
        let update = self.optimizer.advance(&self.config, self.step, &weights);
        let gradient_norm = self.executor.update(&update)?;
        if !gradient_norm.is_finite() {
            return Err(self.non_finite("the gradient", &losses, &weights));
        }
        self.balance.observe(&losses, &active);
        let learning_rate = self.config.schedule.learning_rate(self.step);
        self.step += 1;
        Ok(StepReport { losses, weights, gradient_norm, learning_rate })
    }

    /// Which tasks have labels in the batch, and the step's scalars.
    fn take_loaded(&mut self) -> (Vec<bool>, StepScalars) {
        let Loaded { active, denominators } =
            self.loaded.take().unwrap_or_else(|| unreachable!("a batch is loaded before a step"));
        let task_weights = self.balance.weights(&active);
        (active, StepScalars { task_weights, denominators, dropout_counter: self.step })
    }

    /// Times every node of segments 1 to 3 on one batch; see [`Executor::time_nodes`].
    ///
    /// # Errors
    /// A GPU that refuses a call.
    pub fn time_nodes(&mut self, images: &[u8], targets: &[Vec<Encoded>], repeats: usize) -> Result<Vec<NodeTime>> {
        self.load(images, targets)?;
        let (_, scalars) = self.take_loaded();
        self.executor.time_nodes(self.plan, &scalars, repeats)
    }

    /// Times the update with the gradients there are; see [`Executor::time_update`].
    ///
    /// # Errors
    /// Gradients that left the real numbers, or a GPU that refuses a call.
    pub fn time_update(&mut self, repeats: usize) -> Result<NodeTime> {
        let weights = self.balance.weights(&vec![true; self.names.len()]);
        let update = self.optimizer.advance(&self.config, self.step, &weights);
        // The first, which does not count: a norm that is not finite would leave the others nothing to do.
        if !self.executor.update(&update)?.is_finite() {
            return Err(self.non_finite("the gradient", &vec![f32::NAN; weights.len()], &weights));
        }
        self.executor.time_update(&update, repeats)
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
        cpu.load(images, targets)?;
        self.load(images, targets)?;
        let (_, scalars) = self.take_loaded();
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
