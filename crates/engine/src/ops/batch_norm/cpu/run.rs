//! Runs batch norm's ops on the CPU: each takes its operands and calls its kernels.

use super::statistics;
use super::{
    Parameters, Reduce, Running, apply, apply_backward, backward_apply, backward_finish, finish, fold, reduce,
};
use crate::ir::{BatchNormApply, BatchNormApplyBackward, BatchNormReduce};
use crate::ops::batch_norm::{
    BatchNormBackwardApply, BatchNormBackwardFinish, BatchNormFinish, BatchNormFold, BatchNormStatistics, EPSILON,
    MOMENTUM,
};
use crate::ops::cpu::{CpuNode, CpuOp, NO_SCRATCH, Operands};

impl CpuOp for BatchNormStatistics {
    fn cpu_scratch(&self, _node: &CpuNode) -> usize {
        NO_SCRATCH
    }

    fn run(&self, node: &mut Operands) {
        statistics(node.cpu, node.channels(0), node.input(0), node.output(0));
    }
}

impl CpuOp for BatchNormFinish {
    fn cpu_scratch(&self, _node: &CpuNode) -> usize {
        NO_SCRATCH
    }

    fn run(&self, node: &mut Operands) {
        let parameters = Parameters { gamma: node.input(1), beta: node.input(2), epsilon: EPSILON };
        let running = Running { mean: node.updated_input(3), variance: node.updated_input(4), momentum: MOMENTUM };
        let (moments, affine) = (node.output(0), node.output(1));
        finish(node.rows(5), node.input(0), &parameters, running, moments, affine);
    }
}

impl CpuOp for BatchNormFold {
    fn cpu_scratch(&self, _node: &CpuNode) -> usize {
        NO_SCRATCH
    }

    fn run(&self, node: &mut Operands) {
        let parameters = Parameters { gamma: node.input(0), beta: node.input(1), epsilon: EPSILON };
        fold(&parameters, node.input(2), node.input(3), node.output(0));
    }
}

impl CpuOp for BatchNormApply {
    fn cpu_scratch(&self, _node: &CpuNode) -> usize {
        NO_SCRATCH
    }

    fn run(&self, node: &mut Operands) {
        let residual = self.residual.then(|| node.input(2));
        apply(node.cpu, node.channels(0), node.input(0), node.input(1), residual, self.relu, node.output(0));
    }
}

impl CpuOp for BatchNormReduce {
    fn cpu_scratch(&self, _node: &CpuNode) -> usize {
        NO_SCRATCH
    }

    fn run(&self, node: &mut Operands) {
        // With a ReLU, its output is the input between g and y, and the masked gradient is written.
        let relu = usize::from(self.relu);
        let inputs = Reduce {
            g: node.input(0),
            z: self.relu.then(|| node.input(1)),
            y: node.input(1 + relu),
            moments: node.input(2 + relu),
        };
        let dz = self.relu.then(|| node.output(0));
        reduce(node.cpu, node.channels(0), &inputs, dz, node.output(relu));
    }
}

impl CpuOp for BatchNormBackwardFinish {
    fn cpu_scratch(&self, _node: &CpuNode) -> usize {
        NO_SCRATCH
    }

    fn run(&self, node: &mut Operands) {
        let (coefficients, dgamma, dbeta) = (node.output(0), node.output(1), node.output(2));
        let (partials, moments, gamma) = (node.input(0), node.input(1), node.input(2));
        backward_finish(node.rows(3), partials, moments, gamma, coefficients, dgamma, dbeta);
    }
}

impl CpuOp for BatchNormBackwardApply {
    fn cpu_scratch(&self, _node: &CpuNode) -> usize {
        NO_SCRATCH
    }

    fn run(&self, node: &mut Operands) {
        backward_apply(node.cpu, node.channels(0), node.input(0), node.input(1), node.input(2), node.output(0));
    }
}

impl CpuOp for BatchNormApplyBackward {
    fn cpu_scratch(&self, _node: &CpuNode) -> usize {
        NO_SCRATCH
    }

    fn run(&self, node: &mut Operands) {
        let z = self.relu.then(|| node.input(1));
        let affine = node.input(1 + usize::from(self.relu));
        let (dy, dz) = (node.output(0), node.optional_output(1));
        apply_backward(node.cpu, node.channels(0), node.input(0), z, affine, dz, dy);
    }
}
