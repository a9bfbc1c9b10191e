//! Direction-oriented stochastic descent, SDMGrad: MGDA's weights by an inner descent on two batches, pulled towards the mean.

use super::modo::Shares;
use super::present::one_on_average;
use super::solve::onto_simplex;
use super::{Decision, Needs, Present, Rule};

/// Weights (w + λ/K)/(1 + λ) times the number K of tasks with labels. w continues from the last step by projected descent with
/// momentum on ½wᵀAw + λ·wᵀA(1/K), where A holds the products of gradients between two independent batches, divided by their mean
/// squared norm. A step uses the w from the end of the previous step, because its first batch is combined before the second is
/// available.
///
/// Source: Xiao, Ban & Ji 2023, arXiv 2305.18409, algorithm 1; steps, momentum and λ as in the authors' experiments.
pub struct SdmGrad {
    descent: Descent,
    shares: Shares,
}

/// Settings of the inner descent.
#[derive(Clone, Copy, Debug)]
pub struct Descent {
    /// Dimensionless, because the products are normalised.
    pub learning_rate: f64,
    /// Share of the velocity that is kept.
    pub momentum: f64,
    /// Number of steps.
    pub iterations: usize,
    /// Pull towards the mean gradient.
    pub lambda: f64,
}

impl SdmGrad {
    /// The state for this many tasks before the first step.
    pub fn new(tasks: usize, descent: Descent) -> SdmGrad {
        SdmGrad { descent, shares: Shares::new(tasks) }
    }

    fn moved(&self, step: &Present) -> Vec<f64> {
        let Descent { learning_rate, momentum, iterations, lambda } = self.descent;
        let count = step.len() as f64;
        let mut shares = self.shares.of(step);
        // The root of a product between two batches, where it is one of a norm and no noise.
        let scale = (0..step.len()).map(|task| step.cross().norm(task)).sum::<f64>() / count;
        if scale * scale <= 0.0 {
            return shares;
        }
        let products = step.cross().scaled(1.0 / (scale * scale));
        let mut velocity = vec![0.0; step.len()];
        for _ in 0..iterations {
            let pulled: Vec<f64> = shares.iter().map(|share| share + lambda / count).collect();
            let slopes = products.times(&pulled);
            velocity.iter_mut().zip(slopes).for_each(|(velocity, slope)| *velocity = momentum * *velocity + slope);
            let moved: Vec<f64> =
                shares.iter().zip(&velocity).map(|(share, velocity)| share - learning_rate * velocity).collect();
            shares = onto_simplex(&moved);
        }
        shares
    }
}

impl Rule for SdmGrad {
    fn needs(&self) -> Needs {
        Needs::Cross
    }

    fn weights(&self, step: &Present) -> Decision {
        let (lambda, count) = (self.descent.lambda, step.len() as f64);
        let weight = |share: f64| (share + lambda / count) / (1.0 + lambda);
        Decision::of_gradients(one_on_average(self.shares.of(step).into_iter().map(weight).collect()))
    }

    fn observe(&mut self, step: &Present) {
        self.shares.set(step, &self.moved(step));
    }

    fn state(&self) -> Vec<f64> {
        self.shares.state()
    }

    fn restore(&mut self, state: &[f64]) {
        self.shares.restore(state);
    }
}
