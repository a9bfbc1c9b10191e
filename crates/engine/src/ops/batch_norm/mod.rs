//! Batch normalisation over the rows of `[N, H, W, C]`, followed by the residual sum and ReLU.
//!
//! | op | inputs | outputs |
//! |---|---|---|
//! | `BatchNormStatistics` | y `[N, H, W, C]` | partials `[B, 2, C]`: mean and M2 of each [`STATISTICS_ROWS`] rows |
//! | `BatchNormFinish` | partials, gamma, beta `[C]`, running mean, running variance (updated), y (for its row count) | moments `[2, C]`: mean, 1/deviation; affine `[2, C]`: scale, shift |
//! | `BatchNormFold` | gamma, beta, running mean, running variance | affine `[2, C]` |
//! | `BatchNormApply` | y, affine, residual? | z = act(y·scale + shift + residual) |
//! | `BatchNormReduce` | g, z (with ReLU), y, moments | dz (with ReLU), partials `[B, 2, C]`: Σ dz and Σ dz·ŷ |
//! | `BatchNormBackwardFinish` | partials, moments, gamma, y (for its row count) | coefficients `[3, C]`, dgamma and dbeta, accumulated |
//! | `BatchNormBackwardApply` | dz, y, coefficients | dy = a·dz + b·y + c |
//! | `BatchNormApplyBackward` (running statistics) | g, z (with ReLU), affine | dy = scale·dz, with residual and ReLU also dz = g where z > 0 |
//!
//! g is the gradient of z. With ReLU dz is g where z > 0, without it dz is g itself. ŷ is (y − mean)/deviation. a, b and c are
//! the three coefficients of a channel.
//!
//! Source: Ioffe & Szegedy 2015; variance by merging (mean, M2) of blocks, Chan et al. 1979.

pub(crate) mod cpu;
pub(crate) mod cuda;
mod rows;
#[cfg(test)]
mod tests;

pub(crate) use rows::{
    BatchNormBackwardApply, BatchNormBackwardFinish, BatchNormFinish, BatchNormFold, BatchNormStatistics,
};

use super::check;
use crate::error::Result;
use crate::ir::{BatchNormApply, BatchNormApplyBackward, BatchNormReduce, DType, Gradients, Graph, Node, Op, ValueId};

pub(crate) const EPSILON: f32 = 1e-5;
/// The weight of the new batch in the running statistics, as in PyTorch.
pub(crate) const MOMENTUM: f32 = 0.1;

/// Rows per partial sum. It is a constant of the op, so that the grouping of the sums never depends on the number of threads or
/// on the registers of a machine.
pub use super::conv2d::cpu::STATISTICS_ROWS;

/// The four vectors `[C]` of one batch norm.
#[derive(Clone, Copy, Debug)]
pub struct BatchNorm {
    /// The learned scale.
    pub gamma: ValueId,
    /// The learned shift.
    pub beta: ValueId,
    /// The running mean, updated by [`batch_norm`] in training.
    pub running_mean: ValueId,
    /// The running variance, unbiased as in PyTorch.
    pub running_variance: ValueId,
}

/// The statistics that a batch norm normalises by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// The batch's own mean and variance, which also update the running ones.
    Batch,
    /// The running ones, in evaluation and for frozen norms, whose parameters and running statistics do not change.
    Running,
}

/// The function applied after the normalisation and the sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// The identity.
    None,
    /// max(0, sum).
    Relu,
}

/// The shape of the partial sums over a `[N, H, W, C]` value.
pub fn partials_shape(y: &[usize]) -> [usize; 3] {
    let rows: usize = y[..y.len() - 1].iter().product();
    [rows.div_ceil(STATISTICS_ROWS), 2, y[y.len() - 1]]
}

/// Appends z = act(norm(y) + residual).
///
/// # Errors
/// Parameters that are not `[C]`, or a residual of another shape than y.
pub fn batch_norm(
    graph: &mut Graph,
    y: ValueId,
    norm: BatchNorm,
    statistics: Statistics,
    residual: Option<ValueId>,
    activation: Activation,
) -> Result<ValueId> {
    let shape = graph.shape(y).to_vec();
    let channels = shape[shape.len() - 1];
    check(
        graph.shape(norm.gamma) == [channels] && residual.is_none_or(|r| graph.shape(r) == shape),
        "batch_norm",
        || format!("parameters of {channels} channels and a residual of y's shape {shape:?}"),
        &[graph.shape(norm.gamma), residual.map_or(&[], |r| graph.shape(r))],
    )?;
    let name = graph.value(norm.gamma).name.replace(".weight", "");
    let affine = graph.arena(format!("{name}.affine"), &[2, channels], DType::F32);
    let vectors = [norm.gamma, norm.beta, norm.running_mean, norm.running_variance];
    match statistics {
        Statistics::Batch => {
            let partials = graph.arena(format!("{name}.partials"), &partials_shape(&shape), DType::F32);
            let moments = graph.arena(format!("{name}.moments"), &[2, channels], DType::F32);
            graph.push(Op::BatchNormStatistics, &[y], &[partials]);
            let [gamma, beta, mean, variance] = vectors;
            graph.push(Op::BatchNormFinish, &[partials, gamma, beta, mean, variance, y], &[moments, affine]);
        }
        Statistics::Running => graph.push(Op::BatchNormFold, &vectors, &[affine]),
    }
    let z = graph.arena(format!("{name}.out"), &shape, DType::F32);
    let relu = activation == Activation::Relu;
    let op = Op::BatchNormApply(BatchNormApply { residual: residual.is_some(), relu });
    match residual {
        Some(residual) => graph.push(op, &[y, affine, residual], &[z]),
        None => graph.push(op, &[y, affine], &[z]),
    }
    Ok(z)
}

/// Appends the backward by running statistics if the forward used those, otherwise by the batch's.
fn backward(apply: BatchNormApply, graph: &mut Graph, node: &Node, gradients: &mut Gradients) {
    let BatchNormApply { residual, relu } = apply;
    let z = node.outputs[0];
    let Some(g) = gradients.get(z) else { return };
    let (y, affine) = (node.inputs[0], node.inputs[1]);
    let finish = graph.nodes.iter().find(|n| n.op == Op::BatchNormFinish && n.outputs[1] == affine).cloned();
    let dz = match &finish {
        Some(finish) => backward_by_batch(graph, (y, z, g), relu, finish, gradients),
        None => backward_by_running(graph, (y, z, g), affine, (residual, relu), gradients),
    };
    if residual {
        gradients.accumulate(graph, node.inputs[2], dz);
    }
}

/// Appends dy = scale·dz; returns dz, the residual's gradient.
fn backward_by_running(
    graph: &mut Graph,
    (y, z, g): (ValueId, ValueId, ValueId),
    affine: ValueId,
    (residual, relu): (bool, bool),
    gradients: &mut Gradients,
) -> ValueId {
    let shape = graph.shape(y).to_vec();
    let name = graph.value(affine).name.replace(".affine", "");
    let dy = graph.arena(format!("{name}.input_gradient"), &shape, DType::F32);
    let inputs = if relu { vec![g, z, affine] } else { vec![g, affine] };
    let mut outputs = vec![dy];
    if residual && relu {
        outputs.push(graph.arena(format!("{name}.masked_gradient"), &shape, DType::F32));
    }
    graph.push(Op::BatchNormApplyBackward(BatchNormApplyBackward { residual, relu }), &inputs, &outputs);
    gradients.accumulate(graph, y, dy);
    // Without a mask, dz is the incoming gradient.
    outputs.get(1).copied().unwrap_or(g)
}

/// Appends reduce (with the mask), finish and apply; returns the masked gradient, which is the residual's gradient.
fn backward_by_batch(
    graph: &mut Graph,
    (y, z, g): (ValueId, ValueId, ValueId),
    relu: bool,
    finish: &Node,
    gradients: &mut Gradients,
) -> ValueId {
    let (gamma, beta, moments) = (finish.inputs[1], finish.inputs[2], finish.outputs[0]);
    let shape = graph.shape(y).to_vec();
    let channels = shape[shape.len() - 1];
    let name = graph.value(gamma).name.replace(".weight", "");
    let partials = graph.arena(format!("{name}.gradient_partials"), &partials_shape(&shape), DType::F32);
    let reduce = Op::BatchNormReduce(BatchNormReduce { relu });
    let dz = if relu {
        let dz = graph.arena(format!("{name}.masked_gradient"), &shape, DType::F32);
        graph.push(reduce, &[g, z, y, moments], &[dz, partials]);
        dz
    } else {
        graph.push(reduce, &[g, y, moments], &[partials]);
        g
    };
    let coefficients = graph.arena(format!("{name}.coefficients"), &[3, channels], DType::F32);
    let (dgamma, dbeta) = (gradients.of_parameter(graph, gamma), gradients.of_parameter(graph, beta));
    graph.push(Op::BatchNormBackwardFinish, &[partials, moments, gamma, y], &[coefficients, dgamma, dbeta]);
    let dy = graph.arena(format!("{name}.input_gradient"), &shape, DType::F32);
    graph.push(Op::BatchNormBackwardApply, &[dz, y, coefficients], &[dy]);
    gradients.accumulate(graph, y, dy);
    dz
}
