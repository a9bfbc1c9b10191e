//! Gathers the levels of a pyramid along the cells, each times its learned scale where it has one. `ConcatLevels`: maps
//! `[N, h_l, w_l, D]` of L levels, then L scales `[1]` or none → `[N, A, D]`, A = Σ h_l·w_l. `ConcatLevelsBackward`: dout,
//! then the same inputs → one gradient per level, then the scales' (accumulated).

pub mod cpu;
pub mod cuda;
#[cfg(test)]
mod tests;

use super::check;
use crate::error::Result;
use crate::graph::ir::{DType, Gradients, Graph, Node, Op, ValueId};

/// Appends the gathering.
///
/// # Errors
/// Levels that differ in N or D, or another number of scales than levels.
pub fn concat_levels(graph: &mut Graph, levels: &[ValueId], scales: &[ValueId], name: &str) -> Result<ValueId> {
    let first = graph.shape(levels[0]).to_vec();
    let shapes: Vec<&[usize]> = levels.iter().map(|&l| graph.shape(l)).collect();
    check(
        shapes.iter().all(|s| s.len() == 4 && s[0] == first[0] && s[3] == first[3])
            && (scales.is_empty() || scales.len() == levels.len()),
        "concat_levels",
        || "maps [N, h, w, D] alike in N and D, with as many scales or none".into(),
        &shapes,
    )?;
    let cells = shapes.iter().map(|s| s[1] * s[2]).sum();
    let out = graph.arena(name, &[first[0], cells, first[3]], DType::F32);
    graph.push(Op::ConcatLevels, &[levels, scales].concat(), &[out]);
    Ok(out)
}

pub fn backward(graph: &mut Graph, node: &Node, gradients: &mut Gradients) {
    let Some(dout) = gradients.get(node.outputs[0]) else {
        return;
    };
    let (levels, scales): (Vec<ValueId>, Vec<ValueId>) = node.inputs.iter().partition(|&&v| graph.shape(v).len() == 4);
    let mut outputs = Vec::new();
    for &level in &levels {
        let shape = graph.shape(level).to_vec();
        let name = format!("{}.gradient", graph.value(level).name);
        outputs.push(graph.arena(name, &shape, DType::F32));
    }
    outputs.extend(scales.iter().map(|&s| graph.gradient_of_parameter(s)));
    let inputs = [&[dout], node.inputs.as_slice()].concat();
    graph.push(Op::ConcatLevelsBackward, &inputs, &outputs);
    for (level, gradient) in levels.iter().zip(&outputs) {
        gradients.accumulate(graph, *level, *gradient);
    }
}
