//! `ClassLoss`: logits `[N, K]`, class i32 `[N]` (−1 unlabelled) → loss `[1]`, dlogits `[N, K]`, in one pass:
//! cross-entropy ÷ ln K, summed over the labelled rows, ÷ the step's denominator. An unlabelled row has no loss and no gradient.
//!
//! With class weights w `[K]` or smoothing ε, a label y is a share of each class, q_c = (1 − ε)·w_y·[c = y] + ε/K·w_c, and the
//! loss of the row is Σ q_c·(−ln p_c); the denominator is then Σ w_y. This equals PyTorch's `CrossEntropyLoss(weight,
//! label_smoothing)`. A mixed label is y for a part λ and z for the rest: q_c = (1 − ε)·(λ·w_y·[c = y] + (1 − λ)·w_z·[c = z]) +
//! ε/K·w_c, and its term of the denominator is λ·w_y + (1 − λ)·w_z.

pub(crate) mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
mod tests;

use super::cost::Cost;
use super::{Operation, check, loss_gradient};
use crate::error::Result;
use crate::ir::{ClassLoss, DType, Gradients, Graph, Node, Op, ValueId};

/// Appends the loss of task `task` and returns its value `[1]`. Labels that may be mixed need two more inputs: the other class
/// i32 `[N]` (−1 for none) and the part of the first f32 `[N]`.
///
/// # Errors
/// Fewer than two classes, or numbers of labels or weights that differ from those of rows or classes.
pub fn class_loss(
    graph: &mut Graph,
    logits: ValueId,
    class: ValueId,
    weights: Option<ValueId>,
    mixed: Option<[ValueId; 2]>,
    smoothing: f32,
    task: usize,
) -> Result<ValueId> {
    let inputs: Vec<ValueId> = [logits, class].into_iter().chain(weights).chain(mixed.into_iter().flatten()).collect();
    let op = ClassLoss { task, smoothing };
    op.check(graph, &inputs)?;
    let shape = graph.shape(logits).to_vec();
    let loss = graph.arena(format!("loss.{task}"), &[1], DType::F32);
    let dlogits = graph.arena(format!("loss.{task}.gradient"), &shape, DType::F32);
    graph.push(Op::ClassLoss(op), &inputs, &[loss, dlogits]);
    Ok(loss)
}

/// The indices of the weights and of the mixed labels among `count` inputs; they follow the logits and the class.
fn optional_inputs(count: usize) -> (Option<usize>, Option<[usize; 2]>) {
    match count {
        3 => (Some(2), None),
        4 => (None, Some([2, 3])),
        5 => (Some(2), Some([3, 4])),
        _ => (None, None),
    }
}

impl Operation for ClassLoss {
    fn name(&self) -> String {
        "class_loss".into()
    }

    fn cost(&self, graph: &Graph, node: &Node) -> Cost {
        Cost::elementwise(graph, node)
    }

    fn check(&self, graph: &Graph, inputs: &[ValueId]) -> Result<()> {
        let (shape, class) = (graph.shape(inputs[0]), graph.shape(inputs[1]));
        let (weights, mixed) = optional_inputs(inputs.len());
        let weights = weights.map(|index| graph.shape(inputs[index]));
        let fits = shape.len() == 2 && shape[1] >= 2 && class == [shape[0]];
        let rows_fit = mixed.is_none_or(|mixed| mixed.iter().all(|&index| graph.shape(inputs[index]) == class));
        check(
            fits && rows_fit && weights.is_none_or(|w| w == [shape[1]]),
            "class_loss",
            || "logits [N, K] with K at least 2, class and mixed classes [N] and weights [K]".into(),
            &[shape, class, weights.unwrap_or(&[])],
        )
    }

    fn backward(&self, graph: &mut Graph, node: &Node, gradients: &mut Gradients) {
        loss_gradient(graph, node, gradients);
    }

    /// The loss is one sum over everything.
    fn longest_sum(&self, graph: &Graph, node: &Node) -> usize {
        super::longest_input(graph, node)
    }
}
