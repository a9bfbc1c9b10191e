//! The card in a weights file's metadata: everything about the network that prediction needs.

use super::Architecture;
use crate::error::{Error, Result};
use crate::geometry::Geometry;
use crate::layers::pyramid::PyramidSize;
use crate::tasks::{DecodeOptions, Encoder, HeadOutput, Interpreting, Prediction, Standardisation};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// The steps that turn an image into the network's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// Scaled to fit a square and padded; nothing is cut off.
    Letterbox,
    /// Shorter side scaled to 256/224 of the size, centre cropped: torchvision's evaluation preset.
    ResizeCenterCrop,
}

/// The card in a file's metadata under the key [`Card::KEY`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// The architecture of the network.
    pub architecture: Architecture,
    /// Training image size in pixels, the default at prediction.
    pub image_size: usize,
    /// The steps that turn an image into the network's input.
    pub framing: Framing,
    /// One per task; `None` if its kind standardises nothing.
    pub standardisation: Vec<Option<Standardisation>>,
    /// One list per task. Kinds that predict values have one number per column: half the width of a 90 % prediction interval
    /// in the column's unit, from the residuals of these weights on the run's validation images. Empty until it is computed,
    /// and in files of older versions.
    #[serde(default)]
    pub intervals: Vec<Vec<Option<f64>>>,
    /// The epoch of the run after which these weights were its best, counted from 1. `None` for a run's state, which continues,
    /// and in files of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Version of the program that wrote the file.
    pub version: String,
}

/// Limit of the canvas side in a card, in pixels.
const LARGEST_IMAGE: usize = 1 << 14;

impl Card {
    /// The key in a file's metadata.
    pub const KEY: &str = "polyhead";

    /// A card for a training image size in pixels, with letterboxed images, no standardisation and no intervals.
    pub fn new(architecture: Architecture, image_size: usize) -> Card {
        let unfitted = architecture.tasks.iter().map(|task| task.spec.fit(&mut std::iter::empty()));
        let standardisation = unfitted.collect();
        Card {
            architecture,
            image_size,
            framing: Framing::Letterbox,
            standardisation,
            intervals: Vec::new(),
            epoch: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// The half widths of one task's columns; empty if there are none.
    pub fn intervals_of(&self, task: usize) -> &[Option<f64>] {
        self.intervals.get(task).map_or(&[], Vec::as_slice)
    }

    /// The encoder of labels on a square canvas of `side` pixels.
    pub fn encoder(&self, side: usize) -> Encoder {
        Encoder {
            tasks: self.architecture.tasks.clone(),
            levels: self.architecture.levels(side, side),
            standardisation: self.standardisation.clone(),
        }
    }

    /// Turns the network's outputs for image `index` of a batch into predictions of every task, in pixels of the image
    /// that `geometry` placed on the canvas.
    pub fn interpret(
        &self,
        outputs: &[HeadOutput],
        index: usize,
        geometry: &Geometry,
        options: &DecodeOptions,
    ) -> Vec<Box<dyn Prediction>> {
        let tasks = self.architecture.tasks.iter().zip(outputs).enumerate();
        let answers = tasks.map(|(number, (task, output))| {
            let (standardisation, half_widths) = (self.standardisation[number].as_ref(), self.intervals_of(number));
            task.spec.interpret(&Interpreting { output, index, geometry, standardisation, half_widths, options })
        });
        answers.collect()
    }

    /// The text in a file's metadata.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|e| unreachable!("a card has only string keys: {e}"))
    }

    /// # Errors
    /// The text is not a card, or the card's lists do not match its tasks.
    pub fn from_json(text: &str, file: &Path) -> Result<Card> {
        let refused =
            |why: String| Error::checkpoint(file, format!("its `{}` metadata is not a model card ({why})", Card::KEY));
        let card: Card = serde_json::from_str(text).map_err(|e| refused(e.to_string()))?;
        card.check().map_err(refused)?;
        Ok(card)
    }

    /// Checks that the sizes are valid before anything is allocated for them.
    fn check_sizes(&self) -> std::result::Result<(), String> {
        let Architecture { detection, pyramid_levels, dropout, .. } = &self.architecture;
        let PyramidSize { channels, tower_depth } = *detection;
        if ![PyramidSize::LITE, PyramidSize::FULL, PyramidSize::TINY].contains(detection) {
            return Err(format!(
                "a detection head of {channels} channels and towers of depth {tower_depth}: no --head has those"
            ));
        }
        if ![3, 5].contains(pyramid_levels) {
            return Err(format!("pyramid_levels {pyramid_levels}: expected 3 or 5"));
        }
        if !(1..=LARGEST_IMAGE).contains(&self.image_size) {
            return Err(format!("image_size {}: expected 1 to {LARGEST_IMAGE} pixels", self.image_size));
        }
        if !(0.0..1.0).contains(dropout) {
            return Err(format!("dropout {dropout}: expected a share from 0 to below 1"));
        }
        let widths = self.intervals.iter().flatten().flatten();
        match widths.copied().find(|width| !(width.is_finite() && *width >= 0.0)) {
            Some(width) => Err(format!("a half width of {width} in `intervals`: expected numbers of at least 0")),
            None => Ok(()),
        }
    }

    /// Checks that the lists have one entry per task and column.
    fn check(&self) -> std::result::Result<(), String> {
        self.check_sizes()?;
        let (tasks, fitted) = (&self.architecture.tasks, &self.standardisation);
        if fitted.len() != tasks.len() {
            return Err(format!("{} standardisations for {} tasks", fitted.len(), tasks.len()));
        }
        for (task, fitted) in tasks.iter().zip(fitted) {
            let written = serde_json::to_value(task).map_err(|e| e.to_string())?;
            let count = |key: &str| written.get(key).and_then(Value::as_array).map(Vec::len);
            if let (Some(columns), Some(units)) = (count("columns"), count("units"))
                && columns != units
            {
                return Err(format!("{}: {units} units for {columns} columns", task.name));
            }
            let Some((fitted, expected)) = fitted.as_ref().zip(task.spec.fit(&mut std::iter::empty())) else {
                continue;
            };
            let columns = expected.mean.len();
            if [fitted.mean.len(), fitted.deviation.len()] != [columns; 2] {
                let (means, deviations) = (fitted.mean.len(), fitted.deviation.len());
                let name = &task.name;
                return Err(format!("{name}: {means} means and {deviations} deviations for {columns} columns"));
            }
            let is_mean = |mean: &f64| mean.is_finite();
            let is_deviation = |deviation: &f64| deviation.is_finite() && *deviation > 0.0;
            if !(fitted.mean.iter().all(is_mean) && fitted.deviation.iter().all(is_deviation)) {
                return Err(format!("{}: a mean that is not a number, or a deviation that is not above 0", task.name));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Backbone;
    use crate::tasks::Task;
    use crate::tasks::regress::Regress;

    #[test]
    fn intervals_survive_bit_for_bit_and_an_older_card_has_none() {
        let tasks = vec![Task::new("sizes", Regress::new(vec!["a".into(), "b".into()]))];
        let mut card = Card::new(Architecture::new(Backbone::Tiny, tasks, 64, 0.0), 64);
        card.intervals = vec![vec![Some(0.1 + 0.2), None]];
        let file = Path::new("card.json");
        assert_eq!(Card::from_json(&card.to_json(), file).unwrap(), card);
        let mut old: Value = serde_json::from_str(&card.to_json()).unwrap();
        old.as_object_mut().unwrap().remove("intervals");
        let old = Card::from_json(&old.to_string(), file).unwrap();
        assert_eq!((old.intervals_of(0), old.intervals_of(7)), (&[][..], &[][..]));
        assert_eq!(card.intervals_of(0), [Some(0.1 + 0.2), None]);
    }

    #[test]
    fn a_card_whose_lists_do_not_fit_its_tasks_is_refused() {
        let tasks = vec![Task::new("sizes", Regress::new(vec!["a".into(), "b".into()]))];
        let card = Card::new(Architecture::new(Backbone::Tiny, tasks, 64, 0.0), 64);
        let whole: Value = serde_json::from_str(&card.to_json()).unwrap();
        let task = "/architecture/tasks/0/units";
        for (place, wrong, words) in [
            ("/standardisation", serde_json::json!([]), "0 standardisations for 1 tasks"),
            ("/standardisation/0/mean", serde_json::json!([1.0]), "sizes: 1 means and 2 deviations for 2 columns"),
            ("/standardisation/0/deviation", serde_json::json!([]), "2 means and 0 deviations for 2 columns"),
            (task, serde_json::json!(["cm"]), "sizes: 1 units for 2 columns"),
            ("/standardisation/0/deviation", serde_json::json!([1.0, 0.0]), "a deviation that is not above 0"),
            ("/standardisation/0/deviation", serde_json::json!([1.0, -1.0]), "a deviation that is not above 0"),
            ("/architecture/detection/channels", serde_json::json!(4_294_967_296u64), "4294967296 channels"),
            ("/architecture/detection/tower_depth", serde_json::json!(0), "towers of depth 0"),
            ("/architecture/pyramid_levels", serde_json::json!(4_294_967_296u64), "expected 3 or 5"),
            ("/image_size", serde_json::json!(99_999_999_999u64), "image_size 99999999999"),
            ("/architecture/dropout", serde_json::json!(1.0), "dropout 1"),
            ("/intervals", serde_json::json!([[-9.3, null]]), "a half width of -9.3"),
        ] {
            let mut text = whole.clone();
            *text.pointer_mut(place).unwrap_or_else(|| panic!("{place} of {whole}")) = wrong;
            let error = Card::from_json(&text.to_string(), Path::new("card.json")).unwrap_err().to_string();
            assert!(error.contains("card.json") && error.contains(words), "{place}: {error}");
        }
    }
}
