//! `ClassLoss`: logits `[N, K]`, class i32 `[N]` (−1 unlabelled) → loss `[1]`, dlogits `[N, K]`, in one pass:
//! cross-entropy ÷ ln K, summed over the labelled ÷ the step's denominator. No label, no loss, no gradient.
//!
//! With class weights w `[K]` or smoothing ε a label y is not one class but a share of each, q_c = (1 − ε)·w_y·[c = y] + ε/K·w_c,
//! and the row's loss Σ q_c·(−ln p_c); the denominator is then Σ w_y. As PyTorch's `CrossEntropyLoss(weight, label_smoothing)`.

pub mod cpu;
pub mod cuda;
#[cfg(test)]
mod tests;

use super::check;
use crate::error::Result;
use crate::graph::ir::{DType, Graph, Op, ValueId};

/// Appends the loss of task `task` and returns its value `[1]`.
///
/// # Errors
/// Fewer than two classes, as many labels as there are not rows, or as many weights as there are not classes.
pub fn class_loss(
    graph: &mut Graph,
    logits: ValueId,
    class: ValueId,
    weights: Option<ValueId>,
    smoothing: f32,
    task: usize,
) -> Result<ValueId> {
    let shape = graph.shape(logits).to_vec();
    let fits = shape.len() == 2 && shape[1] >= 2 && graph.shape(class) == [shape[0]];
    check(
        fits && weights.is_none_or(|w| graph.shape(w) == [shape[1]]),
        "class_loss",
        || "logits [N, K] with K at least 2, class [N] and weights [K]".into(),
        &[&shape, graph.shape(class), weights.map_or(&[], |w| graph.shape(w))],
    )?;
    let loss = graph.arena(format!("loss.{task}"), &[1], DType::F32);
    let dlogits = graph.arena(format!("loss.{task}.gradient"), &shape, DType::F32);
    let inputs: Vec<ValueId> = [logits, class].into_iter().chain(weights).collect();
    graph.push(Op::ClassLoss { task, smoothing }, &inputs, &[loss, dlogits]);
    Ok(loss)
}
