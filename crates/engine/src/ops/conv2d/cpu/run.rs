//! Runs the convolution ops on the CPU: each takes its operands and calls its kernels.

use super::{
    DgradEpilogue, Epilogue, Weight, bias_gradient, bias_workspace, dgrad, dgrad_workspace, fprop, fprop_workspace,
    wgrad, wgrad_workspace,
};
use crate::ir::{self, Conv2dDgrad, Conv2dFprop, Conv2dWgrad, ConvEpilogue, Graph, Node};
use crate::ops::conv2d::{ChannelSum, Packing};
use crate::ops::cpu::{CpuNode, CpuOp, Operands, Weights};

/// The weight of a node, packed in advance or to be packed when it is used.
fn weight<'a>(node: &Operands<'a>) -> Weight<'a> {
    match node.packed() {
        Some(packed) => Weight::Packed(packed),
        None => Weight::Plain(node.input(Packing::WEIGHT)),
    }
}

impl CpuOp for Conv2dFprop {
    fn cpu_scratch(&self, node: &CpuNode) -> usize {
        fprop_workspace(node.cpu, &self.problem(node.graph, node.node), node.weights == Weights::Plain)
    }

    fn run(&self, node: &mut Operands) {
        let epilogue = match self.epilogue {
            ConvEpilogue::Plain => Epilogue::Plain,
            ConvEpilogue::Bias => Epilogue::Bias(node.input(2)),
            ConvEpilogue::Statistics => Epilogue::Statistics(node.output(1)),
            ConvEpilogue::Affine { residual, relu } => {
                Epilogue::Affine { affine: node.input(2), residual: residual.then(|| node.input(3)), relu }
            }
        };
        let (problem, weight) = (self.problem(node.graph, node.node), weight(node));
        fprop(node.cpu, &problem, node.input(0), weight, epilogue, node.output(0), node.scratch());
    }

    fn packing(&self, graph: &Graph, node: &Node) -> Option<Packing> {
        Some(Packing::of_fprop(self.problem(graph, node)))
    }
}

impl CpuOp for Conv2dDgrad {
    fn cpu_scratch(&self, node: &CpuNode) -> usize {
        dgrad_workspace(node.cpu, &self.problem(node.graph, node.node), node.weights == Weights::Plain)
    }

    fn run(&self, node: &mut Operands) {
        // The inputs after dy and weight are those that the epilogue needs, in this order.
        let mut indices = 2..node.input_count();
        let mut next = || {
            let index = indices.next();
            node.input(index.unwrap_or_else(|| unreachable!("the check counted the epilogue's inputs")))
        };
        let epilogue = match self.epilogue {
            ir::DgradEpilogue::Plain { addend: false } => DgradEpilogue::Plain,
            ir::DgradEpilogue::Plain { addend: true } => DgradEpilogue::Add(next()),
            ir::DgradEpilogue::Reduce { addend, relu } => {
                let (addend, mask) = (addend.then(&mut next), relu.then(&mut next));
                let (y, moments) = (next(), next());
                DgradEpilogue::Reduce { addend, mask, y, moments, partials: node.output(1) }
            }
        };
        let (problem, weight) = (self.problem(node.graph, node.node), weight(node));
        dgrad(node.cpu, &problem, node.input(0), weight, epilogue, node.output(0), node.scratch());
    }

    fn packing(&self, graph: &Graph, node: &Node) -> Option<Packing> {
        Some(Packing::of_dgrad(self.problem(graph, node)))
    }
}

impl CpuOp for Conv2dWgrad {
    fn cpu_scratch(&self, node: &CpuNode) -> usize {
        wgrad_workspace(node.cpu, &self.problem(node.graph, node.node))
    }

    fn run(&self, node: &mut Operands) {
        let problem = self.problem(node.graph, node.node);
        wgrad(node.cpu, &problem, node.input(0), node.input(1), node.output(0), node.scratch());
    }
}

impl CpuOp for ChannelSum {
    fn cpu_scratch(&self, node: &CpuNode) -> usize {
        let dy = node.input_shape(0);
        bias_workspace(dy.iter().product(), dy[dy.len() - 1])
    }

    fn run(&self, node: &mut Operands) {
        bias_gradient(node.cpu, node.input(0), node.output(0), node.scratch());
    }
}
