//! The evaluation forward pass followed by the tasks' losses, for the validation of a network in training.

use super::training::append_losses;
use super::{Card, ForwardPlan};
use crate::error::Result;
use crate::executor::{Executor, ParameterSet, StepScalars};
use crate::ir::Mode;
use crate::tasks::{HeadOutput, Label, LabelFeatures, Target, TaskLoss, gather};

/// The evaluation forward pass and the losses of one shape.
pub struct ValidationPlan {
    forward: ForwardPlan,
    losses: Vec<TaskLoss>,
    batch: usize,
    /// The targets of an image without labels, which fill up a batch.
    unlabelled: Vec<Target>,
    /// Per task, the factor of its loss.
    factors: Vec<f32>,
}

/// The loss of a task on one batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchLoss {
    /// The mean over the batch's labels.
    pub mean: f32,
    /// The divisor of the mean, by which batches are weighted.
    pub weight: f32,
}

impl ValidationPlan {
    /// Plans the pass for batches of `batch` square images of `side` pixels. `factors` holds one factor per task for its loss.
    ///
    /// # Errors
    /// The network does not support this shape.
    pub fn prepare(
        executor: &mut Executor,
        card: &Card,
        [batch, side]: [usize; 2],
        labels: LabelFeatures,
        factors: Vec<f32>,
    ) -> Result<ValidationPlan> {
        let mut network = card.architecture.network([batch, side, side], Mode::Evaluate)?;
        let losses = append_losses(&mut network, &card.architecture, batch, labels)?;
        let unlabelled = card.encoder(side).encode(&vec![Label::UNLABELLED; losses.len()]);
        Ok(ValidationPlan { forward: ForwardPlan::of(executor, network)?, losses, batch, unlabelled, factors })
    }

    /// Runs one batch with the parameters of `set`: images u8 `[N, H, W, 3]`, and the targets of the first images, one list per
    /// image; the others count as unlabelled. Returns one output and one loss per task, `None` for a task without labels.
    ///
    /// # Errors
    /// A GPU call fails.
    pub fn run(
        &self,
        executor: &mut Executor,
        set: ParameterSet,
        images: &[u8],
        targets: &[&Vec<Target>],
    ) -> Result<(Vec<HeadOutput>, Vec<Option<BatchLoss>>)> {
        let padding = std::iter::repeat_n(&self.unlabelled, self.batch.saturating_sub(targets.len()));
        let of_task = |task| gather(targets.iter().copied().chain(padding.clone()), task);
        let targets: Vec<Target> = (0..self.losses.len()).map(of_task).collect();
        self.forward.load(executor, images)?;
        for (loss, target) in self.losses.iter().zip(&targets) {
            loss.write(executor, self.forward.id(), target)?;
        }
        let denominators = targets.iter().zip(&self.factors).map(|(target, factor)| target.denominator / factor);
        let scalars = StepScalars { denominators: denominators.collect(), ..StepScalars::default() };
        self.forward.start_with(executor, set, &scalars)?;
        let outputs = self.forward.answers(executor)?;
        let read = |(loss, target): (&TaskLoss, &Target)| {
            if !target.active {
                return Ok(None);
            }
            let mean = executor.read_f32(self.forward.id(), loss.loss)?[0];
            Ok(Some(BatchLoss { mean, weight: target.denominator.max(loss.least_denominator) }))
        };
        let losses = self.losses.iter().zip(&targets).map(read).collect::<Result<_>>()?;
        Ok((outputs, losses))
    }
}
