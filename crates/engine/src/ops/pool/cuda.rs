//! Launches the kernels of pooling and dropout (`kernels/pool.cu`). The max pool is the network's only one, 3×3 with
//! stride 2 and padding 1; C is a multiple of 8.

#[cfg(test)]
mod tests;

use super::{GlobalPool, MaxPool, MaxPoolBackward, pooled};
use crate::device::cuda::{Address, Arguments, File, Launch, Work};
use crate::ir::Dropout;
use crate::ops::cuda::{CudaNode, CudaOp, NO_SCRATCH, image};

const VECTOR: usize = 8;
const POOL_THREADS: usize = 128;
/// Output rows per thread of the max pools.
const POOL_ROWS: usize = 4;
/// Channels and threads per block of the mean over an image.
const MEAN_CHANNELS: usize = 64;
const MEAN_THREADS: usize = 128;
const WARP: usize = 32;
const DROPOUT_THREADS: usize = 256;

/// A launch of a max pool: blocks along [Q, C/8], along strips of P, and over images.
fn pool(kernel: &'static str, [n, h, w, c]: [usize; 4], arguments: Arguments) -> Launch {
    let (p, q) = (pooled(h), pooled(w));
    let blocks = [(q * c / VECTOR).div_ceil(POOL_THREADS), p.div_ceil(POOL_ROWS), n];
    let arguments = arguments.int(h).int(w).int(c).int(p).int(q);
    let grid = blocks.map(|blocks| blocks as u32);
    Launch { file: File::POOL, kernel, grid, threads: POOL_THREADS as u32, shared_bytes: 0, arguments }
}

/// Writes y `[N, P, Q, C]` from x `[N, H, W, C]` of shape `shape` and, if given, argmax u8 `[N, P, Q, C]`: the tap of the first
/// maximum. NaN counts as the maximum.
pub fn max_pool(shape: [usize; 4], x: Address, y: Address, argmax: Option<Address>) -> Launch {
    pool("max_pool", shape, Arguments::new().pointer(x).pointer(y).optional(argmax))
}

/// dx `[N, H, W, C]` of shape `shape`: each dy `[N, P, Q, C]` is added to the pixel that its argmax names.
pub fn max_pool_backward(shape: [usize; 4], dy: Address, argmax: Address, dx: Address) -> Launch {
    pool("max_pool_backward", shape, Arguments::new().pointer(dy).pointer(argmax).pointer(dx))
}

/// y f32 `[N, C]`: the mean over the pixels of x `[N, HW, C]`.
pub fn global_pool([n, hw, c]: [usize; 3], x: Address, y: Address) -> Launch {
    let arguments = Arguments::new().pointer(x).pointer(y).int(hw).int(c);
    let grid = [c.div_ceil(MEAN_CHANNELS) as u32, n as u32, 1];
    let shared_bytes = (MEAN_THREADS / WARP * MEAN_CHANNELS * size_of::<f32>()) as u32;
    Launch { file: File::POOL, kernel: "global_pool", grid, threads: MEAN_THREADS as u32, shared_bytes, arguments }
}

/// y = x/(1 − p) if a hash of counter ⊕ salt and position keeps the element, else 0. x and y are f32 `[len]`, the counter is a
/// u64 in device memory. The backward is the same call on the gradient.
pub fn dropout(len: usize, counter: Address, salt: u64, probability: f32, x: Address, y: Address) -> Launch {
    // Compares the 24 high bits of the hash, as many bits as an f32 in 0–1 has.
    let threshold = (f64::from(probability) * f64::from(1 << 24)) as u64;
    let arguments = Arguments::new().pointer(counter).pointer(x).pointer(y).long(salt).long(threshold);
    let arguments = arguments.int(len).float(1.0 / (1.0 - probability));
    let grid = [len.div_ceil(DROPOUT_THREADS) as u32, 1, 1];
    Launch { file: File::POOL, kernel: "dropout", grid, threads: DROPOUT_THREADS as u32, shared_bytes: 0, arguments }
}

impl CudaOp for MaxPool {
    fn cuda_scratch(&self, _node: &CudaNode) -> usize {
        NO_SCRATCH
    }

    fn lower(&self, node: &CudaNode) -> Vec<Work> {
        let x = image(node.input_shape(0));
        vec![max_pool(x, node.input(0), node.output(0), node.optional_output(1)).into()]
    }
}

impl CudaOp for MaxPoolBackward {
    fn cuda_scratch(&self, _node: &CudaNode) -> usize {
        NO_SCRATCH
    }

    fn lower(&self, node: &CudaNode) -> Vec<Work> {
        let x = image(node.output_shape(0));
        vec![max_pool_backward(x, node.input(0), node.input(1), node.output(0)).into()]
    }
}

impl CudaOp for GlobalPool {
    fn cuda_scratch(&self, _node: &CudaNode) -> usize {
        NO_SCRATCH
    }

    fn lower(&self, node: &CudaNode) -> Vec<Work> {
        let [n, h, w, c] = image(node.input_shape(0));
        vec![global_pool([n, h * w, c], node.input(0), node.output(0)).into()]
    }
}

impl CudaOp for Dropout {
    fn cuda_scratch(&self, _node: &CudaNode) -> usize {
        NO_SCRATCH
    }

    fn lower(&self, node: &CudaNode) -> Vec<Work> {
        let len = node.input_shape(0).iter().product();
        let (counter, salt) = (node.scalars.dropout_counter, self.salt);
        vec![dropout(len, counter, salt, self.probability, node.input(0), node.output(0)).into()]
    }
}
