//! Gradient sums on the CPU: the weighted sum at the seam, the sum of two values, and the zeros that other sums start from.

use super::{Add, Clear};
use crate::device::cpu::{Cpu, SharedMut};
use crate::ir::{Combine, TermForm};
use crate::ops::cpu::{CpuNode, CpuOp, NO_SCRATCH, Operands};

/// Elements per task; they stay in cache while every term is added.
const TASK_LEN: usize = 1 << 12;

/// One task's gradient at a shared feature.
pub struct Term<'a> {
    pub weight: f32,
    /// `[N, HW, C]`, or `[N, C]`: the gradient of the mean over HW.
    pub gradient: &'a [f32],
    pub form: TermForm,
}

/// out `[N, HW, C]` = Σ weight·gradient, terms in order. A weight of exactly 0 leaves its term out.
pub fn combine(cpu: &Cpu, [n, hw, c]: [usize; 3], terms: &[Term], out: &mut [f32]) {
    let rows = (TASK_LEN / c).max(1);
    let tasks = hw.div_ceil(rows);
    let out = SharedMut::new(out);
    cpu.parallel(
        n * tasks,
        #[inline(always)]
        |task| {
            let (image, first) = (task / tasks, task % tasks * rows);
            let last = (first + rows).min(hw);
            let range = (image * hw + first) * c..(image * hw + last) * c;
            // SAFETY: tasks' ranges do not overlap, and each is visited once.
            let out = unsafe { out.range(range.clone()) };
            let mut begun = false;
            for term in terms.iter().filter(|term| term.weight != 0.0) {
                match term.form {
                    TermForm::Dense => add_scaled(out, begun, term.weight, &term.gradient[range.clone()]),
                    TermForm::Pooled => {
                        let pooled = &term.gradient[image * c..(image + 1) * c];
                        for out in out.chunks_exact_mut(c) {
                            add_scaled(out, begun, term.weight / hw as f32, pooled);
                        }
                    }
                }
                begun = true;
            }
            if !begun {
                out.fill(0.0);
            }
        },
    );
}

/// out = scale·x, or out += scale·x if the sum has `begun`.
#[inline(always)]
fn add_scaled(out: &mut [f32], begun: bool, scale: f32, x: &[f32]) {
    if begun {
        for (out, x) in out.iter_mut().zip(x) {
            *out += scale * x;
        }
    } else {
        for (out, x) in out.iter_mut().zip(x) {
            *out = scale * x;
        }
    }
}

/// out = a + b.
pub fn add(cpu: &Cpu, a: &[f32], b: &[f32], out: &mut [f32]) {
    cpu.parallel_chunks(
        out,
        TASK_LEN,
        #[inline(always)]
        |task, out| {
            let range = task * TASK_LEN..task * TASK_LEN + out.len();
            add_task(&a[range.clone()], &b[range], out);
        },
    );
}

#[inline(always)]
fn add_task(a: &[f32], b: &[f32], out: &mut [f32]) {
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = a + b;
    }
}

/// out = 0.
pub fn clear(cpu: &Cpu, out: &mut [f32]) {
    cpu.parallel_chunks(
        out,
        TASK_LEN,
        #[inline(always)]
        |_, out| out.fill(0.0),
    );
}

impl CpuOp for Combine {
    fn cpu_scratch(&self, _node: &CpuNode) -> usize {
        NO_SCRATCH
    }

    fn run(&self, node: &mut Operands) {
        let term = |(index, &(task, form)): (usize, &(usize, TermForm))| Term {
            weight: node.scalars.task_weights[task],
            gradient: node.input(index),
            form,
        };
        let terms: Vec<Term> = self.terms.iter().enumerate().map(term).collect();
        let s = node.output_shape(0);
        combine(node.cpu, [s[0], s[1] * s[2], s[3]], &terms, node.output(0));
    }
}

impl CpuOp for Add {
    fn cpu_scratch(&self, _node: &CpuNode) -> usize {
        NO_SCRATCH
    }

    fn run(&self, node: &mut Operands) {
        add(node.cpu, node.input(0), node.input(1), node.output(0));
    }
}

impl CpuOp for Clear {
    fn cpu_scratch(&self, _node: &CpuNode) -> usize {
        NO_SCRATCH
    }

    fn run(&self, node: &mut Operands) {
        clear(node.cpu, node.output(0));
    }
}
