//! Turns a convolution's nodes into launches.

use super::{Choice, DgradEpilogue, FpropEpilogue, Tile, Tunable, cudnn, dgrad, dgrad_partials, fprop, padded};
use crate::device::cuda::{Work, work};
use crate::error::Result;
use crate::ir::{self, Conv2dDgrad, Conv2dFprop, Conv2dWgrad, ConvEpilogue, Graph, Node};
use crate::ops::conv2d::ChannelSum;
use crate::ops::cuda::{CudaNode, CudaOp, check_normed_channels};
use crate::ops::linear;

/// The tile of an fprop or dgrad; `None` if cuDNN computes it.
fn tile(node: &CudaNode) -> Option<Tile> {
    match node.choice {
        Some(Choice::Tile(tile)) => Some(tile),
        Some(Choice::Cudnn { .. }) => None,
        Some(Choice::Wgrad(_)) | None => unreachable!("a choice suits its node"),
    }
}

fn scratch(node: &CudaNode, tunable: Tunable) -> usize {
    node.choice.map_or(0, |choice| choice.scratch(&tunable.problem))
}

impl CudaOp for Conv2dFprop {
    fn cuda_scratch(&self, node: &CudaNode) -> usize {
        scratch(node, Tunable::of_fprop(self, node.logical, node.node))
    }

    fn lower(&self, node: &CudaNode) -> Vec<Work> {
        let tunable = Tunable::of_fprop(self, node.logical, node.node);
        let Some(tile) = tile(node) else { return cudnn::fprop(node, &tunable, self.epilogue) };
        let epilogue = match self.epilogue {
            ConvEpilogue::Plain => FpropEpilogue::Plain,
            ConvEpilogue::Bias => {
                FpropEpilogue::Bias { bias: node.input(2), channels: node.logical.shape(node.node.inputs[2])[0] }
            }
            ConvEpilogue::Statistics => FpropEpilogue::Statistics { partials: node.output(1) },
            ConvEpilogue::Affine { residual, relu } => {
                FpropEpilogue::Affine { affine: node.input(2), residual: residual.then(|| node.input(3)), relu }
            }
        };
        let operands = [node.input(0), node.weight()];
        work(fprop(node.precision, &tunable.problem, tile, operands, epilogue, node.output(0)))
    }

    fn check_for_cuda(&self, graph: &Graph, node: &Node) -> Result<()> {
        match self.epilogue {
            ConvEpilogue::Affine { .. } => check_normed_channels(graph, node),
            ConvEpilogue::Plain | ConvEpilogue::Bias | ConvEpilogue::Statistics => Ok(()),
        }
    }

    fn tunable(&self, logical: &Graph, node: &Node) -> Option<Tunable> {
        Some(Tunable::of_fprop(self, logical, node))
    }
}

impl CudaOp for Conv2dDgrad {
    fn cuda_scratch(&self, node: &CudaNode) -> usize {
        scratch(node, Tunable::of_dgrad(self, node.logical, node.node))
    }

    fn lower(&self, node: &CudaNode) -> Vec<Work> {
        let tunable = Tunable::of_dgrad(self, node.logical, node.node);
        let Some(tile) = tile(node) else { return cudnn::dgrad(node, &tunable, self.epilogue) };
        let mut rest = node.inputs[2..].iter().copied();
        let mut next = || rest.next().unwrap_or_else(|| unreachable!("the check counted the epilogue's inputs"));
        let epilogue = match self.epilogue {
            ir::DgradEpilogue::Plain { addend } => DgradEpilogue::Plain { addend: addend.then(&mut next) },
            ir::DgradEpilogue::Reduce { addend, relu } => DgradEpilogue::Reduce {
                addend: addend.then(&mut next),
                mask: relu.then(&mut next),
                y: next(),
                moments: next(),
                partials: node.output(1),
            },
        };
        let operands = [node.input(0), node.weight()];
        work(dgrad(node.precision, &tunable.problem, tile, operands, epilogue, node.output(0)))
    }

    /// A strided dgrad splits its rows by phases, which gives another number of partial sums.
    fn store_outputs(&self, logical: &Graph, node: &Node, physical: &mut Graph) {
        if let ir::DgradEpilogue::Reduce { .. } = self.epilogue {
            let problem = padded(self.problem(logical, node));
            physical.values[node.outputs[1].0].shape[0] = dgrad_partials(&problem);
        }
    }

    fn tunable(&self, logical: &Graph, node: &Node) -> Option<Tunable> {
        Some(Tunable::of_dgrad(self, logical, node))
    }
}

impl CudaOp for Conv2dWgrad {
    fn cuda_scratch(&self, node: &CudaNode) -> usize {
        scratch(node, Tunable::of_wgrad(self, node.logical, node.node))
    }

    fn lower(&self, node: &CudaNode) -> Vec<Work> {
        let Some(Choice::Wgrad(plan)) = node.choice else { unreachable!("a choice suits its node") };
        let problem = padded(self.problem(node.logical, node.node));
        let shape = node.logical.shape(node.node.outputs[0]);
        let (logical, operands) = ([shape[0], shape[3]], [node.input(0), node.input(1)]);
        work(plan.launches(node.precision, &problem, logical, operands, node.scratch, node.output(0)))
    }

    /// A weight's gradient is not a map: it is f32 without padding, in the Store or in the arena.
    fn store_outputs(&self, logical: &Graph, node: &Node, physical: &mut Graph) {
        physical.values[node.outputs[0].0] = logical.value(node.outputs[0]).clone();
    }

    fn tunable(&self, logical: &Graph, node: &Node) -> Option<Tunable> {
        Some(Tunable::of_wgrad(self, logical, node))
    }
}

impl CudaOp for ChannelSum {
    fn cuda_scratch(&self, node: &CudaNode) -> usize {
        linear::cuda::channel_sum_workspace(node.input_rows(0))
    }

    fn lower(&self, node: &CudaNode) -> Vec<Work> {
        let channels = node.logical.shape(node.node.outputs[0])[0];
        work(linear::cuda::channel_sum(node.input_rows(0), channels, node.input(0), node.output(0), node.scratch))
    }
}
