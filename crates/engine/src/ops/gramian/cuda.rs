//! Launches the kernels for the inner products of the tasks' gradients (`kernels/gramian.cu`).

use crate::device::cuda::{Address, Arguments, File, Launch, Work, work};
use crate::error::{Error, Result};
use crate::ir::{DType, Gramian, Graph, Node, TermForm};
use crate::ops::combine::cuda::{MAX_TERMS, Term};
use crate::ops::cuda::{CudaNode, CudaOp, VECTOR, image};

const THREADS: usize = 128;
const WARP: usize = 32;
/// Elements per block: eight vectors per thread.
const BLOCK: usize = THREADS * 8 * VECTOR;
/// The number of terms on each side whose products a thread keeps in registers, and the number of these products.
const TILE: usize = 4;
const TILE_PRODUCTS: usize = TILE * TILE;
const SHARED_PRODUCTS: usize = 4 * THREADS / WARP * TILE_PRODUCTS;
const SHARED_SUM: usize = 8 * THREADS / WARP;

/// The layout of the gradients.
#[derive(Clone, Copy, Debug)]
pub enum GradientLayout {
    /// A map with `c` channels in memory, padded to a multiple of 8; pooled gradients have `pooled_c`.
    Map { n: usize, hw: usize, c: usize, pooled_c: usize },
    /// `len` floats without padding; their products are multiplied by `scale`.
    Floats { len: usize, scale: f32 },
}

impl GradientLayout {
    /// The number of images, and of elements of each.
    fn images(self) -> [usize; 2] {
        match self {
            GradientLayout::Map { n, hw, c, .. } => [n, hw * c],
            GradientLayout::Floats { len, .. } => [1, len],
        }
    }

    fn grid(self) -> [usize; 3] {
        let [images, elements] = self.images();
        [elements.div_ceil(BLOCK), images, 1]
    }
}

/// Bytes of the workspace of [`gramian`].
pub fn gramian_workspace(of: GradientLayout, terms: usize) -> usize {
    let tiles = terms.div_ceil(TILE);
    4 * TILE_PRODUCTS * tiles * (tiles + 1) / 2 * of.grid().iter().product::<usize>()
}

/// out f32 `[tasks, tasks]` = the inner products of the tasks' gradients; a task's gradient is the sum of its terms. There are at
/// most [`MAX_TERMS`] terms and as many tasks.
pub fn gramian(of: GradientLayout, tasks: usize, terms: &[Term], workspace: Address, out: Address) -> Vec<Launch> {
    assert!(terms.len().max(tasks) <= MAX_TERMS, "a Gramian has at most {MAX_TERMS} gradients");
    let mut sorted = terms.to_vec();
    sorted.sort_by_key(|term| term.task);
    let grid = of.grid();
    let blocks = grid.iter().product();
    let products = (blocks > 0).then(|| multiply(of, &sorted, grid, workspace));
    // Without elements there is nothing to add up.
    let starts = |task: usize| if blocks > 0 { sorted.partition_point(|term| term.task < task) } else { 0 };
    let scale = match of {
        GradientLayout::Map { .. } => 1.0,
        GradientLayout::Floats { scale, .. } => scale,
    };
    let arguments = Arguments::new().pointer(workspace).pointer(out);
    let arguments = (0..=MAX_TERMS).fold(arguments, |a, task| a.int(starts(task)));
    let arguments = arguments.int(terms.len().div_ceil(TILE)).int(blocks).float(scale);
    let finish = launch("gramian_finish", [tasks, tasks, 1], SHARED_SUM, arguments);
    products.into_iter().chain((tasks > 0).then_some(finish)).collect()
}

fn multiply(of: GradientLayout, terms: &[Term], grid: [usize; 3], workspace: Address) -> Launch {
    let term = |i: usize| terms.get(i);
    let arguments = (0..MAX_TERMS).fold(Arguments::new(), |a, i| a.optional(term(i).map(|t| t.gradient)));
    let pooled = |i: usize| term(i).is_some_and(|t| t.form == TermForm::Pooled);
    let arguments = (0..MAX_TERMS).fold(arguments, |a, i| a.int(usize::from(pooled(i))));
    let arguments = arguments.pointer(workspace).int(terms.len()).int(of.images()[1]);
    let (kernel, [c, pooled_c], share) = match of {
        GradientLayout::Map { hw, c, pooled_c, .. } => ("gramian", [c, pooled_c], 1.0 / hw as f32),
        GradientLayout::Floats { .. } => ("gramian_floats", [1, 1], 1.0),
    };
    let arguments = arguments.int(c).int(pooled_c).float(share).int(grid.iter().product());
    launch(kernel, grid, SHARED_PRODUCTS, arguments)
}

fn launch(kernel: &'static str, grid: [usize; 3], shared_bytes: usize, arguments: Arguments) -> Launch {
    let (threads, shared_bytes) = (THREADS as u32, shared_bytes as u32);
    Launch { file: File::GRAMIAN, kernel, grid: grid.map(|blocks| blocks as u32), threads, shared_bytes, arguments }
}

/// The layout of a node's gradients. A weight's gradients are plain floats. So are gradients that are all pooled: the sum over
/// all pixels is the product of one pixel divided by the number of pixels.
fn of(op: &Gramian, node: &CudaNode) -> GradientLayout {
    let value = |form: TermForm| {
        let index = op.terms.iter().position(|term| term.1 == form)?;
        Some(node.physical.value(node.node.inputs[index]))
    };
    match (value(TermForm::Dense), value(TermForm::Pooled)) {
        (None, None) => GradientLayout::Floats { len: 0, scale: 1.0 },
        (None, Some(pooled)) => GradientLayout::Floats { len: pooled.len(), scale: 1.0 / op.pixels.max(1) as f32 },
        (Some(dense), None) if dense.dtype == DType::F32 => GradientLayout::Floats { len: dense.len(), scale: 1.0 },
        (Some(dense), pooled) => {
            let [n, h, w, c] = image(&dense.shape);
            GradientLayout::Map { n, hw: h * w, c, pooled_c: pooled.map_or(0, |pooled| pooled.shape[1]) }
        }
    }
}

impl CudaOp for Gramian {
    fn cuda_scratch(&self, node: &CudaNode) -> usize {
        gramian_workspace(of(self, node), self.terms.len())
    }

    fn lower(&self, node: &CudaNode) -> Vec<Work> {
        let term =
            |(index, &(task, form)): (usize, &(usize, TermForm))| Term { task, form, gradient: node.input(index) };
        let terms: Vec<Term> = self.terms.iter().enumerate().map(term).collect();
        work(gramian(of(self, node), self.tasks, &terms, node.scratch, node.output(0)))
    }

    fn check_for_cuda(&self, _graph: &Graph, _node: &Node) -> Result<()> {
        let most = self.terms.len().max(self.tasks);
        if most > MAX_TERMS {
            return Err(Error::Usage(format!("the gradients of {most} tasks: a GPU can compare at most {MAX_TERMS}")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{case, expected};
    use super::*;
    use crate::ir::TermForm::{Dense, Pooled};
    use crate::ops::testing::check_kernels;

    /// A map's gradient with zeros after its channels, up to the number of channels in memory.
    fn padded(gradient: &[f32], c: usize, stored: usize) -> Vec<f32> {
        gradient.chunks_exact(c).flat_map(|row| row.iter().copied().chain(vec![0.0; stored - c])).collect()
    }

    #[test]
    fn products_of_maps_match_plain_loops() {
        for [n, hw, c] in [[1, 1, 8], [2, 49, 20], [3, 700, 24], [0, 4, 8usize]] {
            let stored = c.next_multiple_of(VECTOR);
            for (tasks, terms) in [
                (1, vec![(0, Dense)]),
                (3, vec![(2, Dense), (1, Pooled)]),
                (4, vec![(0, Dense), (2, Pooled), (3, Pooled), (2, Dense), (3, Dense)]),
                (6, (0..9).map(|i| (i * 5 % 6, if i % 3 == 0 { Pooled } else { Dense })).collect()),
                (MAX_TERMS, (0..MAX_TERMS).map(|i| (i, if i % 5 == 4 { Pooled } else { Dense })).collect()),
            ] {
                let gradients = case([n, hw, c], &terms);
                let expected = [expected([n, hw, c], tasks, &terms, &gradients, n * hw * c + 8)];
                check_kernels(&format!("gramian {n} × {hw} × {c}, {} terms", terms.len()), &expected, |board| {
                    let of = GradientLayout::Map { n, hw, c: stored, pooled_c: c };
                    let terms: Vec<Term> = (terms.iter().zip(&gradients))
                        .map(|(&(task, form), gradient)| {
                            let gradient = match form {
                                Dense => board.activations(&padded(gradient, c, stored)),
                                Pooled => board.floats(gradient),
                            };
                            Term { task, form, gradient }
                        })
                        .collect();
                    let workspace = board.poisoned(gramian_workspace(of, terms.len()));
                    let out = board.floats_out(tasks * tasks);
                    board.run(&gramian(of, tasks, &terms, workspace, out));
                    vec![board.read_floats(out, tasks * tasks)]
                });
            }
        }
    }

    #[test]
    fn products_of_floats_match_plain_loops() {
        for len in [0, 1, 7, 20_001] {
            for (tasks, terms) in [
                (0, vec![]),
                (2, vec![]),
                (3, vec![(2, Dense), (0, Dense)]),
                (5, (0..5).map(|task| (task, Dense)).collect()),
            ] {
                let gradients = case([1, 1, len], &terms);
                let expected = [expected([1, 1, len], tasks, &terms, &gradients, len + 8)];
                check_kernels(&format!("gramian of {len} floats, {} terms", terms.len()), &expected, |board| {
                    let of = GradientLayout::Floats { len, scale: 1.0 };
                    let terms: Vec<Term> = (terms.iter().zip(&gradients))
                        .map(|(&(task, form), gradient)| Term { task, form, gradient: board.floats(gradient) })
                        .collect();
                    let workspace = board.poisoned(gramian_workspace(of, terms.len()));
                    let out = board.floats_out(tasks * tasks);
                    board.run(&gramian(of, tasks, &terms, workspace, out));
                    vec![board.read_floats(out, tasks * tasks)]
                });
            }
        }
    }
}
