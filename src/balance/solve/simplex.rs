//! Weights on the simplex: the shortest combination of gradients, the projection of a point, and the softmax.

use super::gramian::Gramian;
use super::nonnegative::{Outcome, nonnegative};

/// argmin ½αᵀGα over α ≥ 0, Σα = 1: the shortest convex combination of the gradients, for any number of tasks. Weights are equal
/// if all gradients are zero; among several minimisers it returns any one.
///
/// Shapes: `[size]`.
///
/// Source: Sener & Koltun 2018, arXiv 1810.04650, section 3.2. At the minimum the product of every gradient with the combination
/// is at least αᵀGα. Divided by αᵀGα, these are the conditions of min ½aᵀGa − Σa over a ≥ 0, whose solution is α up to its sum.
/// If that problem has no minimum, the shortest combination is zero, and α is the direction without limit.
pub fn shortest(gramian: &Gramian) -> Vec<f64> {
    let size = gramian.size();
    let Some((gramian, _)) = gramian.normalised() else { return vec![1.0 / size as f64; size] };
    let (Outcome::Minimum(a) | Outcome::Unbounded(a)) = nonnegative(&gramian, &vec![1.0; size]);
    let sum: f64 = a.iter().sum();
    a.iter().map(|a| a / sum).collect()
}

/// The point of the simplex closest to `point`: max(point − θ, 0), with the θ that makes the sum 1.
///
/// Source: Held, Wolfe & Crowder 1974, doi 10.1007/BF01580223.
pub fn onto_simplex(point: &[f64]) -> Vec<f64> {
    let mut sorted = point.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let (mut sum, mut theta) = (0.0, 0.0);
    for (taken, value) in sorted.iter().enumerate() {
        sum += value;
        let candidate = (sum - 1.0) / (taken + 1) as f64;
        if *value > candidate {
            theta = candidate;
        }
    }
    point.iter().map(|p| (p - theta).max(0.0)).collect()
}

/// exp(x)/Σexp(x), finite for any finite x.
pub fn softmax(x: &[f64]) -> Vec<f64> {
    let largest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let shares: Vec<f64> = x.iter().map(|x| (x - largest).exp()).collect();
    let sum: f64 = shares.iter().sum();
    shares.iter().map(|share| share / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::solve::cholesky::Cholesky;
    use crate::balance::solve::testing::gramian;

    /// The smallest minimum over all faces of the simplex whose own minimum lies inside the face.
    fn by_faces(g: &Gramian) -> f64 {
        let mut best = f64::INFINITY;
        for face in 1u32..1 << g.size() {
            let tasks: Vec<usize> = (0..g.size()).filter(|t| face >> t & 1 == 1).collect();
            let Some(factor) = Cholesky::new(tasks.len(), |r, c| g.at(tasks[r], tasks[c])) else { continue };
            let a = factor.solve(vec![1.0; tasks.len()]);
            if a.iter().all(|a| *a >= 0.0) {
                best = f64::min(best, 1.0 / a.iter().sum::<f64>());
            }
        }
        best
    }

    #[test]
    fn no_face_holds_a_shorter_combination() {
        for size in 1..=8 {
            for seed in 0..if size < 8 { 100 } else { 10 } {
                let g = gramian(size, size + 2, seed);
                let alpha = shortest(&g);
                assert!((alpha.iter().sum::<f64>() - 1.0).abs() < 1e-12 && alpha.iter().all(|a| *a >= 0.0));
                let (got, best) = (g.squared_norm(&alpha), by_faces(&g));
                assert!((got - best).abs() < 1e-9 * g.trace(), "{size} {seed}: {got}, {best} on the best face");
            }
        }
    }

    #[test]
    fn two_tasks_follow_the_closed_form() {
        for seed in 0..200 {
            let g = gramian(2, 2, seed);
            let (a, b, c) = (g.at(0, 0), g.at(0, 1), g.at(1, 1));
            // Sener & Koltun 2018, section 3.2.
            let first = if b >= a { 1.0 } else { ((c - b) / (a - 2.0 * b + c)).clamp(0.0, 1.0) };
            assert!((shortest(&g)[0] - first).abs() < 1e-9, "{seed}: {}, {first}", shortest(&g)[0]);
        }
    }

    #[test]
    fn the_nearest_point_is_on_the_simplex_and_a_point_of_it_stays() {
        assert_eq!(onto_simplex(&[0.25, 0.75]), [0.25, 0.75]);
        assert_eq!(onto_simplex(&[5.0, 1.0, -3.0]), [1.0, 0.0, 0.0]);
        let near = onto_simplex(&[0.9, 0.5, 0.1]);
        for (got, expected) in near.iter().zip([0.7, 0.3, 0.0]) {
            assert!((got - expected).abs() < 1e-15, "{near:?}");
        }
        assert_eq!(softmax(&[1e300, 0.0]), [1.0, 0.0]);
    }
}
