//! A convolution by cuDNN: what is plain of it, then by our own kernels what they would have fused into it.

use super::Tunable;
use crate::device::cuda::{Address, Convolution, Direction, Sizes, Work};
use crate::ir::{ConvEpilogue, DgradEpilogue};
use crate::ops::cuda::CudaNode;
use crate::ops::{batch_norm, combine};

/// Bytes that every piece of the scratch starts on a multiple of.
const ALIGNMENT: usize = 64;

/// Bytes of a weight gradient as cuDNN writes it, aligned: where it lies in the scratch before cuDNN's own.
pub fn gradient_bytes(sizes: &Sizes) -> usize {
    (2 * sizes.weight.iter().product::<usize>()).next_multiple_of(ALIGNMENT)
}

/// The plain convolution of `node`, where cuDNN can be asked for it; a weight gradient goes into the scratch.
pub fn plain(node: &CudaNode, tunable: &Tunable) -> Option<Convolution> {
    let (direction, sizes) = tunable.question(node.precision)?;
    let scratch = node.scratch;
    let (x, weight, y, workspace) = match direction {
        Direction::Fprop => (node.input(0), node.weight(), node.output(0), scratch),
        Direction::Dgrad => (node.output(0), node.weight(), node.input(0), scratch),
        Direction::Wgrad => (node.input(1), scratch, node.input(0), scratch.plus(gradient_bytes(&sizes))),
    };
    Some(Convolution { direction, sizes, x, weight, y, workspace })
}

fn begin(node: &CudaNode, tunable: &Tunable) -> Vec<Work> {
    let plain = plain(node, tunable).unwrap_or_else(|| unreachable!("a choice suits its node"));
    vec![Work::Convolution(plain)]
}

/// The whole of a forward convolution.
pub fn fprop(node: &CudaNode, tunable: &Tunable, epilogue: ConvEpilogue) -> Vec<Work> {
    let mut work = begin(node, tunable);
    let (rows, written) = (node.output_rows(0), node.output(0));
    match epilogue {
        ConvEpilogue::Plain => {}
        ConvEpilogue::Bias => unreachable!("a bias does not suit cuDNN"),
        ConvEpilogue::Statistics => work.push(batch_norm::cuda::statistics(rows, written, node.output(1)).into()),
        ConvEpilogue::Affine { residual, relu } => {
            let residual = residual.then(|| node.input(3));
            work.push(batch_norm::cuda::apply(rows, written, node.input(2), residual, relu, written).into());
        }
    }
    work
}

/// The whole of an input gradient.
pub fn dgrad(node: &CudaNode, tunable: &Tunable, epilogue: DgradEpilogue) -> Vec<Work> {
    let mut work = begin(node, tunable);
    let (rows, written) = (node.output_rows(0), node.output(0));
    let (addend, relu, reduce) = match epilogue {
        DgradEpilogue::Plain { addend } => (addend, false, false),
        DgradEpilogue::Reduce { addend, relu } => (addend, relu, true),
    };
    let mut rest = node.inputs[2..].iter().copied();
    let mut next =
        || -> Address { rest.next().unwrap_or_else(|| unreachable!("the check counted what the epilogue names")) };
    if addend {
        work.push(combine::cuda::add(rows[0] * rows[1], written, next(), written).into());
    }
    if reduce {
        let inputs = batch_norm::cuda::Reduce { g: written, z: relu.then(&mut next), y: next(), moments: next() };
        work.push(batch_norm::cuda::reduce(rows, &inputs, relu.then_some(written), node.output(1)).into());
    }
    work
}
