//! Launches the kernels of the fully connected layer (`kernels/linear.cu`), and of the convolution's bias gradient, which is the
//! same column sum.

use super::Linear;
use crate::device::cuda::{Address, Arguments, File, Launch, Work, work};
use crate::ir::LinearBackward;
use crate::ops::cuda::{CudaNode, CudaOp, NO_SCRATCH};

const VECTOR: usize = 8;
const THREADS: usize = 256;
const WARP: usize = 32;
/// Rows and columns of a tile of the product.
const TILE: usize = 64;
/// Two operands, 16 deep. Each row has four floats more than a tile, against bank conflicts.
const SHARED_TILES: usize = 2 * 4 * 16 * (TILE + 4);
/// Up to this many outputs, one warp per output gives more blocks than tiles do.
const FEW_OUTPUTS: usize = 8192;
/// Channels per block of the kernel that adds up columns, and its shared memory: one double per thread.
const COLUMNS: usize = 32;
const SHARED_COLUMNS: usize = 8 * THREADS;
/// Vectors of a row per block of the channel sum, and its shared memory: one float per thread and channel.
const SLICE: usize = 32;
const SHARED_SUMS: usize = 4 * THREADS * VECTOR;
/// The least number of rows per thread of the channel sum, and the most blocks.
const THREAD_ROWS: usize = 16;
const MAX_BLOCKS: usize = 1024;

/// y `[N, K]` = x `[N, C]` · weight `[K, C]`ᵀ + bias `[K]`, all f32.
pub fn forward([n, c, k]: [usize; 3], x: Address, weight: Address, bias: Address, y: Address) -> Launch {
    let arguments = Arguments::new().pointer(x).pointer(weight).pointer(bias).pointer(y).int(n).int(c).int(k);
    match n * k <= FEW_OUTPUTS {
        true => launch("linear_forward_few", [(n * k).div_ceil(THREADS / WARP), 1, 1], 0, arguments),
        false => launch("linear_forward", tiles(n, k), SHARED_TILES, arguments),
    }
}

/// From dy `[N, K]`, x `[N, C]` and weight `[K, C]`: adds to dweight `[K, C]` and dbias `[K]`, and writes dx `[N, C]` if it is
/// given.
pub fn backward(
    [n, c, k]: [usize; 3],
    [dy, x, weight]: [Address; 3],
    dx: Option<Address>,
    [dweight, dbias]: [Address; 2],
) -> Vec<Launch> {
    let sizes = |arguments: Arguments| arguments.int(n).int(c).int(k);
    let of_weight = sizes(Arguments::new().pointer(dy).pointer(x).pointer(dweight));
    let mut launches =
        vec![launch("linear_weight_gradient", tiles(k, c), SHARED_TILES, of_weight), column_sums([n, k, k], dy, dbias)];
    if let Some(dx) = dx {
        let of_input = sizes(Arguments::new().pointer(dy).pointer(weight).pointer(dx));
        launches.push(launch("linear_input_gradient", tiles(n, c), SHARED_TILES, of_input));
    }
    launches
}

/// The split of the rows of a channel sum: vectors of a row per block, slices of a row, rows per block, blocks.
fn cut(rows: usize, c: usize) -> [usize; 4] {
    let vectors = c / VECTOR;
    let slices = vectors.div_ceil(SLICE);
    let columns = vectors.div_ceil(slices);
    let lanes = THREADS / columns;
    let block_rows = (lanes * THREAD_ROWS).max(rows.div_ceil(MAX_BLOCKS));
    [columns, slices, block_rows, rows.div_ceil(block_rows)]
}

/// Bytes of the workspace of [`channel_sum`].
pub fn channel_sum_workspace([rows, c]: [usize; 2]) -> usize {
    4 * cut(rows, c)[3] * c
}

/// dbias `[K]` += Σ over the rows of dy `[rows, C]`, activations with C channels of which only the first K are used; C is a
/// multiple of 8.
pub fn channel_sum([rows, c]: [usize; 2], k: usize, dy: Address, dbias: Address, workspace: Address) -> Vec<Launch> {
    let [columns, slices, block_rows, blocks] = cut(rows, c);
    let arguments = Arguments::new().pointer(dy).pointer(workspace).int(rows).int(c).int(columns).int(block_rows);
    vec![
        launch("channel_sum", [blocks, slices, 1], SHARED_SUMS, arguments),
        column_sums([blocks, c, k], workspace, dbias),
    ]
}

/// out `[K]` += Σ over the rows of x `[rows, stride]`.
fn column_sums([rows, stride, k]: [usize; 3], x: Address, out: Address) -> Launch {
    let arguments = Arguments::new().pointer(x).pointer(out).int(rows).int(stride).int(k);
    launch("linear_column_sums", [k.div_ceil(COLUMNS), 1, 1], SHARED_COLUMNS, arguments)
}

fn tiles(rows: usize, columns: usize) -> [usize; 3] {
    [columns.div_ceil(TILE), rows.div_ceil(TILE), 1]
}

fn launch(kernel: &'static str, grid: [usize; 3], shared_bytes: usize, arguments: Arguments) -> Launch {
    let (threads, shared_bytes) = (THREADS as u32, shared_bytes as u32);
    Launch { file: File::LINEAR, kernel, grid: grid.map(|blocks| blocks as u32), threads, shared_bytes, arguments }
}

impl CudaOp for Linear {
    fn cuda_scratch(&self, _node: &CudaNode) -> usize {
        NO_SCRATCH
    }

    fn lower(&self, node: &CudaNode) -> Vec<Work> {
        let ([n, c], [_, k]) = (node.input_rows(0), node.output_rows(0));
        vec![forward([n, c, k], node.input(0), node.input(1), node.input(2), node.output(0)).into()]
    }
}

impl CudaOp for LinearBackward {
    fn cuda_scratch(&self, _node: &CudaNode) -> usize {
        NO_SCRATCH
    }

    fn lower(&self, node: &CudaNode) -> Vec<Work> {
        let ([n, k], [_, c]) = (node.input_rows(0), node.input_rows(1));
        let dx = self.input_gradient.then(|| node.output(2));
        let inputs = [node.input(0), node.input(1), node.input(2)];
        work(backward([n, c, k], inputs, dx, [node.output(0), node.output(1)]))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Layer, layer, sum};
    use super::*;
    use crate::ops::testing::{Expected, Random, check_kernels};

    #[test]
    fn layer_matches_plain_loops() {
        // The last two have too many outputs for one warp each.
        for (n, c, k) in
            [(1, 1, 1), (1, 16, 2), (3, 17, 5), (5, 100, 1), (66, 64, 10), (8, 515, 3), (130, 33, 66), (9, 65, 1000)]
        {
            let Layer { x, weight, bias, dy, expected } = layer([n, c, k]);
            check_kernels(&format!("linear [{n}, {c}] → {k}"), &expected, |board| {
                let (x, weight, bias) = (board.floats(&x), board.floats(&weight), board.floats(&bias));
                let (dy, y, dx) = (board.floats(&dy), board.floats_out(n * k), board.floats_out(n * c));
                board.run(&[forward([n, c, k], x, weight, bias, y)]);
                let (dweight, dbias) = (board.floats(&vec![1.0; k * c]), board.floats(&vec![-1.0; k]));
                board.run(&backward([n, c, k], [dy, x, weight], Some(dx), [dweight, dbias]));
                let (again, dbias_again) = (board.floats(&vec![1.0; k * c]), board.floats(&vec![-1.0; k]));
                board.run(&backward([n, c, k], [dy, x, weight], None, [again, dbias_again]));
                let dweight = board.read_floats(dweight, k * c);
                assert_eq!(dweight, board.read_floats(again, k * c));
                vec![board.read_floats(y, n * k), board.read_floats(dx, n * c), dweight, board.read_floats(dbias, k)]
            });
        }
    }

    #[test]
    fn channel_sum_matches_plain_loops() {
        for (rows, c, k) in [(1, 8, 3), (37, 24, 24), (5000, 8, 1), (1000, 72, 68), (1000, 264, 260)] {
            let mut dy = Random::new((rows + c) as u64).activations(rows * c, -1.0, 1.0);
            dy.chunks_exact_mut(c).for_each(|row| row[k..].fill(0.0));
            let dbias = (0..k).map(|i| sum((0..rows).map(|row| (dy[row * c + i], 1.0)).chain([(2.0, 1.0)])));
            let [columns, _, block_rows, _] = cut(rows, c);
            // The rows of a thread, the other threads of the channel, and the last two roundings.
            let lanes = THREADS / columns;
            let expected = [Expected::new("dbias", block_rows.div_ceil(lanes) + lanes + 2, dbias.unzip())];
            check_kernels(&format!("channel sum [{rows}, {c}] → {k}"), &expected, |board| {
                let (dy, dbias) = (board.activations(&dy), board.floats(&vec![2.0; k]));
                let workspace = board.poisoned(channel_sum_workspace([rows, c]));
                board.run(&channel_sum([rows, c], k, dy, dbias, workspace));
                vec![board.read_floats(dbias, k)]
            });
        }
    }
}
