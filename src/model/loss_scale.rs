//! The scale of the losses: comparable between tasks, or plain as other programs show them.

use super::Card;
use crate::error::{Error, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// The scale of the tasks' losses. It changes the losses and their gradients, not what the heads predict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LossScale {
    /// Comparable between tasks: cross-entropy divided by the logarithm of the number of classes, and values in deviations
    #[default]
    Normalised,
    /// Like the losses of other programs: plain cross-entropy, and values in their unit, squared
    Raw,
}

/// Factors outside of this range cannot be represented in single precision.
const FACTORS: std::ops::Range<f64> = 1e-30..1e30;

impl LossScale {
    /// The factor of each task's loss and gradient.
    ///
    /// # Errors
    /// A factor is too small or too large for single precision.
    pub fn factors(self, card: &Card) -> Result<Vec<f32>> {
        let tasks = card.architecture.tasks.iter().zip(&card.standardisation);
        let factor = |(task, fitted): (&crate::tasks::Task, &Option<crate::tasks::Standardisation>)| match self {
            LossScale::Normalised => Ok(1.0),
            LossScale::Raw => {
                let factor = task.spec.plain_loss_factor(fitted.as_ref());
                match FACTORS.contains(&factor) {
                    true => Ok(factor as f32),
                    false => Err(Error::Usage(format!(
                        "--loss-scale raw: the loss of {} would be multiplied by {factor:.1e}, which single precision cannot hold: leave the flag out, or give the labels another unit",
                        task.name
                    ))),
                }
            }
        };
        tasks.map(factor).collect()
    }
}
