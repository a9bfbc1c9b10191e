//! The whole detection loss in one pass (Li 2020, "Generalized Focal Loss"). `BoxLoss`: class logits `[N, A, C]`, box
//! distribution logits `[N, A, 4·(BINS)]`, class i32 `[N, A]` (≥ 0 foreground, −1 background, −2 ignored), target boxes
//! `[N, A, 4]` xyxy in network pixels → loss `[1]`, both gradients, parts `[3]`: quality focal, GIoU, distribution focal.
//!
//! If images are annotated for some classes only, there are two more inputs. `regions` i32 `[N, A]` has a bit for each region
//! that a cell lies in. `left_out` i32 `[N, C]` has, for each class, the bits of the regions in which the class was not
//! annotated. If a cell and a class share a bit, the class has no loss and no gradient in the cell and does not count in the
//! cell's weight, unless the cell is foreground of that class.

pub(crate) mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
mod tests;

use super::cost::Cost;
use super::{Operation, Quantities, check};
use crate::error::Result;
use crate::ir::{self, DType, Gradients, Graph, Level, Node, Op, ValueId};

/// The number of bins of one side's distance distribution: 0 … 16 strides.
pub const BINS: usize = 17;

/// The outputs of the loss op.
pub struct BoxLoss {
    /// The task's loss `[1]`.
    pub loss: ValueId,
    /// The three parts of the loss, `[3]`: quality focal, GIoU, distribution focal.
    pub parts: ValueId,
}

/// Appends the loss of task `task` over the cells of `levels`. `partial` is `regions` and `left_out`, if images may have them.
///
/// # Errors
/// The shapes do not agree on N and A.
pub fn box_loss(
    graph: &mut Graph,
    [class_logits, box_logits]: [ValueId; 2],
    [class, target]: [ValueId; 2],
    partial: Option<[ValueId; 2]>,
    levels: &[Level],
    task: usize,
) -> Result<BoxLoss> {
    let inputs: Vec<ValueId> =
        [class_logits, box_logits, class, target].into_iter().chain(partial.into_iter().flatten()).collect();
    let op = ir::BoxLoss { task, levels: levels.to_vec() };
    op.check(graph, &inputs)?;
    let (cs, bs) = (graph.shape(class_logits).to_vec(), graph.shape(box_logits).to_vec());
    let loss = graph.arena(format!("loss.{task}"), &[1], DType::F32);
    let dclass = graph.arena(format!("loss.{task}.class_gradient"), &cs, DType::F32);
    let dbox = graph.arena(format!("loss.{task}.box_gradient"), &bs, DType::F32);
    let parts = graph.arena(format!("loss.{task}.parts"), &[3], DType::F32);
    graph.push(Op::BoxLoss(op), &inputs, &[loss, dclass, dbox, parts]);
    Ok(BoxLoss { loss, parts })
}

/// The indices of `regions` and `left_out` among `count` inputs, if the node has them.
fn partial_inputs(count: usize) -> Option<[usize; 2]> {
    (count == 6).then_some([4, 5])
}

impl Operation for ir::BoxLoss {
    fn name(&self) -> String {
        "box_loss".into()
    }

    fn cost(&self, graph: &Graph, node: &Node) -> Cost {
        Cost::elementwise(graph, node)
    }

    fn check(&self, graph: &Graph, inputs: &[ValueId]) -> Result<()> {
        let [cs, bs, class, target] = [0, 1, 2, 3].map(|index| graph.shape(inputs[index]));
        let cells: usize = self.levels.iter().map(|l| l.h * l.w).sum();
        let partial_fits = partial_inputs(inputs.len()).is_none_or(|partial| {
            let [regions, left_out] = partial.map(|index| graph.shape(inputs[index]));
            cs.len() == 3 && regions == [cs[0], cells] && left_out == [cs[0], cs[2]]
        });
        check(
            cs.len() == 3
                && partial_fits
                && cs[1] == cells
                && bs == [cs[0], cells, 4 * BINS]
                && class == [cs[0], cells]
                && target == [cs[0], cells, 4],
            "box_loss",
            || {
                format!(
                    "class logits [N, {cells}, C], box logits [N, {cells}, {}], class [N, {cells}], target [N, {cells}, 4], regions [N, {cells}], left out [N, C]",
                    4 * BINS
                )
            },
            &[cs, bs, class, target],
        )
    }

    /// The forward already computed both gradients.
    fn backward(&self, graph: &mut Graph, node: &Node, gradients: &mut Gradients) {
        gradients.accumulate(graph, node.inputs[0], node.outputs[1]);
        gradients.accumulate(graph, node.inputs[1], node.outputs[2]);
    }

    fn quantities(&self, _node: &Node, position: usize) -> Quantities {
        match position {
            3 => Quantities::along(0, &["quality focal", "GIoU", "distribution focal"]),
            _ => Quantities::ONE,
        }
    }

    /// The loss is one sum over everything.
    fn longest_sum(&self, graph: &Graph, node: &Node) -> usize {
        super::longest_input(graph, node)
    }
}
