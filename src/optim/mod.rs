//! The settings of the update: the learning rate over the steps, the scalars of the parameter groups, and the average's
//! decay. The arithmetic is in `ops/optimizer`.

pub mod schedule;

use crate::balance::Weights;
use crate::executor::store::{Rule, Update};
use crate::ops::optimizer::{AdamW, GroupScalars, Sgd};
use clap::ValueEnum;
use schedule::Schedule;
use serde::{Deserialize, Serialize};

/// The values of `--optimizer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lower")]
#[allow(missing_docs, reason = "a variant's docs would be printed as the flag's help")]
pub enum OptimizerKind {
    Sgd,
    AdamW,
}

/// The user's settings of the update.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OptimizerConfig {
    /// The optimizer.
    pub kind: OptimizerKind,
    /// The learning rate over the steps.
    pub schedule: Schedule,
    /// The factor of the learning rate for each parameter group; groups beyond the list have factor 1.
    pub rate_factors: Vec<f32>,
    /// The momentum of SGD; AdamW always has β = .9 and .999.
    pub momentum: f32,
    /// Weight decay per unit of learning rate; norms and biases have none.
    pub weight_decay: f32,
    /// The largest norm that the gradient may have before it is scaled down.
    pub clip_norm: Option<f32>,
    /// Share of the moving average of the parameters that is kept per step, after its warm-up.
    pub average_decay: f32,
}

/// Step counts per parameter group. A step without labels for a group does not count for it.
#[derive(Clone, Debug, PartialEq)]
pub struct OptimizerState {
    /// Steps of each group, indexed by [`crate::ir::Group::index`], without the frozen group.
    pub steps: Vec<u64>,
}

impl OptimizerConfig {
    fn rule(&self) -> Rule {
        let weight_decay = self.weight_decay;
        match self.kind {
            OptimizerKind::Sgd => Rule::Sgd(Sgd { momentum: self.momentum, weight_decay }),
            OptimizerKind::AdamW => {
                Rule::AdamW(AdamW { beta1: BETAS[0], beta2: BETAS[1], epsilon: 1e-8, weight_decay })
            }
        }
    }
}

const BETAS: [f32; 2] = [0.9, 0.999];

impl OptimizerState {
    /// The state for this many groups: the trunk and one per head.
    pub fn new(groups: usize) -> OptimizerState {
        OptimizerState { steps: vec![0; groups] }
    }

    /// Counts the step for the active groups and returns the settings of segment 4. Group 0 is the trunk, which is active if any
    /// task has a weight at the seam. Group `i + 1` is the head of task `i`, whose gradient is scaled by that task's factor. The
    /// last group is frozen and never active.
    pub fn advance(&mut self, config: &OptimizerConfig, step: u64, weights: &Weights) -> Update {
        let learning_rate = config.schedule.learning_rate(step);
        let anybody = weights.seam.iter().any(|&w| w != 0.0);
        let factors = std::iter::once(f32::from(u8::from(anybody))).chain(weights.heads.iter().copied());
        let mut groups: Vec<GroupScalars> = factors
            .enumerate()
            .map(|(group, factor)| {
                let active = factor != 0.0;
                self.steps[group] += u64::from(active);
                let count = i32::try_from(self.steps[group]).unwrap_or(i32::MAX);
                GroupScalars {
                    factor,
                    active,
                    learning_rate: learning_rate * config.rate_factors.get(group).copied().unwrap_or(1.0),
                    bias_correction1: 1.0 - BETAS[0].powi(count),
                    bias_correction2: 1.0 - BETAS[1].powi(count),
                }
            })
            .collect();
        groups.push(GroupScalars::FROZEN);
        Update {
            rule: config.rule(),
            groups,
            clip_norm: config.clip_norm,
            average_decay: average_decay(config.average_decay, step),
        }
    }
}

/// min(decay, (1 + t)/(10 + t)): a short average at first, so that the random initial values are soon forgotten.
fn average_decay(decay: f32, step: u64) -> f32 {
    let t = step as f32;
    decay.min((1.0 + t) / (10.0 + t))
}

#[cfg(test)]
mod tests {
    use super::*;
    use schedule::Decline;

    #[test]
    fn each_group_has_its_share_of_the_learning_rate() {
        let mut config = OptimizerConfig {
            kind: OptimizerKind::AdamW,
            schedule: Schedule { lr: 0.3, decline: Decline::Constant, warmup_steps: 0, total_steps: 10 },
            rate_factors: Vec::new(),
            momentum: 0.9,
            weight_decay: 0.05,
            clip_norm: None,
            average_decay: 0.99,
        };
        let rates = |config: &OptimizerConfig, weights: &[f32]| -> Vec<f32> {
            let update = OptimizerState::new(3).advance(config, 4, &Weights::of_losses(weights.to_vec()));
            update.groups.iter().map(|g| g.learning_rate).collect()
        };
        // The last group is frozen.
        assert_eq!(rates(&config, &[1.0, 1.0]), [0.3, 0.3, 0.3, 0.0]);
        config.rate_factors = vec![0.1, 1.0, 2.0];
        // A task's weight scales its gradient, not its rate.
        assert_eq!(rates(&config, &[5.0, 0.0]), [0.3 * 0.1, 0.3, 0.3 * 2.0, 0.0]);
    }
}
