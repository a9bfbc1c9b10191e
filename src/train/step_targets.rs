//! The targets of a step, gathered from those of its images.

use crate::tasks::{Target, gather};

/// The targets of a step's batches, with values that are known before the step begins.
pub struct StepTargets {
    /// Per batch, per task.
    pub(super) batches: Vec<Vec<Target>>,
    /// Per task, whether any image of the step is labelled, and the divisor of its summed loss.
    pub(super) active: Vec<bool>,
    pub(super) denominators: Vec<f32>,
}

impl StepTargets {
    /// Gathers the targets of a step's batches, which are one list per image.
    pub fn new(batches: &[&[Vec<Target>]]) -> StepTargets {
        let tasks = batches.iter().find_map(|batch| batch.first()).map_or(0, Vec::len);
        let gathered = |batch: &&[Vec<Target>]| (0..tasks).map(|task| gather(batch.iter(), task)).collect();
        let batches: Vec<Vec<Target>> = batches.iter().map(gathered).collect();
        StepTargets {
            active: (0..tasks).map(|task| batches.iter().any(|b| b[task].active)).collect(),
            denominators: (0..tasks).map(|task| batches.iter().map(|b| b[task].denominator).sum()).collect(),
            batches,
        }
    }

    /// Number of batches in the step.
    pub fn batches(&self) -> usize {
        self.batches.len()
    }
}
