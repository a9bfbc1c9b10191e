//! The gradient with respect to the input: the shared product on dy with transposed weights, with its epilogues applied in
//! registers or to each piece while it is in cache. With a stride, a tile holds pixels of one phase only, so that no product with
//! an inserted zero is computed.

use super::blocks::{Elementwise, Piece, Product};
use super::fprop::{STRIP, window};
use super::geometry::Geometry;
use super::{DgradEpilogue, STATISTICS_ROWS, Weight};
use crate::device::cpu::{Cpu, SharedMut};
use crate::ops::conv2d::Problem;

/// Length of the workspace of [`dgrad`] with a plain weight, or with a packed one.
pub fn dgrad_workspace(cpu: &Cpu, problem: &Problem, plain: bool) -> usize {
    Product::workspace(cpu, &Geometry::dgrad(problem), plain)
}

/// `dx = epilogue(conv_transpose(dy))`.
///
/// Shapes: dy `[N, P, Q, K]`, dx `[N, H, W, C]`.
pub fn dgrad(
    cpu: &Cpu,
    problem: &Problem,
    dy: &[f32],
    weight: Weight,
    epilogue: DgradEpilogue,
    dx: &mut [f32],
    workspace: &mut [f32],
) {
    let geometry = &Geometry::dgrad(problem);
    assert_eq!(dy.len(), problem.output_len());
    assert_eq!(dx.len(), problem.input_len());
    let product = Product { cpu, geometry, source: dy, weight, output: dx, workspace };
    match epilogue {
        DgradEpilogue::Plain => product.elementwise(Elementwise::default()),
        DgradEpilogue::Add(addend) => {
            product.elementwise(Elementwise { addend: Some(addend), ..Elementwise::default() })
        }
        DgradEpilogue::Reduce { addend, mask, y, moments, partials } => {
            let blocks = problem.input_rows().div_ceil(STATISTICS_ROWS);
            assert_eq!(partials.len(), blocks * 2 * problem.c);
            let reads = [addend.unwrap_or_default(), mask.unwrap_or_default(), y];
            let reduce = Reduce { addend, mask, y, moments, partials: SharedMut::new(partials) };
            product.by_pieces(
                &reads,
                #[inline(always)]
                |piece| reduce.piece(piece),
            );
        }
    }
}

struct Reduce<'a> {
    addend: Option<&'a [f32]>,
    mask: Option<&'a [f32]>,
    y: &'a [f32],
    moments: &'a [f32],
    partials: SharedMut<'a, f32>,
}

impl Reduce<'_> {
    #[inline(always)]
    fn piece(&self, piece: &Piece) {
        let mut column = piece.columns.start;
        while column + STRIP <= piece.columns.end {
            self.strip::<STRIP>(piece, column);
            column += STRIP;
        }
        while column < piece.columns.end {
            self.strip::<1>(piece, column);
            column += 1;
        }
    }

    #[inline(always)]
    fn strip<const W: usize>(&self, piece: &Piece, column: usize) {
        let (mean, rstd) = self.moments.split_at(piece.width);
        let (mean, rstd) = (window::<W>(mean, column), window::<W>(rstd, column));
        let (mut sum, mut product) = ([0.0f32; W], [0.0f32; W]);
        for row in piece.rows.clone() {
            let at = row * piece.width + column;
            // SAFETY: inside the piece, one row at a time.
            let dx = unsafe { piece.row(row, column..column + W) };
            let mut dz = *window::<W>(dx, 0);
            if let Some(addend) = self.addend {
                let addend = window::<W>(addend, at);
                for j in 0..W {
                    dz[j] += addend[j];
                }
            }
            if let Some(mask) = self.mask {
                let z = window::<W>(mask, at);
                for j in 0..W {
                    dz[j] = if z[j] > 0.0 { dz[j] } else { 0.0 };
                }
            }
            let y = window::<W>(self.y, at);
            for j in 0..W {
                sum[j] += dz[j];
                product[j] += dz[j] * ((y[j] - mean[j]) * rstd[j]);
            }
            dx.copy_from_slice(&dz);
        }
        let at = piece.block * 2 * piece.width + column;
        // SAFETY: each block and column belongs to one piece, and the two ranges are different rows of the partials.
        unsafe {
            self.partials.range(at..at + W).copy_from_slice(&sum);
            let at = at + piece.width;
            self.partials.range(at..at + W).copy_from_slice(&product);
        }
    }
}
