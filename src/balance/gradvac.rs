//! Gradient vaccine, GradVac: each gradient is turned until its cosine with every other is at least what it usually is.

use super::draws::Draws;
use super::solve::{Gramian, dot};
use super::{Decision, Needs, Present, Rule};

/// Keeps cosines and turns finite for gradients of no length and for targets of 1; the Gramian has trace 1.
const EPSILON: f64 = 1e-8;

/// The weights of Σᵢ gᵢ after the turns: gᵢ meets the others in `order(i)`, and where its cosine with gⱼ is below
/// `targets[i·size + j]`, as much of gⱼ is added as makes them equal. Each target met moves by the share `beta` to the cosine.
///
/// Shapes: targets `[size, size]`, row by row; the result `[size]`.
///
/// Source: Wang et al. 2021, arXiv 2010.05874, algorithm 1; from the Gramian alone, as a turned gradient's products and
/// norm follow from its coefficients.
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

/// The [turns](vaccinate) with an order drawn for every step and task. Weights are 1 where no gradient is turned.
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

    /// The weights of a step, and the targets after it of the pairs that have labels.
    fn solve(&self, step: &Present) -> (Vec<f64>, Vec<f64>) {
        let mut targets: Vec<f64> = self.pairs(step).iter().map(|&pair| self.targets[pair]).collect();
        let order = |task| self.draws.others(task, step.len());
        (vaccinate(step.gramian(), &mut targets, self.beta, order), targets)
    }

    /// Where the targets of the pairs that have labels are.
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
