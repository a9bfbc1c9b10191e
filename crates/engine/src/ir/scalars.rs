//! The numbers that change between steps.

/// The numbers that change between steps, which ops and the update read as data: they are never part of a plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepScalars {
    /// Per task: weight at the seam; exactly 0 for a task without labels in this step.
    pub task_weights: Vec<f32>,
    /// Per task: what its summed loss is divided by; 0 gives loss 0.
    pub denominators: Vec<f32>,
    /// Position in dropout's random stream.
    pub dropout_counter: u64,
    /// Batches whose gradients one update takes together; 0 is as 1.
    pub micro_batches: usize,
}

impl StepScalars {
    /// The share of the step that one micro-batch is.
    pub fn share(&self) -> f32 {
        1.0 / self.micro_batches.max(1) as f32
    }
}
