//! Turns a node into the work that computes it, by giving its op the addresses of the plan's memory.

use super::layout::Layout;
use super::memory::{Block, DeviceStore, ScalarsAt};
use super::tuning::Tuning;
use crate::device::cuda::{Address, Precision, Work};
use crate::ir::{Node, Place, ValueId};
use crate::ops;
use crate::ops::conv2d::cuda::{Choice, plain_by_cudnn as plain};
use crate::ops::cuda::{CudaNode, ScalarAddresses};

/// The work that computes node `index`.
pub fn node(layout: &Layout, memory: &DeviceStore, tuning: &Tuning, precision: Precision, index: usize) -> Vec<Work> {
    let node = &layout.physical.nodes[index];
    let choice = tuning.choice(layout, precision, node);
    ops::operation(&node.op).lower(&described(layout, memory, precision, node, choice))
}

/// The work that computes the convolution `index` by `choice`, for timing. A weight gradient is written behind the sums of its
/// splits, not into the Store.
pub fn trial(layout: &Layout, memory: &DeviceStore, precision: Precision, index: usize, choice: Choice) -> Vec<Work> {
    let node = &layout.physical.nodes[index];
    let mut described = described(layout, memory, precision, node, Some(choice));
    if let (Choice::Wgrad(_), Some(tunable)) = (choice, layout.tunable(node)) {
        described.outputs[0] = Block::Workspace.at(choice.scratch(&tunable.problem));
    }
    ops::operation(&node.op).lower(&described)
}

/// Node `index` by cuDNN without its epilogue, if cuDNN supports it. It is for timing only: its results differ from the node's.
pub fn plain_by_cudnn(layout: &Layout, memory: &DeviceStore, precision: Precision, index: usize) -> Option<Work> {
    let node = &layout.physical.nodes[index];
    let tunable = layout.tunable(node)?;
    plain(&described(layout, memory, precision, node, None), &tunable).map(Work::Convolution)
}

/// Bytes of workspace that a [`trial`] needs.
pub fn trial_bytes(layout: &Layout, node: &Node, choice: Choice) -> usize {
    layout.tunable(node).map_or(0, |tunable| choice.trial_scratch(&tunable.problem))
}

/// Bytes of workspace that a plan's nodes need while they run.
pub fn workspace_bytes(layout: &Layout, memory: &DeviceStore, tuning: &Tuning, precision: Precision) -> usize {
    let scratch = |node: &Node| {
        let choice = tuning.choice(layout, precision, node);
        ops::operation(&node.op).cuda_scratch(&described(layout, memory, precision, node, choice))
    };
    layout.physical.nodes.iter().map(scratch).max().unwrap_or(0)
}

/// Where a value lies.
pub fn address(layout: &Layout, memory: &DeviceStore, value: ValueId) -> Address {
    match layout.physical.value(value).place {
        Place::Batch => Block::Batch.at(layout.batch[&value]),
        Place::Parameter(id) => memory.parameter(id),
        Place::Gradient(id) => memory.gradient(id),
        Place::Buffer(id) => memory.buffer(id),
        Place::Arena => {
            let offset = layout.plan.offsets[value.0];
            Block::Arena.at(offset.unwrap_or_else(|| unreachable!("every value a node touches is placed")))
        }
    }
}

fn described<'a>(
    layout: &'a Layout,
    memory: &DeviceStore,
    precision: Precision,
    node: &'a Node,
    choice: Option<Choice>,
) -> CudaNode<'a> {
    let addresses = |values: &[ValueId]| values.iter().map(|&value| address(layout, memory, value)).collect();
    let packed = node.inputs.get(1).and_then(|&value| match layout.physical.value(value).place {
        Place::Parameter(id) => memory.packed(id),
        _ => None,
    });
    CudaNode {
        logical: &layout.logical,
        physical: &layout.physical,
        node,
        precision,
        inputs: addresses(&node.inputs),
        outputs: addresses(&node.outputs),
        packed,
        scratch: Block::Workspace.at(0),
        scalars: ScalarAddresses {
            task_weights: Block::Scalars.at(ScalarsAt::TASK_WEIGHTS),
            denominators: Block::Scalars.at(ScalarsAt::DENOMINATORS),
            dropout_counter: Block::Scalars.at(ScalarsAt::DROPOUT),
            share: Block::Scalars.at(ScalarsAt::SHARE),
        },
        choice,
    }
}
