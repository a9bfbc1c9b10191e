//! `ValueLoss`: values `[N, R]`, targets `[N, R]` (NaN unlabelled), both standardised → loss `[1]`, dvalues, in one pass:
//! Huber with δ = 1 (Huber 1964) or the square, summed over the labelled entries ÷ the step's denominator.

pub mod cpu;
pub mod cuda;
#[cfg(test)]
mod tests;

use super::check;
use crate::error::Result;
use crate::graph::ir::{DType, Graph, Op, ValueId, ValueLoss};

/// Appends the loss of task `task` and returns its value `[1]`.
///
/// # Errors
/// Values and targets of different shapes.
pub fn value_loss(
    graph: &mut Graph,
    values: ValueId,
    target: ValueId,
    form: ValueLoss,
    task: usize,
) -> Result<ValueId> {
    let shape = graph.shape(values).to_vec();
    check(
        shape.len() == 2 && graph.shape(target) == shape,
        "value_loss",
        || "values and targets [N, R]".into(),
        &[&shape, graph.shape(target)],
    )?;
    let loss = graph.arena(format!("loss.{task}"), &[1], DType::F32);
    let dvalues = graph.arena(format!("loss.{task}.gradient"), &shape, DType::F32);
    graph.push(Op::ValueLoss { task, form }, &[values, target], &[loss, dvalues]);
    Ok(loss)
}
