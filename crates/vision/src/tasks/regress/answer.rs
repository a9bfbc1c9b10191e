//! The prediction of a regression: values, and how they are written.

use crate::tasks::Prediction;
use crate::tasks::written::{rounded, shown};
use serde_json::{Value, json};
use std::sync::Arc;

/// One value per column, in the task's own unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Amounts {
    /// One per column.
    pub values: Vec<f64>,
    /// One per column; an empty string for a column without a unit.
    pub units: Arc<[String]>,
    /// The standard deviation of each column's training labels, in its unit.
    pub deviations: Vec<f64>,
    /// Half the width of each column's 90 % prediction interval, in its unit; empty if the card has none.
    pub half_widths: Vec<Option<f64>>,
}

/// Values are written to this share of a deviation. The network's own outputs are f32 and have a step of a sixteenth of it.
const RESOLUTION: f64 = 1e-6;
/// The same for the caption of a picture.
const CAPTION_RESOLUTION: f64 = 1e-2;

impl Amounts {
    /// The values as they are written.
    fn written(&self) -> impl Iterator<Item = f64> {
        self.values.iter().zip(&self.deviations).map(|(&value, deviation)| rounded(value, RESOLUTION * deviation))
    }
}

impl Prediction for Amounts {
    fn to_json(&self) -> Value {
        let mut all = json!({"values": self.written().collect::<Vec<_>>(), "units": &self.units[..]});
        if self.half_widths.iter().any(Option::is_some) {
            let columns = self.values.iter().zip(&self.deviations).zip(&self.half_widths);
            let interval = columns.map(|((value, deviation), half)| {
                half.map(|half| [value - half, value + half].map(|end| rounded(end, RESOLUTION * deviation)))
            });
            all["interval"] = json!(interval.collect::<Vec<_>>());
        }
        all
    }

    fn cells(&self) -> Vec<String> {
        self.written().map(|value| json!(value).to_string()).collect()
    }

    fn caption(&self) -> Option<String> {
        let columns = self.values.iter().zip(&self.deviations).zip(&self.units[..]);
        let parts = columns
            .map(|((value, deviation), unit)| format!("{} {unit}", shown(*value, CAPTION_RESOLUTION * deviation)));
        Some(parts.collect::<Vec<_>>().join(", "))
    }
}
