//! The key `loss` in the cards of kinds whose loss has options.

use crate::ir::ValueLossForm;
use serde::{Deserialize, Serialize};

/// The loss options of all kinds in one struct, which is the format that card files have always had. A kind sets and
/// reads its own fields and leaves the others at their defaults.
#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LossCard {
    pub class_weights: Option<Vec<f32>>,
    pub label_smoothing: f32,
    pub values: ValueLossForm,
}

impl LossCard {
    pub fn is_default(&self) -> bool {
        *self == LossCard::default()
    }
}
