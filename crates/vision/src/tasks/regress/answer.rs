//! The prediction of a regression: values, and how they are written.

use crate::tasks::{Prediction, round};
use serde_json::{Value, json};
use std::sync::Arc;

/// One value per column, in the task's own unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Amounts {
    /// One per column.
    pub values: Vec<f32>,
    /// One per column; an empty string for a column without a unit.
    pub units: Arc<[String]>,
    /// Half the width of each column's 90 % prediction interval, in its unit; empty if the card has none.
    pub half_widths: Vec<Option<f64>>,
}

impl Prediction for Amounts {
    fn to_json(&self) -> Value {
        let rounded: Vec<Value> = self.values.iter().map(|&v| round(v, 1e5)).collect();
        let mut all = json!({"values": rounded, "units": &self.units[..]});
        if self.half_widths.iter().any(Option::is_some) {
            let ends = |v: &f32, half: f64| [f64::from(*v) - half, f64::from(*v) + half];
            let interval =
                |(v, half): (&f32, &Option<f64>)| half.map(|half| ends(v, half).map(|end| round(end as f32, 1e5)));
            all["interval"] = json!(self.values.iter().zip(&self.half_widths).map(interval).collect::<Vec<_>>());
        }
        all
    }

    fn cells(&self) -> Vec<String> {
        self.values.iter().map(|&v| round(v, 1e5).to_string()).collect()
    }

    fn caption(&self) -> Option<String> {
        let parts = self.values.iter().zip(&self.units[..]).map(|(v, unit)| format!("{v:.2} {unit}"));
        Some(parts.collect::<Vec<_>>().join(", "))
    }
}
