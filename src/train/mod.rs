//! Training: one step, the epochs around it, the checkpoint it can be resumed from, the folder a run leaves behind.

pub mod checkpoint;
pub mod epochs;
pub mod progress;
pub mod run;
pub(crate) mod setup;
pub mod step;

pub use epochs::{ResumeOverrides, resume, train};
