//! Launches upsampling's kernels (`kernels/upsample.cu`). C is a multiple of 8.

use super::{Upsample, UpsampleAdd, UpsampleBackward};
use crate::device::cuda::{Address, Arguments, File, Launch, Work};
use crate::ops::cuda::{CudaNode, CudaOp, NO_SCRATCH};

const VECTOR: usize = 8;
const THREADS: usize = 128;
/// Vectors per thread of the forward.
const VECTORS: usize = 2;

fn launch(kernel: &'static str, grid: [usize; 3], shape: &Upsample, arguments: Arguments) -> Launch {
    let ([h, w], [height, width]) = (shape.from, shape.to);
    let arguments = arguments.int(h).int(w).int(height).int(width).int(shape.c);
    let grid = grid.map(|blocks| blocks as u32);
    Launch { file: File::UPSAMPLE, kernel, grid, threads: THREADS as u32, shared_bytes: 0, arguments }
}

/// out `[N, H, W, C]` = lateral + top[i·h/H, j·w/W], top `[N, h, w, C]`; out may be lateral.
pub fn add(shape: &Upsample, top: Address, lateral: Address, out: Address) -> Launch {
    let vectors = shape.to[1] * shape.c / VECTOR;
    let grid = [vectors.div_ceil(THREADS * VECTORS), shape.to[0], shape.n];
    launch("upsample_add", grid, shape, Arguments::new().pointer(top).pointer(lateral).pointer(out))
}

/// dtop `[N, h, w, C]`: the sum of dout `[N, H, W, C]` over each pixel's copies.
pub fn backward(shape: &Upsample, dout: Address, dtop: Address) -> Launch {
    let grid = [(shape.from[1] * shape.c / VECTOR).div_ceil(THREADS), shape.from[0], shape.n];
    launch("upsample_backward", grid, shape, Arguments::new().pointer(dout).pointer(dtop))
}

impl CudaOp for UpsampleAdd {
    fn cuda_scratch(&self, _node: &CudaNode) -> usize {
        NO_SCRATCH
    }

    fn lower(&self, node: &CudaNode) -> Vec<Work> {
        let shape = Upsample::new(node.input_shape(0), node.output_shape(0));
        vec![add(&shape, node.input(0), node.input(1), node.output(0)).into()]
    }
}

impl CudaOp for UpsampleBackward {
    fn cuda_scratch(&self, _node: &CudaNode) -> usize {
        NO_SCRATCH
    }

    fn lower(&self, node: &CudaNode) -> Vec<Work> {
        let shape = Upsample::new(node.output_shape(0), node.input_shape(0));
        vec![backward(&shape, node.input(0), node.output(0)).into()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{Expected, Random, check_kernels};
    use crate::ops::upsample::tests::source;

    #[test]
    fn upsampling_matches_plain_loops() {
        for (n, c, from, to) in [
            (1, 8, [1, 1], [1, 1]),
            (2, 24, [1, 2], [2, 3]),
            (1, 64, [3, 4], [6, 8]),
            (2, 40, [4, 5], [7, 9]),
            (3, 16, [7, 3], [13, 6]),
            (1, 128, [4, 25], [8, 50]),
            (1, 8, [4, 4], [4, 4]),
            (1, 8, [2, 1], [7, 5]),
        ] {
            let shape = Upsample { n, c, from, to };
            let (small, large) = (n * from[0] * from[1] * c, n * to[0] * to[1] * c);
            let mut random = Random::new(large as u64);
            let (top, lateral) = (random.activations(small, -1.0, 1.0), random.activations(large, -1.0, 1.0));
            let dout = random.activations(large, -1.0, 1.0);
            let source = |at: usize| source(&shape, at);
            let out = (0..large).map(|at| f64::from(lateral[at]) + f64::from(top[source(at)])).collect();
            let (mut dtop, mut magnitudes) = (vec![0.0; small], vec![0.0; small]);
            for at in 0..large {
                dtop[source(at)] += f64::from(dout[at]);
                magnitudes[source(at)] += f64::from(dout[at]).abs();
            }
            let copies = to[0].div_ceil(from[0]) * to[1].div_ceil(from[1]);
            let expected =
                [Expected::near("out", 1, out).stored(), Expected::new("dtop", copies, (dtop, magnitudes)).stored()];
            check_kernels(&format!("{shape:?}"), &expected, |board| {
                let [top, lateral, dout] = [&top, &lateral, &dout].map(|values| board.activations(values));
                let (out, dtop) = (board.activations_out(large), board.activations_out(small));
                board.run(&[add(&shape, top, lateral, out), backward(&shape, dout, dtop)]);
                vec![board.read_activations(out, large), board.read_activations(dtop, small)]
            });
        }
    }
}
