//! The matrix of inner products of the tasks' gradients, with the operations that the solvers need.

/// A symmetric matrix of inner products.
///
/// Shapes: `values` `[size, size]`, row-major.
///
/// Units: a gradient's unit squared. Entries must be finite; with others a solver still ends, but its result is
/// meaningless.
#[derive(Clone, Debug, PartialEq)]
pub struct Gramian {
    size: usize,
    values: Vec<f64>,
}

/// A Gramian with a trace below this counts as zero, because the weights of some methods grow like one over the trace's
/// root.
const SMALLEST_TRACE: f64 = 1e-200;

impl Gramian {
    /// A Gramian of `size` tasks from its rows.
    pub fn new(size: usize, values: Vec<f64>) -> Gramian {
        debug_assert_eq!(values.len(), size * size);
        Gramian { size, values }
    }

    /// The number of tasks.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The inner product of the gradients of tasks `row` and `column`.
    pub fn at(&self, row: usize, column: usize) -> f64 {
        self.values[row * self.size + column]
    }

    /// Shapes: `[size]`, the inner products with one task's gradient.
    pub fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.size..][..self.size]
    }

    /// The norm of a task's gradient.
    pub fn norm(&self, task: usize) -> f64 {
        self.at(task, task).max(0.0).sqrt()
    }

    /// The sum of the squared norms.
    pub fn trace(&self) -> f64 {
        (0..self.size).map(|task| self.at(task, task)).sum()
    }

    /// G·v: the inner product of each gradient with the weighted sum of all.
    pub fn times(&self, v: &[f64]) -> Vec<f64> {
        (0..self.size).map(|row| dot(self.row(row), v)).collect()
    }

    /// uᵀGv.
    pub fn between(&self, u: &[f64], v: &[f64]) -> f64 {
        u.iter().enumerate().map(|(row, u)| u * dot(self.row(row), v)).sum()
    }

    /// vᵀGv, clamped to at least 0 against rounding.
    pub fn squared_norm(&self, v: &[f64]) -> f64 {
        self.between(v, v).max(0.0)
    }

    /// The Gramian divided by its trace, and the trace; `None` if all gradients are zero. Every solver uses this, so that
    /// the scale of the gradients does not matter.
    pub fn normalised(&self) -> Option<(Gramian, f64)> {
        let trace = self.trace();
        (trace > SMALLEST_TRACE).then(|| (self.scaled(1.0 / trace), trace))
    }

    /// The Gramian times a number.
    pub fn scaled(&self, factor: f64) -> Gramian {
        Gramian { size: self.size, values: self.values.iter().map(|v| v * factor).collect() }
    }

    /// The Gramian of gradients that were each multiplied by a factor.
    pub fn rows_scaled(&self, factors: &[f64]) -> Gramian {
        let value = |i: usize| self.values[i] * factors[i / self.size] * factors[i % self.size];
        Gramian { size: self.size, values: (0..self.values.len()).map(value).collect() }
    }

    /// The Gramian of some tasks, in the order given.
    pub fn of(&self, tasks: &[usize]) -> Gramian {
        let values = tasks.iter().flat_map(|&row| tasks.iter().map(move |&column| self.at(row, column))).collect();
        Gramian { size: tasks.len(), values }
    }
}

/// The inner product of two vectors.
pub fn dot(u: &[f64], v: &[f64]) -> f64 {
    u.iter().zip(v).map(|(u, v)| u * v).sum()
}
