//! Fully connected layer. `Linear`: x `[N, C]`, weight `[K, C]`, bias `[K]` → y `[N, K]`. `LinearBackward`: dy, x, weight →
//! dweight and dbias (accumulated), and optionally dx.

pub(crate) mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
mod tests;

use super::cost::Cost;
use super::{NoGradient, Operation, check_inputs, no_gradient};
use crate::error::Result;
use crate::ir::{DType, Gradients, Graph, LinearBackward, Node, Op, ValueId};

/// Appends y = x·weightᵀ + bias.
///
/// # Errors
/// The numbers of features of x and weight differ.
pub fn linear(graph: &mut Graph, x: ValueId, weight: ValueId, bias: ValueId) -> Result<ValueId> {
    Linear.check(graph, &[x, weight, bias])?;
    let (n, k) = (graph.shape(x)[0], graph.shape(weight)[0]);
    let name = graph.value(weight).name.replace(".weight", ".out");
    let y = graph.arena(name, &[n, k], DType::F32);
    graph.push(Op::Linear, &[x, weight, bias], &[y]);
    Ok(y)
}

fn backward(graph: &mut Graph, node: &Node, gradients: &mut Gradients) {
    let Some(dy) = gradients.get(node.outputs[0]) else {
        return;
    };
    let (x, weight, bias) = (node.inputs[0], node.inputs[1], node.inputs[2]);
    let mut outputs = vec![gradients.of_parameter(graph, weight), gradients.of_parameter(graph, bias)];
    let input_gradient = gradients.wanted(x);
    if input_gradient {
        let shape = graph.shape(x).to_vec();
        let name = graph.value(weight).name.replace(".weight", ".input_gradient");
        outputs.push(graph.arena(name, &shape, DType::F32));
    }
    graph.push(Op::LinearBackward(LinearBackward { input_gradient }), &[dy, x, weight], &outputs);
    if input_gradient {
        gradients.accumulate(graph, x, outputs[2]);
    }
}

pub(crate) struct Linear;

impl Operation for Linear {
    fn name(&self) -> String {
        "linear".into()
    }

    /// 2·N·C·K operations.
    fn cost(&self, graph: &Graph, node: &Node) -> Cost {
        let flops = 2 * graph.value(node.inputs[0]).len() * graph.shape(node.inputs[1])[0];
        Cost::new(flops as u64, graph, node)
    }

    fn check(&self, graph: &Graph, inputs: &[ValueId]) -> Result<()> {
        let expected = "x [N, C], weight [K, C] and bias [K]";
        check_inputs(graph, "linear", inputs, &[3], expected, |s| {
            s[0].len() == 2 && s[1].len() == 2 && s[0][1] == s[1][1] && s[2] == [s[1][0]]
        })
    }

    fn backward(&self, graph: &mut Graph, node: &Node, gradients: &mut Gradients) {
        backward(graph, node, gradients);
    }
}

impl Operation for LinearBackward {
    fn name(&self) -> String {
        "linear_backward".into()
    }

    /// 2·N·C·K operations for the weight's gradient, and as many for x's if it is computed. The weight is only read for x's
    /// gradient.
    fn cost(&self, graph: &Graph, node: &Node) -> Cost {
        let one = 2 * graph.value(node.inputs[1]).len() * graph.shape(node.inputs[0])[1];
        let read = &node.inputs[..2 + usize::from(self.input_gradient)];
        Cost::of_values(one as u64 * (1 + u64::from(self.input_gradient)), graph, read.iter().chain(&node.outputs))
    }

    fn check(&self, graph: &Graph, inputs: &[ValueId]) -> Result<()> {
        let expected = "dy [N, K], x [N, C] and weight [K, C]";
        check_inputs(graph, "linear_backward", inputs, &[3], expected, |s| {
            s.iter().all(|s| s.len() == 2) && s[0][0] == s[1][0] && s[2] == [s[0][1], s[1][1]]
        })
    }

    fn backward(&self, _graph: &mut Graph, _node: &Node, _gradients: &mut Gradients) {
        no_gradient(NoGradient::BackwardNode);
    }
}
