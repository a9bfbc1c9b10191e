//! Writes the backward pass down: each head down to the shared features, the seam, then the trunk once.

use crate::ir::{Gradients, Graph, Segment, TermForm, ValueId};
use crate::ops;
use std::ops::Range;

/// The forward nodes of one task, its loss included.
pub struct Head {
    /// The task's number.
    pub task: usize,
    /// Indices into the graph's nodes, in running order.
    pub nodes: Vec<usize>,
}

/// Appends segments 2 and 3. `trunk` are the forward nodes that make `features`. Layers that only frozen ones precede, and that are
/// frozen themselves, have no backward.
///
/// At a shared feature the tasks' gradients lie side by side; one that reached it through a global pool stays `[N, C]`.
pub fn append_backward(graph: &mut Graph, trunk: Range<usize>, features: &[ValueId], heads: &[Head]) {
    graph.segment = Segment::HeadsBackward;
    // Of the forward pass alone, before there are gradients.
    let mut gradients = Gradients::new(graph);
    let mut terms: Vec<(ValueId, usize, TermForm, ValueId)> = Vec::new();
    for head in heads {
        head_backward(graph, gradients.clone(), features, head, &mut terms);
    }

    graph.segment = Segment::TrunkBackward;
    for &feature in features {
        let here: Vec<(usize, TermForm, ValueId)> =
            terms.iter().filter(|t| t.0 == feature).map(|&(_, task, form, gradient)| (task, form, gradient)).collect();
        if !here.is_empty() {
            let combined = ops::combine::combine(graph, feature, &here);
            gradients.accumulate(graph, feature, combined);
        }
    }
    for index in trunk.rev() {
        let node = graph.nodes[index].clone();
        ops::operation(&node.op).backward(graph, &node, &mut gradients);
    }
}

fn head_backward(
    graph: &mut Graph,
    mut gradients: Gradients,
    features: &[ValueId],
    head: &Head,
    terms: &mut Vec<(ValueId, usize, TermForm, ValueId)>,
) {
    for &index in head.nodes.iter().rev() {
        let node = graph.nodes[index].clone();
        let operation = ops::operation(&node.op);
        match (operation.seam_form(), gradients.get(node.outputs[0])) {
            (Some(form), Some(gradient)) => terms.push((node.inputs[0], head.task, form, gradient)),
            _ => operation.backward(graph, &node, &mut gradients),
        }
    }
    for &feature in features {
        if let Some(gradient) = gradients.get(feature) {
            terms.push((feature, head.task, TermForm::Dense, gradient));
        }
    }
}
