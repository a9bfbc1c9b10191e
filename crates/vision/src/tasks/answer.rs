//! Answers about one image: from a head's numbers to what is written and drawn.

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
    /// In the order of the head's [`outputs`](super::HeadValues::outputs), `[N, …]` each.
    pub values: Vec<Vec<f32>>,
    /// The pyramid's levels that boxes stand on; empty for a pooled head.
    pub levels: Vec<Level>,
}

/// A head's output, and what a kind may want to know beside it to answer.
#[derive(Clone, Copy, Debug)]
pub struct Interpreting<'a> {
    /// The head's numbers for the batch.
    pub output: &'a HeadOutput,
    /// Which image of the batch.
    pub index: usize,
    /// Width and height of the canvas in network pixels; boxes are clipped to it.
    pub size: [f32; 2],
    /// The mean and deviation that turn values back into their unit, if the kind fits them.
    pub standardisation: Option<&'a Standardisation>,
    /// Half the widths of prediction intervals, where the card has them.
    pub half_widths: &'a [Option<f64>],
    /// The thresholds for a detection.
    pub options: &'a DecodeOptions,
}

impl Interpreting<'_> {
    /// The image's row of output number `output`, `width` numbers.
    pub fn row(&self, output: usize, width: usize) -> &[f32] {
        &self.output.values[output][self.index * width..(self.index + 1) * width]
    }
}

/// The thresholds for a detection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DecodeOptions {
    /// Scores above it are candidates.
    pub score_threshold: f32,
    /// The best candidates of each level that go on.
    pub max_per_level: usize,
    /// Overlap beyond which the worse of two boxes of a class goes.
    pub iou_threshold: f64,
    /// Boxes that an image may have.
    pub max_detections: usize,
}

impl DecodeOptions {
    /// # Errors
    /// A score or an overlap outside 0 … 1.
    pub fn check(&self) -> Result<()> {
        for (value, flag) in [(f64::from(self.score_threshold), "conf"), (self.iou_threshold, "iou")] {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::Usage(format!("--{flag} {value}: expected a number from 0 to 1")));
            }
        }
        Ok(())
    }
}

impl Default for DecodeOptions {
    fn default() -> Self {
        DecodeOptions { score_threshold: 0.05, max_per_level: 1000, iou_threshold: 0.6, max_detections: 100 }
    }
}

/// The answer to one task about one image. It knows its classes' names and its units, so that it can be written without its task;
/// [`get`](#method.get) gives the kind's own value to whoever knows the kind.
pub trait Prediction: Same {
    /// The value under the task's name in a line of `predictions.jsonl`.
    fn to_json(&self) -> Value;

    /// Its cells in `predictions.csv`, one for each of [`TaskSpec::table`](super::TaskSpec::table)'s columns.
    fn cells(&self) -> Vec<String>;

    /// The text below a picture, behind the task's name; `None` if everything is drawn on the picture.
    fn caption(&self) -> Option<String>;

    /// The boxes to draw on the picture, in the pixels of the answer.
    fn frames(&self) -> Vec<LabelledFrame> {
        Vec::new()
    }

    /// From network pixels to those of the original image; what lies in the padding goes.
    fn to_image_pixels(&mut self, _geometry: &Geometry) {}

    /// The entries of COCO's list of results, for the image's number and the classes' category numbers.
    fn coco(&self, _image: u64, _categories: &[u64]) -> Vec<Value> {
        Vec::new()
    }

    /// The rows of a YOLO label file, sizes as parts of the image's width and height; `None` where it holds no boxes.
    fn yolo(&self, _size: [usize; 2]) -> Option<String> {
        None
    }

    /// Rows of `boxes.csv` behind the file's name: class, score, x1, y1, x2, y2.
    fn box_rows(&self) -> Vec<Vec<String>> {
        Vec::new()
    }
}

impl dyn Prediction {
    /// The kind's own value, `None` if it is of another kind.
    pub fn get<T: Any>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }
}

impl PartialEq for dyn Prediction {
    fn eq(&self, other: &dyn Prediction) -> bool {
        self.is_same(other)
    }
}

/// A number with as many decimals as `per_unit` has zeros.
pub fn round(value: f32, per_unit: f64) -> Value {
    json!((f64::from(value) * per_unit).round() / per_unit)
}

/// `{class: probability}`, six decimals.
pub(super) fn named_probabilities(classes: &[String], probabilities: &[f32]) -> Map<String, Value> {
    classes.iter().zip(probabilities).map(|(class, p)| (class.clone(), round(*p, 1e6))).collect()
}

/// `1 / (1 + e^−x)`.
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}
