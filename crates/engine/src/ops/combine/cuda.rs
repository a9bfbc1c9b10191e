//! Launches the kernels of the gradient sums (`kernels/combine.cu`). C is a multiple of 8.

use super::{Add, Clear};
use crate::device::cuda::{Address, Arguments, File, Launch, Work};
use crate::error::{Error, Result};
use crate::ir::{Combine, Graph, Node, TermForm};
use crate::ops::cuda::{CudaNode, CudaOp, NO_SCRATCH, image};

const VECTOR: usize = 8;
const THREADS: usize = 128;
/// Vectors per thread.
const VECTORS: usize = 4;
const FLOAT_THREADS: usize = 256;

/// The most terms of one seam; their addresses are part of the kernel's parameters.
pub const MAX_TERMS: usize = 32;

/// One task's gradient at a shared feature: activations `[N, HW, C]`, or f32 `[N, C]`, the gradient of the mean over HW.
#[derive(Clone, Copy, Debug)]
pub struct Term {
    pub task: usize,
    pub form: TermForm,
    pub gradient: Address,
}

fn launch(kernel: &'static str, grid: [usize; 3], threads: usize, arguments: Arguments) -> Launch {
    let grid = grid.map(|blocks| blocks as u32);
    Launch { file: File::COMBINE, kernel, grid, threads: threads as u32, shared_bytes: 0, arguments }
}

/// out `[N, HW, C]` = Σ weight·gradient, terms in order and at most [`MAX_TERMS`]. The weights are f32 in device memory, indexed
/// by task. A term whose weight is exactly 0 is not read.
pub fn combine([n, hw, c]: [usize; 3], terms: &[Term], task_weights: Address, out: Address) -> Launch {
    assert!(terms.len() <= MAX_TERMS, "a feature is shared by at most {MAX_TERMS} tasks");
    let term = |i: usize| terms.get(i);
    let arguments = (0..MAX_TERMS).fold(Arguments::new(), |a, i| a.optional(term(i).map(|t| t.gradient)));
    let arguments = (0..MAX_TERMS).fold(arguments, |a, i| a.int(term(i).map_or(0, |t| t.task)));
    let pooled = |i: usize| term(i).is_some_and(|t| t.form == TermForm::Pooled);
    let arguments = (0..MAX_TERMS).fold(arguments, |a, i| a.int(usize::from(pooled(i))));
    let arguments = arguments.pointer(task_weights).pointer(out).int(terms.len()).int(hw).int(c);
    launch("combine", [(hw * c / VECTOR).div_ceil(THREADS * VECTORS), n, 1], THREADS, arguments)
}

/// out = a + b, activations `[len]`, len a multiple of 8; out may be a or b.
pub fn add(len: usize, a: Address, b: Address, out: Address) -> Launch {
    let vectors = len / VECTOR;
    let arguments = Arguments::new().pointer(a).pointer(b).pointer(out).int(vectors);
    launch("add", [vectors.div_ceil(THREADS * VECTORS), 1, 1], THREADS, arguments)
}

/// out = a + b, f32 `[len]`; out may be a or b.
pub fn add_floats(len: usize, a: Address, b: Address, out: Address) -> Launch {
    let arguments = Arguments::new().pointer(a).pointer(b).pointer(out).int(len);
    launch("add_floats", [len.div_ceil(FLOAT_THREADS), 1, 1], FLOAT_THREADS, arguments)
}

/// out = 0, f32 `[len]`.
pub fn clear(len: usize, out: Address) -> Launch {
    let arguments = Arguments::new().pointer(out).int(len);
    launch("clear", [len.div_ceil(FLOAT_THREADS), 1, 1], FLOAT_THREADS, arguments)
}

impl CudaOp for Combine {
    fn cuda_scratch(&self, _node: &CudaNode) -> usize {
        NO_SCRATCH
    }

    fn lower(&self, node: &CudaNode) -> Vec<Work> {
        let term =
            |(index, &(task, form)): (usize, &(usize, TermForm))| Term { task, form, gradient: node.input(index) };
        let terms: Vec<Term> = self.terms.iter().enumerate().map(term).collect();
        let [n, h, w, c] = image(node.output_shape(0));
        vec![combine([n, h * w, c], &terms, node.scalars.task_weights, node.output(0)).into()]
    }

    fn check_for_cuda(&self, _graph: &Graph, _node: &Node) -> Result<()> {
        let tasks = self.terms.len();
        if tasks > MAX_TERMS {
            return Err(Error::Usage(format!("{tasks} tasks share one trunk: a GPU supports at most {MAX_TERMS}")));
        }
        Ok(())
    }
}

impl CudaOp for Add {
    fn cuda_scratch(&self, _node: &CudaNode) -> usize {
        NO_SCRATCH
    }

    fn lower(&self, node: &CudaNode) -> Vec<Work> {
        let shape = node.output_shape(0);
        let add = if shape.len() == 4 { add } else { add_floats };
        vec![add(shape.iter().product(), node.input(0), node.input(1), node.output(0)).into()]
    }
}

impl CudaOp for Clear {
    fn cuda_scratch(&self, _node: &CudaNode) -> usize {
        NO_SCRATCH
    }

    fn lower(&self, node: &CudaNode) -> Vec<Work> {
        vec![clear(node.output_shape(0).iter().product(), node.output(0)).into()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::TermForm::{Dense, Pooled};
    use crate::ops::testing::{Expected, Random, check_kernels};

    /// Indexed by task; task 2 is absent.
    const WEIGHTS: [f32; 4] = [0.7, 1.9, 0.0, -0.4];

    /// Terms of weight 0 hold NaN, which must not reach the sum.
    #[test]
    fn combine_matches_plain_loops_and_skips_zero_weights() {
        for [n, hw, c] in [[1, 1, 8], [2, 49, 24], [3, 7, 64], [2, 70, 72], [1, 300, 16]] {
            for terms in [
                vec![],
                vec![(2, Dense)],
                vec![(1, Dense)],
                vec![(3, Pooled)],
                vec![(0, Dense), (2, Pooled), (3, Pooled), (1, Dense), (2, Dense)],
                (0..MAX_TERMS).map(|i| (i % 4, if i % 3 == 0 { Pooled } else { Dense })).collect(),
            ] {
                let mut random = Random::new((n * hw * c) as u64);
                let gradients: Vec<Vec<f32>> = (terms.iter())
                    .map(|&(task, form)| {
                        let len = if form == Dense { n * hw * c } else { n * c };
                        let gradient = random.activations(len, -1.0, 1.0);
                        if WEIGHTS[task] == 0.0 { vec![f32::NAN; len] } else { gradient }
                    })
                    .collect();
                let (mut out, mut magnitudes) = (vec![0.0; n * hw * c], vec![0.0; n * hw * c]);
                for (&(task, form), gradient) in terms.iter().zip(&gradients).filter(|((t, _), _)| WEIGHTS[*t] != 0.0) {
                    for i in 0..n * hw * c {
                        let v = match form {
                            Dense => f64::from(gradient[i]),
                            Pooled => f64::from(gradient[i / (hw * c) * c + i % c]) / hw as f64,
                        };
                        out[i] += f64::from(WEIGHTS[task]) * v;
                        magnitudes[i] += (f64::from(WEIGHTS[task]) * v).abs();
                    }
                }
                let expected = [Expected::new("out", terms.len() + 2, (out, magnitudes)).stored()];
                check_kernels(&format!("combine {n} × {hw} × {c}, {} terms", terms.len()), &expected, |board| {
                    let weights = board.floats(&WEIGHTS);
                    let terms: Vec<Term> = (terms.iter().zip(&gradients))
                        .map(|(&(task, form), gradient)| {
                            let gradient =
                                if form == Dense { board.activations(gradient) } else { board.floats(gradient) };
                            Term { task, form, gradient }
                        })
                        .collect();
                    let out = board.activations_out(n * hw * c);
                    board.run(&[combine([n, hw, c], &terms, weights, out)]);
                    vec![board.read_activations(out, n * hw * c)]
                });
            }
        }
    }

    #[test]
    fn add_matches_plain_loops() {
        for len in [8, 520, 4096, 5000] {
            let mut random = Random::new(len as u64);
            let (a, b) = (random.activations(len, -1.0, 1.0), random.activations(len, -1.0, 1.0));
            let sum: Vec<f64> = a.iter().zip(&b).map(|(&a, &b)| f64::from(a) + f64::from(b)).collect();
            let short = len - 3;
            let expected = [
                Expected::near("out", 1, sum.clone()).stored(),
                Expected::near("in place", 1, sum.clone()).stored(),
                Expected::near("floats", 1, sum[..short].to_vec()),
            ];
            check_kernels(&format!("add {len}"), &expected, |board| {
                let (x, y, out) = (board.activations(&a), board.activations(&b), board.activations_out(len));
                let (p, q, floats) = (board.floats(&a[..short]), board.floats(&b[..short]), board.floats_out(short));
                board.run(&[add(len, x, y, out), add(len, x, y, x), add_floats(short, p, q, floats)]);
                let sums = [out, x].map(|sum| board.read_activations(sum, len));
                let [out, in_place] = sums;
                vec![out, in_place, board.read_floats(floats, short)]
            });
        }
    }

    #[test]
    fn clear_writes_zeros_and_nothing_behind_them() {
        for len in [1, 256, 5001] {
            let mut zeros = vec![0.0; len];
            zeros.push(f64::NAN);
            check_kernels(&format!("clear {len}"), &[Expected::exact("out", zeros)], |board| {
                let out = board.floats_out(len + 1);
                board.run(&[clear(len, out)]);
                vec![board.read_floats(out, len + 1)]
            });
        }
    }
}
