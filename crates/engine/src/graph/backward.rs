//! Writes the backward pass down: each head down to the shared features, what compares the tasks' gradients, the seam, then the
//! trunk once.

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

/// Where the tasks' gradients are compared, by the nodes of [`Segment::Probe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Nowhere: the segment is empty.
    None,
    /// At the shared features, where they lie anyway.
    Features,
    /// At the weight of a shared convolution. Each task has a backward pass of its own from the features down to it; its terms at
    /// a feature are weighed by the step's scalars, so the segment is to run with weights of 1.
    Weight(ValueId),
}

/// One task's gradient at a shared feature.
#[derive(Clone, Copy)]
struct SeamTerm {
    feature: ValueId,
    task: usize,
    form: TermForm,
    gradient: ValueId,
}

/// Appends the segments after the first. `trunk` are the forward nodes that make `features`. Layers that only frozen ones precede,
/// and that are frozen themselves, have no backward.
///
/// At a shared feature the tasks' gradients lie side by side; one that reached it through a global pool stays `[N, C]`.
///
/// Returns the tasks that [`Probe::Weight`] compares, each with its gradient of the weight; nothing for other probes.
pub fn append_backward(
    graph: &mut Graph,
    trunk: Range<usize>,
    features: &[ValueId],
    heads: &[Head],
    probe: Probe,
) -> Vec<(usize, ValueId)> {
    graph.segment = Segment::HeadsBackward;
    // These belong to the forward pass alone: there are no gradients yet.
    let mut gradients = Gradients::new(graph);
    let mut terms = Vec::new();
    for head in heads {
        head_backward(graph, gradients.clone(), features, head, &mut terms);
    }

    graph.segment = Segment::Probe;
    let tasks = heads.iter().map(|head| head.task + 1).max().unwrap_or(0);
    let arrived = match probe {
        Probe::None => Vec::new(),
        Probe::Features => {
            probe_features(graph, features, &terms, tasks);
            Vec::new()
        }
        Probe::Weight(weight) => probe_weight(graph, trunk.clone(), features, &terms, tasks, weight),
    };

    graph.segment = Segment::TrunkBackward;
    for &feature in features {
        let here = at(&terms, feature, |_| true);
        if !here.is_empty() {
            let combined = ops::combine::combine(graph, feature, &here);
            gradients.accumulate(graph, feature, combined);
        }
    }
    trunk_backward(graph, trunk, &mut gradients);
    arrived
}

/// The terms at a feature of the tasks that are meant.
fn at(terms: &[SeamTerm], feature: ValueId, task: impl Fn(usize) -> bool) -> Vec<(usize, TermForm, ValueId)> {
    let here = terms.iter().filter(|term| term.feature == feature && task(term.task));
    here.map(|term| (term.task, term.form, term.gradient)).collect()
}

fn head_backward(
    graph: &mut Graph,
    mut gradients: Gradients,
    features: &[ValueId],
    head: &Head,
    terms: &mut Vec<SeamTerm>,
) {
    let task = head.task;
    for &index in head.nodes.iter().rev() {
        let node = graph.nodes[index].clone();
        let operation = ops::operation(&node.op);
        match (operation.seam_form(), gradients.get(node.outputs[0])) {
            (Some(form), Some(gradient)) => terms.push(SeamTerm { feature: node.inputs[0], task, form, gradient }),
            _ => operation.backward(graph, &node, &mut gradients),
        }
    }
    for &feature in features {
        if let Some(gradient) = gradients.get(feature) {
            terms.push(SeamTerm { feature, task, form: TermForm::Dense, gradient });
        }
    }
}

fn trunk_backward(graph: &mut Graph, trunk: Range<usize>, gradients: &mut Gradients) {
    for index in trunk.rev() {
        let node = graph.nodes[index].clone();
        ops::operation(&node.op).backward(graph, &node, gradients);
    }
}

/// Compares the gradients that lie at the features, one node a feature.
fn probe_features(graph: &mut Graph, features: &[ValueId], terms: &[SeamTerm], tasks: usize) {
    for &feature in features {
        let here = at(terms, feature, |_| true);
        if !here.is_empty() {
            ops::gramian::gramian(graph, feature, tasks, &here);
        }
    }
}

/// Takes each task's gradient by itself from the features down to `weight` and no further, beside the Store, and compares what
/// arrives. A task that reads no feature above the weight has no part in it.
fn probe_weight(
    graph: &mut Graph,
    trunk: Range<usize>,
    features: &[ValueId],
    terms: &[SeamTerm],
    tasks: usize,
    weight: ValueId,
) -> Vec<(usize, ValueId)> {
    let from_here = Gradients::aside(graph, weight);
    let mut arrived = Vec::new();
    for task in 0..tasks {
        let mut gradients = from_here.clone();
        for &feature in features.iter().filter(|&&feature| from_here.wanted(feature)) {
            let own = at(terms, feature, |of| of == task);
            if !own.is_empty() {
                let dense = ops::combine::combine(graph, feature, &own);
                gradients.accumulate(graph, feature, dense);
            }
        }
        trunk_backward(graph, trunk.clone(), &mut gradients);
        arrived.extend(gradients.put_aside(weight).map(|gradient| (task, gradient)));
    }
    let terms: Vec<_> = arrived.iter().map(|&(task, gradient)| (task, TermForm::Dense, gradient)).collect();
    ops::gramian::gramian(graph, weight, tasks, &terms);
    arrived
}
