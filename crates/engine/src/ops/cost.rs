//! The least cost of a node: floating-point operations, and bytes moved when each input is read once and each output written
//! once.

use crate::ir::{Graph, Node, ValueId};

/// The least cost of a node, for any implementation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Multiply-adds counted as two. Elementwise work counts as zero, because the bytes dominate its cost.
    pub flops: u64,
    /// Bytes read and written, each once.
    pub bytes: u64,
}

impl Cost {
    /// The cost of a node that reads every input and writes every output once.
    pub fn new(flops: u64, graph: &Graph, node: &Node) -> Cost {
        Cost::of_values(flops, graph, node.inputs.iter().chain(&node.outputs))
    }

    /// The cost of a node that reads or writes each of `values` once, for ops that do not read all of their inputs.
    pub fn of_values<'a>(flops: u64, graph: &Graph, values: impl IntoIterator<Item = &'a ValueId>) -> Cost {
        Cost { flops, bytes: values.into_iter().map(|&v| graph.value(v).bytes() as u64).sum() }
    }

    /// The cost of an elementwise node.
    pub fn elementwise(graph: &Graph, node: &Node) -> Cost {
        Cost::new(0, graph, node)
    }
}

/// Sizes as a bench prints them: `8×56×56×64`.
pub(super) fn joined(sizes: &[usize]) -> String {
    sizes.iter().map(usize::to_string).collect::<Vec<_>>().join("×")
}
