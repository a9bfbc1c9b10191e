//! Concatenates the levels of a pyramid along the cells, each optionally times a learned scale. `ConcatLevels`: maps
//! `[N, h_l, w_l, D]` of L levels, then L scales `[1]` or none → `[N, A, D]`, A = Σ h_l·w_l. `ConcatLevelsBackward`: dout,
//! then the same inputs → one gradient per level, then those of the scales (accumulated).

pub(crate) mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
mod tests;

use super::cost::Cost;
use super::{NoGradient, Operation, check, no_gradient};
use crate::error::Result;
use crate::ir::{DType, Gradients, Graph, Node, Op, ValueId};

/// Appends the concatenation.
///
/// # Errors
/// Levels that differ in N or D, or a number of scales that is neither 0 nor that of the levels.
pub fn concat_levels(graph: &mut Graph, levels: &[ValueId], scales: &[ValueId], name: &str) -> Result<ValueId> {
    let inputs = [levels, scales].concat();
    ConcatLevels.check(graph, &inputs)?;
    let first = graph.shape(levels[0]).to_vec();
    let cells = levels.iter().map(|&l| graph.shape(l)[1] * graph.shape(l)[2]).sum();
    let out = graph.arena(name, &[first[0], cells, first[3]], DType::F32);
    graph.push(Op::ConcatLevels, &inputs, &[out]);
    Ok(out)
}

fn backward(graph: &mut Graph, node: &Node, gradients: &mut Gradients) {
    let Some(dout) = gradients.get(node.outputs[0]) else {
        return;
    };
    let (levels, scales) = levels_and_scales(graph, &node.inputs);
    let mut outputs = Vec::new();
    for &level in &levels {
        let shape = graph.shape(level).to_vec();
        let name = format!("{}.gradient", graph.value(level).name);
        outputs.push(graph.arena(name, &shape, DType::F32));
    }
    outputs.extend(scales.iter().map(|&s| gradients.of_parameter(graph, s)));
    let inputs = [&[dout], node.inputs.as_slice()].concat();
    graph.push(Op::ConcatLevelsBackward, &inputs, &outputs);
    for (level, gradient) in levels.iter().zip(&outputs) {
        gradients.accumulate(graph, *level, *gradient);
    }
}

/// The maps `[N, h, w, D]` among `inputs`, and the scales.
fn levels_and_scales(graph: &Graph, inputs: &[ValueId]) -> (Vec<ValueId>, Vec<ValueId>) {
    inputs.iter().partition(|&&value| graph.shape(value).len() == 4)
}

fn check_levels(graph: &Graph, op: &'static str, inputs: &[ValueId]) -> Result<()> {
    let (levels, scales) = levels_and_scales(graph, inputs);
    let shapes: Vec<&[usize]> = levels.iter().map(|&l| graph.shape(l)).collect();
    let alike = |s: &&[usize]| s[0] == shapes[0][0] && s[3] == shapes[0][3];
    let scaled = scales.is_empty() || scales.len() == levels.len();
    check(
        !levels.is_empty() && shapes.iter().all(alike) && scaled && scales.iter().all(|&v| graph.shape(v) == [1]),
        op,
        || "maps [N, h, w, D] alike in N and D, with as many scales or none".into(),
        &shapes,
    )
}

pub(crate) struct ConcatLevels;
pub(crate) struct ConcatLevelsBackward;

impl Operation for ConcatLevels {
    fn name(&self) -> String {
        "concat_levels".into()
    }

    fn cost(&self, graph: &Graph, node: &Node) -> Cost {
        Cost::elementwise(graph, node)
    }

    fn check(&self, graph: &Graph, inputs: &[ValueId]) -> Result<()> {
        check_levels(graph, "concat_levels", inputs)
    }

    fn backward(&self, graph: &mut Graph, node: &Node, gradients: &mut Gradients) {
        backward(graph, node, gradients);
    }
}

impl Operation for ConcatLevelsBackward {
    fn name(&self) -> String {
        "concat_levels_backward".into()
    }

    /// The maps are only read for the gradients of scales.
    fn cost(&self, graph: &Graph, node: &Node) -> Cost {
        let (levels, scales) = levels_and_scales(graph, &node.inputs[1..]);
        let maps = if node.outputs.len() > levels.len() { levels } else { Vec::new() };
        Cost::of_values(0, graph, node.inputs[..1].iter().chain(&maps).chain(&scales).chain(&node.outputs))
    }

    fn check(&self, graph: &Graph, inputs: &[ValueId]) -> Result<()> {
        check_levels(graph, "concat_levels_backward", &inputs[1..])
    }

    fn backward(&self, _graph: &mut Graph, _node: &Node, _gradients: &mut Gradients) {
        no_gradient(NoGradient::BackwardNode);
    }

    /// The sum for a scale covers a whole map.
    fn longest_sum(&self, graph: &Graph, node: &Node) -> usize {
        super::longest_input(graph, node)
    }
}
