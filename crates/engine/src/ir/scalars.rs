//! The numbers that change between steps.

/// What changes between steps, read by the ops and the update: data, never baked into a plan.
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
    /// What one of the step's micro-batches is of it.
    pub fn share(&self) -> f32 {
        1.0 / self.micro_batches.max(1) as f32
    }
}
