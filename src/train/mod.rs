//! Training: steps, epochs, checkpoints for resuming, and the run folder.

mod balance_picture;
mod best;
pub mod checkpoint;
mod content;
mod epochs;
mod estimate;
mod feed;
mod files;
mod layer_gradients;
mod limits;
mod lock;
mod overfitting;
mod pictures;
pub mod preview;
pub mod progress;
mod report;
mod resume;
pub mod run;
pub(crate) mod setup;
mod start;
pub mod step;
mod step_targets;
mod table;
pub mod telemetry;
mod trials;
mod validation;

pub use content::Content;
pub use epochs::CTRL_C;
pub use files::{best_in_log, check_name, has_state, is_finished, is_run, remove_half_written};
pub use lock::RunLock;
pub use resume::resume;
pub use start::{dry_run, train};
pub(crate) use trials::check_trials;
