//! A short closed list of rewrites. Each replaces a node by the epilogue of the convolution before it; the fused list
//! computes the same numbers to rounding, which a test holds.

use super::ir::{ConvEpilogue, DgradEpilogue, Graph, Node, Op, ValueId};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fusion {
    On,
    Off,
}

/// Applies every rewrite wherever it fits.
pub fn fuse(graph: &mut Graph, fusion: Fusion) {
    if fusion == Fusion::Off {
        return;
    }
    fuse_statistics(graph);
    fuse_affine(graph);
    drop_unread_argmax(graph);
    fuse_gradient_sum(graph);
    fuse_gradient_reduction(graph);
    graph.nodes.retain(|node| !node.outputs.is_empty());
}

/// Statistics of a convolution's raw output are gathered as it is written.
fn fuse_statistics(graph: &mut Graph) {
    for i in 0..graph.nodes.len() {
        if graph.nodes[i].op != Op::BatchNormStatistics {
            continue;
        }
        let (y, partials) = (graph.nodes[i].inputs[0], graph.nodes[i].outputs[0]);
        let Some(producer) = plain_convolution(graph, y) else {
            continue;
        };
        if let Op::Conv2d(_, epilogue) = &mut graph.nodes[producer].op {
            *epilogue = ConvEpilogue::Statistics;
        }
        graph.nodes[producer].outputs.push(partials);
        remove(graph, i);
    }
}

/// In evaluation scale, shift, residual and ReLU are applied as the convolution's output is written.
fn fuse_affine(graph: &mut Graph) {
    for i in 0..graph.nodes.len() {
        let Op::BatchNormApply { residual, relu } = graph.nodes[i].op else {
            continue;
        };
        let y = graph.nodes[i].inputs[0];
        let Some(producer) = plain_convolution(graph, y) else {
            continue;
        };
        if readers(graph, y) != 1 {
            continue;
        }
        let Op::Conv2d(conv, _) = graph.nodes[producer].op else {
            continue;
        };
        // The fused node stands where the apply stood: by then affine and residual are there.
        let mut inputs = graph.nodes[producer].inputs.clone();
        inputs.extend_from_slice(&graph.nodes[i].inputs[1..]);
        graph.nodes[i].op = Op::Conv2d(conv, ConvEpilogue::Affine { residual, relu });
        graph.nodes[i].inputs = inputs;
        remove(graph, producer);
    }
}

/// Where nobody differentiates a max pool its argmax is not made.
fn drop_unread_argmax(graph: &mut Graph) {
    for i in 0..graph.nodes.len() {
        if graph.nodes[i].op == Op::MaxPool && readers(graph, graph.nodes[i].outputs[1]) == 0 {
            graph.nodes[i].outputs.truncate(1);
        }
    }
}

/// A sum of two gradients rides in the gradient convolution that makes the later of them.
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
            let Op::Conv2dDgrad(conv, DgradEpilogue::Plain { addend: false }) = graph.nodes[p].op else {
                continue;
            };
            if readers(graph, candidate) != 1 {
                continue;
            }
            let mut inputs = graph.nodes[p].inputs.clone();
            inputs.push(addend);
            graph.nodes[i].op = Op::Conv2dDgrad(conv, DgradEpilogue::Plain { addend: true });
            graph.nodes[i].inputs = inputs;
            remove(graph, p);
            break;
        }
    }
}

/// The ReLU mask and the two batch-norm sums ride in the gradient convolution that completes the gradient.
fn fuse_gradient_reduction(graph: &mut Graph) {
    for i in 0..graph.nodes.len() {
        let Op::BatchNormReduce { relu: true } = graph.nodes[i].op else {
            continue;
        };
        let g = graph.nodes[i].inputs[0];
        let Some(p) = producer(graph, g) else { continue };
        let Op::Conv2dDgrad(conv, DgradEpilogue::Plain { addend }) = graph.nodes[p].op else {
            continue;
        };
        if readers(graph, g) != 1 {
            continue;
        }
        let mut inputs = graph.nodes[p].inputs.clone();
        inputs.extend_from_slice(&graph.nodes[i].inputs[1..]);
        graph.nodes[i].op = Op::Conv2dDgrad(conv, DgradEpilogue::Reduce { addend, relu: true });
        graph.nodes[i].inputs = inputs;
        remove(graph, p);
    }
}

fn plain_convolution(graph: &Graph, y: ValueId) -> Option<usize> {
    let p = producer(graph, y)?;
    matches!(graph.nodes[p].op, Op::Conv2d(_, ConvEpilogue::Plain)).then_some(p)
}

fn producer(graph: &Graph, value: ValueId) -> Option<usize> {
    graph.nodes.iter().position(|n: &Node| n.outputs.contains(&value))
}

/// How many times `value` is read, by nodes and by the host.
fn readers(graph: &Graph, value: ValueId) -> usize {
    let by_nodes: usize = graph.nodes.iter().map(|n| n.inputs.iter().filter(|&&v| v == value).count()).sum();
    by_nodes + usize::from(graph.outputs.contains(&value))
}

/// Leaves a node without outputs in place, so that indices stay; `fuse` drops it at the end.
fn remove(graph: &mut Graph, index: usize) {
    graph.nodes[index].inputs.clear();
    graph.nodes[index].outputs.clear();
}
