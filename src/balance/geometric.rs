//! The geometric mean of the losses, GLS.

use super::Rule;
use super::present::ByLosses;

/// The gradient of K·(∏L)^{1/K}: a task's weight is the geometric mean of the losses divided by its own loss, so equal losses
/// have weight 1. The paper's objective has no factor K.
///
/// Source: Chennupati et al. 2019, arXiv 1904.08492.
pub fn rule() -> impl Rule {
    ByLosses(|losses: &[f64]| {
        let mean = (losses.iter().map(|loss| loss.ln()).sum::<f64>() / losses.len() as f64).exp();
        losses.iter().map(|loss| mean / loss).collect()
    })
}
