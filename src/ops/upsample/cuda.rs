//! Upsampling's kernels (`kernels/upsample.cu`): how each is started. C is a multiple of 8.

use super::cpu::Upsample;
use crate::device::cuda::{Address, Arguments, File, Launch};

const VECTOR: usize = 8;
const THREADS: usize = 128;
/// Vectors of a thread of the forward.
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
