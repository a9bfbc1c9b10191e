//! A convolution by cuDNN: cuDNN computes the plain convolution, then our own kernels compute the epilogue.

use super::Tunable;
use crate::device::cuda::{Address, Convolution, Direction, Sizes, Work};
use crate::ir::{ConvEpilogue, DgradEpilogue};
use crate::ops::cuda::CudaNode;
use crate::ops::{batch_norm, combine};

/// Every part of the scratch memory starts at a multiple of this many bytes.
const ALIGNMENT: usize = 64;

/// Bytes of a weight gradient as cuDNN writes it, aligned. It lies in the scratch memory before cuDNN's own workspace.
pub fn gradient_bytes(sizes: &Sizes) -> usize {
    (2 * sizes.weight.iter().product::<usize>()).next_multiple_of(ALIGNMENT)
}

/// The plain convolution of `node`, if cuDNN can compute it; a weight gradient is written to the scratch memory.
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

/// All the work of a forward convolution.
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

/// All the work of an input gradient.
pub fn dgrad(node: &CudaNode, tunable: &Tunable, epilogue: DgradEpilogue) -> Vec<Work> {
    let mut work = begin(node, tunable);
    let (rows, written) = (node.output_rows(0), node.output(0));
    let (addend, relu, reduce) = match epilogue {
        DgradEpilogue::Plain { addend } => (addend, false, false),
        DgradEpilogue::Reduce { addend, relu } => (addend, relu, true),
    };
    let mut rest = node.inputs[2..].iter().copied();
    let mut next =
        || -> Address { rest.next().unwrap_or_else(|| unreachable!("the check counted the epilogue's inputs")) };
    if addend {
        work.push(combine::cuda::add(rows[0] * rows[1], written, next(), written).into());
    }
    if reduce {
        let inputs = batch_norm::cuda::Reduce { g: written, z: relu.then(&mut next), y: next(), moments: next() };
        work.push(batch_norm::cuda::reduce(rows, &inputs, relu.then_some(written), node.output(1)).into());
    }
    work
}
