//! Group norm's kernels (`kernels/group_norm.cu`): how each pass is started.

use super::EPSILON;
use super::cpu::Shape;
use crate::device::cuda::{Address, Arguments, File, Launch};

const VECTOR: usize = 8;
const THREADS: usize = 256;
/// Vectors of a row that one block of the sums takes.
const SLICE: usize = 32;
/// Rows a thread of the sums takes.
const THREAD_ROWS: usize = 16;
/// Vectors a thread of the last pass takes.
const APPLY_VECTORS: usize = 4;
const MERGE_THREADS: usize = 128;
/// Channels of a block that adds up columns.
const COLUMNS: usize = 32;
const WARP: usize = 32;

/// How the sums over the rows of `[N, HW, C]` are cut into blocks.
struct Cut {
    /// Vectors of a row a block takes, and how often that makes a row.
    columns: usize,
    slices: usize,
    /// Rows of a block, and how often that makes an image.
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

    /// Floats of the sums: `[N, blocks, 2, C]`.
    fn len(&self, shape: &Shape) -> usize {
        shape.n * self.blocks * 2 * shape.c
    }
}

/// What the backward reads: dy, x, y `[N, HW, C]` activations, moments `[N, groups, 2]`, gamma `[C]`.
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

/// dx `[N, HW, C]` activations; dgamma and dbeta `[C]` accumulate.
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

/// Vectors of an image.
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
