//! The Cholesky factor of a small positive definite matrix, and a solver for linear systems that uses it.

/// L with L·Lᵀ = A.
pub struct Cholesky {
    size: usize,
    /// Row-major; entries above the diagonal are not used.
    factor: Vec<f64>,
}

impl Cholesky {
    /// Factors A, given by `entry(row, column)` for column ≤ row. `None` unless A is positive definite.
    pub fn new(size: usize, entry: impl Fn(usize, usize) -> f64) -> Option<Cholesky> {
        let mut factor = vec![0.0; size * size];
        for row in 0..size {
            for column in 0..=row {
                let known: f64 = (0..column).map(|k| factor[row * size + k] * factor[column * size + k]).sum();
                let rest = entry(row, column) - known;
                factor[row * size + column] = match row == column {
                    true if rest > 0.0 => rest.sqrt(),
                    true => return None,
                    false => rest / factor[column * size + column],
                };
            }
        }
        Some(Cholesky { size, factor })
    }

    /// Solves A·x = b.
    pub fn solve(&self, mut b: Vec<f64>) -> Vec<f64> {
        let (size, l) = (self.size, &self.factor);
        for row in 0..size {
            let known: f64 = (0..row).map(|k| l[row * size + k] * b[k]).sum();
            b[row] = (b[row] - known) / l[row * size + row];
        }
        for row in (0..size).rev() {
            let known: f64 = (row + 1..size).map(|k| l[k * size + row] * b[k]).sum();
            b[row] = (b[row] - known) / l[row * size + row];
        }
        b
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_is_solved_and_an_indefinite_matrix_refused() {
        let a = [[4.0, 2.0, -1.0], [2.0, 5.0, 0.5], [-1.0, 0.5, 3.0]];
        let x = Cholesky::new(3, |r, c| a[r][c]).unwrap().solve(vec![1.0, -2.0, 0.5]);
        for (row, b) in a.iter().zip([1.0, -2.0, 0.5]) {
            let got: f64 = row.iter().zip(&x).map(|(a, x)| a * x).sum();
            assert!((got - b).abs() < 1e-14, "{got}, {b}");
        }
        assert!(Cholesky::new(2, |r, c| [[1.0, 2.0], [2.0, 1.0]][r][c]).is_none());
        assert!(Cholesky::new(2, |_, _| f64::NAN).is_none());
    }
}
