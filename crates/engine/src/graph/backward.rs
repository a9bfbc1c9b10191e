//! Builds the backward pass: each head down to the shared features, the comparison of the tasks' gradients, the weighted sum at
//! the shared features (the seam), then the trunk once.

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

/// Where the nodes of [`Segment::Probe`] compare the tasks' gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Nowhere: the segment is empty.
    None,
    /// At the shared features, where these gradients are computed in any case.
    Features,
    /// At the weight of a shared convolution. Each task gets its own backward pass from the features down to the weight. It
    /// weights its terms at a feature by the step's scalars, so run the segment with weights of 1.
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

/// Appends all segments after the first. `trunk` are the forward nodes that make `features`. Frozen layers that only frozen
/// layers precede get no backward.
///
/// At a shared feature each task's gradient is stored separately. One that came through a global pool stays `[N, C]`.
///
/// Returns the tasks that [`Probe::Weight`] compares, each with its gradient of the weight; empty for other probes.
pub fn append_backward(
    graph: &mut Graph,
    trunk: Range<usize>,
    features: &[ValueId],
    heads: &[Head],
    probe: Probe,
) -> Vec<(usize, ValueId)> {
    graph.segment = Segment::HeadsBackward;
    // Taken before any gradient exists: wanted gradients are found from the forward nodes.
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

/// The terms at `feature` of the tasks that `task` accepts.
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

/// Compares the gradients at the features, with one node per feature.
fn probe_features(graph: &mut Graph, features: &[ValueId], terms: &[SeamTerm], tasks: usize) {
    for &feature in features {
        let here = at(terms, feature, |_| true);
        if !here.is_empty() {
            ops::gramian::gramian(graph, feature, tasks, &here);
        }
    }
}

/// Computes each task's gradient of `weight` by its own backward pass from the features, without writing to the Store, and
/// compares the results. A task that reads no feature above the weight is left out.
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
