//! What a node costs at least: floating-point operations, and bytes moved when each input is read once and each output written
//! once.

use crate::ir::{Graph, Node};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Multiply-adds counted as two; elementwise work counts as none: its bytes say what it takes.
    pub flops: u64,
    pub bytes: u64,
}

impl Cost {
    /// The cost of a node that reads every input and writes every output once.
    pub fn new(flops: u64, graph: &Graph, node: &Node) -> Cost {
        let bytes = node.inputs.iter().chain(&node.outputs).map(|&v| graph.value(v).bytes() as u64).sum();
        Cost { flops, bytes }
    }

    /// The cost of a node that only works element by element.
    pub fn elementwise(graph: &Graph, node: &Node) -> Cost {
        Cost::new(0, graph, node)
    }
}

/// Sizes as a bench prints them: `8×56×56×64`.
pub(super) fn joined(sizes: &[usize]) -> String {
    sizes.iter().map(usize::to_string).collect::<Vec<_>>().join("×")
}
