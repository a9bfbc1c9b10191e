//! Batch norm's kernels (`kernels/batch_norm.cu`): how each is started.

use crate::device::cuda::{Address, Arguments, File, Launch};

const VECTOR: usize = 8;
const APPLY_THREADS: usize = 256;
/// Vectors a thread of the affine pass takes.
const APPLY_VECTORS: usize = 4;

fn launch(kernel: &'static str, blocks: usize, threads: usize, arguments: Arguments) -> Launch {
    let grid = [blocks as u32, 1, 1];
    Launch { file: File::BATCH_NORM, kernel, grid, threads: threads as u32, shared_bytes: 0, arguments }
}

/// z `[rows, C]` = act(y·scale + shift + residual), affine `[2, C]`; C a multiple of 8.
pub fn apply(
    [rows, c]: [usize; 2],
    y: Address,
    affine: Address,
    residual: Option<Address>,
    relu: bool,
    z: Address,
) -> Launch {
    let vectors = rows * c / VECTOR;
    let arguments = Arguments::new().pointer(y).pointer(affine).optional(residual).pointer(z);
    let arguments = arguments.int(vectors).int(c).int(usize::from(relu));
    launch("batch_norm_apply", vectors.div_ceil(APPLY_THREADS * APPLY_VECTORS), APPLY_THREADS, arguments)
}

#[cfg(test)]
mod tests {
    use crate::ops::testing::{Expected, Random, check_kernels, wide};

    #[test]
    fn applies_scale_shift_residual_and_relu() {
        for (rows, c, residual, relu) in [(1, 8, false, false), (37, 24, true, true), (300, 64, true, false)] {
            let mut random = Random::new(rows as u64);
            let y = random.activations(rows * c, -2.0, 2.0);
            let r = random.activations(rows * c, -2.0, 2.0);
            let affine = random.vector(2 * c, -1.5, 1.5);
            let expected: Vec<f64> = (0..rows * c)
                .map(|i| {
                    let (scale, shift) = (f64::from(affine[i % c]), f64::from(affine[c + i % c]));
                    let v = f64::from(y[i]) * scale + shift + if residual { f64::from(r[i]) } else { 0.0 };
                    if relu { v.max(0.0) } else { v }
                })
                .collect();
            let magnitudes = wide(&y).iter().map(|v| 2.0 * v.abs() + 4.0).collect();
            let expected = [Expected::new("z", 3, (expected, magnitudes)).stored()];
            check_kernels(&format!("apply {rows} × {c}"), &expected, |board| {
                let (y, affine) = (board.activations(&y), board.floats(&affine));
                let residual = residual.then(|| board.activations(&r));
                let z = board.activations_out(rows * c);
                board.run(&[super::apply([rows, c], y, affine, residual, relu, z)]);
                vec![board.read_activations(z, rows * c)]
            });
        }
    }
}
