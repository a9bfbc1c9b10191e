//! Group normalisation with its ReLU. `GroupNormRelu`: x `[N, H, W, C]`, gamma, beta `[C]` → y, moments
//! `[N, groups, 2]`. `GroupNormReluBackward`: dy, x, y, moments, gamma → dx, dgamma, dbeta (the last two accumulated).
//!
//! Source: Wu & He 2018, eq. 3.

pub(crate) mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
mod tests;

use super::cost::Cost;
use super::{NoGradient, Operation, Quantities, check, check_inputs, no_gradient};
use crate::error::Result;
use crate::ir::{DType, Gradients, Graph, GroupNormRelu, GroupNormReluBackward, Node, Op, ValueId};

pub(crate) const EPSILON: f32 = 1e-5;

/// Sizes of a group norm over `[N, HW, C]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub n: usize,
    /// The number of pixels of an image.
    pub hw: usize,
    pub c: usize,
    pub groups: usize,
}

impl Shape {
    /// The sizes of x `[N, H, W, C]`.
    pub fn new(x: &[usize], groups: usize) -> Shape {
        Shape { n: x[0], hw: x[1] * x[2], c: x[3], groups }
    }
}

/// Appends y = relu(norm(x)·gamma + beta), normalised over H, W and the channels of a group.
///
/// # Errors
/// The number of channels is not a multiple of `groups`.
pub fn group_norm_relu(graph: &mut Graph, x: ValueId, gamma: ValueId, beta: ValueId, groups: usize) -> Result<ValueId> {
    GroupNormRelu { groups }.check(graph, &[x, gamma, beta])?;
    let shape = graph.shape(x).to_vec();
    let name = graph.value(gamma).name.replace(".weight", "");
    let y = graph.arena(format!("{name}.out"), &shape, DType::F32);
    let moments = graph.arena(format!("{name}.moments"), &[shape[0], groups, 2], DType::F32);
    graph.push(Op::GroupNormRelu(GroupNormRelu { groups }), &[x, gamma, beta], &[y, moments]);
    Ok(y)
}

fn backward(groups: usize, graph: &mut Graph, node: &Node, gradients: &mut Gradients) {
    let Some(dy) = gradients.get(node.outputs[0]) else {
        return;
    };
    let (x, gamma, beta) = (node.inputs[0], node.inputs[1], node.inputs[2]);
    let (y, moments) = (node.outputs[0], node.outputs[1]);
    let (dgamma, dbeta) = (gradients.of_parameter(graph, gamma), gradients.of_parameter(graph, beta));
    let shape = graph.shape(x).to_vec();
    let name = graph.value(gamma).name.replace(".weight", ".input_gradient");
    let dx = graph.arena(name, &shape, DType::F32);
    let op = Op::GroupNormReluBackward(GroupNormReluBackward { groups });
    graph.push(op, &[dy, x, y, moments, gamma], &[dx, dgamma, dbeta]);
    gradients.accumulate(graph, x, dx);
}

impl Operation for GroupNormRelu {
    fn name(&self) -> String {
        "group_norm_relu".into()
    }

    fn cost(&self, graph: &Graph, node: &Node) -> Cost {
        Cost::elementwise(graph, node)
    }

    fn check(&self, graph: &Graph, inputs: &[ValueId]) -> Result<()> {
        let groups = self.groups;
        let [shape, gamma, beta] = [0, 1, 2].map(|index| inputs.get(index).map_or(&[][..], |&v| graph.shape(v)));
        let divides = shape.len() == 4 && groups > 0 && shape[3].is_multiple_of(groups);
        check(
            divides && gamma == [shape[3]] && beta == gamma,
            "group_norm",
            || format!("[N, H, W, C] with C a multiple of {groups} groups, gamma and beta [C]"),
            &[shape, gamma],
        )
    }

    fn backward(&self, graph: &mut Graph, node: &Node, gradients: &mut Gradients) {
        backward(self.groups, graph, node, gradients);
    }

    fn quantities(&self, _node: &Node, position: usize) -> Quantities {
        match position {
            0 => Quantities::ONE,
            _ => Quantities::along(2, &["mean", "1/deviation"]),
        }
    }
}

impl Operation for GroupNormReluBackward {
    fn name(&self) -> String {
        "group_norm_relu_backward".into()
    }

    fn cost(&self, graph: &Graph, node: &Node) -> Cost {
        Cost::elementwise(graph, node)
    }

    fn check(&self, graph: &Graph, inputs: &[ValueId]) -> Result<()> {
        let expected = "dy, x and y [N, H, W, C], moments [N, groups, 2] and gamma [C]";
        check_inputs(graph, "group_norm_backward", inputs, &[5], expected, |s| {
            s[0].len() == 4 && s[1] == s[0] && s[2] == s[0] && s[3] == [s[0][0], self.groups, 2] && s[4] == [s[0][3]]
        })
    }

    fn backward(&self, _graph: &mut Graph, _node: &Node, _gradients: &mut Gradients) {
        no_gradient(NoGradient::BackwardNode);
    }
}
