//! One optimizer step over one or several batches, returning the losses. A step consists of [`Trainer::begin`], then
//! [`Trainer::load`] and [`Trainer::start`] for each batch, and [`Trainer::finish`].

use super::layer_gradients::{LayerGradients, SquaredSums, products};
pub use super::step_targets::StepTargets;
use crate::balance::{Balance, Needs, Signals, Weights};
use crate::error::{Error, Result};
use crate::executor::compare::NodeComparison;
use crate::executor::{DeviceChoice, Executor, NodeTime, ParameterSet, PlanId, StepScalars};
use crate::graph::fuse::Fusion;
use crate::ir::{Segment, ValueId};
use crate::model::{Architecture, Freeze, Probe, TrainingNetwork};
use crate::optim::{OptimizerConfig, OptimizerState};
use crate::tasks::{LabelFeatures, Target, Task, TaskLoss};

/// A network in training: all state of a step, without the data.
pub struct Trainer {
    /// Runs the plans on the device, and holds the parameters.
    pub executor: Executor,
    /// The balancing method.
    pub balance: Box<dyn Balance>,
    /// Counts the optimizer's steps per parameter group.
    pub optimizer: OptimizerState,
    /// The running sums of the tasks' squared gradients, for methods that need excess risks.
    pub squares: SquaredSums,
    /// The run's settings for the update, such as its learning rates.
    pub config: OptimizerConfig,
    /// Number of steps done.
    pub step: u64,
    /// Compute the Gramian once in this many steps, even if the method does not need it; 0 means never.
    pub gramian_interval: u64,
    /// Per task, the factor of its loss and gradient; see [`LossScale`](crate::model::LossScale).
    pub loss_factors: Vec<f32>,
    names: Vec<String>,
    /// One plan per batch size.
    plans: Vec<StepPlan>,
    /// The plan of the batch that was loaded last.
    loaded: usize,
    running: Option<Running>,
}

/// Segments 1 to 3 for one batch size.
struct StepPlan {
    plan: PlanId,
    images: ValueId,
    /// The size of a batch in bytes, which identifies the plan.
    image_bytes: usize,
    losses: Vec<TaskLoss>,
    /// The tasks' gradients at the last shared convolution, if the plan computes them.
    layer_gradients: Vec<(usize, ValueId)>,
}

impl StepPlan {
    fn prepare(executor: &mut Executor, network: TrainingNetwork, fusion: Fusion) -> Result<StepPlan> {
        let TrainingNetwork { network, losses, layer_gradients } = network;
        let (images, image_bytes) = (network.images, network.graph.value(network.images).bytes());
        Ok(StepPlan { plan: executor.prepare(network.graph, fusion)?, images, image_bytes, losses, layer_gradients })
    }

    /// Reads the gradients at the last shared convolution that the last probe computed.
    fn read_layer_gradients(&self, executor: &Executor, active: &[bool]) -> Result<LayerGradients> {
        let mut gradients = vec![Vec::new(); active.len()];
        for &(task, gradient) in self.layer_gradients.iter().filter(|(task, _)| active[*task]) {
            gradients[task] = executor.read_f32(self.plan, gradient)?;
        }
        Ok(gradients)
    }

    /// The losses of the batch that ran last, NaN for a task without labels.
    fn read_losses(&self, executor: &Executor, active: &[bool]) -> Result<Vec<f32>> {
        let read = |(loss, &active): (&TaskLoss, &bool)| match active {
            true => Ok(executor.read_f32(self.plan, loss.loss)?[0]),
            false => Ok(f32::NAN),
        };
        self.losses.iter().zip(active).map(read).collect()
    }
}

/// A step in progress.
struct Running {
    active: Vec<bool>,
    /// Its weights are the ones at the seam.
    scalars: StepScalars,
    /// Per task, the factor of its head's gradients.
    heads: Vec<f32>,
    /// The plan of the batch that was started last.
    last: Option<usize>,
    /// Per task, over the batches whose losses were read.
    losses: Vec<f32>,
    /// The inner products of the tasks' gradients, if they were computed.
    gramian: Option<Vec<f64>>,
    /// The tasks' gradients at the layer in the step's first batch, if the method needs them.
    first: Option<LayerGradients>,
    /// The products of the first batch's gradients with the second's.
    cross: Option<Vec<f64>>,
    excess: Option<Vec<f64>>,
}

impl Running {
    /// The signals of the step with these losses.
    fn signals<'a>(&'a self, losses: &'a [f32]) -> Signals<'a> {
        Signals {
            gramian: self.gramian.as_deref(),
            cross: self.cross.as_deref(),
            excess: self.excess.as_deref(),
            ..Signals::of_losses(&self.active, losses)
        }
    }

    /// Adds the losses of the batch that was started last.
    fn read_losses(&mut self, executor: &Executor, plans: &[StepPlan]) -> Result<()> {
        let Some(plan) = self.last.map(|last| &plans[last]) else { return Ok(()) };
        let losses = plan.read_losses(executor, &self.active)?;
        self.losses
            .iter_mut()
            .zip(losses)
            .zip(&self.active)
            .filter(|(_, active)| **active)
            .for_each(|((sum, loss), _)| *sum += loss);
        Ok(())
    }
}

/// After the heads' backward of a batch, computes what the method needs to know about the tasks' gradients.
fn measure_gradients(
    balance: &dyn Balance,
    squares: &SquaredSums,
    executor: &mut Executor,
    plan: &StepPlan,
    running: &mut Running,
) -> Result<()> {
    let needs = balance.needs();
    let batches = running.scalars.micro_batches;
    if needs.waits() && batches > 1 {
        return Err(Error::Usage(
            "a method that balances by a step's own losses or gradients needs the step's images in one batch: leave out --accumulate".into(),
        ));
    }
    match needs {
        Needs::State | Needs::Losses => {}
        Needs::Gramian => running.gramian = Some(probe(executor, plan, &running.scalars)?),
        Needs::Excess => {
            running.gramian = Some(probe(executor, plan, &running.scalars)?);
            let gradients = plan.read_layer_gradients(executor, &running.active)?;
            running.excess = Some(squares.excess(&gradients));
            running.first = Some(gradients);
        }
        Needs::Cross if running.cross.is_none() => {
            running.gramian = Some(probe(executor, plan, &running.scalars)?);
            let gradients = plan.read_layer_gradients(executor, &running.active)?;
            match running.first.take() {
                None => running.first = Some(gradients),
                // Losses are divided by the denominators of the whole step; the factor makes each batch stand for the step.
                Some(first) => running.cross = Some(products(&first, &gradients, (batches * batches) as f64)),
            }
        }
        // The method uses the step's first two batches only.
        Needs::Cross => {}
    }
    Ok(())
}

/// Computes the weights for a method that needs the step's losses or the result of [`measure_gradients`].
fn weigh(balance: &dyn Balance, executor: &Executor, plan: &StepPlan, running: &mut Running) -> Result<()> {
    let losses = plan.read_losses(executor, &running.active)?;
    let weights = balance.weights(&running.signals(&losses));
    (running.scalars.task_weights, running.heads) = (weights.seam, weights.heads);
    Ok(())
}

/// Computes the inner products `[K, K]` of the tasks' gradients after the heads' backward of a step.
fn probe(executor: &mut Executor, plan: &StepPlan, scalars: &StepScalars) -> Result<Vec<f64>> {
    let tasks = plan.losses.len();
    let unweighted = StepScalars { task_weights: vec![1.0; tasks], ..scalars.clone() };
    executor.run(plan.plan, Segment::Probe, ParameterSet::Current, &unweighted)?;
    executor.gramian(plan.plan, tasks)
}

/// The place where a method needs the tasks' gradients compared: at the shared features, unless the run chooses otherwise or the
/// method needs the gradients themselves.
pub fn probe_for(balance: &dyn Balance) -> Probe {
    match balance.needs() {
        Needs::State | Needs::Losses => Probe::None,
        Needs::Gramian => Probe::Features,
        Needs::Excess | Needs::Cross => Probe::LayerGradients,
    }
}

/// The outcome of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    /// Per task; NaN without labelled images in the step.
    pub losses: Vec<f32>,
    /// Per task, the weight at the seam that this step used.
    pub weights: Vec<f32>,
    /// Norm of the gradient before clipping, over the groups that this step updates.
    pub gradient_norm: f64,
    /// Learning rate of the schedule for this step, before the factors of trunk and heads.
    pub learning_rate: f32,
    /// `[K, K]`: the inner products of the tasks' gradients over what they share, in the steps in which they were
    /// computed.
    pub gramian: Option<Vec<f64>>,
}

impl Trainer {
    /// Plans the step for batches of `shape` `[N, H, W]`; the Store is all zero until it is filled.
    ///
    /// # Errors
    /// The network cannot be built for this shape, or the device is not available.
    pub fn new(
        architecture: &Architecture,
        shape: [usize; 3],
        device: &DeviceChoice,
        config: OptimizerConfig,
        balance: Box<dyn Balance>,
    ) -> Result<Trainer> {
        let (freeze, labels) = (Freeze::default(), LabelFeatures::default());
        let probe = probe_for(balance.as_ref());
        let network = TrainingNetwork::for_labels(architecture, shape, &freeze, labels, probe)?;
        Trainer::of(network, &architecture.tasks, device, config, balance, Fusion::On)
    }

    /// A trainer for a network with losses for `tasks`, with or without fusion.
    ///
    /// # Errors
    /// The device is not available, or cannot run the network.
    pub fn of(
        network: TrainingNetwork,
        tasks: &[Task],
        device: &DeviceChoice,
        config: OptimizerConfig,
        balance: Box<dyn Balance>,
        fusion: Fusion,
    ) -> Result<Trainer> {
        let graph = &network.network.graph;
        let mut executor = Executor::new(device, &graph.parameters, &graph.buffers)?;
        let plans = vec![StepPlan::prepare(&mut executor, network, fusion)?];
        Ok(Trainer {
            executor,
            balance,
            optimizer: OptimizerState::new(1 + tasks.len()),
            squares: SquaredSums::default(),
            config,
            step: 0,
            gramian_interval: 0,
            loss_factors: vec![1.0; tasks.len()],
            names: tasks.iter().map(|t| t.name.clone()).collect(),
            plans,
            loaded: 0,
            running: None,
        })
    }

    /// Plans the same step for one more batch size; [`Trainer::load`] then chooses the plan by the batch's bytes. Everything
    /// except the batch is shared: parameters, moments, and one arena that fits the largest size.
    ///
    /// # Errors
    /// The network has other parameters, or the device cannot run it.
    pub fn add(&mut self, network: TrainingNetwork, fusion: Fusion) -> Result<()> {
        let (store, graph) = (self.executor.store()?, &network.network.graph);
        if store.parameters != graph.parameters || store.buffers != graph.buffers {
            let shape = graph.shape(network.network.images);
            return Err(Error::Usage(format!(
                "batches of {shape:?} would need other parameters than the earlier sizes: all must use the same network"
            )));
        }
        self.plans.push(StepPlan::prepare(&mut self.executor, network, fusion)?);
        Ok(())
    }

    /// Runs a whole step on one batch.
    ///
    /// Shapes: images u8 `[N, H, W, 3]`, one list of targets per image.
    ///
    /// # Errors
    /// The same as [`Trainer::finish`].
    pub fn step(&mut self, images: &[u8], targets: &[Vec<Target>]) -> Result<StepReport> {
        self.accumulated_step(&[(images, targets)])
    }

    /// Runs a whole step on several batches; their gradients are added up before the update.
    ///
    /// # Errors
    /// The same as [`Trainer::finish`].
    pub fn accumulated_step(&mut self, batches: &[(&[u8], &[Vec<Target>])]) -> Result<StepReport> {
        let targets = StepTargets::new(&batches.iter().map(|b| b.1).collect::<Vec<_>>());
        for (index, (images, _)) in batches.iter().enumerate() {
            self.load(images, &targets, index)?;
            if index == 0 {
                self.begin(&targets);
            }
            self.start()?;
        }
        self.finish()
    }

    /// Copies batch `index` of a step to the device, while a batch that was started may still run.
    ///
    /// # Errors
    /// There is no plan for this size, or a GPU call fails.
    pub fn load(&mut self, images: &[u8], targets: &StepTargets, index: usize) -> Result<()> {
        let known = self.plans.iter().position(|plan| plan.image_bytes == images.len());
        self.loaded = known.ok_or_else(|| {
            let known: Vec<usize> = self.plans.iter().map(|plan| plan.image_bytes).collect();
            Error::Usage(format!("a batch of {} bytes: steps were planned for batches of {known:?}", images.len()))
        })?;
        let StepPlan { plan, images: value, losses, .. } = &self.plans[self.loaded];
        self.executor.write_u8(*plan, *value, images)?;
        for (loss, target) in losses.iter().zip(&targets.batches[index]) {
            loss.write(&mut self.executor, *plan, target)?;
        }
        Ok(())
    }

    /// Begins a step, with its weights and denominators. Its first batch may already be loaded.
    pub fn begin(&mut self, targets: &StepTargets) {
        let scalars = self.scalars(targets);
        let Weights { heads, .. } = self.weights_before(&targets.active);
        let losses = vec![0.0; targets.active.len()];
        let active = targets.active.clone();
        let (gramian, first, cross, excess) = (None, None, None, None);
        self.running = Some(Running { active, scalars, heads, last: None, losses, gramian, first, cross, excess });
    }

    /// Starts segments 1 to 3 on the batch loaded last. If the method computes weights from the step itself, its inputs are
    /// read before the trunk's backward.
    ///
    /// # Errors
    /// The step has several batches with such a method, or a GPU call fails.
    pub fn start(&mut self) -> Result<()> {
        let Trainer { executor, balance, squares, plans, loaded, running, step, gramian_interval, .. } = self;
        let running = running.as_mut().unwrap_or_else(|| unreachable!("a step begins before its batches start"));
        if running.last.is_some() {
            // The next batch overwrites the arena, whichever plan computes it.
            running.read_losses(executor, plans)?;
            running.scalars.dropout_counter += 1;
        }
        let loaded_plan = &plans[*loaded];
        let run = |executor: &mut Executor, segment, scalars: &StepScalars| {
            executor.run(loaded_plan.plan, segment, ParameterSet::Current, scalars)
        };
        run(executor, Segment::Forward, &running.scalars)?;
        run(executor, Segment::HeadsBackward, &running.scalars)?;
        measure_gradients(balance.as_ref(), squares, executor, loaded_plan, running)?;
        if balance.needs().waits() {
            weigh(balance.as_ref(), executor, loaded_plan, running)?;
        }
        if running.gramian.is_none() && *gramian_interval > 0 && step.is_multiple_of(*gramian_interval) {
            running.gramian = Some(probe(executor, loaded_plan, &running.scalars)?);
        }
        run(executor, Segment::TrunkBackward, &running.scalars)?;
        running.last = Some(*loaded);
        Ok(())
    }

    /// Waits for the losses of the started batches, updates, and passes the losses to the balancing method.
    ///
    /// # Errors
    /// [`Error::NonFinite`] if a loss is NaN or infinite; nothing has been updated then.
    pub fn finish(&mut self) -> Result<StepReport> {
        let mut running = self.running.take().unwrap_or_else(|| unreachable!("a step is started before it ends"));
        running.read_losses(&self.executor, &self.plans)?;
        let mut losses = std::mem::take(&mut running.losses);
        let weights = Weights { seam: running.scalars.task_weights.clone(), heads: running.heads.clone() };
        losses.iter_mut().zip(&running.active).filter(|(_, active)| !**active).for_each(|(loss, _)| *loss = f32::NAN);
        self.check_finite(&losses, &weights)?;
        let update = self.optimizer.advance(&self.config, self.step, &weights);
        let gradient_norm = self.executor.update(&update)?;
        if !gradient_norm.is_finite() {
            return Err(self.non_finite("the gradient", &losses, &weights));
        }
        let signals = running.signals(&losses);
        self.balance.observe(&signals);
        if let (Needs::Excess, Some(gradients)) = (self.balance.needs(), &running.first) {
            self.squares.add(gradients);
        }
        if let Some(last) = running.last.filter(|_| self.balance.needs_losses_after_update()) {
            // The batch is still on the device: for such a method, the feed loads the next one only after the step.
            let plan = &self.plans[last];
            self.executor.run(plan.plan, Segment::Forward, ParameterSet::Current, &running.scalars)?;
            let after = plan.read_losses(&self.executor, &running.active)?;
            // If the update was too large even for its own batch, the next step reports it; the method's state stays
            // finite.
            if after.iter().zip(&running.active).all(|(loss, active)| !active || loss.is_finite()) {
                self.balance.after_update(&signals, &after);
            }
        }
        let learning_rate = self.config.schedule.learning_rate(self.step);
        self.step += 1;
        Ok(StepReport { losses, weights: weights.seam, gradient_norm, learning_rate, gramian: running.gramian })
    }

    fn scalars(&self, targets: &StepTargets) -> StepScalars {
        let micro_batches = targets.batches();
        StepScalars {
            task_weights: self.weights_before(&targets.active).seam,
            // A factor of the loss is a smaller divisor of its sum.
            denominators: targets.denominators.iter().zip(&self.loss_factors).map(|(d, factor)| d / factor).collect(),
            // Every batch of every step has its own dropout mask.
            dropout_counter: self.step * micro_batches as u64,
            micro_batches,
        }
    }

    /// The weights known before the step: equal ones for a method that computes them from the step itself.
    fn weights_before(&self, active: &[bool]) -> Weights {
        match self.balance.needs().waits() {
            false => self.balance.weights(&Signals::before(active)),
            true => Weights::of_losses(active.iter().map(|&active| f32::from(u8::from(active))).collect()),
        }
    }

    /// Times every node of segments 1 to 3 on one batch; see [`Executor::time_nodes`].
    ///
    /// # Errors
    /// A GPU call fails.
    pub fn time_nodes(&mut self, images: &[u8], targets: &[Vec<Target>], repeats: usize) -> Result<Vec<NodeTime>> {
        let targets = StepTargets::new(&[targets]);
        self.load(images, &targets, 0)?;
        self.executor.time_nodes(self.plans[self.loaded].plan, &self.scalars(&targets), repeats)
    }

    /// Times the update with the current gradients; see [`Executor::time_update`].
    ///
    /// # Errors
    /// A gradient is NaN or infinite, or a GPU call fails.
    pub fn time_update(&mut self, repeats: usize) -> Result<NodeTime> {
        let weights = self.weights_before(&vec![true; self.names.len()]);
        let update = self.optimizer.advance(&self.config, self.step, &weights);
        // The first update is not timed. With a norm that is not finite, the timed updates would do nothing.
        if !self.executor.update(&update)?.is_finite() {
            return Err(self.non_finite("the gradient", &vec![f32::NAN; self.names.len()], &weights));
        }
        self.executor.time_update(&update, repeats)
    }

    /// Compares every node of segments 1 to 3 on one batch with the same step on the CPU; see
    /// [`Executor::compare_nodes`].
    ///
    /// # Errors
    /// The same as [`Executor::compare_nodes`].
    pub fn compare_nodes(
        &mut self,
        cpu: &mut Trainer,
        images: &[u8],
        targets: &[Vec<Target>],
    ) -> Result<Vec<NodeComparison>> {
        let targets = StepTargets::new(&[targets]);
        cpu.load(images, &targets, 0)?;
        self.load(images, &targets, 0)?;
        let scalars = self.scalars(&targets);
        let [ours, theirs] = [&*self, &*cpu].map(|trainer| trainer.plans[trainer.loaded].plan);
        self.executor.compare_nodes(ours, (&mut cpu.executor, theirs), &scalars)
    }

    fn check_finite(&self, losses: &[f32], weights: &Weights) -> Result<()> {
        let counts = weights.seam.iter().zip(&weights.heads).map(|(&seam, &head)| seam != 0.0 || head != 0.0);
        if !losses.iter().zip(counts).any(|(loss, counts)| counts && !loss.is_finite()) {
            return Ok(());
        }
        Err(self.non_finite("a loss", losses, weights))
    }

    fn non_finite(&self, what: &str, losses: &[f32], weights: &Weights) -> Error {
        let tasks = self.names.iter().zip(losses).zip(&weights.seam);
        let report: Vec<String> =
            tasks.map(|((name, loss), weight)| format!("{name}: loss {loss}, weight {weight:.3}")).collect();
        Error::NonFinite {
            report: format!(
                "step {}: {what} is NaN or infinite ({}); lower --lr0 or raise --warmup-epochs, and check the labels with `polyhead data check`",
                self.step,
                report.join("; ")
            ),
        }
    }
}
