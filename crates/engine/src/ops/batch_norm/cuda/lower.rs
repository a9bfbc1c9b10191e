//! Turns batch norm's nodes into launches.

use super::statistics;
use super::{
    Parameters, Reduce, Running, apply, apply_backward, backward_apply, backward_finish, finish, fold, reduce,
};
use crate::device::cuda::Work;
use crate::error::Result;
use crate::ir::{BatchNormApply, BatchNormApplyBackward, BatchNormReduce, Graph, Node};
use crate::ops::batch_norm::{
    BatchNormBackwardApply, BatchNormBackwardFinish, BatchNormFinish, BatchNormFold, BatchNormStatistics, EPSILON,
    MOMENTUM,
};
use crate::ops::cuda::{CudaNode, CudaOp, NO_SCRATCH, check_normed_channels};

impl CudaOp for BatchNormStatistics {
    fn cuda_scratch(&self, _node: &CudaNode) -> usize {
        NO_SCRATCH
    }

    fn lower(&self, node: &CudaNode) -> Vec<Work> {
        vec![statistics(node.input_rows(0), node.input(0), node.output(0)).into()]
    }
}

impl CudaOp for BatchNormFinish {
    fn cuda_scratch(&self, _node: &CudaNode) -> usize {
        NO_SCRATCH
    }

    fn lower(&self, node: &CudaNode) -> Vec<Work> {
        let (mean, variance, momentum) = (node.input(3), node.input(4), MOMENTUM);
        let running = Running { mean, variance, momentum };
        let parameters = Parameters { gamma: node.input(1), beta: node.input(2), epsilon: EPSILON };
        let (moments, affine) = (node.output(0), node.output(1));
        vec![finish(node.input_rows(5), node.input(0), &parameters, &running, moments, affine).into()]
    }
}

impl CudaOp for BatchNormFold {
    fn cuda_scratch(&self, _node: &CudaNode) -> usize {
        NO_SCRATCH
    }

    fn lower(&self, node: &CudaNode) -> Vec<Work> {
        let parameters = Parameters { gamma: node.input(0), beta: node.input(1), epsilon: EPSILON };
        let channels = node.input_shape(0)[0];
        vec![fold(channels, &parameters, node.input(2), node.input(3), node.output(0)).into()]
    }
}

impl CudaOp for BatchNormApply {
    fn cuda_scratch(&self, _node: &CudaNode) -> usize {
        NO_SCRATCH
    }

    fn lower(&self, node: &CudaNode) -> Vec<Work> {
        let residual = self.residual.then(|| node.input(2));
        let (rows, y, affine) = (node.input_rows(0), node.input(0), node.input(1));
        vec![apply(rows, y, affine, residual, self.relu, node.output(0)).into()]
    }

    fn check_for_cuda(&self, graph: &Graph, node: &Node) -> Result<()> {
        check_normed_channels(graph, node)
    }
}

impl CudaOp for BatchNormReduce {
    fn cuda_scratch(&self, _node: &CudaNode) -> usize {
        NO_SCRATCH
    }

    fn lower(&self, node: &CudaNode) -> Vec<Work> {
        // With a ReLU, its output is the input between g and y, and the masked gradient is written.
        let relu = usize::from(self.relu);
        let inputs = Reduce {
            g: node.input(0),
            z: self.relu.then(|| node.input(1)),
            y: node.input(1 + relu),
            moments: node.input(2 + relu),
        };
        let dz = self.relu.then(|| node.output(0));
        vec![reduce(node.input_rows(0), &inputs, dz, node.output(relu)).into()]
    }
}

impl CudaOp for BatchNormBackwardFinish {
    fn cuda_scratch(&self, _node: &CudaNode) -> usize {
        NO_SCRATCH
    }

    fn lower(&self, node: &CudaNode) -> Vec<Work> {
        let blocks = node.input_shape(0)[0];
        let (partials, moments, gamma) = (node.input(0), node.input(1), node.input(2));
        let (coefficients, dgamma, dbeta) = (node.output(0), node.output(1), node.output(2));
        let sizes = node.input_rows(3);
        vec![backward_finish(sizes, blocks, partials, moments, gamma, coefficients, dgamma, dbeta).into()]
    }
}

impl CudaOp for BatchNormBackwardApply {
    fn cuda_scratch(&self, _node: &CudaNode) -> usize {
        NO_SCRATCH
    }

    fn lower(&self, node: &CudaNode) -> Vec<Work> {
        vec![backward_apply(node.input_rows(0), node.input(0), node.input(1), node.input(2), node.output(0)).into()]
    }
}

impl CudaOp for BatchNormApplyBackward {
    fn cuda_scratch(&self, _node: &CudaNode) -> usize {
        NO_SCRATCH
    }

    fn lower(&self, node: &CudaNode) -> Vec<Work> {
        let z = self.relu.then(|| node.input(1));
        let affine = node.input(1 + usize::from(self.relu));
        let (dy, dz) = (node.output(0), node.optional_output(1));
        vec![apply_backward(node.input_rows(0), node.input(0), z, affine, dz, dy).into()]
    }
}
