//! Gradient surgery, PCGrad: removes from each gradient what conflicts with the others, in a random order.

use super::draws::Draws;
use super::solve::{Gramian, dot};
use super::{Decision, Needs, Present, Rule};

/// The weights of Σᵢ gᵢ after surgery. Each gᵢ is compared with the others in `order(i)` and loses its component along each
/// gradient that it conflicts with.
///
/// Shapes: `[size]`.
///
/// Source: Yu et al. 2020, arXiv 2001.06782, algorithm 1.
pub fn surgery(gramian: &Gramian, order: impl Fn(usize) -> Vec<usize>) -> Vec<f64> {
    let size = gramian.size();
    let mut sum = vec![0.0; size];
    for task in 0..size {
        let mut own = vec![0.0; size];
        own[task] = 1.0;
        for other in order(task) {
            let product = dot(gramian.row(other), &own);
            // A zero gradient has no direction; a negative product with it is rounding error.
            if product < 0.0 && gramian.at(other, other) > 0.0 {
                own[other] -= product / gramian.at(other, other);
            }
        }
        sum.iter_mut().zip(own).for_each(|(sum, own)| *sum += own);
    }
    sum
}

/// [`surgery`] with a random order for every step and task. Weights are 1 if nothing conflicts.
pub struct PcGrad {
    draws: Draws,
}

impl PcGrad {
    /// The random orders that this seed determines.
    pub fn new(seed: u64) -> PcGrad {
        PcGrad { draws: Draws::new(seed) }
    }
}

impl Rule for PcGrad {
    fn needs(&self) -> Needs {
        Needs::Gramian
    }

    fn weights(&self, step: &Present) -> Decision {
        Decision::of_gradients(surgery(step.gramian(), |task| self.draws.others(task, step.len())))
    }

    fn observe(&mut self, _step: &Present) {
        self.draws.advance();
    }

    fn state(&self) -> Vec<f64> {
        self.draws.state().to_vec()
    }

    fn restore(&mut self, state: &[f64]) {
        self.draws.restore(state);
    }
}
