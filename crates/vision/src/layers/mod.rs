//! Builds the forward pass of a network: a graph, and the layers appended to it. The backward pass, fusion and the plan
//! are derived in `graph`.

pub mod pyramid;

use crate::error::Result;
use crate::ir::{Conv2d, Graph, Group, Init, Mode, Parameter, ValueId};
use crate::ops::{
    batch_norm::{self, Activation, BatchNorm, Statistics},
    conv2d, group_norm, linear,
};

/// Appends layers to a graph. Their parameters belong to the current group. Names are passed in full and are the names
/// in the checkpoint.
pub struct Builder<'g> {
    /// The graph that layers are appended to.
    pub graph: &'g mut Graph,
    /// The group of the parameters that are added next.
    pub group: Group,
    /// The group of the batch norms that are added next; `Group::Frozen` if their parameters are frozen.
    pub norm_group: Group,
    /// The statistics that the batch norms added next normalise by.
    pub statistics: Statistics,
}

impl<'g> Builder<'g> {
    /// A builder for the trunk's layers, with batch statistics chosen by the graph's mode.
    pub fn new(graph: &'g mut Graph) -> Builder<'g> {
        let statistics = match graph.mode {
            Mode::Train => Statistics::Batch,
            Mode::Evaluate => Statistics::Running,
        };
        Builder { graph, group: Group::Trunk, norm_group: Group::Trunk, statistics }
    }

    /// A weight of any shape, subject to weight decay. Create it once for layers that share it.
    pub fn weight(&mut self, name: String, shape: &[usize], init: Init) -> ValueId {
        self.parameter(name, shape, init, self.group, true)
    }

    /// A vector without weight decay, for norms, biases and scales.
    pub fn vector(&mut self, name: String, shape: &[usize], init: Init) -> ValueId {
        self.parameter(name, shape, init, self.group, false)
    }

    fn parameter(&mut self, name: String, shape: &[usize], init: Init, group: Group, decay: bool) -> ValueId {
        self.graph.parameter(Parameter { name, shape: shape.to_vec(), init, group, decay })
    }

    fn channels(&self, x: ValueId) -> usize {
        let shape = self.graph.shape(x);
        shape[shape.len() - 1]
    }

    /// A convolution without bias: `{name}.weight`.
    pub fn conv(&mut self, x: ValueId, name: &str, out: usize, conv: Conv2d) -> Result<ValueId> {
        let shape = [out, conv.kernel, conv.kernel, self.channels(x)];
        let weight = self.weight(format!("{name}.weight"), &shape, Init::KaimingFanOut);
        conv2d::conv2d(self.graph, x, weight, None, conv)
    }

    /// A convolution with bias; `start` gives the initial values of both.
    pub fn conv_bias(&mut self, x: ValueId, name: &str, out: usize, conv: Conv2d, start: ConvStart) -> Result<ValueId> {
        let shape = [out, conv.kernel, conv.kernel, self.channels(x)];
        let weight = self.weight(format!("{name}.weight"), &shape, start.weight);
        let bias = self.vector(format!("{name}.bias"), &[out], Init::Constant(start.bias));
        conv2d::conv2d(self.graph, x, weight, Some(bias), conv)
    }

    /// Batch norm `{name}.{weight,bias,running_mean,running_var}`, followed by the given residual sum and activation.
    pub fn batch_norm(
        &mut self,
        y: ValueId,
        name: &str,
        residual: Option<ValueId>,
        activation: Activation,
    ) -> Result<ValueId> {
        let shape = [self.channels(y)];
        let gamma = self.parameter(format!("{name}.weight"), &shape, Init::Constant(1.0), self.norm_group, false);
        let beta = self.parameter(format!("{name}.bias"), &shape, Init::Constant(0.0), self.norm_group, false);
        let norm = BatchNorm {
            gamma,
            beta,
            running_mean: self.graph.buffer(format!("{name}.running_mean"), &shape, 0.0),
            running_variance: self.graph.buffer(format!("{name}.running_var"), &shape, 1.0),
        };
        batch_norm::batch_norm(self.graph, y, norm, self.statistics, residual, activation)
    }

    /// Group norm `{name}.{weight,bias}` with ReLU.
    pub fn group_norm_relu(&mut self, x: ValueId, name: &str, groups: usize) -> Result<ValueId> {
        let shape = [self.channels(x)];
        let gamma = self.vector(format!("{name}.weight"), &shape, Init::Constant(1.0));
        let beta = self.vector(format!("{name}.bias"), &shape, Init::Constant(0.0));
        group_norm::group_norm_relu(self.graph, x, gamma, beta, groups)
    }

    /// A linear layer `{name}.{weight,bias}`.
    pub fn linear(&mut self, x: ValueId, name: &str, out: usize) -> Result<ValueId> {
        let shape = [out, self.channels(x)];
        let weight = self.weight(format!("{name}.weight"), &shape, Init::UniformFanIn);
        let bias = self.vector(format!("{name}.bias"), &[out], Init::Constant(0.0));
        linear::linear(self.graph, x, weight, bias)
    }
}

/// The initial values of a convolution with bias.
#[derive(Clone, Copy, Debug)]
pub struct ConvStart {
    /// The initial values of its weight.
    pub weight: Init,
    /// The value of every element of its bias.
    pub bias: f32,
}
