//! Properties that hold for every method, and comparisons with other implementations.

mod formulas;
mod golden;
mod properties;
mod speed;
mod uncertainty;

use super::solve::testing::{gramian, uniform};
use super::*;
use crate::tasks::Likelihood;

/// One task of each likelihood: detection, classification, regression.
const KINDS: [Likelihood; 3] = [Likelihood::Softmax, Likelihood::Softmax, Likelihood::Gaussian];

/// For at most 16 tasks; the first is the primary one, for the method that has one.
fn setup<'a>(method: &Method, likelihoods: &'a [Likelihood], parameters: &'a Parameters) -> Setup<'a> {
    let primary = (method.name == "pcd").then_some(0);
    Setup { likelihoods, task_weights: &[0.7; 16][..likelihoods.len()], seed: 11, primary, parameters }
}

fn started(method: &'static Method, likelihoods: &[Likelihood], parameters: &Parameters) -> Box<dyn Balance> {
    method.start(setup(method, likelihoods, parameters)).unwrap()
}

fn start(name: &str, likelihoods: &[Likelihood]) -> Box<dyn Balance> {
    started(Method::named(name).unwrap(), likelihoods, &Parameters::default())
}

fn bits(numbers: &[f64]) -> Vec<u64> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

/// The weights before a step. They must be the same for the heads.
fn weights(balance: &dyn Balance, active: &[bool]) -> Vec<f32> {
    let Weights { seam, heads } = balance.weights(&Signals::before(active));
    assert_eq!(seam, heads);
    seam
}

/// The signals of one step with K tasks.
#[derive(Clone)]
struct Numbers {
    active: Vec<bool>,
    losses: Vec<f32>,
    gramian: Vec<f64>,
    cross: Vec<f64>,
    excess: Vec<f64>,
    after: Vec<f32>,
}

impl Numbers {
    /// Random signals with labels for every task.
    fn random(tasks: usize, seed: u64) -> Numbers {
        let square = |seed| {
            let g = gramian(tasks, tasks + 2, seed);
            (0..tasks).flat_map(|row| g.row(row).to_vec()).collect::<Vec<f64>>()
        };
        let losses = |from: u64| (0..tasks).map(|i| (2.0 * uniform(seed, from + i as u64)).exp() as f32).collect();
        let noise = |(i, g): (usize, f64)| g + 0.3 * uniform(seed, 5000 + i as u64);
        Numbers {
            active: vec![true; tasks],
            losses: losses(1000),
            gramian: square(seed),
            cross: square(seed).into_iter().enumerate().map(noise).collect(),
            excess: (0..tasks).map(|i| uniform(seed, 2000 + i as u64).exp()).collect(),
            after: losses(3000),
        }
    }

    fn signals(&self) -> Signals<'_> {
        Signals {
            active: &self.active,
            losses: Some(&self.losses),
            gramian: Some(&self.gramian),
            cross: Some(&self.cross),
            excess: Some(&self.excess),
        }
    }

    /// The signals of some tasks, in the order given.
    fn of(&self, tasks: &[usize]) -> Numbers {
        let all = self.active.len();
        let each = |values: &[f32]| tasks.iter().map(|&task| values[task]).collect();
        let square = |values: &[f64]| {
            tasks.iter().flat_map(|&r| tasks.iter().map(move |&c| r * all + c)).map(|i| values[i]).collect()
        };
        Numbers {
            active: tasks.iter().map(|&task| self.active[task]).collect(),
            losses: each(&self.losses),
            gramian: square(&self.gramian),
            cross: square(&self.cross),
            excess: tasks.iter().map(|&task| self.excess[task]).collect(),
            after: each(&self.after),
        }
    }

    /// The same step without labels for one task, with the signals a trainer would give.
    fn without(mut self, absent: usize) -> Numbers {
        let all = self.active.len();
        self.active[absent] = false;
        (self.losses[absent], self.after[absent], self.excess[absent]) = (f32::NAN, f32::NAN, 0.0);
        for other in 0..all {
            for i in [absent * all + other, other * all + absent] {
                (self.gramian[i], self.cross[i]) = (0.0, 0.0);
            }
        }
        self
    }

    /// Runs one whole step, optionally with the end of an epoch; returns its weights.
    fn step(&self, balance: &mut dyn Balance, epoch_ends: bool) -> Weights {
        let weights = balance.weights(&self.signals());
        balance.observe(&self.signals());
        if balance.needs_losses_after_update() {
            balance.after_update(&self.signals(), &self.after);
        }
        if epoch_ends {
            balance.epoch_ended();
        }
        weights
    }
}

/// Every method, with and without smoothing.
fn every_method() -> impl Iterator<Item = (&'static Method, Parameters)> {
    let smooth = Parameters { balance_smooth: Some(0.6), ..Parameters::default() };
    METHODS
        .iter()
        .flat_map(move |method| [Parameters::default(), smooth.clone()].map(|parameters| (method, parameters)))
}
