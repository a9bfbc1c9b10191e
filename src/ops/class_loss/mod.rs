//! `ClassLoss`: logits `[N, K]`, class i32 `[N]` (−1 unlabelled) → loss `[1]`, dlogits `[N, K]`, in one pass:
//! cross-entropy ÷ ln K, summed over the labelled ÷ the step's denominator. No label, no loss, no gradient.

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
/// Fewer than two classes, or as many labels as there are not rows.
pub fn class_loss(graph: &mut Graph, logits: ValueId, class: ValueId, task: usize) -> Result<ValueId> {
    let shape = graph.shape(logits).to_vec();
    check(
        shape.len() == 2 && shape[1] >= 2 && graph.shape(class) == [shape[0]],
        "class_loss",
        || "logits [N, K] with K at least 2 and class [N]".into(),
        &[&shape, graph.shape(class)],
    )?;
    let loss = graph.arena(format!("loss.{task}"), &[1], DType::F32);
    let dlogits = graph.arena(format!("loss.{task}.gradient"), &shape, DType::F32);
    graph.push(Op::ClassLoss { task }, &[logits, class], &[loss, dlogits]);
    Ok(loss)
}
