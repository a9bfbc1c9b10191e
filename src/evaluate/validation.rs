//! The validation of a network in training: metrics and losses in one pass over the images.

use super::{Settings, TaskResult, evaluate};
use crate::data::{Batch, Broken, Sample};
use crate::error::{Error, Result};
use crate::executor::{Executor, ParameterSet};
use crate::model::{BatchLoss, Card, ValidationPlan};
use crate::tasks::Encoders;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The outcome of a validation.
pub struct Validation {
    /// One result per task.
    pub results: Vec<TaskResult>,
    /// Per task, the mean loss over its labels, in the definition of the training loss; `None` without labels.
    pub losses: Vec<Option<f64>>,
    /// Images that could not be read. No metric and no loss includes them.
    pub broken: Vec<Broken>,
}

/// Validates the averaged parameters on a given executor. `stop` is checked before every batch.
///
/// # Errors
/// The same as [`evaluate`], and `Interrupted` once `stop` is set.
pub fn validate(
    executor: &mut Executor,
    plan: &ValidationPlan,
    card: &Card,
    samples: &Arc<[Sample]>,
    settings: &Settings,
    stop: &AtomicBool,
) -> Result<Validation> {
    let mut means = vec![Mean::default(); card.architecture.tasks.len()];
    let encoders = Encoders::new([(settings.imgsz, card.encoder(settings.imgsz))]);
    let run = |batch: &Batch| {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        let targets: Vec<_> = batch.items.iter().map(|item| &item.targets).collect();
        let (outputs, losses) = plan.run(executor, ParameterSet::Average, &batch.images, &targets)?;
        means.iter_mut().zip(losses).for_each(|(mean, loss)| mean.add(loss));
        Ok(outputs)
    };
    let (results, broken) = evaluate(card, samples, settings, Some(Arc::new(encoders)), run, |_, _| Ok(()))?;
    Ok(Validation { results, losses: means.into_iter().map(Mean::value).collect(), broken })
}

/// The mean of batches' losses, weighted by what each was divided by: the mean over all labels.
#[derive(Clone, Copy, Default)]
struct Mean {
    sum: f64,
    weight: f64,
}

impl Mean {
    fn add(&mut self, loss: Option<BatchLoss>) {
        if let Some(BatchLoss { mean, weight }) = loss {
            self.sum += f64::from(mean) * f64::from(weight);
            self.weight += f64::from(weight);
        }
    }

    fn value(self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }
}
