//! Standardisation: the network learns values with mean 0 and deviation 1, whatever their unit.

use serde::{Deserialize, Serialize};

/// Mean and deviation of a task's values, per column over the training set, in the task's own units.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standardisation {
    /// The mean of each column, in its unit.
    pub mean: Vec<f32>,
    /// The standard deviation of each column, in its unit.
    pub deviation: Vec<f32>,
}

impl Standardisation {
    /// The smallest deviation used, so that a constant column does not divide by zero.
    pub const SMALLEST: f32 = 1e-6;

    /// A standardisation that leaves values as they are.
    pub fn identity(columns: usize) -> Standardisation {
        Standardisation { mean: vec![0.0; columns], deviation: vec![1.0; columns] }
    }

    /// Fits to the labelled values of the training set, where NaN means unlabelled. A column without labels gets the
    /// identity.
    pub fn fit<'a>(columns: usize, rows: impl Iterator<Item = &'a [f32]> + Clone) -> Standardisation {
        let mut fitted = Standardisation::identity(columns);
        for column in 0..columns {
            let values = rows.clone().map(|r| f64::from(r[column])).filter(|v| v.is_finite());
            let count = values.clone().count() as f64;
            if count == 0.0 {
                continue;
            }
            let mean = values.clone().sum::<f64>() / count;
            let variance = values.map(|v| (v - mean).powi(2)).sum::<f64>() / count;
            fitted.mean[column] = mean as f32;
            fitted.deviation[column] = (variance.sqrt() as f32).max(Standardisation::SMALLEST);
        }
        fitted
    }

    /// Converts a value from a column's unit to what the network learns.
    pub fn apply(&self, value: f32, column: usize) -> f32 {
        (value - self.mean[column]) / self.deviation[column]
    }

    /// Converts a value from what the network learned to the column's unit.
    pub fn undo(&self, value: f32, column: usize) -> f32 {
        value * self.deviation[column] + self.mean[column]
    }
}
