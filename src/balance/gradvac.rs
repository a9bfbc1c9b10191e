//! Gradient vaccine, GradVac: turns each gradient until its cosine with every other reaches its usual value.

use super::draws::Draws;
use super::solve::{Gramian, dot};
use super::{Decision, Needs, Present, Rule};

/// Keeps cosines and turns finite for gradients of length zero and for targets of 1. The Gramian has trace 1.
const EPSILON: f64 = 1e-8;

/// The weights of Σᵢ gᵢ after the turns. Each gᵢ is compared with the others in `order(i)`. Where its cosine with gⱼ is below
/// `targets[i·size + j]`, just enough of gⱼ is added to reach the target. Each target that was compared moves towards the
/// cosine by the share `beta`.
///
/// Shapes: targets `[size, size]` in row-major order; the result `[size]`.
///
/// Source: Wang et al. 2021, arXiv 2010.05874, algorithm 1. The Gramian is enough, because a turned gradient's products
/// and norm follow from its coefficients.
pub fn vaccinate(gramian: &Gramian, targets: &mut [f64], beta: f64, order: impl Fn(usize) -> Vec<usize>) -> Vec<f64> {
    let size = gramian.size();
    let Some((gramian, _)) = gramian.normalised() else { return vec![1.0; size] };
    let mut sum = vec![0.0; size];
    for task in 0..size {
        let mut own = vec![0.0; size];
        own[task] = 1.0;
        let mut products = gramian.row(task).to_vec();
        for other in order(task) {
            let norm = dot(&own, &products).max(0.0).sqrt();
            let cosine = products[other] / (norm * gramian.norm(other) + EPSILON);
            let target = &mut targets[task * size + other];
            if cosine < *target {
                let [sine, target_sine] = [cosine, *target].map(|x| (1.0 - x * x).max(0.0).sqrt());
                let added =
                    norm * (*target * sine - cosine * target_sine) / (gramian.norm(other) * target_sine + EPSILON);
                own[other] += added;
                products.iter_mut().zip(gramian.row(other)).for_each(|(product, g)| *product += added * g);
            }
            *target = (1.0 - beta) * *target + beta * cosine;
        }
        sum.iter_mut().zip(own).for_each(|(sum, own)| *sum += own);
    }
    sum
}

/// [`vaccinate`] with a random order for every step and task. Weights are 1 if no gradient is turned.
pub struct GradVac {
    beta: f64,
    tasks: usize,
    /// The target of each pair, `[tasks, tasks]`.
    targets: Vec<f64>,
    draws: Draws,
}

impl GradVac {
    /// The state for this many tasks before the first step.
    pub fn new(tasks: usize, beta: f64, seed: u64) -> GradVac {
        GradVac { beta, tasks, targets: vec![0.0; tasks * tasks], draws: Draws::new(seed) }
    }

    /// The weights of a step, and the updated targets of the pairs that have labels.
    fn solve(&self, step: &Present) -> (Vec<f64>, Vec<f64>) {
        let mut targets: Vec<f64> = self.pairs(step).iter().map(|&pair| self.targets[pair]).collect();
        let order = |task| self.draws.others(task, step.len());
        (vaccinate(step.gramian(), &mut targets, self.beta, order), targets)
    }

    /// Indices into `targets` of the pairs that have labels.
    fn pairs(&self, step: &Present) -> Vec<usize> {
        let of = |row: &usize| step.tasks.iter().map(|column| row * self.tasks + column).collect::<Vec<_>>();
        step.tasks.iter().flat_map(of).collect()
    }
}

impl Rule for GradVac {
    fn needs(&self) -> Needs {
        Needs::Gramian
    }

    fn weights(&self, step: &Present) -> Decision {
        Decision::of_gradients(self.solve(step).0)
    }

    fn observe(&mut self, step: &Present) {
        let (_, targets) = self.solve(step);
        self.pairs(step).into_iter().zip(targets).for_each(|(pair, target)| self.targets[pair] = target);
        self.draws.advance();
    }

    fn state(&self) -> Vec<f64> {
        self.targets.iter().copied().chain(self.draws.state()).collect()
    }

    fn restore(&mut self, state: &[f64]) {
        let (targets, draws) = state.split_at(self.targets.len());
        self.targets = targets.to_vec();
        self.draws.restore(draws);
    }
}
