//! `MultiLabelLoss`: logits `[N, K]`, target `[N, K]` (1 present, 0 absent, NaN unlabelled) → loss `[1]`, dlogits `[N, K]`, in
//! one pass: binary cross-entropy of each logit's sigmoid ÷ ln 2, summed over the labelled entries, ÷ the step's denominator. A
//! logit of 0 has loss 1.

pub(crate) mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
mod tests;

use super::cost::Cost;
use super::{Operation, check_inputs, loss_gradient};
use crate::error::Result;
use crate::ir::{DType, Gradients, Graph, MultiLabelLoss, Node, Op, ValueId};

/// Appends the loss of task `task` and returns its value `[1]`.
///
/// # Errors
/// Logits and target have different shapes.
pub fn multi_label_loss(graph: &mut Graph, logits: ValueId, target: ValueId, task: usize) -> Result<ValueId> {
    let op = MultiLabelLoss { task };
    op.check(graph, &[logits, target])?;
    let shape = graph.shape(logits).to_vec();
    let loss = graph.arena(format!("loss.{task}"), &[1], DType::F32);
    let dlogits = graph.arena(format!("loss.{task}.gradient"), &shape, DType::F32);
    graph.push(Op::MultiLabelLoss(op), &[logits, target], &[loss, dlogits]);
    Ok(loss)
}

impl Operation for MultiLabelLoss {
    fn name(&self) -> String {
        "multi_label_loss".into()
    }

    fn cost(&self, graph: &Graph, node: &Node) -> Cost {
        Cost::elementwise(graph, node)
    }

    fn check(&self, graph: &Graph, inputs: &[ValueId]) -> Result<()> {
        let expected = "logits and target [N, K]";
        check_inputs(graph, "multi_label_loss", inputs, &[2], expected, |s| s[0].len() == 2 && s[1] == s[0])
    }

    fn backward(&self, graph: &mut Graph, node: &Node, gradients: &mut Gradients) {
        loss_gradient(graph, node, gradients);
    }

    /// The loss is one sum over everything.
    fn longest_sum(&self, graph: &Graph, node: &Node) -> usize {
        super::longest_input(graph, node)
    }
}
