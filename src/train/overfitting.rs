//! Decides from the losses of its epochs whether a task overfits.

use serde::{Deserialize, Serialize};

/// A task's mean losses in an epoch; `None` without labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Losses {
    /// On the training images.
    pub training: Option<f64>,
    /// On the validation images.
    pub validation: Option<f64>,
}

/// A validation loss that has risen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Overfit {
    /// The epoch with the lowest validation loss, counted from 1.
    pub epoch: usize,
    /// The loss in that epoch.
    pub least: f64,
    /// The loss in the last epoch.
    pub now: f64,
}

/// The number of validations in a row that must be above the lowest.
const RISEN: usize = 3;
/// The share of the lowest loss by which each of them must be above it.
const RISE: f64 = 0.1;
/// A rise below this share of the first validation loss is noise of a task that is nearly solved.
const LEAST_RISE: f64 = 0.01;

/// The rise of the validation loss if the last epoch of `past` is the first in which the task overfits: the last [`RISEN`] validation
/// losses are all clearly above the lowest, and the training loss is lower than it was then.
pub(super) fn overfits_now(past: &[Losses]) -> Option<Overfit> {
    let (mut found, mut first) = (None, None);
    let (mut least, mut epoch, mut training, mut risen) = (f64::INFINITY, 0, f64::INFINITY, 0);
    for (index, losses) in past.iter().enumerate() {
        if found.is_some() {
            // An earlier epoch was the first.
            return None;
        }
        let (Some(trained), Some(now)) = (losses.training, losses.validation) else { continue };
        let first = *first.get_or_insert(now);
        if now < least {
            (least, epoch, training, risen) = (now, index + 1, trained, 0);
            continue;
        }
        let is_above = now > least * (1.0 + RISE) && now > least + first * LEAST_RISE;
        risen = if is_above { risen + 1 } else { 0 };
        found = (risen >= RISEN && trained < training).then_some(Overfit { epoch, least, now });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past(training: &[f64], validation: &[f64]) -> Vec<Losses> {
        let losses = training.iter().zip(validation);
        losses.map(|(&t, &v)| Losses { training: Some(t), validation: Some(v) }).collect()
    }

    #[test]
    fn a_validation_loss_that_rises_three_times_while_the_training_loss_falls_is_said_once() {
        let training = [1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2];
        let losses = past(&training, &[1.0, 0.9, 0.7, 0.8, 0.85, 0.9, 1.0]);
        let told: Vec<_> = (0..=losses.len()).map(|epochs| overfits_now(&losses[..epochs])).collect();
        let expected = Some(Overfit { epoch: 3, least: 0.7, now: 0.9 });
        assert_eq!(told, [None, None, None, None, None, None, expected, None]);
    }

    #[test]
    fn other_curves_are_not_overfitting() {
        let falling = [1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2];
        // In this order: it falls again; it rises by less than a tenth; it rises by less than 1 % of the first loss; it never changes.
        for validation in [
            [1.0, 0.7, 0.9, 0.9, 0.7, 0.9, 0.9],
            [1.0, 0.7, 0.76, 0.76, 0.76, 0.76, 0.76],
            [1.0, 0.01, 0.015, 0.016, 0.018, 0.019, 0.019],
            [1.0; 7],
        ] {
            assert_eq!(overfits_now(&past(&falling, &validation)), None, "{validation:?}");
        }
        // The training loss rises too: the learning rate is too high, or the weights moved to another task.
        let both = [1.0, 0.7, 0.9, 1.0, 1.1, 1.2, 1.3];
        assert_eq!(overfits_now(&past(&both, &both)), None);
        // Epochs without labels are passed over.
        let mut gaps = past(&falling, &[1.0, 0.7, 0.9, 0.9, 0.9, 0.9, 0.9]);
        gaps[2] = Losses::default();
        assert_eq!(overfits_now(&gaps[..6]), Some(Overfit { epoch: 2, least: 0.7, now: 0.9 }));
        assert_eq!(overfits_now(&[Losses::default(); 9]), None);
        assert_eq!(overfits_now(&[]), None);
    }
}
