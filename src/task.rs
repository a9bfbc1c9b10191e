//! What a task is, and what an image can say about it: the words every other room uses.

use crate::boxes::Xyxy;
use serde::{Deserialize, Serialize};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// One question the network answers about an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    pub name: String,
    #[serde(flatten)]
    pub kind: TaskKind,
    #[serde(default, skip_serializing_if = "LossOptions::is_default")]
    pub loss: LossOptions,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TaskKind {
    /// Exactly one of at least two classes.
    Classify { classes: Vec<String> },
    /// Any number of the classes at once.
    MultiLabel { classes: Vec<String> },
    /// Any number of boxes, each of one class.
    Detect { classes: Vec<String> },
    /// One or several real values. `units` is as long as `columns`; an empty string is no unit.
    Regress { columns: Vec<String>, units: Vec<String> },
}

/// What a task's loss does otherwise than its kind's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LossOptions {
    /// Of a classification: how much an image of each class counts; without them all count alike.
    pub class_weights: Option<Vec<f32>>,
    /// Of a classification: the share of every label that is spread evenly over all classes.
    pub label_smoothing: f32,
    /// Of a regression.
    pub values: ValueLoss,
}

impl LossOptions {
    pub fn is_default(&self) -> bool {
        *self == LossOptions::default()
    }
}

/// What a value costs that is off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueLoss {
    /// Huber's with δ = 1: half the square, beyond 1 the distance less ½.
    #[default]
    Huber,
    /// The square.
    Mse,
}

impl Task {
    /// With its kind's own loss.
    pub fn new(name: impl Into<String>, kind: TaskKind) -> Task {
        Task { name: name.into(), kind, loss: LossOptions::default() }
    }

    pub fn classes(&self) -> &[String] {
        match &self.kind {
            TaskKind::Classify { classes } | TaskKind::MultiLabel { classes } | TaskKind::Detect { classes } => classes,
            TaskKind::Regress { .. } => &[],
        }
    }

    pub fn kind_word(&self) -> &'static str {
        match self.kind {
            TaskKind::Classify { .. } => "classification",
            TaskKind::MultiLabel { .. } => "multi-label",
            TaskKind::Detect { .. } => "detection",
            TaskKind::Regress { .. } => "regression",
        }
    }
}

/// What one image says about one task. No boxes are *labelled, nothing there*; it is not `Unlabelled`.
#[derive(Clone, Debug, PartialEq)]
pub enum Label {
    Unlabelled,
    Class(usize),
    /// Per class of a multi-label task: there, absent, or `None` where nobody said.
    Classes(Vec<Option<bool>>),
    Boxes(Boxes),
    Values(Vec<f32>),
    /// Two classes at once, of a picture that mix-up made in training.
    Mixed(MixedClass),
}

/// `share` of the first class, the rest of the second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MixedClass {
    pub classes: [usize; 2],
    pub share: f32,
}

impl Label {
    /// Boxes of an image whose annotators looked for every class.
    pub fn boxes(list: Vec<LabelledBox>) -> Label {
        Label::Boxes(list.into())
    }

    pub fn is_labelled(&self) -> bool {
        !matches!(self, Label::Unlabelled)
    }
}

/// A ground-truth box in pixels of the image it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledBox {
    pub class: usize,
    pub xyxy: Xyxy,
    /// A crowd or "difficult" region: neither taught nor counted, and a detection on it is no mistake.
    pub ignore: bool,
}

/// The boxes of an image, and where not every class was looked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Boxes {
    pub list: Vec<LabelledBox>,
    /// Empty where all classes were looked for everywhere, as nearly always; one of an image, several of a mosaic.
    pub partial: PartialRegions,
}

/// A slice that takes a word where it is empty: labels are kept of a million images.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(clippy::box_collection, reason = "a slice's box would be two words")]
pub struct PartialRegions(Option<Box<Vec<PartialRegion>>>);

impl Deref for PartialRegions {
    type Target = [PartialRegion];

    fn deref(&self) -> &[PartialRegion] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }
}

impl FromIterator<PartialRegion> for PartialRegions {
    fn from_iter<I: IntoIterator<Item = PartialRegion>>(regions: I) -> PartialRegions {
        let regions = Vec::from_iter(regions);
        PartialRegions((!regions.is_empty()).then(|| Box::new(regions)))
    }
}

/// A part of a picture whose annotators looked for some classes only. Of any other no more is known there than the boxes that are
/// drawn: its absence is not taught, and a detection of it is no mistake.
#[derive(Clone, Debug, PartialEq)]
pub struct PartialRegion {
    pub xyxy: Xyxy,
    /// The classes that were looked for, ascending; shared by the images that say the same.
    pub looked_for: Arc<[u32]>,
}

impl Boxes {
    /// The boxes of an image of a task of `classes` classes, and of each class that nobody looked for the region as one to ignore.
    pub fn with_regions(&self, classes: usize) -> impl Iterator<Item = LabelledBox> {
        let of_region = move |region: &PartialRegion| {
            let (region, xyxy) = (region.clone(), region.xyxy);
            let left_out = (0..classes).filter(move |class| !region.has(*class));
            left_out.map(move |class| LabelledBox { class, xyxy, ignore: true })
        };
        self.list.iter().cloned().chain(self.partial.iter().flat_map(of_region))
    }
}

impl PartialRegion {
    /// Whether the class was looked for.
    pub fn has(&self, class: usize) -> bool {
        self.looked_for.binary_search_by(|looked_for| (*looked_for as usize).cmp(&class)).is_ok()
    }
}

impl From<Vec<LabelledBox>> for Boxes {
    fn from(list: Vec<LabelledBox>) -> Boxes {
        Boxes { list, partial: PartialRegions::default() }
    }
}

impl FromIterator<LabelledBox> for Boxes {
    fn from_iter<I: IntoIterator<Item = LabelledBox>>(boxes: I) -> Boxes {
        Vec::from_iter(boxes).into()
    }
}

impl Deref for Boxes {
    type Target = Vec<LabelledBox>;

    fn deref(&self) -> &Vec<LabelledBox> {
        &self.list
    }
}

impl DerefMut for Boxes {
    fn deref_mut(&mut self) -> &mut Vec<LabelledBox> {
        &mut self.list
    }
}
