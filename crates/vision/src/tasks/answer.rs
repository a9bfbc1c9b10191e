//! Predictions for one image: how a head's numbers are interpreted, written and drawn.

use super::Standardisation;
use super::same::Same;
use crate::draw::LabelledFrame;
use crate::error::{Error, Result};
use crate::geometry::Geometry;
use crate::ir::Level;
use serde_json::{Map, Value, json};
use std::any::Any;

/// The output of one head for a batch, as plain numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadOutput {
    /// One array `[N, …]` per value, in the order of the head's [`outputs`](super::HeadValues::outputs).
    pub values: Vec<Vec<f32>>,
    /// The pyramid levels that the boxes belong to; empty for a pooled head.
    pub levels: Vec<Level>,
}

/// A head's output and the context that a kind may need to interpret it.
#[derive(Clone, Copy, Debug)]
pub struct Interpreting<'a> {
    /// The head's numbers for the batch.
    pub output: &'a HeadOutput,
    /// The index of the image in the batch.
    pub index: usize,
    /// The place of the image on the canvas. Boxes are converted to the image's own pixels and clipped to it.
    pub geometry: &'a Geometry,
    /// The mean and deviation that convert values back to their unit, if the kind standardises its values.
    pub standardisation: Option<&'a Standardisation>,
    /// Half the widths of prediction intervals, if the card has them.
    pub half_widths: &'a [Option<f64>],
    /// The thresholds for detections.
    pub options: &'a DecodeOptions,
}

impl Interpreting<'_> {
    /// The image's row of output number `output`, of length `width`.
    pub fn row(&self, output: usize, width: usize) -> &[f32] {
        &self.output.values[output][self.index * width..(self.index + 1) * width]
    }
}

/// The thresholds for detections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DecodeOptions {
    /// Boxes with a score above this are candidates.
    pub score_threshold: f32,
    /// The number of best candidates kept per level.
    pub max_per_level: usize,
    /// If two boxes of a class overlap more than this, the one with the lower score is dropped.
    pub iou_threshold: f64,
    /// The largest number of boxes per image.
    pub max_detections: usize,
}

impl DecodeOptions {
    /// # Errors
    /// A score or an overlap threshold is outside 0 to 1, or no box is to be kept.
    pub fn check(&self) -> Result<()> {
        for (value, flag) in [(f64::from(self.score_threshold), "conf"), (self.iou_threshold, "iou")] {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::Usage(format!("--{flag} {value}: expected a number from 0 to 1")));
            }
        }
        match self.max_detections {
            0 => Err(Error::Usage("--max-det 0: expected at least 1".into())),
            _ => Ok(()),
        }
    }
}

impl Default for DecodeOptions {
    fn default() -> Self {
        DecodeOptions { score_threshold: 0.05, max_per_level: 1000, iou_threshold: 0.6, max_detections: 100 }
    }
}

/// The prediction of one task for one image. It contains its class names and units, so it can be written without its
/// task. [`get`](#method.get) returns the kind's own type to code that knows the kind.
pub trait Prediction: Same {
    /// The value under the task's name in a line of `predictions.jsonl`.
    fn to_json(&self) -> Value;

    /// Its cells in `predictions.csv`, one per column of [`TaskSpec::table`](super::TaskSpec::table).
    fn cells(&self) -> Vec<String>;

    /// The text below a picture, after the task's name; `None` if everything is drawn on the picture.
    fn caption(&self) -> Option<String>;

    /// The boxes to draw on the picture, in the prediction's pixels.
    fn frames(&self) -> Vec<LabelledFrame> {
        Vec::new()
    }

    /// The highest score of a box; `None` without a box, and for a kind without boxes.
    fn best_score(&self) -> Option<f32> {
        None
    }

    /// The entries for COCO's results list, given the image's id and the classes' category ids.
    fn coco(&self, _image: i64, _categories: &[i64]) -> Vec<Value> {
        Vec::new()
    }

    /// The rows of a YOLO label file, with sizes as fractions of the image's width and height; `None` for a kind
    /// without boxes.
    fn yolo(&self, _size: [usize; 2]) -> Option<String> {
        None
    }

    /// Rows of `boxes.csv` without the file name: class, score, x1, y1, x2, y2.
    fn box_rows(&self) -> Vec<Vec<String>> {
        Vec::new()
    }
}

impl dyn Prediction {
    /// The kind's own type; `None` if the prediction is of another kind.
    pub fn get<T: Any>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }
}

impl PartialEq for dyn Prediction {
    fn eq(&self, other: &dyn Prediction) -> bool {
        self.is_same(other)
    }
}

/// Rounds to as many decimals as `per_unit` has zeros.
pub fn round(value: f32, per_unit: f64) -> Value {
    json!((f64::from(value) * per_unit).round() / per_unit)
}

/// `{class: probability}`, rounded to six decimals.
pub(super) fn named_probabilities(classes: &[String], probabilities: &[f32]) -> Map<String, Value> {
    classes.iter().zip(probabilities).map(|(class, p)| (class.clone(), round(*p, 1e6))).collect()
}

/// `1 / (1 + e^−x)`.
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}
