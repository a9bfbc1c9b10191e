//! The evaluation forward pass of one batch size and image size, on an executor that the caller owns.

use super::{Architecture, Network};
use crate::error::Result;
use crate::executor::{Executor, NodeTime, ParameterSet, PlanId, StepScalars};
use crate::graph::fuse::Fusion;
use crate::ir::{Mode, Segment, ValueId};
use crate::tasks::{HeadOutput, HeadValues};

/// The evaluation forward pass of one shape, on an executor that the caller owns.
pub struct ForwardPlan {
    plan: PlanId,
    images: ValueId,
    heads: Vec<HeadValues>,
}

impl ForwardPlan {
    /// Plans the forward pass with all heads for a batch of `shape` `[N, H, W]`.
    ///
    /// # Errors
    /// The network does not support this shape.
    pub fn prepare(executor: &mut Executor, architecture: &Architecture, shape: [usize; 3]) -> Result<ForwardPlan> {
        ForwardPlan::of(executor, architecture.network(shape, Mode::Evaluate)?)
    }

    /// Plans the forward pass of a network in evaluation mode, with whatever follows its heads.
    ///
    /// # Errors
    /// The device cannot run it.
    pub(super) fn of(executor: &mut Executor, mut network: Network) -> Result<ForwardPlan> {
        network.keep_outputs();
        let heads = network.heads.into_iter().map(|h| h.values).collect();
        let images = network.images;
        let plan = executor.prepare(network.graph, Fusion::On)?;
        Ok(ForwardPlan { plan, images, heads })
    }

    /// Plans the forward pass of the trunk alone. Its single output holds c3, c4 and c5.
    ///
    /// # Errors
    /// The network does not support this shape.
    pub fn features(executor: &mut Executor, architecture: &Architecture, shape: [usize; 3]) -> Result<ForwardPlan> {
        let trunk = Architecture { tasks: Vec::new(), ..architecture.clone() };
        let mut network = trunk.network(shape, Mode::Evaluate)?;
        network.graph.outputs.extend(network.features);
        let heads = vec![HeadValues { outputs: network.features.to_vec(), levels: Vec::new() }];
        let images = network.images;
        let plan = executor.prepare(network.graph, Fusion::On)?;
        Ok(ForwardPlan { plan, images, heads })
    }

    /// Releases the plan; see [`Executor::release`].
    ///
    /// # Errors
    /// A GPU call fails.
    pub fn release(self, executor: &mut Executor) -> Result<()> {
        executor.release(self.plan)
    }

    /// Runs one batch with the parameters of `set`: images u8 `[N, H, W, 3]`, one output per task.
    ///
    /// # Errors
    /// A GPU call fails.
    pub fn run(&self, executor: &mut Executor, set: ParameterSet, images: &[u8]) -> Result<Vec<HeadOutput>> {
        self.load(executor, images)?;
        self.start(executor, set)?;
        self.answers(executor)
    }

    pub(super) fn id(&self) -> PlanId {
        self.plan
    }

    pub(super) fn load(&self, executor: &mut Executor, images: &[u8]) -> Result<()> {
        executor.write_u8(self.plan, self.images, images)
    }

    pub(super) fn start(&self, executor: &mut Executor, set: ParameterSet) -> Result<()> {
        self.start_with(executor, set, &StepScalars::default())
    }

    pub(super) fn start_with(&self, executor: &mut Executor, set: ParameterSet, scalars: &StepScalars) -> Result<()> {
        executor.run(self.plan, Segment::Forward, set, scalars)
    }

    pub(super) fn answers(&self, executor: &Executor) -> Result<Vec<HeadOutput>> {
        let read = |value: &ValueId| executor.read_f32(self.plan, *value);
        let output = |head: &HeadValues| {
            let values = head.outputs.iter().map(read).collect::<Result<_>>()?;
            Ok(HeadOutput { values, levels: head.levels.clone() })
        };
        self.heads.iter().map(output).collect()
    }

    /// Times every node; see [`Executor::time_nodes`].
    pub(super) fn time_nodes(&self, executor: &mut Executor, repeats: usize) -> Result<Vec<NodeTime>> {
        executor.time_nodes(self.plan, &StepScalars::default(), repeats)
    }
}
