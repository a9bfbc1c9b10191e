//! Fully connected layer. `Linear`: x `[N, C]`, weight `[K, C]`, bias `[K]` → y `[N, K]`. `LinearBackward`: dy, x, weight →
//! dweight, dbias (accumulated), and dx where it is wanted.

pub mod cpu;
pub mod cuda;
#[cfg(test)]
mod tests;

use super::check;
use crate::error::Result;
use crate::graph::ir::{DType, Gradients, Graph, Node, Op, ValueId};

/// Appends y = x·weightᵀ + bias.
///
/// # Errors
/// Features that differ between x and weight.
pub fn linear(graph: &mut Graph, x: ValueId, weight: ValueId, bias: ValueId) -> Result<ValueId> {
    let (xs, ws) = (graph.shape(x).to_vec(), graph.shape(weight).to_vec());
    check(
        xs.len() == 2 && ws.len() == 2 && xs[1] == ws[1] && graph.shape(bias) == [ws[0]],
        "linear",
        || "x [N, C], weight [K, C] and bias [K]".into(),
        &[&xs, &ws, graph.shape(bias)],
    )?;
    let name = graph.value(weight).name.replace(".weight", ".out");
    let y = graph.arena(name, &[xs[0], ws[0]], DType::F32);
    graph.push(Op::Linear, &[x, weight, bias], &[y]);
    Ok(y)
}

pub fn backward(graph: &mut Graph, node: &Node, gradients: &mut Gradients) {
    let Some(dy) = gradients.get(node.outputs[0]) else {
        return;
    };
    let (x, weight, bias) = (node.inputs[0], node.inputs[1], node.inputs[2]);
    let mut outputs = vec![graph.gradient_of_parameter(weight), graph.gradient_of_parameter(bias)];
    let input_gradient = gradients.wanted(x);
    if input_gradient {
        let shape = graph.shape(x).to_vec();
        let name = graph.value(weight).name.replace(".weight", ".input_gradient");
        outputs.push(graph.arena(name, &shape, DType::F32));
    }
    graph.push(Op::LinearBackward { input_gradient }, &[dy, x, weight], &outputs);
    if input_gradient {
        gradients.accumulate(graph, x, outputs[2]);
    }
}
