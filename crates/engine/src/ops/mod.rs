//! One folder per op, with one or several kinds of node: the variants of [`Op`], forward and backward. `mod.rs` holds the
//! contract: checks, shapes, how a node is added to a graph, its plain, unfused backward, and its cost. `cpu` and `cuda` hold the
//! kernels and how a node runs them; tests lie beside them. Ops know no layer names.
//!
//! All other code calls [`operation`], whose match is the only list of kinds. Three folders are in no row: [`nms`] and
//! [`softmax`] are functions on the host, and [`optimizer`] is the update, which works on the whole Store.

pub mod batch_norm;
pub mod box_loss;
pub mod class_loss;
pub mod combine;
pub mod concat;
pub mod conv2d;
pub mod cost;
pub(crate) mod cpu;
pub mod cuda;
pub mod gramian;
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
use crate::ir::{Gradients, Graph, Node, Op, TermForm, ValueId};
use cost::Cost;
use cpu::CpuOp;
use cuda::CudaOp;

/// The properties of an op. Methods with a default are properties that few ops have. Methods that decide the behaviour of every
/// op have no default, so that an op without one does not compile.
pub trait Operation: CpuOp + CudaOp {
    /// The kind of work, including fused ops: `conv2d dgrad 3×3/2 + sum + mask and sums`. It begins with the variant of [`Op`] in
    /// snake case, `max_pool_backward` (those of convolutions and `batch_norm apply` in two words). A space comes before anything
    /// else. `bench ops` tells kinds apart by these words, and a test looks for each kind among its rows.
    fn name(&self) -> String;

    /// The least cost of the node.
    fn cost(&self, graph: &Graph, node: &Node) -> Cost;

    /// Checks that the op supports these inputs.
    ///
    /// # Errors
    /// The op, what it expects and what it got.
    fn check(&self, graph: &Graph, inputs: &[ValueId]) -> Result<()>;

    /// Appends the backward of `node`: reads the gradients of its outputs and accumulates those of its inputs. A node whose
    /// outputs have no gradient appends nothing. An op without a backward rule calls `no_gradient`.
    fn backward(&self, graph: &mut Graph, node: &Node, gradients: &mut Gradients);

    /// The sizes that distinguish this node from others of its kind.
    fn sizes(&self, graph: &Graph, node: &Node) -> String {
        cost::joined(graph.shape(node.outputs[0]))
    }

    /// The indices of inputs that the node also writes.
    fn updated_inputs(&self) -> &'static [usize] {
        &[]
    }

    /// For an op that reads a shared feature for a head: the form in which its gradient is stored beside the other tasks'
    /// gradients. Such an op has no backward of its own.
    fn seam_form(&self) -> Option<TermForm> {
        None
    }

    /// Whether the output holds inner products `[K, K]` of the tasks' gradients, which the executor sums over all such nodes.
    fn compares_tasks(&self) -> bool {
        false
    }

    /// The quantities in output `position` of the node, for comparison with another device.
    fn quantities(&self, _node: &Node, _position: usize) -> Quantities {
        Quantities::ONE
    }

    /// An upper bound on the number of terms of any sum in the node.
    fn longest_sum(&self, graph: &Graph, node: &Node) -> usize {
        let terms = |&value: &ValueId| {
            let channels = graph.shape(value).last().copied().unwrap_or(1);
            // A sum runs over rows, or over channels and taps.
            (graph.value(value).len() / channels).max(channels)
        };
        node.inputs.iter().map(terms).max().unwrap_or(0)
    }

    /// Whether a GPU's matrix units compute the whole of the longest sum. They truncate where they should round.
    fn is_summed_by_matrix_units(&self) -> bool {
        false
    }

    /// For an op that sums over its own output: the plain node that computes the second output from the first output as it was
    /// stored.
    fn sums_of_stored(&self, _node: &Node) -> Option<Node> {
        None
    }
}

/// The implementation of an op.
pub fn operation(op: &Op) -> &dyn Operation {
    match op {
        Op::Preprocess => &preprocess::Preprocess,
        Op::Conv2d(op) => op,
        Op::Conv2dDgrad(op) => op,
        Op::Conv2dWgrad(op) => op,
        Op::ChannelSum => &conv2d::ChannelSum,
        Op::BatchNormStatistics => &batch_norm::BatchNormStatistics,
        Op::BatchNormFinish => &batch_norm::BatchNormFinish,
        Op::BatchNormFold => &batch_norm::BatchNormFold,
        Op::BatchNormApply(op) => op,
        Op::BatchNormReduce(op) => op,
        Op::BatchNormBackwardFinish => &batch_norm::BatchNormBackwardFinish,
        Op::BatchNormBackwardApply => &batch_norm::BatchNormBackwardApply,
        Op::BatchNormApplyBackward(op) => op,
        Op::GroupNormRelu(op) => op,
        Op::GroupNormReluBackward(op) => op,
        Op::MaxPool => &pool::MaxPool,
        Op::MaxPoolBackward => &pool::MaxPoolBackward,
        Op::GlobalPool => &pool::GlobalPool,
        Op::Dropout(op) => op,
        Op::Linear => &linear::Linear,
        Op::LinearBackward(op) => op,
        Op::UpsampleAdd => &upsample::UpsampleAdd,
        Op::UpsampleBackward => &upsample::UpsampleBackward,
        Op::ConcatLevels => &concat::ConcatLevels,
        Op::ConcatLevelsBackward => &concat::ConcatLevelsBackward,
        Op::ClassLoss(op) => op,
        Op::MultiLabelLoss(op) => op,
        Op::ValueLoss(op) => op,
        Op::BoxLoss(op) => op,
        Op::Combine(op) => op,
        Op::Add => &combine::Add,
        Op::Clear => &combine::Clear,
        Op::Gramian(op) => op,
    }
}

/// Checks the inputs of every node.
///
/// # Errors
/// The first error of [`Operation::check`].
pub fn check_nodes(graph: &Graph) -> Result<()> {
    graph.nodes.iter().try_for_each(|node| operation(&node.op).check(graph, &node.inputs))
}

/// Why an op has no backward rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoGradient {
    /// The node belongs to the backward pass.
    BackwardNode,
    /// It reads only values without a gradient: images, running statistics.
    ConstantInput,
    /// The backward rule of another op covers it.
    OtherRule,
    /// Its gradient is one of the terms at the seam; see [`Operation::seam_form`].
    Seam,
}

/// The backward of an op that has none; the argument documents why.
fn no_gradient(_why: NoGradient) {}

/// The backward of a loss of one input. Outputs are `[loss, gradient]`: the forward already computed the gradient.
fn loss_gradient(graph: &mut Graph, node: &Node, gradients: &mut Gradients) {
    gradients.accumulate(graph, node.inputs[0], node.outputs[1]);
}

/// The number of elements of the largest input, for ops that sum over a whole input.
fn longest_input(graph: &Graph, node: &Node) -> usize {
    node.inputs.iter().map(|&value| graph.value(value).len()).max().unwrap_or(0)
}

/// The quantities that one value holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantities {
    /// Each is compared separately, because one may be thousands of times larger than another.
    pub names: &'static [&'static str],
    /// The axis along which the quantities lie.
    pub axis: usize,
    /// Whether only the totals over the first dimension agree between devices, because they split the rows differently.
    pub totals: bool,
}

impl Quantities {
    /// One quantity without a name, compared element by element.
    pub const ONE: Quantities = Quantities::along(0, &[""]);

    /// Several quantities one after the other along `axis`, compared element by element.
    pub const fn along(axis: usize, names: &'static [&'static str]) -> Quantities {
        Quantities { names, axis, totals: false }
    }
}

/// Returns a shape error unless `holds`.
pub(crate) fn check(holds: bool, op: &'static str, expected: impl FnOnce() -> String, got: &[&[usize]]) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(Error::Shape { op, expected: expected(), got: format!("{got:?}") })
}

/// [`check`] with the shapes of `inputs`. Their number must be among `counts`; only then is `holds` called.
fn check_inputs(
    graph: &Graph,
    op: &'static str,
    inputs: &[ValueId],
    counts: &[usize],
    expected: &str,
    holds: impl FnOnce(&[&[usize]]) -> bool,
) -> Result<()> {
    let shapes: Vec<&[usize]> = inputs.iter().map(|&value| graph.shape(value)).collect();
    check(counts.contains(&inputs.len()) && holds(&shapes), op, || expected.to_owned(), &shapes)
}
