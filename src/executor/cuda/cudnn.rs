//! A convolution by cuDNN: what is plain of it, then by our own kernels what they would have fused into it.
//!
//! A weight gradient is measured but never chosen: cuDNN writes it in bf16, and a gradient that is added up in f32 would be
//! rounded on the way.

use super::layout::Layout;
use super::lower::Lowering;
use super::memory::Block;
use crate::device::cuda::{Address, Convolution, Direction, Precision, Sizes, Work};
use crate::graph::ir::{ConvEpilogue, DgradEpilogue, Node, Op};
use crate::graph::plan::ALIGNMENT;
use crate::ops::batch_norm::STATISTICS_ROWS;
use crate::ops::{batch_norm, combine, conv2d};

/// What cuDNN would be asked for to compute the plain convolution of `node`; `None` where it is none, or one of nothing.
pub fn question(layout: &Layout, precision: Precision, node: &Node) -> Option<(Direction, Sizes)> {
    let direction = match node.op {
        Op::Conv2d(..) => Direction::Fprop,
        Op::Conv2dDgrad(..) => Direction::Dgrad,
        Op::Conv2dWgrad(_) => Direction::Wgrad,
        _ => return None,
    };
    let p = layout.problem(node);
    let sizes = Sizes {
        x: [p.n, p.h, p.w, p.c],
        weight: [p.k, p.r, p.s, p.c],
        y: [p.n, p.p(), p.q(), p.k],
        stride: p.stride,
        padding: p.padding,
    };
    (precision == Precision::Bf16 && p.rows() > 0).then_some((direction, sizes))
}

/// Whether `node` with all its epilogue can be computed so.
pub fn suits(layout: &Layout, node: &Node) -> bool {
    match node.op {
        Op::Conv2d(_, ConvEpilogue::Bias) => false,
        Op::Conv2d(..) | Op::Conv2dDgrad(_, DgradEpilogue::Plain { .. }) => true,
        // The sums are of other rows than a strided dgrad's, so there must be as many of them.
        Op::Conv2dDgrad(_, DgradEpilogue::Reduce { .. }) => {
            let problem = layout.problem(node);
            conv2d::cuda::dgrad_partials(&problem) == problem.input_rows().div_ceil(STATISTICS_ROWS)
        }
        _ => false,
    }
}

/// Bytes of a weight gradient as cuDNN writes it, aligned: where it lies in the workspace before cuDNN's own.
pub fn gradient_bytes(sizes: &Sizes) -> usize {
    (2 * sizes.weight.iter().product::<usize>()).next_multiple_of(ALIGNMENT)
}

impl Lowering<'_> {
    /// The plain convolution; a weight gradient goes into the workspace.
    pub fn plain_by_cudnn(&self, direction: Direction, sizes: Sizes) -> Convolution {
        let workspace = Block::Workspace.at(0);
        let (x, weight, y, workspace) = match direction {
            Direction::Fprop => (self.input(0), self.weight(), self.output(0), workspace),
            Direction::Dgrad => (self.output(0), self.weight(), self.input(0), workspace),
            Direction::Wgrad => (self.input(1), workspace, self.input(0), workspace.plus(gradient_bytes(&sizes))),
        };
        Convolution { direction, sizes, x, weight, y, workspace }
    }

    /// The whole node.
    pub fn by_cudnn(&self) -> Vec<Work> {
        let Some((direction, sizes)) = question(self.layout, self.precision, self.node) else {
            unreachable!("a choice suits its node")
        };
        let mut work = vec![Work::Convolution(self.plain_by_cudnn(direction, sizes))];
        let written = self.output(0);
        let rows = self.rows(self.node.outputs[0]);
        match self.node.op {
            Op::Conv2d(_, ConvEpilogue::Statistics) => {
                work.push(batch_norm::cuda::statistics(rows, written, self.output(1)).into());
            }
            Op::Conv2d(_, ConvEpilogue::Affine { residual, relu }) => {
                let residual = residual.then(|| self.input(3));
                work.push(batch_norm::cuda::apply(rows, written, self.input(2), residual, relu, written).into());
            }
            Op::Conv2dDgrad(_, epilogue) => self.after_dgrad(epilogue, rows, written, &mut work),
            _ => {}
        }
        work
    }

    fn after_dgrad(&self, epilogue: DgradEpilogue, rows: [usize; 2], written: Address, work: &mut Vec<Work>) {
        let (addend, relu, reduce) = match epilogue {
            DgradEpilogue::Plain { addend } => (addend, false, false),
            DgradEpilogue::Reduce { addend, relu } => (addend, relu, true),
        };
        let mut inputs = (2..self.node.inputs.len()).map(|index| self.input(index));
        let mut next =
            || inputs.next().unwrap_or_else(|| unreachable!("fuse gives as many inputs as the epilogue names"));
        if addend {
            work.push(combine::cuda::add(rows[0] * rows[1], written, next(), written).into());
        }
        if reduce {
            let inputs = batch_norm::cuda::Reduce { g: written, z: relu.then(&mut next), y: next(), moments: next() };
            let dz = relu.then_some(written);
            work.push(batch_norm::cuda::reduce(rows, &inputs, dz, self.output(1)).into());
        }
    }
}
