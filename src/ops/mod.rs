//! One folder per op: its contract (`mod.rs`: attributes, checks, shapes, how it is added to a graph and what its plain,
//! unfused backward is), its kernels (`cpu.rs`, `cuda.rs`) and their tests. Ops know no layer names.

pub mod batch_norm;
pub mod box_loss;
pub mod class_loss;
pub mod combine;
pub mod concat;
pub mod conv2d;
pub mod cost;
pub mod group_norm;
pub mod linear;
pub mod multi_label_loss;
pub mod nms;
pub mod optimizer;
pub mod pool;
pub mod preprocess;
pub mod softmax;
#[cfg(test)]
mod testing;
pub mod upsample;
pub mod value_loss;

use crate::error::{Error, Result};
use crate::graph::ir::{Gradients, Graph, Node, Op};

/// Appends the backward of `node`: reads the gradients of its outputs, accumulates those of its inputs. A node whose
/// outputs have no gradient appends nothing.
pub fn backward(graph: &mut Graph, node: &Node, gradients: &mut Gradients) {
    match node.op {
        Op::Conv2d(..) => conv2d::backward(graph, node, gradients),
        Op::BatchNormApply { .. } => batch_norm::backward(graph, node, gradients),
        Op::GroupNormRelu { .. } => group_norm::backward(graph, node, gradients),
        Op::MaxPool => pool::max_pool_backward(graph, node, gradients),
        Op::Dropout { .. } => pool::dropout_backward(graph, node, gradients),
        Op::Linear => linear::backward(graph, node, gradients),
        Op::UpsampleAdd => upsample::backward(graph, node, gradients),
        Op::ConcatLevels => concat::backward(graph, node, gradients),
        Op::ClassLoss { .. } | Op::MultiLabelLoss { .. } | Op::ValueLoss { .. } => {
            // [loss, dlogits]: the loss made its gradient in the same pass.
            gradients.accumulate(graph, node.inputs[0], node.outputs[1]);
        }
        Op::BoxLoss { .. } => {
            gradients.accumulate(graph, node.inputs[0], node.outputs[1]);
            gradients.accumulate(graph, node.inputs[1], node.outputs[2]);
        }
        // Statistics belong to the rule of BatchNormApply; the image has no gradient; a pooled head's gradient meets
        // the others at the seam in pooled form; the rest are backward or evaluation nodes.
        _ => {}
    }
}

/// The error of an op that was given shapes it cannot compute.
pub(crate) fn check(holds: bool, op: &'static str, expected: impl FnOnce() -> String, got: &[&[usize]]) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(Error::Shape { op, expected: expected(), got: format!("{got:?}") })
}
