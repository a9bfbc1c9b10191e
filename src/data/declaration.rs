//! What a data set says about itself, in one form whatever the layout: its splits, its tasks and where their labels are.
//! `data_yaml` and `discovery` make it; no label is read yet.

use super::listing::Source;
use super::{Place, Split, list_some};
use crate::graph::ir::ValueLoss;
use std::path::PathBuf;

#[derive(Clone, Debug)]
pub struct Declaration {
    /// A sentence for people: which layout was taken.
    pub layout: String,
    pub root: PathBuf,
    /// Sources of train, val and test, in the order of `Split::ALL`; empty where not declared.
    pub splits: [Vec<Source>; 3],
    pub val_fraction: Option<f32>,
    pub tasks: Vec<TaskDeclaration>,
    pub notes: Vec<String>,
    /// The file that declares, or the folder that was discovered.
    pub place: Place,
}

#[derive(Clone, Debug)]
pub struct TaskDeclaration {
    pub name: String,
    pub kind: Kind,
    pub from: LabelsFrom,
    /// Class names in index order; without them, what the training labels hold.
    pub names: Option<Vec<String>>,
    pub units: Vec<String>,
    pub range: Option<[f32; 2]>,
    pub missing: Option<Missing>,
    /// Of a detection whose annotators looked for some classes only: these; an image may say otherwise.
    pub labelled_categories: Option<Vec<String>>,
    pub crop_safe: Option<bool>,
    pub flip_safe: bool,
    pub scale_safe: Option<bool>,
    pub box_format: BoxFormat,
    pub loss: LossDeclaration,
    pub place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Classify,
    /// `type: classify` with `multi_label: true`.
    MultiLabel,
    Detect,
    Regress,
}

/// Where a task's labels are.
#[derive(Clone, Debug, PartialEq)]
pub enum LabelsFrom {
    /// Columns of the metadata.jsonl or metadata.csv beside the images.
    Columns(Vec<String>),
    /// The class is the folder an image lies in.
    Folders,
    Csv {
        files: Vec<LabelFile>,
        columns: Vec<String>,
        key: Option<String>,
    },
    /// CSV files with a row a box.
    BoxRows {
        files: Vec<LabelFile>,
    },
    Coco {
        files: Vec<LabelFile>,
    },
    /// BDD100K's JSON: boxes, or an attribute of the image.
    Bdd {
        files: Vec<LabelFile>,
        attribute: Option<String>,
    },
    /// Label files in `dir`, or where Ultralytics puts them: the last `images` of the path replaced by `labels`.
    Yolo {
        dir: Option<PathBuf>,
        rows: YoloRows,
    },
    Voc {
        dir: PathBuf,
    },
}

/// A file that holds the labels of many images.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelFile {
    pub path: PathBuf,
    /// Whose images it speaks of; of any without it.
    pub split: Option<Split>,
}

/// What follows the four box numbers of a YOLO row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum YoloRows {
    /// Nothing, or the row is a polygon.
    BoxesOrPolygons,
    /// Keypoints, which are not used.
    Keypoints,
}

/// What an image is that has no label file, or that no label file mentions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Missing {
    Background,
    Unlabelled,
}

/// How `bbox` of a metadata table is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BoxFormat {
    XywhAbsolute,
    XyxyAbsolute,
    CxcywhNormalised,
}

/// A task's loss as declared; `loss_options` counts what it asks to be counted.
#[derive(Clone, Debug, Default)]
pub struct LossDeclaration {
    pub class_weights: Option<ClassWeights>,
    pub label_smoothing: f32,
    pub values: ValueLoss,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ClassWeights {
    /// By how rare a class is in the training split.
    Balanced,
    Each(Vec<f32>),
}

impl Kind {
    /// Whether several columns make one label.
    pub fn takes_columns(self) -> bool {
        matches!(self, Kind::MultiLabel | Kind::Regress)
    }

    pub fn word(self) -> &'static str {
        match self {
            Kind::Classify | Kind::MultiLabel => "classify",
            Kind::Detect => "detect",
            Kind::Regress => "regress",
        }
    }
}

impl TaskDeclaration {
    /// For the error that names what was expected of a class.
    pub fn known_classes(&self, names: &[String]) -> String {
        format!("task `{}` knows {}", self.name, list_some(names, 12))
    }
}
