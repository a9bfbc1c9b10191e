//! Values that a few methods compute from the tasks' gradients at the last shared convolution, beyond one batch's Gramian:
//! excess risks, and the inner products between two batches.

/// Per task, its gradient; empty for a task without labels or whose loss does not reach the layer.
///
/// Shapes: `[K][n]`.
pub type LayerGradients = Vec<Vec<f32>>;

/// Per task, the running sum of its squared gradients; empty before the first one.
///
/// Shapes: `[K][n]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SquaredSums(pub Vec<Vec<f32>>);

impl SquaredSums {
    /// gᵀ·diag(S)^(−1/2)·g per task, where S is its running sum including this step's g.
    ///
    /// Source: He et al. 2024, "Robust Multi-Task Learning with Excess Risks", ICML, eq. 9.
    pub fn excess(&self, gradients: &LayerGradients) -> Vec<f64> {
        let risk = |(task, gradient): (usize, &Vec<f32>)| {
            let sums = self.0.get(task);
            let before = |index: usize| f64::from(sums.and_then(|sums| sums.get(index)).copied().unwrap_or(0.0));
            let term = |(index, &g): (usize, &f32)| match f64::from(g) {
                0.0 => 0.0,
                g => g * g / (before(index) + g * g).sqrt(),
            };
            gradient.iter().enumerate().map(term).sum()
        };
        gradients.iter().enumerate().map(risk).collect()
    }

    /// Adds the squares of a step's gradients.
    pub fn add(&mut self, gradients: &LayerGradients) {
        self.0.resize(gradients.len(), Vec::new());
        for (sums, gradient) in self.0.iter_mut().zip(gradients) {
            // A task without labels in the step keeps its sums.
            if sums.is_empty() {
                sums.resize(gradient.len(), 0.0);
            }
            sums.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g * g);
        }
    }
}

/// `[K, K]`, row-major: the inner product of task i's gradient in the first batch and task j's in the second, times `scale`.
pub fn products(first: &LayerGradients, second: &LayerGradients, scale: f64) -> Vec<f64> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    first.iter().flat_map(|a| second.iter().map(move |b| scale * dot(a, b))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed by hand: after g = (3, 4) and then (0, 3), S = (9, 25), and the second step's risk is 0 + 9/5.
    #[test]
    fn excess_risks_are_weighed_by_all_gradients_so_far() {
        let mut sums = SquaredSums::default();
        let first = vec![vec![3.0, 4.0], vec![]];
        assert_eq!(sums.excess(&first), [7.0, 0.0]);
        sums.add(&first);
        let second = vec![vec![0.0, 3.0], vec![2.0, 0.0]];
        assert_eq!(sums.excess(&second), [1.8, 2.0]);
        sums.add(&second);
        assert_eq!(sums.0, [[9.0, 25.0], [4.0, 0.0]]);
        // A step without labels changes nothing.
        let before = sums.clone();
        sums.add(&vec![vec![], vec![]]);
        assert_eq!(sums, before);
    }

    #[test]
    fn products_between_batches_are_not_symmetric() {
        let first = vec![vec![1.0, 2.0], vec![0.0, 1.0], vec![]];
        let second = vec![vec![3.0, 0.0], vec![1.0, 1.0], vec![5.0, 5.0]];
        assert_eq!(products(&first, &second, 2.0), [6.0, 6.0, 30.0, 0.0, 2.0, 10.0, 0.0, 0.0, 0.0]);
    }
}
