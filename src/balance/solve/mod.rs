//! Solvers for the small problems over a Gramian that the methods pose, for up to 16 tasks. Weights are as the papers define
//! them; the methods rescale them.

mod cholesky;
mod cone;
mod conflict;
mod eigen;
mod fair;
mod gramian;
mod nonnegative;
mod priority;
mod simplex;
#[cfg(test)]
pub(super) mod testing;

pub use cone::{projected_mean, projections_mean};
pub use conflict::conflict_averse;
pub use eigen::{Eigen, eigen};
pub use fair::fair;
pub use gramian::{Gramian, dot};
pub use priority::prioritised;
pub use simplex::{onto_simplex, shortest, softmax};
