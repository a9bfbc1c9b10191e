//! Group normalisation with its ReLU: `GroupNormRelu`: x `[N, H, W, C]`, gamma, beta `[C]` → y, moments
//! `[N, groups, 2]`; `GroupNormReluBackward`: dy, x, y, moments, gamma → dx, dgamma, dbeta (the last two accumulated).
//!
//! Source: Wu & He 2018, eq. 3.

pub mod cpu;
pub mod cuda;
#[cfg(test)]
mod tests;

use super::check;
use crate::error::Result;
use crate::graph::ir::{DType, Gradients, Graph, Node, Op, ValueId};

pub const EPSILON: f32 = 1e-5;

/// Appends y = relu(norm(x)·gamma + beta), normalised over H, W and the channels of a group.
///
/// # Errors
/// Channels that do not divide into `groups`.
pub fn group_norm_relu(graph: &mut Graph, x: ValueId, gamma: ValueId, beta: ValueId, groups: usize) -> Result<ValueId> {
    let shape = graph.shape(x).to_vec();
    check(
        shape.len() == 4 && groups > 0 && shape[3].is_multiple_of(groups) && graph.shape(gamma) == [shape[3]],
        "group_norm",
        || format!("[N, H, W, C] with C a multiple of {groups} groups, gamma and beta [C]"),
        &[&shape, graph.shape(gamma)],
    )?;
    let name = graph.value(gamma).name.replace(".weight", "");
    let y = graph.arena(format!("{name}.out"), &shape, DType::F32);
    let moments = graph.arena(format!("{name}.moments"), &[shape[0], groups, 2], DType::F32);
    graph.push(Op::GroupNormRelu { groups }, &[x, gamma, beta], &[y, moments]);
    Ok(y)
}

pub fn backward(graph: &mut Graph, node: &Node, gradients: &mut Gradients) {
    let Op::GroupNormRelu { groups } = node.op else { unreachable!("called for GroupNormRelu only") };
    let Some(dy) = gradients.get(node.outputs[0]) else {
        return;
    };
    let (x, gamma, beta) = (node.inputs[0], node.inputs[1], node.inputs[2]);
    let (y, moments) = (node.outputs[0], node.outputs[1]);
    let (dgamma, dbeta) = (graph.gradient_of_parameter(gamma), graph.gradient_of_parameter(beta));
    let shape = graph.shape(x).to_vec();
    let name = graph.value(gamma).name.replace(".weight", ".input_gradient");
    let dx = graph.arena(name, &shape, DType::F32);
    graph.push(Op::GroupNormReluBackward { groups }, &[dy, x, y, moments, gamma], &[dx, dgamma, dbeta]);
    gradients.accumulate(graph, x, dx);
}
