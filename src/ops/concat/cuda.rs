//! The kernels that gather pyramid levels (`kernels/concat.cu`): how each is started. Maps have D channels padded to a
//! multiple of 8, what is gathered has D.

use crate::device::cuda::{Address, Arguments, File, Launch};

const VECTOR: usize = 8;
const THREADS: usize = 256;
/// Groups of four elements a thread of the forward takes, and vectors a thread of the backward takes.
const FORWARD_QUADS: usize = 4;
const BACKWARD_VECTORS: usize = 2;
const WARP: usize = 32;

/// Levels one pyramid may have: their addresses travel in the kernels' parameters.
pub const MAX_LEVELS: usize = 8;

/// One level: activations x `[N, cells, D]`, times `scale` (f32 `[1]`) where it has one.
#[derive(Clone, Copy, Debug)]
pub struct Level {
    pub x: Address,
    pub cells: usize,
    pub scale: Option<Address>,
}

/// Gradients of one level: activations dx `[N, cells, D]` are overwritten, dscale (f32 `[1]`) accumulates.
#[derive(Clone, Copy, Debug)]
pub struct LevelGradient {
    pub dx: Address,
    pub dscale: Option<Address>,
}

/// Levels' addresses, `cells` and first cells, as every kernel's struct begins with them.
fn begin(levels: &[Level], gradients: &[LevelGradient]) -> Arguments {
    assert!(levels.len() <= MAX_LEVELS, "a pyramid has at most {MAX_LEVELS} levels");
    let of_levels = |a: Arguments, address: &dyn Fn(usize) -> Option<Address>| {
        (0..MAX_LEVELS).fold(a, |a, i| a.optional(address(i)))
    };
    let arguments = of_levels(Arguments::new(), &|i| levels.get(i).map(|l| l.x));
    let arguments = of_levels(arguments, &|i| levels.get(i).and_then(|l| l.scale));
    let arguments = of_levels(arguments, &|i| gradients.get(i).map(|g| g.dx));
    let arguments = of_levels(arguments, &|i| gradients.get(i).and_then(|g| g.dscale));
    let cells = |i: usize| levels.get(i).map_or(0, |l| l.cells);
    let arguments = (0..MAX_LEVELS).fold(arguments, |a, i| a.int(cells(i)));
    (0..MAX_LEVELS).fold(arguments, |a, i| a.int((0..i).map(cells).sum()))
}

fn launch(kernel: &'static str, grid: [usize; 3], shared_bytes: usize, arguments: Arguments) -> Launch {
    let (grid, shared_bytes) = (grid.map(|blocks| blocks as u32), shared_bytes as u32);
    Launch { file: File::CONCAT, kernel, grid, threads: THREADS as u32, shared_bytes, arguments }
}

fn largest(levels: &[Level]) -> usize {
    levels.iter().map(|level| level.cells).max().unwrap_or(0)
}

fn total(levels: &[Level]) -> usize {
    levels.iter().map(|level| level.cells).sum()
}

/// out f32 `[N, A, D]`, A the sum of the levels' cells; at most [`MAX_LEVELS`] levels.
pub fn forward(n: usize, d: usize, levels: &[Level], out: Address) -> Launch {
    let blocks = (largest(levels) * d).div_ceil(4 * THREADS * FORWARD_QUADS);
    let arguments = begin(levels, &[]).pointer(out).int(total(levels)).int(d);
    launch("concat_forward", [blocks, n, levels.len()], 0, arguments)
}

/// Blocks along one level of one image in the backward.
fn backward_blocks(d: usize, levels: &[Level]) -> usize {
    (largest(levels) * d.div_ceil(VECTOR)).div_ceil(THREADS * BACKWARD_VECTORS)
}

/// Bytes [`backward`] needs.
pub fn backward_workspace(n: usize, d: usize, levels: &[Level]) -> usize {
    levels.len() * n * backward_blocks(d, levels) * size_of::<f32>()
}

/// From dout f32 `[N, A, D]`, each level's dx = scale·dout and dscale += Σ dout·x; the workspace holds
/// [`backward_workspace`] bytes and is used where a level has a dscale.
pub fn backward(
    n: usize,
    d: usize,
    dout: Address,
    levels: &[Level],
    gradients: &[LevelGradient],
    workspace: Address,
) -> Vec<Launch> {
    let blocks = backward_blocks(d, levels);
    let shared = THREADS / WARP * size_of::<f32>();
    let arguments = begin(levels, gradients).pointer(dout).pointer(workspace).int(n).int(total(levels)).int(d);
    let mut launches = vec![launch("concat_backward", [blocks, n, levels.len()], shared, arguments)];
    if gradients.iter().any(|gradient| gradient.dscale.is_some()) {
        let shared = THREADS / WARP * size_of::<f64>();
        let arguments = begin(levels, gradients).pointer(workspace).int(n * blocks);
        launches.push(launch("concat_backward_finish", [levels.len(), 1, 1], shared, arguments));
    }
    launches
}
