//! The numbers that change between steps.

/// The numbers that change between steps. Ops and the update read them as data; a plan never contains them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepScalars {
    /// Per task: weight at the seam; exactly 0 for a task without labels in this step.
    pub task_weights: Vec<f32>,
    /// Per task: the divisor of its summed loss; with 0 the loss is 0.
    pub denominators: Vec<f32>,
    /// Position in dropout's random stream.
    pub dropout_counter: u64,
    /// The number of batches whose gradients one update takes together; 0 means 1.
    pub micro_batches: usize,
}

impl StepScalars {
    /// The fraction of a step that one micro-batch is.
    pub fn share(&self) -> f32 {
        1.0 / self.micro_batches.max(1) as f32
    }
}
