//! `MultiLabelLoss`: logits `[N, K]`, target `[N, K]` (1 there, 0 absent, NaN unlabelled) → loss `[1]`, dlogits `[N, K]`, in one
//! pass: binary cross-entropy of each logit's sigmoid ÷ ln 2, summed over the labelled entries ÷ the step's denominator. Logits
//! of 0 cost 1.

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
/// Logits and target of different shapes.
pub fn multi_label_loss(graph: &mut Graph, logits: ValueId, target: ValueId, task: usize) -> Result<ValueId> {
    let shape = graph.shape(logits).to_vec();
    check(
        shape.len() == 2 && graph.shape(target) == shape,
        "multi_label_loss",
        || "logits and target [N, K]".into(),
        &[&shape, graph.shape(target)],
    )?;
    let loss = graph.arena(format!("loss.{task}"), &[1], DType::F32);
    let dlogits = graph.arena(format!("loss.{task}.gradient"), &shape, DType::F32);
    graph.push(Op::MultiLabelLoss { task }, &[logits, target], &[loss, dlogits]);
    Ok(loss)
}
