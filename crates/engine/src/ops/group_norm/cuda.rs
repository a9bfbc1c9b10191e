//! Launches group norm's kernels (`kernels/group_norm.cu`).

use super::{EPSILON, Shape};
use crate::device::cuda::{Address, Arguments, File, Launch, Work, work};
use crate::error::Result;
use crate::ir::{Graph, GroupNormRelu, GroupNormReluBackward, Node};
use crate::ops::cuda::{CudaNode, CudaOp, VECTOR, check_normed_channels};

const THREADS: usize = 256;
/// Vectors of a row per block of the sums.
const SLICE: usize = 32;
/// Rows per thread of the sums.
const THREAD_ROWS: usize = 16;
/// Vectors per thread of the last pass.
const APPLY_VECTORS: usize = 4;
const MERGE_THREADS: usize = 128;
/// Channels per block of the kernel that adds up columns.
const COLUMNS: usize = 32;
const WARP: usize = 32;

/// The split of the sums over the rows of `[N, HW, C]` into blocks.
struct Cut {
    /// Vectors of a row per block, and the number of such slices per row.
    columns: usize,
    slices: usize,
    /// Rows per block, and the number of such blocks per image.
    rows: usize,
    blocks: usize,
}

impl Cut {
    fn new(shape: &Shape) -> Cut {
        let vectors = shape.c / VECTOR;
        let slices = vectors.div_ceil(SLICE);
        let columns = vectors.div_ceil(slices);
        let rows = THREADS / columns * THREAD_ROWS;
        Cut { columns, slices, rows, blocks: shape.hw.div_ceil(rows) }
    }

    fn grid(&self, shape: &Shape) -> [usize; 3] {
        [self.blocks, self.slices, shape.n]
    }

    /// The number of floats of the sums `[N, blocks, 2, C]`.
    fn len(&self, shape: &Shape) -> usize {
        shape.n * self.blocks * 2 * shape.c
    }
}

/// The inputs of the backward: dy, x, y `[N, HW, C]` activations, moments `[N, groups, 2]`, gamma `[C]`.
pub struct BackwardInputs {
    pub dy: Address,
    pub x: Address,
    pub y: Address,
    pub moments: Address,
    pub gamma: Address,
}

/// Bytes of the workspace of [`forward`].
pub fn forward_workspace(shape: &Shape) -> usize {
    4 * (Cut::new(shape).len(shape) + shape.n * 2 * shape.c)
}

/// Bytes of the workspace of [`backward`].
pub fn backward_workspace(shape: &Shape) -> usize {
    4 * (Cut::new(shape).len(shape) + shape.n * 5 * shape.c)
}

/// y = relu(norm(x)·gamma + beta), x and y `[N, HW, C]` activations, C a multiple of 8; moments `[N, groups, 2]`: mean,
/// 1/deviation.
pub fn forward(
    shape: &Shape,
    x: Address,
    [gamma, beta]: [Address; 2],
    y: Address,
    moments: Address,
    workspace: Address,
) -> Vec<Launch> {
    let cut = Cut::new(shape);
    let affine = workspace.plus(4 * cut.len(shape));
    let sums = Arguments::new().pointer(x).pointer(workspace);
    let sums = sums.int(shape.hw).int(shape.c).int(cut.columns).int(cut.rows);
    let merge = Arguments::new().pointer(workspace).pointer(gamma).pointer(beta).pointer(moments).pointer(affine);
    let merge = merge.int(shape.hw).int(shape.c).int(shape.groups).int(cut.rows).int(cut.blocks).float(EPSILON);
    let apply = Arguments::new().pointer(x).pointer(affine).pointer(y).int(vectors(shape)).int(shape.c);
    vec![
        launch("group_norm_sums", cut.grid(shape), THREADS, 2 * SHARED_SUMS, sums),
        launch("group_norm_merge", [shape.groups, shape.n, 1], MERGE_THREADS, 8 * MERGE_THREADS / WARP, merge),
        launch("group_norm_apply", apply_grid(shape), THREADS, 0, apply),
    ]
}

/// Writes dx `[N, HW, C]` activations and adds to dgamma and dbeta `[C]`.
pub fn backward(
    shape: &Shape,
    inputs: &BackwardInputs,
    dx: Address,
    [dgamma, dbeta]: [Address; 2],
    workspace: Address,
) -> Vec<Launch> {
    let cut = Cut::new(shape);
    let of_image = workspace.plus(4 * cut.len(shape));
    let coefficients = of_image.plus(4 * shape.n * 2 * shape.c);
    let maps = || Arguments::new().pointer(inputs.dy).pointer(inputs.x).pointer(inputs.y);
    let sums = maps().pointer(inputs.moments).pointer(workspace);
    let sums = sums.int(shape.hw).int(shape.c).int(shape.groups).int(cut.columns).int(cut.rows);
    let image = Arguments::new().pointer(workspace).pointer(inputs.moments).pointer(of_image);
    let image = image.int(shape.c).int(shape.groups).int(cut.blocks);
    let groups = Arguments::new().pointer(of_image).pointer(inputs.moments).pointer(inputs.gamma).pointer(coefficients);
    let groups = groups.int(shape.n).int(shape.hw).int(shape.c).int(shape.groups);
    let parameters = Arguments::new().pointer(of_image).pointer(dgamma).pointer(dbeta).int(shape.n).int(shape.c);
    let apply = maps().pointer(coefficients).pointer(dx).int(vectors(shape)).int(shape.c);
    let columns = shape.c.div_ceil(COLUMNS);
    vec![
        launch("group_norm_gradient_sums", cut.grid(shape), THREADS, 2 * SHARED_SUMS, sums),
        launch("group_norm_gradient_image", [columns, shape.n, 1], THREADS, SHARED_COLUMNS, image),
        launch(
            "group_norm_gradient_groups",
            [(shape.n * shape.groups).div_ceil(THREADS / WARP), 1, 1],
            THREADS,
            0,
            groups,
        ),
        launch("group_norm_gradient_parameters", [columns, 1, 1], THREADS, SHARED_COLUMNS, parameters),
        launch("group_norm_gradient_apply", apply_grid(shape), THREADS, 0, apply),
    ]
}

/// One float per thread and channel of a vector.
const SHARED_SUMS: usize = 4 * THREADS * VECTOR;
/// Two doubles per thread.
const SHARED_COLUMNS: usize = 2 * 8 * THREADS;

/// The number of vectors of an image.
fn vectors(shape: &Shape) -> usize {
    shape.hw * shape.c / VECTOR
}

fn apply_grid(shape: &Shape) -> [usize; 3] {
    [vectors(shape).div_ceil(THREADS * APPLY_VECTORS), shape.n, 1]
}

fn launch(kernel: &'static str, grid: [usize; 3], threads: usize, shared_bytes: usize, arguments: Arguments) -> Launch {
    let (threads, shared_bytes) = (threads as u32, shared_bytes as u32);
    Launch { file: File::GROUP_NORM, kernel, grid: grid.map(|blocks| blocks as u32), threads, shared_bytes, arguments }
}

impl CudaOp for GroupNormRelu {
    fn cuda_scratch(&self, node: &CudaNode) -> usize {
        forward_workspace(&Shape::new(node.input_shape(0), self.groups))
    }

    fn lower(&self, node: &CudaNode) -> Vec<Work> {
        let shape = Shape::new(node.input_shape(0), self.groups);
        let parameters = [node.input(1), node.input(2)];
        work(forward(&shape, node.input(0), parameters, node.output(0), node.output(1), node.scratch))
    }

    fn check_for_cuda(&self, graph: &Graph, node: &Node) -> Result<()> {
        check_normed_channels(graph, node)
    }
}

impl CudaOp for GroupNormReluBackward {
    fn cuda_scratch(&self, node: &CudaNode) -> usize {
        backward_workspace(&Shape::new(node.input_shape(0), self.groups))
    }

    fn lower(&self, node: &CudaNode) -> Vec<Work> {
        let shape = Shape::new(node.input_shape(0), self.groups);
        let inputs = BackwardInputs {
            dy: node.input(0),
            x: node.input(1),
            y: node.input(2),
            moments: node.input(3),
            gamma: node.input(4),
        };
        work(backward(&shape, &inputs, node.output(0), [node.output(1), node.output(2)], node.scratch))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Data, plain_backward, plain_forward};
    use super::*;
    use crate::ops::testing::{Expected, Random, check_kernels, narrow, wide};

    fn data(shape: Shape, offset: f32) -> Data {
        let Shape { n, hw, c, .. } = shape;
        let mut random = Random::new((n * 1000 + hw * 10 + c) as u64);
        let x = wide(&random.activations(n * hw * c, offset - 1.5, offset + 2.0));
        let dy = wide(&random.activations(n * hw * c, -1.0, 1.0));
        let (gamma, beta) = (wide(&random.vector(c, -1.5, 1.5)), wide(&random.vector(c, -1.0, 1.0)));
        Data { shape, x, dy, gamma, beta }
    }

    #[test]
    fn kernels_match_plain_loops() {
        for (n, hw, c, groups, offset) in [
            (1, 1, 8, 1, 0.0),
            (2, 1, 24, 24, 0.0),
            (3, 9, 24, 3, 0.0),
            (2, 169, 64, 32, 0.0),
            (3, 350, 40, 5, 100.0),
            (2, 4100, 8, 2, 0.0),
            (1, 700, 272, 34, 0.0),
        ] {
            let data = data(Shape { n, hw, c, groups }, offset);
            let (y, moments) = plain_forward(&data);
            let [dx, dgamma, dbeta] = plain_backward(&data);
            let [x, dy, gamma, beta] = [&data.x, &data.dy, &data.gamma, &data.beta].map(|v| narrow(v));
            let (given_y, given_moments) = (narrow(&y), narrow(&moments));
            let largest_rstd = moments.iter().skip(1).step_by(2).fold(1.0, |a: f64, &b| a.max(b));
            // scale·x and shift are at most as large as the product of x, gamma and 1/deviation.
            let magnitude = (3.5 + f64::from(offset)) * 1.5 * largest_rstd;
            // A sum adds its thread's rows and then the other threads'. This happens twice, because the variance is a sum of
            // squares.
            let cut = Cut::new(&data.shape);
            let operations = 2 * (THREAD_ROWS + THREADS / cut.columns) + 16;
            let count = (n * hw) as f64;
            let expected = [
                Expected::within("y", operations, magnitude, y).stored(),
                Expected::within("moments", operations, magnitude * largest_rstd, moments),
                Expected::within("dx", operations, magnitude * largest_rstd, dx).stored(),
                Expected::within("dgamma", operations, (count * magnitude).max(8.0), dgamma),
                Expected::within("dbeta", operations, count.max(8.0), dbeta),
            ];
            check_kernels(&format!("group norm {:?}", data.shape), &expected, |board| {
                let shape = &data.shape;
                let len = n * hw * c;
                let (x, gamma, beta) = (board.activations(&x), board.floats(&gamma), board.floats(&beta));
                let (y, moments) = (board.activations_out(len), board.floats_out(n * groups * 2));
                let workspace = board.poisoned(forward_workspace(shape));
                board.run(&forward(shape, x, [gamma, beta], y, moments, workspace));
                let inputs = BackwardInputs {
                    dy: board.activations(&dy),
                    x,
                    y: board.activations(&given_y),
                    moments: board.floats(&given_moments),
                    gamma,
                };
                let dx = board.activations_out(len);
                // Gradients of parameters are added to the old values.
                let (dgamma, dbeta) = (board.floats(&vec![0.0; c]), board.floats(&vec![0.0; c]));
                let workspace = board.poisoned(backward_workspace(shape));
                let launches = backward(shape, &inputs, dx, [dgamma, dbeta], workspace);
                board.run(&launches);
                let once = [board.read_floats(dgamma, c), board.read_floats(dbeta, c)];
                board.run(&launches);
                for (once, twice) in once.iter().zip([dgamma, dbeta]) {
                    let twice = board.read_floats(twice, c);
                    assert!(once.iter().zip(twice).all(|(&once, twice)| twice == once + once));
                }
                let [dgamma, dbeta] = once;
                let (y, moments) = (board.read_activations(y, len), board.read_floats(moments, n * groups * 2));
                vec![y, moments, board.read_activations(dx, len), dgamma, dbeta]
            });
        }
    }
}
