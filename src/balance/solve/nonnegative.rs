//! min ½xᵀGx − bᵀx over x ≥ 0 by the dual active-set method of Goldfarb & Idnani (1983). Three methods reduce to this problem:
//! MGDA with b = 1, the projection onto the dual cone with b = −Gu, and PCD's quadratic program.

use super::cholesky::Cholesky;
use super::gramian::{Gramian, dot};

/// Result of [`nonnegative`].
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The minimiser.
    Minimum(Vec<f64>),
    /// A direction z ≥ 0 with Gz = 0 and bᵀz > 0, along which the objective falls without limit.
    Unbounded(Vec<f64>),
}

/// A gradient counts as a combination of others if its component orthogonal to them has at most this share of its squared norm.
const DEPENDENCE: f64 = 1e-10;
/// Rounding error allowed in the sign of a slope, relative to the numbers that cancel in it.
const TOLERANCE: f64 = 1e-13;

/// Minimises ½xᵀGx − bᵀx over x ≥ 0, for any number of tasks; designed for up to 16. Raises one entry of x from zero as long as
/// that lowers the objective. The entries already raised move with it so that their slopes stay zero, and an entry that would
/// turn negative returns to zero.
///
/// Shapes: b `[size]`.
///
/// Source: Goldfarb & Idnani 1983, doi 10.1007/BF02591962, applied to the dual of their problem, which needs inner
/// products only.
pub fn nonnegative(gramian: &Gramian, b: &[f64]) -> Outcome {
    let size = gramian.size();
    let mut x = vec![0.0; size];
    let mut raised: Vec<usize> = Vec::with_capacity(size);
    // In exact arithmetic about `size` changes are enough. The limit stops cycles caused by rounding errors.
    let mut changes = 10 * size;
    while let Some(next) = steepest(gramian, b, &x, &raised) {
        loop {
            if changes == 0 {
                return Outcome::Minimum(x);
            }
            changes -= 1;
            match raise(gramian, b, &mut x, &mut raised, next) {
                Raise::Done => break,
                Raise::Dropped => {}
                Raise::Forever(direction) => return Outcome::Unbounded(direction),
            }
        }
    }
    settle(gramian, b, &mut x, &raised);
    Outcome::Minimum(x)
}

/// The zero entry whose increase lowers the objective most, in units of its gradient's norm.
fn steepest(gramian: &Gramian, b: &[f64], x: &[f64], raised: &[usize]) -> Option<usize> {
    let mut best = (0.0, None);
    for task in (0..b.len()).filter(|task| !raised.contains(task)) {
        let row = gramian.row(task);
        let slope = b[task] - dot(row, x);
        let cancelled = b[task].abs() + row.iter().zip(x).map(|(g, x)| (g * x).abs()).sum::<f64>();
        if slope <= TOLERANCE * cancelled {
            continue;
        }
        // With a zero gradient the slope never changes, so the objective falls without limit.
        let rate = if row[task] > 0.0 { slope / row[task].sqrt() } else { f64::INFINITY };
        if rate > best.0 {
            best = (rate, Some(task));
        }
    }
    best.1
}

enum Raise {
    /// The entry's slope is zero; the entry is now among the raised ones.
    Done,
    /// Another entry returned to zero first.
    Dropped,
    Forever(Vec<f64>),
}

fn raise(gramian: &Gramian, b: &[f64], x: &mut [f64], raised: &mut Vec<usize>, next: usize) -> Raise {
    let own = gramian.at(next, next).max(0.0);
    let shared: Vec<f64> = raised.iter().map(|&task| gramian.at(task, next)).collect();
    let factor = Cholesky::new(raised.len(), |r, c| gramian.at(raised[r], raised[c]));
    // Decrease of the raised entries per unit of the new entry.
    let given = factor.map_or_else(|| vec![0.0; raised.len()], |factor| factor.solve(shared.clone()));
    let orthogonal = own - dot(&given, &shared);
    let free = if orthogonal > DEPENDENCE * own {
        ((b[next] - dot(gramian.row(next), x)) / orthogonal).max(0.0)
    } else {
        f64::INFINITY
    };
    let (mut step, mut blocking) = (free, None);
    for (place, (&task, &given)) in raised.iter().zip(&given).enumerate() {
        if given > 0.0 && x[task] / given < step {
            (step, blocking) = (x[task] / given, Some(place));
        }
    }
    if step == f64::INFINITY {
        let mut direction = vec![0.0; x.len()];
        direction[next] = 1.0;
        raised.iter().zip(&given).for_each(|(&task, given)| direction[task] = (-given).max(0.0));
        return Raise::Forever(direction);
    }
    raised.iter().zip(&given).for_each(|(&task, given)| x[task] = (x[task] - step * given).max(0.0));
    x[next] += step;
    match blocking {
        Some(place) => {
            x[raised.remove(place)] = 0.0;
            Raise::Dropped
        }
        None => {
            raised.push(next);
            Raise::Done
        }
    }
}

/// Solves once more for the raised entries, to remove the rounding errors of the steps.
fn settle(gramian: &Gramian, b: &[f64], x: &mut [f64], raised: &[usize]) {
    if let Some(factor) = Cholesky::new(raised.len(), |r, c| gramian.at(raised[r], raised[c])) {
        let exact = factor.solve(raised.iter().map(|&task| b[task]).collect());
        if exact.iter().all(|x| *x >= 0.0) {
            raised.iter().zip(exact).for_each(|(&task, exact)| x[task] = exact);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::solve::testing::{gramian, uniform};

    #[test]
    fn slopes_are_zero_where_raised_and_not_negative_elsewhere() {
        for (size, seed) in [1, 2, 3, 5, 8, 16].into_iter().flat_map(|size| (0..200).map(move |seed| (size, seed))) {
            let g = gramian(size, size + 3, seed);
            let b: Vec<f64> = (0..size).map(|i| uniform(seed, i as u64)).collect();
            let Outcome::Minimum(x) = nonnegative(&g, &b) else { panic!("{size} {seed}") };
            for (i, (slope, b)) in g.times(&x).iter().zip(&b).enumerate() {
                assert!(x[i] >= 0.0 && slope - b > -1e-9, "{size} {seed}: {slope} {b}");
                assert!(x[i] == 0.0 || (slope - b).abs() < 1e-9, "{size} {seed}: {slope} {b}");
            }
        }
    }

    #[test]
    fn no_minimum_has_a_direction_that_proves_it() {
        let opposite = Gramian::new(2, vec![1.0, -2.0, -2.0, 4.0]);
        let Outcome::Unbounded(z) = nonnegative(&opposite, &[1.0, 1.0]) else { panic!() };
        assert!(z.iter().all(|z| *z >= 0.0) && opposite.squared_norm(&z) < 1e-15, "{z:?}");
        assert!(matches!(nonnegative(&Gramian::new(1, vec![0.0]), &[1.0]), Outcome::Unbounded(_)));
        assert_eq!(nonnegative(&Gramian::new(1, vec![0.0]), &[-1.0]), Outcome::Minimum(vec![0.0]));
    }

    #[test]
    fn entries_that_are_not_numbers_end() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            nonnegative(&Gramian::new(3, vec![bad; 9]), &[1.0; 3]);
            nonnegative(&gramian(3, 5, 1), &[bad; 3]);
        }
    }
}
