//! Nearest upsampling added to a lateral map (the pyramid's top-down path). `UpsampleAdd`: top `[N, h, w, C]`, lateral
//! `[N, H, W, C]` → out = lateral + top[i·h/H, j·w/W]. `UpsampleBackward`: dout → dtop, the sum over each pixel's copies.

pub(crate) mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
mod tests;

use super::cost::Cost;
use super::{NoGradient, Operation, check_inputs, no_gradient};
use crate::error::Result;
use crate::ir::{DType, Gradients, Graph, Node, Op, ValueId};

/// Top `[N, h, w, C]`, lateral and out `[N, H, W, C]`, h ≤ H and w ≤ W.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Upsample {
    pub n: usize,
    pub c: usize,
    /// `[h, w]`.
    pub from: [usize; 2],
    /// `[H, W]`.
    pub to: [usize; 2],
}

impl Upsample {
    pub fn new(top: &[usize], out: &[usize]) -> Upsample {
        Upsample { n: out[0], c: out[3], from: [top[1], top[2]], to: [out[1], out[2]] }
    }
}

/// Appends lateral + upsampled top.
///
/// # Errors
/// The maps differ in batch or channels, or top is larger than lateral.
pub fn upsample_add(graph: &mut Graph, top: ValueId, lateral: ValueId) -> Result<ValueId> {
    UpsampleAdd.check(graph, &[top, lateral])?;
    let shape = graph.shape(lateral).to_vec();
    let name = format!("{}.merged", graph.value(lateral).name);
    let out = graph.arena(name, &shape, DType::F32);
    graph.push(Op::UpsampleAdd, &[top, lateral], &[out]);
    Ok(out)
}

fn backward(graph: &mut Graph, node: &Node, gradients: &mut Gradients) {
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

pub(crate) struct UpsampleAdd;
pub(crate) struct UpsampleBackward;

impl Operation for UpsampleAdd {
    fn name(&self) -> String {
        "upsample_add".into()
    }

    fn cost(&self, graph: &Graph, node: &Node) -> Cost {
        Cost::elementwise(graph, node)
    }

    fn check(&self, graph: &Graph, inputs: &[ValueId]) -> Result<()> {
        let expected = "top [N, h, w, C] no larger than lateral [N, H, W, C]";
        check_inputs(graph, "upsample_add", inputs, &[2], expected, |s| {
            let (ts, ls) = (s[0], s[1]);
            ts.len() == 4 && ls.len() == 4 && ts[0] == ls[0] && ts[3] == ls[3] && ts[1] <= ls[1] && ts[2] <= ls[2]
        })
    }

    fn backward(&self, graph: &mut Graph, node: &Node, gradients: &mut Gradients) {
        backward(graph, node, gradients);
    }
}

impl Operation for UpsampleBackward {
    fn name(&self) -> String {
        "upsample_backward".into()
    }

    fn cost(&self, graph: &Graph, node: &Node) -> Cost {
        Cost::elementwise(graph, node)
    }

    fn check(&self, graph: &Graph, inputs: &[ValueId]) -> Result<()> {
        check_inputs(graph, "upsample_backward", inputs, &[1], "dout [N, H, W, C]", |s| s[0].len() == 4)
    }

    fn backward(&self, _graph: &mut Graph, _node: &Node, _gradients: &mut Gradients) {
        no_gradient(NoGradient::BackwardNode);
    }
}
