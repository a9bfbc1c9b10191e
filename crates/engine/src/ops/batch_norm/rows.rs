//! The entries of [`ops::operation`](crate::ops::operation) for each kind of batch norm node: its name, checks,
//! backward and cost, and the quantities in its outputs.

use super::backward;
use crate::error::Result;
use crate::ir::{BatchNormApply, BatchNormApplyBackward, BatchNormReduce, Gradients, Graph, Node, ValueId};
use crate::ops::cost::{Cost, joined};
use crate::ops::{NoGradient, Operation, Quantities, check_inputs, no_gradient};

pub(crate) struct BatchNormStatistics;
pub(crate) struct BatchNormFinish;
pub(crate) struct BatchNormFold;
pub(crate) struct BatchNormBackwardFinish;
pub(crate) struct BatchNormBackwardApply;

const STATISTICS: Quantities = Quantities::along(1, &["mean", "squared deviations"]);
const SUMS: Quantities = Quantities::along(1, &["sum", "sum with y"]);

/// Whether `shape` is `[count, C]` with `y`'s channels.
fn vectors(shape: &[usize], count: usize, y: &[usize]) -> bool {
    shape == [count, y[y.len() - 1]]
}

impl Operation for BatchNormStatistics {
    fn name(&self) -> String {
        "batch_norm_statistics".into()
    }

    fn cost(&self, graph: &Graph, node: &Node) -> Cost {
        Cost::elementwise(graph, node)
    }

    fn check(&self, graph: &Graph, inputs: &[ValueId]) -> Result<()> {
        let expected = "y [N, H, W, C]";
        check_inputs(graph, "batch_norm_statistics", inputs, &[1], expected, |s| !s[0].is_empty())
    }

    fn backward(&self, _graph: &mut Graph, _node: &Node, _gradients: &mut Gradients) {
        no_gradient(NoGradient::OtherRule);
    }

    fn quantities(&self, _node: &Node, _position: usize) -> Quantities {
        STATISTICS
    }
}

impl Operation for BatchNormFinish {
    fn name(&self) -> String {
        "batch_norm_finish".into()
    }

    /// Only the shape of y is used; the running statistics are read and written.
    fn cost(&self, graph: &Graph, node: &Node) -> Cost {
        let updated = self.updated_inputs().iter().map(|&index| &node.inputs[index]);
        Cost::of_values(0, graph, node.inputs[..5].iter().chain(updated).chain(&node.outputs))
    }

    fn sizes(&self, graph: &Graph, node: &Node) -> String {
        joined(graph.shape(node.inputs[0]))
    }

    fn check(&self, graph: &Graph, inputs: &[ValueId]) -> Result<()> {
        let expected = "partials [B, 2, C], gamma, beta, running mean and variance [C], y [N, H, W, C]";
        check_inputs(graph, "batch_norm_finish", inputs, &[6], expected, |s| {
            s[0].len() == 3 && s[1..5].iter().all(|v| *v == [s[0][2]]) && s[5].last() == s[0].last()
        })
    }

    fn backward(&self, _graph: &mut Graph, _node: &Node, _gradients: &mut Gradients) {
        no_gradient(NoGradient::OtherRule);
    }

    /// The running statistics.
    fn updated_inputs(&self) -> &'static [usize] {
        &[3, 4]
    }

    fn quantities(&self, _node: &Node, position: usize) -> Quantities {
        match position {
            0 => Quantities::along(0, &["mean", "1/deviation"]),
            1 => Quantities::along(0, &["scale", "shift"]),
            _ => Quantities::ONE,
        }
    }
}

impl Operation for BatchNormFold {
    fn name(&self) -> String {
        "batch_norm_fold".into()
    }

    fn cost(&self, graph: &Graph, node: &Node) -> Cost {
        Cost::elementwise(graph, node)
    }

    fn check(&self, graph: &Graph, inputs: &[ValueId]) -> Result<()> {
        let expected = "gamma, beta, running mean and running variance [C]";
        check_inputs(graph, "batch_norm_fold", inputs, &[4], expected, |s| s.iter().all(|v| v.len() == 1 && v == &s[0]))
    }

    fn backward(&self, _graph: &mut Graph, _node: &Node, _gradients: &mut Gradients) {
        no_gradient(NoGradient::ConstantInput);
    }
}

impl Operation for BatchNormApply {
    fn name(&self) -> String {
        let also = |on: bool, what: &'static str| if on { what } else { "" };
        format!("batch_norm apply{}{}", also(self.residual, " + residual"), also(self.relu, " + ReLU"))
    }

    fn cost(&self, graph: &Graph, node: &Node) -> Cost {
        Cost::elementwise(graph, node)
    }

    fn check(&self, graph: &Graph, inputs: &[ValueId]) -> Result<()> {
        let (counts, expected) =
            (2 + usize::from(self.residual), "y [N, H, W, C], affine [2, C], a residual of y's shape");
        check_inputs(graph, "batch_norm_apply", inputs, &[counts], expected, |s| {
            vectors(s[1], 2, s[0]) && s.get(2).is_none_or(|residual| *residual == s[0])
        })
    }

    fn backward(&self, graph: &mut Graph, node: &Node, gradients: &mut Gradients) {
        backward(*self, graph, node, gradients);
    }
}

impl Operation for BatchNormReduce {
    fn name(&self) -> String {
        "batch_norm_reduce".into()
    }

    fn cost(&self, graph: &Graph, node: &Node) -> Cost {
        Cost::elementwise(graph, node)
    }

    fn check(&self, graph: &Graph, inputs: &[ValueId]) -> Result<()> {
        let (counts, expected) = (3 + usize::from(self.relu), "g, z with a ReLU and y [N, H, W, C], moments [2, C]");
        check_inputs(graph, "batch_norm_reduce", inputs, &[counts], expected, |s| {
            let (maps, moments) = s.split_at(s.len() - 1);
            maps.iter().all(|map| *map == s[0]) && vectors(moments[0], 2, s[0])
        })
    }

    fn backward(&self, _graph: &mut Graph, _node: &Node, _gradients: &mut Gradients) {
        no_gradient(NoGradient::BackwardNode);
    }

    fn quantities(&self, node: &Node, position: usize) -> Quantities {
        if position + 1 == node.outputs.len() { SUMS } else { Quantities::ONE }
    }
}

impl Operation for BatchNormBackwardFinish {
    fn name(&self) -> String {
        "batch_norm_backward_finish".into()
    }

    /// Only the shape of y is used.
    fn cost(&self, graph: &Graph, node: &Node) -> Cost {
        Cost::of_values(0, graph, node.inputs[..3].iter().chain(&node.outputs))
    }

    fn sizes(&self, graph: &Graph, node: &Node) -> String {
        joined(graph.shape(node.inputs[0]))
    }

    fn check(&self, graph: &Graph, inputs: &[ValueId]) -> Result<()> {
        let expected = "partials [B, 2, C], moments [2, C], gamma [C], y [N, H, W, C]";
        check_inputs(graph, "batch_norm_backward_finish", inputs, &[4], expected, |s| {
            s[0].len() == 3 && vectors(s[1], 2, s[3]) && s[2] == [s[0][2]] && s[3].last() == s[0].last()
        })
    }

    fn backward(&self, _graph: &mut Graph, _node: &Node, _gradients: &mut Gradients) {
        no_gradient(NoGradient::BackwardNode);
    }

    fn quantities(&self, _node: &Node, position: usize) -> Quantities {
        match position {
            0 => Quantities::along(0, &["a", "b", "c"]),
            _ => Quantities::ONE,
        }
    }
}

impl Operation for BatchNormBackwardApply {
    fn name(&self) -> String {
        "batch_norm_backward_apply".into()
    }

    fn cost(&self, graph: &Graph, node: &Node) -> Cost {
        Cost::elementwise(graph, node)
    }

    fn check(&self, graph: &Graph, inputs: &[ValueId]) -> Result<()> {
        let expected = "dz and y [N, H, W, C], coefficients [3, C]";
        check_inputs(graph, "batch_norm_backward_apply", inputs, &[3], expected, |s| {
            s[1] == s[0] && vectors(s[2], 3, s[0])
        })
    }

    fn backward(&self, _graph: &mut Graph, _node: &Node, _gradients: &mut Gradients) {
        no_gradient(NoGradient::BackwardNode);
    }
}

impl Operation for BatchNormApplyBackward {
    fn name(&self) -> String {
        "batch_norm_apply_backward".into()
    }

    fn cost(&self, graph: &Graph, node: &Node) -> Cost {
        Cost::elementwise(graph, node)
    }

    fn check(&self, graph: &Graph, inputs: &[ValueId]) -> Result<()> {
        let (counts, expected) = (2 + usize::from(self.relu), "g and z with a ReLU [N, H, W, C], affine [2, C]");
        check_inputs(graph, "batch_norm_apply_backward", inputs, &[counts], expected, |s| {
            let (maps, affine) = s.split_at(s.len() - 1);
            maps.iter().all(|map| *map == s[0]) && vectors(affine[0], 2, s[0])
        })
    }

    fn backward(&self, _graph: &mut Graph, _node: &Node, _gradients: &mut Gradients) {
        no_gradient(NoGradient::BackwardNode);
    }
}
