//! What a weights file says of itself, in its metadata: enough to predict without asking anybody.

use super::Architecture;
use crate::error::{Error, Result};
use crate::task::TaskKind;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Mean and deviation of a regression task's columns on the training set, in the task's own units.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standardisation {
    pub mean: Vec<f32>,
    pub deviation: Vec<f32>,
}

impl Standardisation {
    /// The smallest deviation: a constant column stays finite.
    pub const SMALLEST: f32 = 1e-6;

    pub fn identity(columns: usize) -> Standardisation {
        Standardisation { mean: vec![0.0; columns], deviation: vec![1.0; columns] }
    }

    /// From the labelled values of the training set, NaN meaning unlabelled; a column without any stays as it is.
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

    pub fn apply(&self, value: f32, column: usize) -> f32 {
        (value - self.mean[column]) / self.deviation[column]
    }

    pub fn undo(&self, value: f32, column: usize) -> f32 {
        value * self.deviation[column] + self.mean[column]
    }
}

/// How an image becomes the network's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// Scaled to fit a square and padded: nothing is cut off.
    Letterbox,
    /// Shorter side to 256/224 of the size, middle cut out: torchvision's evaluation preset.
    ResizeCenterCrop,
}

/// The card in a file's metadata under the key [`Card::KEY`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Card {
    pub architecture: Architecture,
    /// Training image size in pixels, the default at prediction.
    pub image_size: usize,
    pub framing: Framing,
    /// One per task; `None` where the task is no regression.
    pub standardisation: Vec<Option<Standardisation>>,
    /// One per task, of a regression one per column: half the width of a 90 % prediction interval in the column's unit, from
    /// the residuals of these very weights on the run's validation images. Empty before there are any, and in files from before.
    #[serde(default)]
    pub intervals: Vec<Vec<Option<f64>>>,
    /// Version of the program that wrote the file.
    pub version: String,
}

impl Card {
    pub const KEY: &str = "polyhead";

    pub fn new(architecture: Architecture, image_size: usize) -> Card {
        let standardisation = architecture
            .tasks
            .iter()
            .map(|t| match &t.kind {
                TaskKind::Regress { columns, .. } => Some(Standardisation::identity(columns.len())),
                _ => None,
            })
            .collect();
        Card {
            architecture,
            image_size,
            framing: Framing::Letterbox,
            standardisation,
            intervals: Vec::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// The half widths of one task's columns; nothing where there are none.
    pub fn intervals_of(&self, task: usize) -> &[Option<f64>] {
        self.intervals.get(task).map_or(&[], Vec::as_slice)
    }

    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|e| unreachable!("a card has only string keys: {e}"))
    }

    /// # Errors
    /// Text that is no card.
    pub fn from_json(text: &str, file: &Path) -> Result<Card> {
        serde_json::from_str(text)
            .map_err(|e| Error::checkpoint(file, format!("its `{}` metadata is not a model card ({e})", Card::KEY)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Backbone;
    use crate::task::Task;

    #[test]
    fn intervals_come_back_to_the_bit_and_a_card_from_before_has_none() {
        let kind = TaskKind::Regress { columns: vec!["a".into(), "b".into()], units: vec![String::new(); 2] };
        let tasks = vec![Task::new("sizes", kind)];
        let mut card = Card::new(Architecture::new(Backbone::Tiny, tasks, 64, 0.0), 64);
        card.intervals = vec![vec![Some(0.1 + 0.2), None]];
        let file = Path::new("card.json");
        assert_eq!(Card::from_json(&card.to_json(), file).unwrap(), card);
        let mut old: serde_json::Value = serde_json::from_str(&card.to_json()).unwrap();
        old.as_object_mut().unwrap().remove("intervals");
        let old = Card::from_json(&old.to_string(), file).unwrap();
        assert_eq!((old.intervals_of(0), old.intervals_of(7)), (&[][..], &[][..]));
        assert_eq!(card.intervals_of(0), [Some(0.1 + 0.2), None]);
    }
}
