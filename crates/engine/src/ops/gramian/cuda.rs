//! The kernels of the tasks' inner products (`kernels/gramian.cu`): how each is started.

use crate::device::cuda::{Address, Arguments, File, Launch, Work, work};
use crate::error::{Error, Result};
use crate::ir::{DType, Gramian, Graph, Node, TermForm};
use crate::ops::combine::cuda::{MAX_TERMS, Term};
use crate::ops::cuda::{CudaNode, CudaOp, VECTOR, image};

const THREADS: usize = 128;
const WARP: usize = 32;
/// Elements of a block: eight vectors a thread.
const BLOCK: usize = THREADS * 8 * VECTOR;
/// Terms whose products a thread has in registers, and those products.
const TILE: usize = 4;
const TILE_PRODUCTS: usize = TILE * TILE;
const SHARED_PRODUCTS: usize = 4 * THREADS / WARP * TILE_PRODUCTS;
const SHARED_SUM: usize = 8 * THREADS / WARP;

/// The layout of the gradients.
#[derive(Clone, Copy, Debug)]
pub enum Of {
    /// A map with its channels padded to a multiple of 8, and those of them that pooled gradients have.
    Map { n: usize, hw: usize, c: usize, pooled_c: usize },
    /// That many floats side by side, whatever they are; their products are multiplied by `scale`.
    Floats { len: usize, scale: f32 },
}

impl Of {
    /// Images, and elements of each.
    fn images(self) -> [usize; 2] {
        match self {
            Of::Map { n, hw, c, .. } => [n, hw * c],
            Of::Floats { len, .. } => [1, len],
        }
    }

    fn grid(self) -> [usize; 3] {
        let [images, elements] = self.images();
        [elements.div_ceil(BLOCK), images, 1]
    }
}

/// Bytes of the workspace of [`gramian`].
pub fn gramian_workspace(of: Of, terms: usize) -> usize {
    let tiles = terms.div_ceil(TILE);
    4 * TILE_PRODUCTS * tiles * (tiles + 1) / 2 * of.grid().iter().product::<usize>()
}

/// out f32 `[tasks, tasks]` = the inner products of the tasks' gradients, each the sum of its terms, of which there are at most
/// [`MAX_TERMS`] and no more tasks than that.
pub fn gramian(of: Of, tasks: usize, terms: &[Term], workspace: Address, out: Address) -> Vec<Launch> {
    assert!(terms.len().max(tasks) <= MAX_TERMS, "a Gramian is of at most {MAX_TERMS} gradients");
    let mut sorted = terms.to_vec();
    sorted.sort_by_key(|term| term.task);
    let grid = of.grid();
    let blocks = grid.iter().product();
    let products = (blocks > 0).then(|| multiply(of, &sorted, grid, workspace));
    // Without an element there is nothing to add up.
    let starts = |task: usize| if blocks > 0 { sorted.partition_point(|term| term.task < task) } else { 0 };
    let scale = match of {
        Of::Map { .. } => 1.0,
        Of::Floats { scale, .. } => scale,
    };
    let arguments = Arguments::new().pointer(workspace).pointer(out);
    let arguments = (0..=MAX_TERMS).fold(arguments, |a, task| a.int(starts(task)));
    let arguments = arguments.int(terms.len().div_ceil(TILE)).int(blocks).float(scale);
    let finish = launch("gramian_finish", [tasks, tasks, 1], SHARED_SUM, arguments);
    products.into_iter().chain((tasks > 0).then_some(finish)).collect()
}

fn multiply(of: Of, terms: &[Term], grid: [usize; 3], workspace: Address) -> Launch {
    let term = |i: usize| terms.get(i);
    let arguments = (0..MAX_TERMS).fold(Arguments::new(), |a, i| a.optional(term(i).map(|t| t.gradient)));
    let pooled = |i: usize| term(i).is_some_and(|t| t.form == TermForm::Pooled);
    let arguments = (0..MAX_TERMS).fold(arguments, |a, i| a.int(usize::from(pooled(i))));
    let arguments = arguments.pointer(workspace).int(terms.len()).int(of.images()[1]);
    let (kernel, [c, pooled_c], share) = match of {
        Of::Map { hw, c, pooled_c, .. } => ("gramian", [c, pooled_c], 1.0 / hw as f32),
        Of::Floats { .. } => ("gramian_floats", [1, 1], 1.0),
    };
    let arguments = arguments.int(c).int(pooled_c).float(share).int(grid.iter().product());
    launch(kernel, grid, SHARED_PRODUCTS, arguments)
}

fn launch(kernel: &'static str, grid: [usize; 3], shared_bytes: usize, arguments: Arguments) -> Launch {
    let (threads, shared_bytes) = (THREADS as u32, shared_bytes as u32);
    Launch { file: File::GRAMIAN, kernel, grid: grid.map(|blocks| blocks as u32), threads, shared_bytes, arguments }
}

/// The layout of a node's gradients. A weight's are floats side by side. So are gradients that are all pooled: all pixels together
/// have the products of one, divided by their number.
fn of(op: &Gramian, node: &CudaNode) -> Of {
    let value = |form: TermForm| {
        let index = op.terms.iter().position(|term| term.1 == form)?;
        Some(node.physical.value(node.node.inputs[index]))
    };
    match (value(TermForm::Dense), value(TermForm::Pooled)) {
        (None, None) => Of::Floats { len: 0, scale: 1.0 },
        (None, Some(pooled)) => Of::Floats { len: pooled.len(), scale: 1.0 / op.pixels.max(1) as f32 },
        (Some(dense), None) if dense.dtype == DType::F32 => Of::Floats { len: dense.len(), scale: 1.0 },
        (Some(dense), pooled) => {
            let [n, h, w, c] = image(&dense.shape);
            Of::Map { n, hw: h * w, c, pooled_c: pooled.map_or(0, |pooled| pooled.shape[1]) }
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
            return Err(Error::Usage(format!("the gradients of {most} tasks: a GPU compares up to {MAX_TERMS}")));
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

    /// Channels in memory, behind which a map has zeros.
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
                    let of = Of::Map { n, hw, c: stored, pooled_c: c };
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
                    let of = Of::Floats { len, scale: 1.0 };
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
