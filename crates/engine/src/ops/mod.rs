//! One folder per op: its contract (`mod.rs`: checks, shapes, how it is added to a graph, its plain, unfused backward, what it
//! costs), its kernels and how a node runs them (`cpu.rs`, `cuda.rs`), and their tests. Ops know no layer names.
//!
//! Everybody else asks [`operation`], whose match is the one list of ops: an op is one folder and one row.

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

/// The properties of an op. A method with a default is a property that few ops have. Methods that decide what an op does have no
/// default, so that an op that forgets one does not compile.
pub trait Operation: CpuOp + CudaOp {
    /// The kind of work, with what is fused into it: `conv2d dgrad 3×3/2 + sum + mask and sums`.
    fn name(&self) -> String;

    /// The least cost of the node.
    fn cost(&self, graph: &Graph, node: &Node) -> Cost;

    /// Refuses inputs that the op cannot compute.
    ///
    /// # Errors
    /// The op, what it expects and what it got.
    fn check(&self, graph: &Graph, inputs: &[ValueId]) -> Result<()>;

    /// Appends the backward of `node`: reads the gradients of its outputs, accumulates those of its inputs. A node whose
    /// outputs have no gradient appends nothing. `no_gradient` says that there is no rule.
    fn backward(&self, graph: &mut Graph, node: &Node, gradients: &mut Gradients);

    /// The sizes that tell one node of a kind from another.
    fn sizes(&self, graph: &Graph, node: &Node) -> String {
        cost::joined(graph.shape(node.outputs[0]))
    }

    /// The inputs that the node writes as well.
    fn moved(&self) -> &'static [usize] {
        &[]
    }

    /// For an op through which a head reads a shared feature: the form in which its gradient meets the other tasks' there,
    /// in place of a backward.
    fn seam_form(&self) -> Option<TermForm> {
        None
    }

    /// Whether the output holds inner products `[K, K]` of the tasks' gradients, which whoever balances by them adds up.
    fn compares_tasks(&self) -> bool {
        false
    }

    /// The quantities in output `position` of the node, for comparisons with another device's.
    fn quantities(&self, _node: &Node, _position: usize) -> Quantities {
        Quantities::ONE
    }

    /// At least as many terms as a sum of the node has.
    fn longest_sum(&self, graph: &Graph, node: &Node) -> usize {
        let terms = |&value: &ValueId| {
            let channels = graph.shape(value).last().copied().unwrap_or(1);
            // Over rows, or over channels and taps.
            (graph.value(value).len() / channels).max(channels)
        };
        node.inputs.iter().map(terms).max().unwrap_or(0)
    }

    /// Whether a GPU's matrix units add up the longest sum all by themselves, which cuts where it should round.
    fn is_summed_by_matrix_units(&self) -> bool {
        false
    }

    /// The plain node that computes the second output from the first as it was stored, where the op takes sums of what it
    /// writes.
    fn sums_of_stored(&self, _node: &Node) -> Option<Node> {
        None
    }
}

/// The row of an op.
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
    /// It is a node of the backward pass.
    OfTheBackwardPass,
    /// It reads what nobody differentiates: images, running statistics.
    OfConstants,
    /// Another op's rule covers it.
    ByAnotherRule,
    /// Its gradient meets the other tasks' at the seam; see [`Operation::seam_form`].
    AtTheSeam,
}

/// The backward of an op that has none.
fn no_gradient(_why: NoGradient) {}

/// The backward of a loss of one input, which made its gradient in the same pass: outputs `[loss, gradient]`.
fn loss_gradient(graph: &mut Graph, node: &Node, gradients: &mut Gradients) {
    gradients.accumulate(graph, node.inputs[0], node.outputs[1]);
}

/// Elements of the largest input, for ops that sum all of one.
fn longest_input(graph: &Graph, node: &Node) -> usize {
    node.inputs.iter().map(|&value| graph.value(value).len()).max().unwrap_or(0)
}

/// The quantities that the numbers of one value are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantities {
    /// Each is measured by itself, for one may be thousands of times another.
    pub names: &'static [&'static str],
    /// The axis along which they lie.
    pub axis: usize,
    /// Whether only the totals over the first dimension agree between devices, which cut the rows differently.
    pub totals: bool,
}

impl Quantities {
    /// One quantity without a name, compared element by element.
    pub const ONE: Quantities = Quantities::along(0, &[""]);

    /// Several quantities side by side along `axis`, compared element by element.
    pub const fn along(axis: usize, names: &'static [&'static str]) -> Quantities {
        Quantities { names, axis, totals: false }
    }
}

/// The error of an op that was given shapes it cannot compute.
pub(crate) fn check(holds: bool, op: &'static str, expected: impl FnOnce() -> String, got: &[&[usize]]) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(Error::Shape { op, expected: expected(), got: format!("{got:?}") })
}

/// [`check`] with the shapes of `inputs`, whose number must be among `counts` before `holds` looks at them.
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
