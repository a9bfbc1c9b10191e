//! A short, closed list of rewrites. Four replace a node by the epilogue of the convolution before it, and one drops an output
//! that nobody reads. tests/suite/step.rs checks that the fused list computes the same numbers up to rounding.

use crate::ir::{
    BatchNormApply, BatchNormReduce, Conv2dDgrad, Conv2dFprop, ConvEpilogue, DgradEpilogue, Graph, Node, Op, ValueId,
};
use crate::ops;

/// Whether patterns of nodes are rewritten into epilogues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fusion {
    /// Patterns are rewritten, as in every run.
    On,
    /// Nodes stay separate, as a reference to compare with.
    Off,
}

/// Applies every rewrite wherever it fits.
pub fn fuse(graph: &mut Graph, fusion: Fusion) {
    if fusion == Fusion::On {
        fuse_statistics(graph);
        fuse_affine(graph);
        drop_unread_argmax(graph);
        fuse_gradient_sum(graph);
        fuse_gradient_reduction(graph);
        graph.nodes.retain(|node| !node.outputs.is_empty());
    }
    debug_assert!(ops::check_nodes(graph).is_ok(), "{:?}", ops::check_nodes(graph));
}

/// Computes the statistics of a convolution's raw output while that output is written.
fn fuse_statistics(graph: &mut Graph) {
    for i in 0..graph.nodes.len() {
        if graph.nodes[i].op != Op::BatchNormStatistics {
            continue;
        }
        let (y, partials) = (graph.nodes[i].inputs[0], graph.nodes[i].outputs[0]);
        let Some(producer) = plain_convolution(graph, y) else {
            continue;
        };
        if let Op::Conv2d(fprop) = &mut graph.nodes[producer].op {
            fprop.epilogue = ConvEpilogue::Statistics;
        }
        graph.nodes[producer].outputs.push(partials);
        remove(graph, i);
    }
}

/// Applies scale, shift, residual and ReLU while the convolution's output is written. This fits only where the norm uses running
/// statistics (in evaluation, or frozen): those of the batch are known after the whole output.
fn fuse_affine(graph: &mut Graph) {
    for i in 0..graph.nodes.len() {
        let Op::BatchNormApply(BatchNormApply { residual, relu }) = graph.nodes[i].op else {
            continue;
        };
        let y = graph.nodes[i].inputs[0];
        let Some(producer) = plain_convolution(graph, y) else {
            continue;
        };
        if readers(graph, y) != 1 {
            continue;
        }
        let Op::Conv2d(Conv2dFprop { conv, .. }) = graph.nodes[producer].op else {
            continue;
        };
        // The fused node takes the place of the apply, where its affine and residual inputs already exist.
        let mut inputs = graph.nodes[producer].inputs.clone();
        inputs.extend_from_slice(&graph.nodes[i].inputs[1..]);
        let epilogue = ConvEpilogue::Affine { residual, relu };
        graph.nodes[i].op = Op::Conv2d(Conv2dFprop { conv, epilogue });
        graph.nodes[i].inputs = inputs;
        remove(graph, producer);
    }
}

/// Drops the argmax of a max pool that has no backward.
fn drop_unread_argmax(graph: &mut Graph) {
    for i in 0..graph.nodes.len() {
        if graph.nodes[i].op == Op::MaxPool && readers(graph, graph.nodes[i].outputs[1]) == 0 {
            graph.nodes[i].outputs.truncate(1);
        }
    }
}

/// Fuses a sum of two gradients into the gradient convolution that makes the later of them.
fn fuse_gradient_sum(graph: &mut Graph) {
    for i in 0..graph.nodes.len() {
        if graph.nodes[i].op != Op::Add {
            continue;
        }
        let [a, b] = [graph.nodes[i].inputs[0], graph.nodes[i].inputs[1]];
        for (addend, candidate) in [(a, b), (b, a)] {
            let Some(p) = producer(graph, candidate) else {
                continue;
            };
            let plain = DgradEpilogue::Plain { addend: false };
            let Some(Conv2dDgrad { conv, .. }) = dgrad(graph, p).filter(|d| d.epilogue == plain) else {
                continue;
            };
            if readers(graph, candidate) != 1 {
                continue;
            }
            let mut inputs = graph.nodes[p].inputs.clone();
            inputs.push(addend);
            let epilogue = DgradEpilogue::Plain { addend: true };
            graph.nodes[i].op = Op::Conv2dDgrad(Conv2dDgrad { conv, epilogue });
            graph.nodes[i].inputs = inputs;
            remove(graph, p);
            break;
        }
    }
}

/// Fuses the ReLU mask and batch norm's two sums into the gradient convolution that completes the gradient.
fn fuse_gradient_reduction(graph: &mut Graph) {
    for i in 0..graph.nodes.len() {
        let Op::BatchNormReduce(BatchNormReduce { relu: true }) = graph.nodes[i].op else {
            continue;
        };
        let g = graph.nodes[i].inputs[0];
        let Some(p) = producer(graph, g) else { continue };
        let Some(Conv2dDgrad { conv, epilogue: DgradEpilogue::Plain { addend } }) = dgrad(graph, p) else {
            continue;
        };
        if readers(graph, g) != 1 {
            continue;
        }
        let mut inputs = graph.nodes[p].inputs.clone();
        inputs.extend_from_slice(&graph.nodes[i].inputs[1..]);
        let epilogue = DgradEpilogue::Reduce { addend, relu: true };
        graph.nodes[i].op = Op::Conv2dDgrad(Conv2dDgrad { conv, epilogue });
        graph.nodes[i].inputs = inputs;
        remove(graph, p);
    }
}

fn plain_convolution(graph: &Graph, y: ValueId) -> Option<usize> {
    let p = producer(graph, y)?;
    matches!(graph.nodes[p].op, Op::Conv2d(Conv2dFprop { epilogue: ConvEpilogue::Plain, .. })).then_some(p)
}

fn dgrad(graph: &Graph, index: usize) -> Option<Conv2dDgrad> {
    match graph.nodes[index].op {
        Op::Conv2dDgrad(dgrad) => Some(dgrad),
        _ => None,
    }
}

fn producer(graph: &Graph, value: ValueId) -> Option<usize> {
    graph.nodes.iter().position(|n: &Node| n.outputs.contains(&value))
}

/// The number of times that `value` is read, by nodes and by the host.
fn readers(graph: &Graph, value: ValueId) -> usize {
    let by_nodes: usize = graph.nodes.iter().map(|n| n.inputs.iter().filter(|&&v| v == value).count()).sum();
    by_nodes + usize::from(graph.outputs.contains(&value))
}

/// Leaves a node without outputs in place, so that indices stay valid; `fuse` drops it at the end.
fn remove(graph: &mut Graph, index: usize) {
    graph.nodes[index].inputs.clear();
    graph.nodes[index].outputs.clear();
}
