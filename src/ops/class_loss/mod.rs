//! `ClassLoss`: logits `[N, K]`, class i32 `[N]` (−1 unlabelled) → loss `[1]`, dlogits `[N, K]`, in one pass:
//! cross-entropy ÷ ln K, summed over the labelled ÷ the step's denominator. No label, no loss, no gradient.
//!
//! With class weights w `[K]` or smoothing ε a label y is not one class but a share of each, q_c = (1 − ε)·w_y·[c = y] + ε/K·w_c,
//! and the row's loss Σ q_c·(−ln p_c); the denominator is then Σ w_y. As PyTorch's `CrossEntropyLoss(weight, label_smoothing)`.
//! A mixed label is y for a part λ and z for the rest: q_c = (1 − ε)·(λ·w_y·[c = y] + (1 − λ)·w_z·[c = z]) + ε/K·w_c, and the
//! denominator's term λ·w_y + (1 − λ)·w_z.

pub mod cpu;
pub mod cuda;
#[cfg(test)]
mod tests;

use super::check;
use crate::error::Result;
use crate::graph::ir::{DType, Graph, Op, ValueId};

/// Appends the loss of task `task` and returns its value `[1]`. Labels that may be mixed have two more inputs: the other class
/// i32 `[N]` (−1 none) and the first's part f32 `[N]`.
///
/// # Errors
/// Fewer than two classes, as many labels as there are not rows, or as many weights as there are not classes.
pub fn class_loss(
    graph: &mut Graph,
    logits: ValueId,
    class: ValueId,
    weights: Option<ValueId>,
    mixed: Option<[ValueId; 2]>,
    smoothing: f32,
    task: usize,
) -> Result<ValueId> {
    let shape = graph.shape(logits).to_vec();
    let fits = shape.len() == 2 && shape[1] >= 2 && graph.shape(class) == [shape[0]];
    let rows_fit = mixed.is_none_or(|mixed| mixed.iter().all(|&m| graph.shape(m) == [shape[0]]));
    check(
        fits && rows_fit && weights.is_none_or(|w| graph.shape(w) == [shape[1]]),
        "class_loss",
        || "logits [N, K] with K at least 2, class and mixed classes [N] and weights [K]".into(),
        &[&shape, graph.shape(class), weights.map_or(&[], |w| graph.shape(w))],
    )?;
    let loss = graph.arena(format!("loss.{task}"), &[1], DType::F32);
    let dlogits = graph.arena(format!("loss.{task}.gradient"), &shape, DType::F32);
    let inputs: Vec<ValueId> = [logits, class].into_iter().chain(weights).chain(mixed.into_iter().flatten()).collect();
    graph.push(Op::ClassLoss { task, smoothing }, &inputs, &[loss, dlogits]);
    Ok(loss)
}

/// The weights and the mixed labels among the inputs after logits and class.
pub fn optional_inputs(inputs: &[ValueId]) -> (Option<ValueId>, Option<[ValueId; 2]>) {
    match inputs[2..] {
        [weights] => (Some(weights), None),
        [other, part] => (None, Some([other, part])),
        [weights, other, part] => (Some(weights), Some([other, part])),
        _ => (None, None),
    }
}
