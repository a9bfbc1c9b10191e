//! Inner products of the tasks' gradients on the CPU. One pass reads every gradient once, a piece of all of them at a time.

use crate::device::cpu::{Cpu, SharedMut};
use crate::ir::{Gramian, TermForm};
use crate::ops::cpu::{CpuNode, CpuOp, Operands};
use std::ops::Range;

/// Elements of an image per parallel task.
const TASK_LEN: usize = 1 << 15;
/// Elements of all terms together that stay in the L1 cache while every pair of terms is multiplied.
const PIECE: usize = 1 << 13;
/// The number of f32 sums in parallel, and of f64 sums that they are added to.
const LANES: usize = 32;
const WIDE_LANES: usize = 8;

/// One task's gradient.
#[derive(Clone, Copy)]
pub struct Term<'a> {
    pub task: usize,
    /// `[N, HW, C]`, or `[N, C]`: the gradient of the mean over HW.
    pub gradient: &'a [f32],
    pub form: TermForm,
}

/// The split of the gradients into parallel tasks. It depends only on the shapes and the forms.
struct Cut {
    n: usize,
    hw: usize,
    c: usize,
    /// The number of elements visited per image. If every term is pooled, all pixels are alike and one is enough.
    image: usize,
    /// The number of elements of a term visited together; within one pixel if any term is pooled.
    piece: usize,
    terms: usize,
    pooled: bool,
}

impl Cut {
    fn new([n, hw, c]: [usize; 3], forms: &[TermForm]) -> Cut {
        let dense = forms.contains(&TermForm::Dense);
        let piece = (PIECE / forms.len().max(1)).clamp(2 * LANES, 1 << 11);
        let image = if dense { hw * c } else { hw.min(1) * c };
        Cut { n, hw, c, image, piece, terms: forms.len(), pooled: forms.contains(&TermForm::Pooled) }
    }

    fn tasks_of_image(&self) -> usize {
        self.image.div_ceil(TASK_LEN)
    }

    fn tasks(&self) -> usize {
        self.n * self.tasks_of_image()
    }

    /// The number of products of two terms, including each term with itself.
    fn products(&self) -> usize {
        self.terms * (self.terms + 1) / 2
    }

    /// The end of the piece that starts at `element` of an image, and its first channel.
    #[inline(always)]
    fn piece(&self, element: usize, end: usize) -> (usize, usize) {
        let channel = element % self.c;
        let longest = if self.pooled { self.piece.min(self.c - channel) } else { self.piece };
        ((element + longest).min(end), channel)
    }
}

/// The scratch memory of [`gramian`] in f32: for each parallel task, the products of every pair of terms in f64.
pub fn gramian_scratch(shape: [usize; 3], forms: &[TermForm]) -> usize {
    let cut = Cut::new(shape, forms);
    2 * cut.tasks() * cut.products()
}

/// out `[K, K]` = the inner products of K tasks' gradients of a value `[N, HW, C]`; a task's gradient is the sum of its terms.
/// Products are added in f32 within a piece and in f64 beyond it.
pub fn gramian(cpu: &Cpu, shape: [usize; 3], terms: &[Term], scratch: &mut [f32], out: &mut [f32]) {
    let forms: Vec<TermForm> = terms.iter().map(|term| term.form).collect();
    let (cut, tasks) = (Cut::new(shape, &forms), out.len().isqrt());
    let products = cut.products();
    // SAFETY: any eight bytes are an f64; the part before a multiple of eight bytes is left out.
    let (_, partials, _) = unsafe { scratch.align_to_mut::<f64>() };
    let partials = &mut partials[..cut.tasks() * products];
    let shared = SharedMut::new(partials);
    cpu.parallel(
        cut.tasks(),
        #[inline(always)]
        |task| {
            // SAFETY: tasks' ranges do not overlap, and each is visited once.
            let sums = unsafe { shared.range(task * products..(task + 1) * products) };
            sums.fill(0.0);
            let image = task / cut.tasks_of_image();
            let first = task % cut.tasks_of_image() * TASK_LEN;
            add_products(&cut, terms, image, first..(first + TASK_LEN).min(cut.image), sums);
        },
    );
    let mut gramian = vec![0.0; out.len()];
    for sums in partials.chunks_exact(products.max(1)) {
        for ((a, b), sum) in pairs(cut.terms).zip(sums) {
            let (row, column) = (terms[a].task, terms[b].task);
            gramian[row * tasks + column] += sum;
            if a != b {
                gramian[column * tasks + row] += sum;
            }
        }
    }
    out.iter_mut().zip(gramian).for_each(|(out, sum)| *out = sum as f32);
}

/// Every pair of `terms`, including each term with itself.
#[inline(always)]
fn pairs(terms: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..terms).flat_map(move |a| (a..terms).map(move |b| (a, b)))
}

/// Adds the products of every pair of terms over some elements of an image. The gradient of a mean is the same at every pixel:
/// its value divided by HW. For two pooled terms, the sum over all pixels is therefore the product of one pixel divided by HW.
#[inline(always)]
fn add_products(cut: &Cut, terms: &[Term], image: usize, elements: Range<usize>, sums: &mut [f64]) {
    let (dense, pooled) = (image * cut.hw * cut.c, image * cut.c);
    let share = 1.0 / cut.hw as f64;
    let mut element = elements.start;
    while element < elements.end {
        let (end, channel) = cut.piece(element, elements.end);
        let mut sums = sums.iter_mut();
        for (index, a) in terms.iter().enumerate() {
            for b in &terms[index..] {
                let Some(sum) = sums.next() else { break };
                let piece = |of: &Term| match of.form {
                    TermForm::Dense => dense + element..dense + end,
                    TermForm::Pooled => pooled + channel..pooled + channel + end - element,
                };
                let factor = match (a.form, b.form) {
                    (TermForm::Dense, TermForm::Dense) => 1.0,
                    (TermForm::Pooled, TermForm::Pooled) if element >= cut.c => continue,
                    _ => share,
                };
                *sum += factor * dot(&a.gradient[piece(a)], &b.gradient[piece(b)]);
            }
        }
        element = end;
    }
}

/// Σ a·b of two slices of the same length.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let mut wide = [0.0f64; WIDE_LANES];
    for sums in sums.as_chunks::<WIDE_LANES>().0 {
        for lane in 0..WIDE_LANES {
            wide[lane] += f64::from(sums[lane]);
        }
    }
    let mut total = 0.0;
    for sum in wide {
        total += sum;
    }
    for (&a, &b) in a_rest.iter().zip(b_rest) {
        total += f64::from(a) * f64::from(b);
    }
    total
}

/// The sizes `[N, HW, C]` of the value whose gradients the node reads.
fn sizes(op: &Gramian, node: &CpuNode) -> [usize; 3] {
    match node.input_count() {
        0 => [0; 3],
        _ => [node.input_shape(0)[0], op.pixels, node.channels(0)],
    }
}

impl CpuOp for Gramian {
    fn cpu_scratch(&self, node: &CpuNode) -> usize {
        let forms: Vec<TermForm> = self.terms.iter().map(|term| term.1).collect();
        gramian_scratch(sizes(self, node), &forms)
    }

    fn run(&self, node: &mut Operands) {
        let term =
            |(index, &(task, form)): (usize, &(usize, TermForm))| Term { task, gradient: node.input(index), form };
        let terms: Vec<Term> = self.terms.iter().enumerate().map(term).collect();
        gramian(node.cpu, sizes(self, node), &terms, node.scratch(), node.output(0));
    }
}
