//! The entries of [`ops::operation`](crate::ops::operation) for each kind of convolution node: its name, sizes, checks,
//! backward and cost, and the quantities in its outputs.

use super::{Problem, backward};
use crate::error::Result;
use crate::ir::{
    BatchNormReduce, Conv2d, Conv2dDgrad, Conv2dFprop, Conv2dWgrad, ConvEpilogue, DgradEpilogue, Gradients, Graph,
    Node, Op, ValueId,
};
use crate::ops::cost::{Cost, joined};
use crate::ops::{NoGradient, Operation, Quantities, check, check_inputs, no_gradient};

/// The op of the bias gradient.
pub struct ChannelSum;

impl Conv2dFprop {
    /// All sizes of the convolution.
    pub fn problem(&self, graph: &Graph, node: &Node) -> Problem {
        Problem::new(graph.shape(node.inputs[0]), graph.shape(node.inputs[1])[0], self.conv)
    }
}

impl Conv2dDgrad {
    /// All sizes of the convolution.
    pub fn problem(&self, graph: &Graph, node: &Node) -> Problem {
        Problem::new(graph.shape(node.outputs[0]), graph.shape(node.inputs[1])[0], self.conv)
    }
}

impl Conv2dWgrad {
    /// All sizes of the convolution.
    pub fn problem(&self, graph: &Graph, node: &Node) -> Problem {
        Problem::new(graph.shape(node.inputs[1]), graph.shape(node.outputs[0])[0], self.conv)
    }
}

fn window(conv: Conv2d) -> String {
    match conv.stride {
        1 => format!("{0}×{0}", conv.kernel),
        stride => format!("{0}×{0}/{stride}", conv.kernel),
    }
}

fn also(on: bool, what: &'static str) -> &'static str {
    if on { what } else { "" }
}

/// `N×H×W×C → K`.
fn sizes(p: &Problem) -> String {
    format!("{} → {}", joined(&[p.n, p.h, p.w, p.c]), p.k)
}

impl Operation for Conv2dFprop {
    fn name(&self) -> String {
        let fused = match self.epilogue {
            ConvEpilogue::Plain => String::new(),
            ConvEpilogue::Bias => " + bias".into(),
            ConvEpilogue::Statistics => " + statistics".into(),
            ConvEpilogue::Affine { residual, relu } => {
                format!(" + norm{}{}", also(residual, " + residual"), also(relu, " + ReLU"))
            }
        };
        format!("conv2d fprop {}{fused}", window(self.conv))
    }

    fn cost(&self, graph: &Graph, node: &Node) -> Cost {
        Cost::new(self.problem(graph, node).flops(), graph, node)
    }

    fn check(&self, graph: &Graph, inputs: &[ValueId]) -> Result<()> {
        let conv = self.conv;
        let (xs, ws) = (graph.shape(inputs[0]), graph.shape(inputs[1]));
        check(
            xs.len() == 4 && ws.len() == 4 && xs[3] == ws[3] && ws[1] == conv.kernel && ws[2] == conv.kernel,
            "conv2d",
            || format!("x [N, H, W, C] and weight [K, {0}, {0}, C]", conv.kernel),
            &[xs, ws],
        )?;
        check(
            xs[1] + 2 * conv.padding >= conv.kernel && xs[2] + 2 * conv.padding >= conv.kernel && conv.stride > 0,
            "conv2d",
            || {
                format!(
                    "an image at least as large as the kernel of {} minus twice the padding of {}",
                    conv.kernel, conv.padding
                )
            },
            &[xs],
        )?;
        let problem = Problem::new(xs, ws[0], conv);
        let y = [problem.n, problem.p(), problem.q(), problem.k];
        let (count, expected) = match self.epilogue {
            ConvEpilogue::Plain | ConvEpilogue::Statistics => (2, "x and weight"),
            ConvEpilogue::Bias => (3, "x, weight and bias [K]"),
            ConvEpilogue::Affine { residual: false, .. } => (3, "x, weight and affine [2, K]"),
            ConvEpilogue::Affine { residual: true, .. } => (4, "x, weight, affine [2, K] and residual [N, P, Q, K]"),
        };
        check_inputs(graph, "conv2d", inputs, &[count], expected, |s| match self.epilogue {
            ConvEpilogue::Plain | ConvEpilogue::Statistics => true,
            ConvEpilogue::Bias => s[2] == [ws[0]],
            ConvEpilogue::Affine { .. } => s[2] == [2, ws[0]] && s.get(3).is_none_or(|residual| *residual == y),
        })
    }

    fn backward(&self, graph: &mut Graph, node: &Node, gradients: &mut Gradients) {
        backward(*self, graph, node, gradients);
    }

    fn sizes(&self, graph: &Graph, node: &Node) -> String {
        sizes(&self.problem(graph, node))
    }

    fn quantities(&self, _node: &Node, position: usize) -> Quantities {
        match position {
            0 => Quantities::ONE,
            _ => Quantities::along(1, &["mean", "squared deviations"]),
        }
    }

    fn sums_of_stored(&self, node: &Node) -> Option<Node> {
        (self.epilogue == ConvEpilogue::Statistics).then(|| Node {
            op: Op::BatchNormStatistics,
            inputs: vec![node.outputs[0]],
            outputs: vec![node.outputs[1]],
            segment: node.segment,
        })
    }
}

impl Operation for Conv2dDgrad {
    fn name(&self) -> String {
        let fused = match self.epilogue {
            DgradEpilogue::Plain { addend } => also(addend, " + sum").to_owned(),
            DgradEpilogue::Reduce { addend, .. } => format!("{} + mask and sums", also(addend, " + sum")),
        };
        format!("conv2d dgrad {}{fused}", window(self.conv))
    }

    fn cost(&self, graph: &Graph, node: &Node) -> Cost {
        Cost::new(self.problem(graph, node).flops(), graph, node)
    }

    fn check(&self, graph: &Graph, inputs: &[ValueId]) -> Result<()> {
        let count = match self.epilogue {
            DgradEpilogue::Plain { addend } => 2 + usize::from(addend),
            DgradEpilogue::Reduce { addend, relu } => 4 + usize::from(addend) + usize::from(relu),
        };
        let expected =
            "dy [N, P, Q, K], weight [K, R, R, C] and what the epilogue reads: maps [N, H, W, C], moments [2, C]";
        check_inputs(graph, "conv2d_dgrad", inputs, &[count], expected, |s| {
            let (dy, weight, rest) = (s[0], s[1], &s[2..]);
            let (maps, moments) = match self.epilogue {
                DgradEpilogue::Plain { .. } => (rest, None),
                DgradEpilogue::Reduce { .. } => (&rest[..rest.len() - 1], rest.last()),
            };
            dy.len() == 4
                && weight.len() == 4
                && dy[3] == weight[0]
                && [weight[1], weight[2]] == [self.conv.kernel; 2]
                && maps.iter().all(|map| map.len() == 4 && map == &maps[0] && map[3] == weight[3])
                && moments.is_none_or(|moments| **moments == [2, weight[3]])
        })
    }

    fn backward(&self, _graph: &mut Graph, _node: &Node, _gradients: &mut Gradients) {
        no_gradient(NoGradient::BackwardNode);
    }

    fn sizes(&self, graph: &Graph, node: &Node) -> String {
        sizes(&self.problem(graph, node))
    }

    fn quantities(&self, _node: &Node, position: usize) -> Quantities {
        match position {
            0 => Quantities::ONE,
            // A GPU splits the rows of a strided dgrad by phases; the number of partial sums may happen to be the same.
            _ => Quantities { totals: self.conv.stride > 1, ..Quantities::along(1, &["sum", "sum with y"]) },
        }
    }

    fn sums_of_stored(&self, node: &Node) -> Option<Node> {
        let DgradEpilogue::Reduce { .. } = self.epilogue else { return None };
        let [.., y, moments] = node.inputs[..] else { return None };
        Some(Node {
            op: Op::BatchNormReduce(BatchNormReduce { relu: false }),
            inputs: vec![node.outputs[0], y, moments],
            outputs: vec![node.outputs[1]],
            segment: node.segment,
        })
    }
}

impl Operation for Conv2dWgrad {
    fn name(&self) -> String {
        format!("conv2d wgrad {}", window(self.conv))
    }

    fn cost(&self, graph: &Graph, node: &Node) -> Cost {
        Cost::new(self.problem(graph, node).flops(), graph, node)
    }

    fn check(&self, graph: &Graph, inputs: &[ValueId]) -> Result<()> {
        let expected = "dy [N, P, Q, K] and x [N, H, W, C]";
        check_inputs(graph, "conv2d_wgrad", inputs, &[2], expected, |s| {
            s.iter().all(|s| s.len() == 4) && s[0][0] == s[1][0]
        })
    }

    fn backward(&self, _graph: &mut Graph, _node: &Node, _gradients: &mut Gradients) {
        no_gradient(NoGradient::BackwardNode);
    }

    fn sizes(&self, graph: &Graph, node: &Node) -> String {
        sizes(&self.problem(graph, node))
    }

    fn is_summed_by_matrix_units(&self) -> bool {
        true
    }
}

impl Operation for ChannelSum {
    fn name(&self) -> String {
        "channel_sum".into()
    }

    fn cost(&self, graph: &Graph, node: &Node) -> Cost {
        Cost::elementwise(graph, node)
    }

    fn check(&self, graph: &Graph, inputs: &[ValueId]) -> Result<()> {
        check_inputs(graph, "channel_sum", inputs, &[1], "dy [N, P, Q, K]", |s| !s[0].is_empty())
    }

    fn backward(&self, _graph: &mut Graph, _node: &Node, _gradients: &mut Gradients) {
        no_gradient(NoGradient::BackwardNode);
    }
}
