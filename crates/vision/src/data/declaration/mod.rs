//! The declaration of a data set in one form for all layouts: its splits, its tasks and the sources of their labels.
//! `layouts` creates it; no label has been read yet.

mod grouping;
mod source;
mod sources;
mod split;

pub use grouping::{GroupedBy, Grouping, Pattern};
pub use source::Source;
pub use sources::{SourceSet, Weight};
pub use split::Split;

use crate::data::forms::Form;
use crate::error::Error;
use crate::reading::{BoxFormat, Missing, Place};
use crate::tasks::{Declared, Kind, TaskContext};
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct Declaration {
    /// A sentence for display that names the layout.
    pub layout: String,
    pub root: PathBuf,
    /// The sources of train, val and test, in the order of `Split::ALL`; val and test are empty if not declared.
    pub splits: [Vec<Source>; 3],
    pub val_fraction: Option<f32>,
    /// Images that stay together when validation is split off training.
    pub group: Option<Grouping>,
    pub tasks: Vec<TaskDeclaration>,
    pub notes: Vec<String>,
    /// Added to an error that follows, because they may be its cause: the notes about unknown keys that resemble a known
    /// one, and the reason why a YAML file of another name was read.
    pub causes: Vec<String>,
    /// Why the test split is left out, if one is declared whose images are not there.
    pub no_test: Option<String>,
    /// The data sets of which this one consists. If there are any, it has no splits of its own.
    pub sources: Vec<SourceSet>,
    /// The declaring file, or the folder whose layout was recognised.
    pub place: Place,
}

#[derive(Clone, Debug)]
pub struct TaskDeclaration {
    pub name: String,
    pub kind: &'static Kind,
    pub from: LabelsFrom,
    /// Class names in index order; `None` to take them from the training labels.
    pub names: Option<Vec<String>>,
    /// The options that only the task's kind interprets.
    pub own: Arc<dyn Declared>,
    /// The smallest and largest value allowed for numbers.
    pub range: Option<[f64; 2]>,
    pub missing: Option<Missing>,
    pub crop_safe: Option<bool>,
    pub flip_safe: bool,
    pub scale_safe: Option<bool>,
    pub box_format: BoxFormat,
    pub place: Place,
}

/// The source of a task's labels.
#[derive(Clone, Debug, PartialEq)]
pub enum LabelsFrom {
    /// Columns of metadata.jsonl or metadata.csv beside the images, or the labels that lie with an image in its
    /// archive: columns of a parquet file, or of a sample in a WebDataset shard.
    Columns(Vec<String>),
    /// The class is the name of the folder that contains the image.
    Folders,
    Csv {
        files: Vec<LabelFile>,
        columns: Vec<String>,
        key: Option<String>,
    },
    /// CSV files with one row per box.
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
    /// Label files in `dir` or, without it, where Ultralytics puts them: the last `images` in the path is replaced by
    /// `labels`.
    Yolo {
        dir: Option<PathBuf>,
        rows: YoloRows,
    },
    Voc {
        dir: PathBuf,
    },
    /// The files of an annotation tool, or the folders of its files for single images: boxes, or attributes of the image. Without
    /// a name it is the attribute called like the task, or the only one.
    Form {
        form: &'static Form,
        files: Vec<LabelFile>,
        attributes: Vec<String>,
    },
}

/// A file with the labels of many images.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelFile {
    pub path: PathBuf,
    /// The split whose images it describes; `None` for all.
    pub split: Option<Split>,
}

/// The meaning of rows with more numbers than a class and a box, in YOLO label files.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum YoloRows {
    /// Decided by the rows themselves: polygons, or keypoints if every row fits them.
    BoxesOrPolygons,
    /// Polygons in any case.
    Polygons,
    /// A box and its keypoints, which are ignored.
    Keypoints,
    /// Predictions: a box and its confidence, or a confidence and the number of a track, which are ignored.
    Predictions,
}

impl YoloRows {
    /// The word for `rows:` in data.yaml; `None` for what is assumed without it.
    pub fn word(self) -> Option<&'static str> {
        match self {
            YoloRows::BoxesOrPolygons => None,
            YoloRows::Polygons => Some("polygons"),
            YoloRows::Keypoints => Some("keypoints"),
            YoloRows::Predictions => Some("predictions"),
        }
    }

    /// All that `rows:` can ask for.
    pub const WRITTEN: [YoloRows; 3] = [YoloRows::Polygons, YoloRows::Keypoints, YoloRows::Predictions];
}

/// An error in the user's files, with more sentences after its own.
pub fn explained(error: Error, more: &[String]) -> Error {
    match error {
        Error::Data { file, line, message } => {
            let all: Vec<&str> = std::iter::once(&message).chain(more).map(String::as_str).collect();
            Error::Data { file, line, message: all.join("; ") }
        }
        other => other,
    }
}

impl LabelsFrom {
    /// The columns to read, if the labels are in columns.
    pub fn columns(&self) -> &[String] {
        match self {
            LabelsFrom::Columns(columns) | LabelsFrom::Csv { columns, .. } => columns,
            LabelsFrom::Form { attributes, .. } => attributes,
            _ => &[],
        }
    }
}

impl TaskDeclaration {
    /// A task with defaults for everything else.
    pub fn new(name: &str, kind: &'static Kind, from: LabelsFrom, place: Place) -> TaskDeclaration {
        TaskDeclaration {
            name: name.to_string(),
            kind,
            from,
            names: None,
            own: (kind.undeclared)(),
            range: None,
            missing: None,
            crop_safe: None,
            flip_safe: true,
            scale_safe: None,
            box_format: BoxFormat::XywhAbsolute,
            place,
        }
    }

    /// The parts of the declaration that all kinds share.
    pub fn context(&self) -> TaskContext<'_> {
        TaskContext { name: &self.name, names: self.names.as_deref(), columns: self.from.columns(), place: &self.place }
    }
}
