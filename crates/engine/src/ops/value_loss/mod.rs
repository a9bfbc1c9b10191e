//! `ValueLoss`: values `[N, R]`, targets `[N, R]` (NaN unlabelled), both standardised → loss `[1]`, dvalues, in one pass:
//! Huber with δ = 1 (Huber 1964) or the squared error, summed over the labelled entries, ÷ the step's denominator.

pub(crate) mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
mod tests;

use super::cost::Cost;
use super::{Operation, check_inputs, loss_gradient};
use crate::error::Result;
use crate::ir::{DType, Gradients, Graph, Node, Op, ValueId, ValueLoss, ValueLossForm};

/// Appends the loss of task `task` and returns its value `[1]`.
///
/// # Errors
/// Values and targets have different shapes.
pub fn value_loss(
    graph: &mut Graph,
    values: ValueId,
    target: ValueId,
    form: ValueLossForm,
    task: usize,
) -> Result<ValueId> {
    let op = ValueLoss { task, form };
    op.check(graph, &[values, target])?;
    let shape = graph.shape(values).to_vec();
    let loss = graph.arena(format!("loss.{task}"), &[1], DType::F32);
    let dvalues = graph.arena(format!("loss.{task}.gradient"), &shape, DType::F32);
    graph.push(Op::ValueLoss(op), &[values, target], &[loss, dvalues]);
    Ok(loss)
}

impl Operation for ValueLoss {
    fn name(&self) -> String {
        "value_loss".into()
    }

    fn cost(&self, graph: &Graph, node: &Node) -> Cost {
        Cost::elementwise(graph, node)
    }

    fn check(&self, graph: &Graph, inputs: &[ValueId]) -> Result<()> {
        let expected = "values and targets [N, R]";
        check_inputs(graph, "value_loss", inputs, &[2], expected, |s| s[0].len() == 2 && s[1] == s[0])
    }

    fn backward(&self, graph: &mut Graph, node: &Node, gradients: &mut Gradients) {
        loss_gradient(graph, node, gradients);
    }

    /// The loss is one sum over everything.
    fn longest_sum(&self, graph: &Graph, node: &Node) -> usize {
        super::longest_input(graph, node)
    }
}
