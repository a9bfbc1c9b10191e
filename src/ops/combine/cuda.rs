//! The kernels of the gradient sums (`kernels/combine.cu`): how each is started. C is a multiple of 8.

use crate::device::cuda::{Address, Arguments, File, Launch};
use crate::graph::ir::TermForm;

const VECTOR: usize = 8;
const THREADS: usize = 128;
/// Vectors of a thread.
const VECTORS: usize = 4;
const FLOAT_THREADS: usize = 256;

/// Terms one seam may have: their addresses travel in the kernel's parameters.
pub const MAX_TERMS: usize = 32;

/// One task's gradient at a shared feature: activations `[N, HW, C]`, or f32 `[N, C]` of the mean over HW.
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

/// out `[N, HW, C]` = Σ weight·gradient, terms in order and at most [`MAX_TERMS`], the weights f32 in device memory by task. A
/// weight of exactly 0 leaves its term unread.
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
