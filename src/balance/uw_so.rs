//! Soft optimal uncertainty weighting, UW-SO: the softmax of the inverse losses.

use super::Rule;
use super::present::{ByLosses, one_on_average};
use super::solve::softmax;

/// Weights K·softmax(1/(T·L)) over the K tasks with labels; the paper's sum to 1.
///
/// Source: Kirchdorfer et al. 2024, arXiv 2408.07985.
pub fn rule(temperature: f64) -> impl Rule {
    ByLosses(move |losses: &[f64]| {
        let inverse: Vec<f64> = losses.iter().map(|loss| 1.0 / (temperature * loss)).collect();
        one_on_average(softmax(&inverse))
    })
}
