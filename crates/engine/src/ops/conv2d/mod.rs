//! 2-D convolution, dense, dilation 1: fprop with its fused epilogues, dgrad, wgrad.
//!
//! | op | inputs | outputs |
//! |---|---|---|
//! | `Conv2d(Plain)` | x `[N, H, W, C]`, weight `[K, R, S, C]` | y `[N, P, Q, K]` |
//! | `Conv2d(Bias)` | x, weight, bias `[K]` | y |
//! | `Conv2d(Statistics)` | x, weight | y, partials `[B, 2, K]` |
//! | `Conv2d(Affine)` | x, weight, affine `[2, K]`, residual? | z `[N, P, Q, K]` |
//! | `Conv2dDgrad(Plain)` | dy, weight, addend? | dx `[N, H, W, C]` |
//! | `Conv2dDgrad(Reduce)` | dy, weight, addend?, z?, y, moments `[2, C]` | dz, partials `[B, 2, C]` |
//! | `Conv2dWgrad` | dy, x | weight gradient, accumulated |
//! | `ChannelSum` | dy | bias gradient, accumulated |
//!
//! `Reduce` is dgrad and the first step of the backward of the batch norm before it. y is that norm's input and z its output; dz
//! is dx + addend where z > 0, and everywhere if there is no ReLU and thus no z. B counts blocks of [`STATISTICS_ROWS`] rows; on
//! a GPU a strided dgrad has other blocks. The partials of `Statistics` are the mean and the sum of squared deviations, those of
//! `Reduce` Σ dz and Σ dz·(y − mean)/deviation. An input with `?` is there if the epilogue says so. ReLU is no op: it is part of
//! [`batch_norm`](super::batch_norm), and fusion moves it here.
//!
//! **What the epilogues save** in a bottleneck block without a projection. Passes count each read or write of a feature map.
//! Traffic counts maps of the block's narrow width, a wide map being 4. "Unfused" is the same plan with `fuse` off:
//!
//! | part | passes unfused | fused | traffic unfused | fused |
//! |---|---|---|---|---|
//! | evaluation: 3 convolutions, scale–shift–ReLU, residual | 13 | 7 | 28 | 16 |
//! | training, forward: 3 × (convolution, statistics, apply), residual | 16 | 13 | 34 | 28 |
//! | training, backward: 3 × (dgrad, ReLU mask and sums, apply, wgrad), sum of two gradients | 36 | 28 | 78 | 58 |

pub(crate) mod cpu;
pub mod cuda;
mod packing;
mod problem;
mod rows;
#[cfg(test)]
mod tests;

pub use cpu::STATISTICS_ROWS;
pub(crate) use packing::{PackedForm, Packing};
pub use problem::Problem;
pub use rows::ChannelSum;

use super::Operation;
use crate::error::Result;
use crate::ir::{
    Conv2d, Conv2dDgrad, Conv2dFprop, Conv2dWgrad, ConvEpilogue, DType, DgradEpilogue, Gradients, Graph, Node, Op,
    ValueId,
};

/// Appends y = x ∗ weight, plus `bias` if there is one.
///
/// Shapes: x `[N, H, W, C]`, weight `[K, R, R, C]`, bias `[K]`, result `[N, P, Q, K]`.
///
/// # Errors
/// Channels that differ, a kernel that is not `conv.kernel`, or an image smaller than the kernel.
pub fn conv2d(graph: &mut Graph, x: ValueId, weight: ValueId, bias: Option<ValueId>, conv: Conv2d) -> Result<ValueId> {
    let epilogue = if bias.is_some() { ConvEpilogue::Bias } else { ConvEpilogue::Plain };
    let op = Conv2dFprop { conv, epilogue };
    let inputs: Vec<ValueId> = [x, weight].into_iter().chain(bias).collect();
    op.check(graph, &inputs)?;
    let problem = Problem::new(graph.shape(x), graph.shape(weight)[0], conv);
    let name = graph.value(weight).name.replace(".weight", ".out");
    let y = graph.arena(name, &[problem.n, problem.p(), problem.q(), problem.k], DType::F32);
    graph.push(Op::Conv2d(op), &inputs, &[y]);
    Ok(y)
}

/// Appends the plain backward: dgrad (unless the input's gradient is not needed), wgrad and bias gradient (unless frozen).
fn backward(Conv2dFprop { conv, epilogue }: Conv2dFprop, graph: &mut Graph, node: &Node, gradients: &mut Gradients) {
    let Some(dy) = gradients.get(node.outputs[0]) else {
        return;
    };
    let (x, weight) = (node.inputs[0], node.inputs[1]);
    if graph.learns(weight) {
        let dweight = gradients.of_parameter(graph, weight);
        graph.push(Op::Conv2dWgrad(Conv2dWgrad { conv }), &[dy, x], &[dweight]);
    }
    if epilogue == ConvEpilogue::Bias && graph.learns(node.inputs[2]) {
        let dbias = gradients.of_parameter(graph, node.inputs[2]);
        graph.push(Op::ChannelSum, &[dy], &[dbias]);
    }
    if gradients.wanted(x) {
        let shape = graph.shape(x).to_vec();
        let name = graph.value(weight).name.replace(".weight", ".input_gradient");
        let dx = graph.arena(name, &shape, DType::F32);
        let epilogue = DgradEpilogue::Plain { addend: false };
        graph.push(Op::Conv2dDgrad(Conv2dDgrad { conv, epilogue }), &[dy, weight], &[dx]);
        gradients.accumulate(graph, x, dx);
    }
}
