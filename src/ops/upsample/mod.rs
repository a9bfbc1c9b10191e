//! Nearest upsampling added to a lateral map (the pyramid's top-down path). `UpsampleAdd`: top `[N, h, w, C]`, lateral
//! `[N, H, W, C]` → out = lateral + top[i·h/H, j·w/W]. `UpsampleBackward`: dout → dtop, the sum over each pixel's copies.

pub mod cpu;
pub mod cuda;
#[cfg(test)]
mod tests;

use super::check;
use crate::error::Result;
use crate::graph::ir::{DType, Gradients, Graph, Node, Op, ValueId};

/// Appends lateral + upsampled top.
///
/// # Errors
/// Maps whose batch or channels differ, or a top larger than the lateral map.
pub fn upsample_add(graph: &mut Graph, top: ValueId, lateral: ValueId) -> Result<ValueId> {
    let (ts, ls) = (graph.shape(top).to_vec(), graph.shape(lateral).to_vec());
    check(
        ts.len() == 4 && ls.len() == 4 && ts[0] == ls[0] && ts[3] == ls[3] && ts[1] <= ls[1] && ts[2] <= ls[2],
        "upsample_add",
        || "top [N, h, w, C] no larger than lateral [N, H, W, C]".into(),
        &[&ts, &ls],
    )?;
    let name = format!("{}.merged", graph.value(lateral).name);
    let out = graph.arena(name, &ls, DType::F32);
    graph.push(Op::UpsampleAdd, &[top, lateral], &[out]);
    Ok(out)
}

pub fn backward(graph: &mut Graph, node: &Node, gradients: &mut Gradients) {
    let Some(dout) = gradients.get(node.outputs[0]) else {
        return;
    };
    let (top, lateral) = (node.inputs[0], node.inputs[1]);
    gradients.accumulate(graph, lateral, dout);
    let shape = graph.shape(top).to_vec();
    let name = format!("{}.gradient_from_below", graph.value(top).name);
    let dtop = graph.arena(name, &shape, DType::F32);
    graph.push(Op::UpsampleBackward, &[dout], &[dtop]);
    gradients.accumulate(graph, top, dtop);
}
