//! The key `loss` in the cards of the kinds whose losses have options.

use crate::ir::ValueLossForm;
use serde::{Deserialize, Serialize};

/// The options of all those kinds side by side, as files have always had them. A kind fills in its own, leaves the others at their
/// defaults and reads none of them.
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
