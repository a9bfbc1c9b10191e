//! The forward convolution: the shared product, with its epilogues applied in registers or to each piece while it is in cache.

use super::blocks::{Elementwise, Piece, Product};
use super::geometry::Geometry;
use super::{Epilogue, STATISTICS_ROWS, Weight};
use crate::device::cpu::{Cpu, SharedMut};
use crate::ops::conv2d::Problem;

/// The number of columns that an epilogue processes at a time if there are that many.
pub(super) const STRIP: usize = 16;

/// Length of the workspace of [`fprop`] with a plain weight, or with a packed one.
pub fn fprop_workspace(cpu: &Cpu, problem: &Problem, plain: bool) -> usize {
    Product::workspace(cpu, &Geometry::fprop(problem), plain)
}

/// `y = epilogue(conv(x))`.
///
/// Shapes: x `[N, H, W, C]`, y `[N, P, Q, K]`.
pub fn fprop(
    cpu: &Cpu,
    problem: &Problem,
    x: &[f32],
    weight: Weight,
    epilogue: Epilogue,
    y: &mut [f32],
    workspace: &mut [f32],
) {
    let geometry = &Geometry::fprop(problem);
    assert_eq!(x.len(), problem.input_len());
    assert_eq!(y.len(), problem.output_len());
    let product = Product { cpu, geometry, source: x, weight, output: y, workspace };
    match epilogue {
        Epilogue::Plain => product.elementwise(Elementwise::default()),
        Epilogue::Bias(bias) => product.elementwise(Elementwise { shift: Some(bias), ..Elementwise::default() }),
        Epilogue::Affine { affine, residual, relu } => {
            let (scale, shift) = affine.split_at(problem.k);
            product.elementwise(Elementwise { scale: Some(scale), shift: Some(shift), addend: residual, relu });
        }
        Epilogue::Statistics(partials) => {
            assert_eq!(partials.len(), problem.rows().div_ceil(STATISTICS_ROWS) * 2 * problem.k);
            let partials = SharedMut::new(partials);
            product.by_pieces(
                &[],
                #[inline(always)]
                |piece| statistics(piece, &partials),
            );
        }
    }
}

#[inline(always)]
fn statistics(piece: &Piece, partials: &SharedMut<f32>) {
    let mut column = piece.columns.start;
    while column + STRIP <= piece.columns.end {
        strip_statistics::<STRIP>(piece, column, partials);
        column += STRIP;
    }
    while column < piece.columns.end {
        strip_statistics::<1>(piece, column, partials);
        column += 1;
    }
}

/// Two passes over a piece in L1. They are accurate where one pass with Σy² would suffer cancellation.
#[inline(always)]
fn strip_statistics<const W: usize>(piece: &Piece, column: usize, partials: &SharedMut<f32>) {
    let mut mean = [0.0f32; W];
    for row in piece.rows.clone() {
        // SAFETY: inside the piece, one row at a time.
        let y = window::<W>(unsafe { piece.row(row, column..column + W) }, 0);
        for j in 0..W {
            mean[j] += y[j];
        }
    }
    let scale = 1.0 / piece.rows.len() as f32;
    mean.iter_mut().for_each(|m| *m *= scale);
    let mut m2 = [0.0f32; W];
    for row in piece.rows.clone() {
        // SAFETY: inside the piece, one row at a time.
        let y = window::<W>(unsafe { piece.row(row, column..column + W) }, 0);
        for j in 0..W {
            let deviation = y[j] - mean[j];
            m2[j] += deviation * deviation;
        }
    }
    let at = piece.block * 2 * piece.width + column;
    // SAFETY: each block and column belongs to one piece, and the two ranges are different rows of the partials.
    unsafe {
        partials.range(at..at + W).copy_from_slice(&mean);
        let at = at + piece.width;
        partials.range(at..at + W).copy_from_slice(&m2);
    }
}

/// W values as an array, so that the compiler knows their number.
#[inline(always)]
pub(super) fn window<const W: usize>(values: &[f32], start: usize) -> &[f32; W] {
    values[start..].first_chunk().unwrap_or_else(|| unreachable!("a strip lies within its row"))
}
