//! Launches the kernels that concatenate pyramid levels (`kernels/concat.cu`). The D channels of maps are padded to a
//! multiple of 8; the concatenated output has exactly D.

use super::{ConcatLevels, ConcatLevelsBackward};
use crate::device::cuda::{Address, Arguments, File, Launch, Work, work};
use crate::ops::cuda::{CudaNode, CudaOp, NO_SCRATCH, VECTOR};

const THREADS: usize = 256;
/// Groups of four elements per thread of the forward, and vectors per thread of the backward.
const FORWARD_QUADS: usize = 4;
const BACKWARD_VECTORS: usize = 2;
const WARP: usize = 32;

/// The most levels of one pyramid; their addresses are part of the kernels' parameters.
pub const MAX_LEVELS: usize = 8;

/// One level: activations x `[N, cells, D]`, times `scale` (f32 `[1]`) if it has one.
#[derive(Clone, Copy, Debug)]
pub struct Level {
    pub x: Address,
    pub cells: usize,
    pub scale: Option<Address>,
}

/// The gradients of one level: activations dx `[N, cells, D]` are overwritten, dscale (f32 `[1]`) is added to.
#[derive(Clone, Copy, Debug)]
pub struct LevelGradient {
    pub dx: Address,
    pub dscale: Option<Address>,
}

/// The levels' addresses, numbers of cells and first cells, with which every kernel's struct begins.
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

/// Writes out f32 `[N, A, D]`, where A is the sum of the levels' cells; at most [`MAX_LEVELS`] levels.
pub fn forward(n: usize, d: usize, levels: &[Level], out: Address) -> Launch {
    let blocks = (largest(levels) * d).div_ceil(4 * THREADS * FORWARD_QUADS);
    let arguments = begin(levels, &[]).pointer(out).int(total(levels)).int(d);
    launch("concat_forward", [blocks, n, levels.len()], 0, arguments)
}

/// The number of blocks along one level of one image in the backward.
fn backward_blocks(d: usize, levels: &[Level]) -> usize {
    (largest(levels) * d.div_ceil(VECTOR)).div_ceil(THREADS * BACKWARD_VECTORS)
}

/// Bytes of the workspace of [`backward`].
pub fn backward_workspace(n: usize, d: usize, levels: &[Level]) -> usize {
    levels.len() * n * backward_blocks(d, levels) * size_of::<f32>()
}

/// From dout f32 `[N, A, D]`, computes each level's dx = scale·dout and dscale += Σ dout·x. The workspace holds
/// [`backward_workspace`] bytes and is used only if a level has a dscale. No two levels share a dscale.
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

/// The levels among the inputs from `first` on, with their scales if there are any.
fn levels(node: &CudaNode, first: usize) -> Vec<Level> {
    let is_map = |&index: &usize| node.input_shape(index).len() == 4;
    let (maps, scales): (Vec<usize>, Vec<usize>) = (first..node.inputs.len()).partition(is_map);
    let level = |(position, &map): (usize, &usize)| {
        let s = node.input_shape(map);
        Level { x: node.input(map), cells: s[1] * s[2], scale: scales.get(position).map(|&index| node.input(index)) }
    };
    maps.iter().enumerate().map(level).collect()
}

impl CudaOp for ConcatLevels {
    fn cuda_scratch(&self, _node: &CudaNode) -> usize {
        NO_SCRATCH
    }

    fn lower(&self, node: &CudaNode) -> Vec<Work> {
        let s = node.output_shape(0);
        vec![forward(s[0], s[2], &levels(node, 0), node.output(0)).into()]
    }
}

impl CudaOp for ConcatLevelsBackward {
    fn cuda_scratch(&self, node: &CudaNode) -> usize {
        let s = node.input_shape(0);
        backward_workspace(s[0], s[2], &levels(node, 1))
    }

    fn lower(&self, node: &CudaNode) -> Vec<Work> {
        let levels = levels(node, 1);
        let gradient =
            |level: usize| LevelGradient { dx: node.output(level), dscale: node.optional_output(levels.len() + level) };
        let gradients: Vec<LevelGradient> = (0..levels.len()).map(gradient).collect();
        let s = node.input_shape(0);
        work(backward(s[0], s[2], node.input(0), &levels, &gradients, node.scratch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{Board, Expected, Random, check_kernels};

    const SCALES: [f32; 3] = [1.25, -0.5, 0.75];

    #[derive(Clone, Copy, PartialEq)]
    enum Scales {
        None,
        All,
        /// All levels but the second have a scale.
        ButOne,
    }

    #[test]
    fn gathering_matches_plain_loops() {
        for (n, d, cells) in [
            (1, 1, vec![1]),
            (2, 5, vec![9, 4, 1]),
            (3, 68, vec![49, 16, 4]),
            (2, 80, vec![400, 100, 25]),
            (1, 8, vec![70, 2]),
            (1, 91, vec![130, 30, 9]),
        ] {
            for scales in [Scales::None, Scales::All, Scales::ButOne] {
                check_gathering(n, d, &cells, scales);
            }
        }
    }

    /// Each level has random numbers `[N, cells, D]`; dout is `[N, A, D]`.
    fn check_gathering(n: usize, d: usize, cells: &[usize], scales: Scales) {
        let (mut random, total) = (Random::new((n * d) as u64), cells.iter().sum::<usize>());
        let xs: Vec<Vec<f32>> = cells.iter().map(|a| random.activations(n * a * d, -1.0, 1.0)).collect();
        let dout = random.vector(n * total * d, -1.0, 1.0);
        let scaled = |level: usize| scales == Scales::All || (scales == Scales::ButOne && level != 1);
        let scale = |level: usize| if scaled(level) { f64::from(SCALES[level]) } else { 1.0 };
        let (mut out, mut expected) = (vec![0.0; n * total * d], Vec::new());
        // The old value is 1.
        let (mut dscale, mut magnitudes) = (vec![1.0; cells.len()], vec![1.0; cells.len()]);
        let mut first = 0;
        for (level, (x, a)) in xs.iter().zip(cells).enumerate() {
            let mut dx = vec![0.0; n * a * d];
            for (i, &x) in x.iter().enumerate() {
                let at = (i / (a * d) * total + first) * d + i % (a * d);
                out[at] = scale(level) * f64::from(x);
                dx[i] = scale(level) * f64::from(dout[at]);
                if scaled(level) {
                    dscale[level] += f64::from(dout[at]) * f64::from(x);
                    magnitudes[level] += (f64::from(dout[at]) * f64::from(x)).abs();
                }
            }
            first += a;
            expected.push(Expected::near("dx", 1, pad(d, &dx, 0.0)).stored());
        }
        expected.insert(0, Expected::near("out", 1, out));
        // The products of a thread and the sums of a block; the last two roundings are of the total.
        let operations = BACKWARD_VECTORS * VECTOR + WARP.ilog2() as usize + THREADS / WARP + 2;
        expected.push(Expected::new("dscale", operations, (dscale, magnitudes)));
        let case = format!("concat [{n}, {cells:?}, {d}], {} scales", (0..cells.len()).filter(|&l| scaled(l)).count());
        check_kernels(&case, &expected, |board| {
            let levels: Vec<Level> = (xs.iter().zip(cells).enumerate())
                .map(|(level, (x, &cells))| Level {
                    x: board.activations(&pad(d, x, 0.0)),
                    cells,
                    scale: scaled(level).then(|| board.floats(&SCALES[level..][..1])),
                })
                .collect();
            let gradients: Vec<LevelGradient> = (xs.iter().enumerate())
                .map(|(level, x)| LevelGradient {
                    dx: board.activations_out(x.len() / d * d.next_multiple_of(VECTOR)),
                    dscale: scaled(level).then(|| board.floats(&[1.0])),
                })
                .collect();
            let (out, dout) = (board.floats_out(n * total * d), board.floats(&dout));
            let workspace = board.poisoned(backward_workspace(n, d, &levels));
            board.run(&[forward(n, d, &levels, out)]);
            board.run(&backward(n, d, dout, &levels, &gradients, workspace));
            let mut outputs = vec![board.read_floats(out, n * total * d)];
            let padded = |x: &Vec<f32>| x.len() / d * d.next_multiple_of(VECTOR);
            outputs.extend(gradients.iter().zip(&xs).map(|(g, x)| board.read_activations(g.dx, padded(x))));
            let read = |board: &Board, at: Option<Address>| at.map_or(1.0, |at| board.read_floats(at, 1)[0]);
            outputs.push(gradients.iter().map(|g| read(board, g.dscale)).collect());
            outputs
        });
    }

    /// Rows of D numbers with the padding that maps have in memory.
    fn pad<T: Copy>(d: usize, rows: &[T], zero: T) -> Vec<T> {
        let padding = vec![zero; d.next_multiple_of(VECTOR) - d];
        rows.chunks_exact(d).flat_map(|row| [row, &padding].concat()).collect()
    }
}
