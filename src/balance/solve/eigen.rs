//! Eigenvalues and eigenvectors of a Gramian by cyclic Jacobi rotations (Golub & Van Loan, Matrix Computations, §8.5).

use super::gramian::Gramian;

/// G = Σ values\[i\]·vectors\[i\]·vectors\[i\]ᵀ, in no particular order.
pub struct Eigen {
    /// Shapes: `[size]`.
    pub values: Vec<f64>,
    /// Shapes: `[size, size]`, one eigenvector per row.
    pub vectors: Vec<Vec<f64>>,
}

/// Maximum number of sweeps. Six or seven are enough for 16 × 16; the limit ends the loop for matrices with NaN or
/// infinite entries.
const SWEEPS: usize = 30;

/// All eigenvalues and eigenvectors of G.
pub fn eigen(gramian: &Gramian) -> Eigen {
    let size = gramian.size();
    let mut a: Vec<Vec<f64>> = (0..size).map(|row| gramian.row(row).to_vec()).collect();
    let mut vectors: Vec<Vec<f64>> =
        (0..size).map(|i| (0..size).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    // Entries this small do not affect any significant eigenvalue.
    let negligible = 1e-18 * gramian.trace();
    for _ in 0..SWEEPS {
        let pairs = (0..size).flat_map(|p| (p + 1..size).map(move |q| (p, q)));
        let mut turned = false;
        for (p, q) in pairs {
            if a[p][q].abs() <= negligible {
                continue;
            }
            rotate(&mut a, &mut vectors, p, q);
            turned = true;
        }
        if !turned {
            break;
        }
    }
    Eigen { values: (0..size).map(|i| a[i][i]).collect(), vectors }
}

/// Makes a[p][q] zero.
fn rotate(a: &mut [Vec<f64>], vectors: &mut [Vec<f64>], p: usize, q: usize) {
    let (app, aqq, apq) = (a[p][p], a[q][q], a[p][q]);
    let theta = (aqq - app) / (2.0 * apq);
    // The smaller root of t² + 2θt − 1, so the rotation is at most an eighth of a turn.
    let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
    let c = 1.0 / t.hypot(1.0);
    let s = t * c;
    let turn = |x: &mut f64, y: &mut f64| (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
    for row in a.iter_mut() {
        let (head, tail) = row.split_at_mut(q);
        turn(&mut head[p], &mut tail[0]);
    }
    for matrix in [&mut *a, vectors] {
        let (head, tail) = matrix.split_at_mut(q);
        head[p].iter_mut().zip(&mut tail[0]).for_each(|(x, y)| turn(x, y));
    }
    (a[p][p], a[q][q]) = (app - t * apq, aqq + t * apq);
    (a[p][q], a[q][p]) = (0.0, 0.0);
}

/// Relative to the largest eigenvalue times the number of tasks, an eigenvalue below this counts as zero. The gradients are
/// f32; NumPy and PyTorch use the same rule for f32 matrices.
const RANK_TOLERANCE: f64 = f32::EPSILON as f64;

impl Eigen {
    /// The eigenvalues that do not count as zero, each with its eigenvector.
    pub fn significant(&self) -> impl Iterator<Item = (f64, &[f64])> {
        let largest = self.values.iter().copied().fold(0.0, f64::max);
        let floor = largest * RANK_TOLERANCE * self.values.len() as f64;
        self.values.iter().copied().zip(self.vectors.iter().map(Vec::as_slice)).filter(move |(value, _)| *value > floor)
    }

    /// f(G)·v over the significant eigenvalues. With f(λ) = 1/λ this is the pseudo-inverse times v.
    pub fn apply(&self, f: impl Fn(f64) -> f64, v: &[f64]) -> Vec<f64> {
        let mut sum = vec![0.0; v.len()];
        for (value, vector) in self.significant() {
            let along = f(value) * super::gramian::dot(vector, v);
            sum.iter_mut().zip(vector).for_each(|(sum, x)| *sum += along * x);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::solve::testing::gramian;

    #[test]
    fn eigenvectors_are_orthonormal_and_rebuild_the_matrix() {
        for size in [1usize, 2, 3, 8, 16] {
            for rank in [1, size.div_ceil(2), 2 * size] {
                let g = gramian(size, rank, 7);
                let Eigen { values, vectors } = eigen(&g);
                for i in 0..size {
                    for j in 0..size {
                        let product: f64 = vectors[i].iter().zip(&vectors[j]).map(|(a, b)| a * b).sum();
                        assert!((product - f64::from(u8::from(i == j))).abs() < 1e-13, "{size} {rank}: {product}");
                        let rebuilt: f64 = (0..size).map(|k| values[k] * vectors[k][i] * vectors[k][j]).sum();
                        assert!((rebuilt - g.at(i, j)).abs() < 1e-13 * g.trace(), "{size} {rank}");
                    }
                }
                assert_eq!(eigen(&g).significant().count(), rank.min(size), "{size} {rank}");
            }
        }
    }

    #[test]
    fn a_matrix_without_numbers_ends() {
        eigen(&Gramian::new(3, vec![f64::NAN; 9]));
        eigen(&Gramian::new(2, vec![f64::INFINITY; 4]));
    }
}
