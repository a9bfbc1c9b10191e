//! Pooling and dropout.
//!
//! | op | inputs | outputs |
//! |---|---|---|
//! | `MaxPool` | x `[N, H, W, C]` | y `[N, P, Q, C]`, argmax u8 `[N, P, Q, C]` |
//! | `MaxPoolBackward` | dy, argmax | dx `[N, H, W, C]` |
//! | `GlobalPool` | x | mean over H and W `[N, C]`; its backward is the pooled form at the seam |
//! | `Dropout` | x | x·mask/(1−p) |
//!
//! An argmax is the tap of the first maximum, counted row by row in the window. Fusion drops it if nobody reads it. The window is
//! no attribute: both ops and the GPU's kernels know only that of the stem. The CPU's kernels take any window.
//!
//! Dropout's mask is a hash of the step's counter and the position, so that the backward is the same op on the gradient.

pub(crate) mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
mod tests;

use super::cost::Cost;
use super::{NoGradient, Operation, check, check_inputs, no_gradient};
use crate::error::Result;
use crate::ir::{DType, Dropout, Gradients, Graph, Mode, Node, Op, TermForm, ValueId};

/// The window of the stem's pool, the only max pool in the network. `kernels/pool.cu` has these three numbers in its text.
pub(crate) const KERNEL: usize = 3;
pub(crate) const STRIDE: usize = 2;
pub(crate) const PADDING: usize = 1;

/// The output length of one axis.
pub(crate) fn pooled(length: usize) -> usize {
    (length + 2 * PADDING - KERNEL) / STRIDE + 1
}

/// Appends the 3×3 max pool with stride 2.
///
/// # Errors
/// x is not `[N, H, W, C]`.
pub fn max_pool(graph: &mut Graph, x: ValueId) -> Result<ValueId> {
    MaxPool.check(graph, &[x])?;
    let shape = graph.shape(x).to_vec();
    let out = [shape[0], pooled(shape[1]), pooled(shape[2]), shape[3]];
    let y = graph.arena("maxpool.out", &out, DType::F32);
    let argmax = graph.arena("maxpool.argmax", &out, DType::U8);
    graph.push(Op::MaxPool, &[x], &[y, argmax]);
    Ok(y)
}

fn max_pool_backward(graph: &mut Graph, node: &Node, gradients: &mut Gradients) {
    let Some(dy) = gradients.get(node.outputs[0]) else {
        return;
    };
    let shape = graph.shape(node.inputs[0]).to_vec();
    let dx = graph.arena("maxpool.input_gradient", &shape, DType::F32);
    graph.push(Op::MaxPoolBackward, &[dy, node.outputs[1]], &[dx]);
    gradients.accumulate(graph, node.inputs[0], dx);
}

/// Appends the mean over H and W: `[N, C]`.
///
/// # Errors
/// x is not `[N, H, W, C]`.
pub fn global_pool(graph: &mut Graph, x: ValueId, name: &str) -> Result<ValueId> {
    GlobalPool.check(graph, &[x])?;
    let shape = graph.shape(x).to_vec();
    let y = graph.arena(name, &[shape[0], shape[3]], DType::F32);
    graph.push(Op::GlobalPool, &[x], &[y]);
    Ok(y)
}

/// Appends dropout in training mode. In evaluation, or with probability 0, returns x itself.
///
/// # Errors
/// The probability is not in 0 … 1 (1 excluded).
pub fn dropout(graph: &mut Graph, x: ValueId, probability: f32, salt: u64) -> Result<ValueId> {
    if !(0.0..1.0).contains(&probability) {
        return Err(crate::error::Error::Usage(format!(
            "dropout {probability} is not a probability: give a number from 0 up to, not including, 1"
        )));
    }
    if graph.mode == Mode::Evaluate || probability == 0.0 {
        return Ok(x);
    }
    let shape = graph.shape(x).to_vec();
    let name = format!("{}.dropped", graph.value(x).name);
    let y = graph.arena(name, &shape, DType::F32);
    graph.push(Op::Dropout(Dropout { probability, salt }), &[x], &[y]);
    Ok(y)
}

fn dropout_backward(graph: &mut Graph, node: &Node, gradients: &mut Gradients) {
    let Some(dy) = gradients.get(node.outputs[0]) else {
        return;
    };
    let shape = graph.shape(node.inputs[0]).to_vec();
    let name = format!("{}.gradient", graph.value(node.inputs[0]).name);
    let dx = graph.arena(name, &shape, DType::F32);
    graph.push(node.op.clone(), &[dy], &[dx]);
    gradients.accumulate(graph, node.inputs[0], dx);
}

pub(crate) struct MaxPool;
pub(crate) struct MaxPoolBackward;
pub(crate) struct GlobalPool;

impl Operation for MaxPool {
    fn name(&self) -> String {
        "max_pool".into()
    }

    fn cost(&self, graph: &Graph, node: &Node) -> Cost {
        Cost::elementwise(graph, node)
    }

    fn check(&self, graph: &Graph, inputs: &[ValueId]) -> Result<()> {
        let shape = graph.shape(inputs[0]);
        check(shape.len() == 4 && shape[1] > 0 && shape[2] > 0, "max_pool", || "[N, H, W, C]".into(), &[shape])
    }

    fn backward(&self, graph: &mut Graph, node: &Node, gradients: &mut Gradients) {
        max_pool_backward(graph, node, gradients);
    }
}

impl Operation for MaxPoolBackward {
    fn name(&self) -> String {
        "max_pool_backward".into()
    }

    fn cost(&self, graph: &Graph, node: &Node) -> Cost {
        Cost::elementwise(graph, node)
    }

    fn check(&self, graph: &Graph, inputs: &[ValueId]) -> Result<()> {
        let expected = "dy and argmax [N, P, Q, C]";
        check_inputs(graph, "max_pool_backward", inputs, &[2], expected, |s| s[0].len() == 4 && s[0] == s[1])
    }

    fn backward(&self, _graph: &mut Graph, _node: &Node, _gradients: &mut Gradients) {
        no_gradient(NoGradient::BackwardNode);
    }
}

impl Operation for GlobalPool {
    fn name(&self) -> String {
        "global_pool".into()
    }

    fn cost(&self, graph: &Graph, node: &Node) -> Cost {
        Cost::elementwise(graph, node)
    }

    fn check(&self, graph: &Graph, inputs: &[ValueId]) -> Result<()> {
        let shape = graph.shape(inputs[0]);
        check(shape.len() == 4, "global_pool", || "[N, H, W, C]".into(), &[shape])
    }

    fn backward(&self, _graph: &mut Graph, _node: &Node, _gradients: &mut Gradients) {
        no_gradient(NoGradient::Seam);
    }

    fn seam_form(&self) -> Option<TermForm> {
        Some(TermForm::Pooled)
    }
}

impl Operation for Dropout {
    fn name(&self) -> String {
        "dropout".into()
    }

    fn cost(&self, graph: &Graph, node: &Node) -> Cost {
        Cost::elementwise(graph, node)
    }

    fn check(&self, graph: &Graph, inputs: &[ValueId]) -> Result<()> {
        check_inputs(graph, "dropout", inputs, &[1], "one value", |_| true)
    }

    fn backward(&self, graph: &mut Graph, node: &Node, gradients: &mut Gradients) {
        dropout_backward(graph, node, gradients);
    }
}
