//! The sum of the losses' logarithms, a baseline that does not depend on the scale of any loss.

use super::Rule;
use super::present::ByLosses;

/// The gradient of Σ log L: weights 1/L, large for small losses.
pub fn rule() -> impl Rule {
    ByLosses(|losses: &[f64]| losses.iter().map(|loss| 1.0 / loss).collect())
}
