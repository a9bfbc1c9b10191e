//! The declaration of a data set, in one form whatever the layout: its splits, its tasks and where their labels are.
//! `layouts` makes it; no label is read yet.

mod source;
mod split;

pub use source::Source;
pub use split::Split;

use crate::reading::{BoxFormat, Missing, Place};
use crate::tasks::{Asked, Declared, Kind};
use std::path::PathBuf;
use std::sync::Arc;

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
    pub kind: &'static Kind,
    pub from: LabelsFrom,
    /// Class names in index order; without them, what the training labels hold.
    pub names: Option<Vec<String>>,
    /// The declared options that only its kind understands.
    pub own: Arc<dyn Declared>,
    /// The least and the greatest value that numbers may have.
    pub range: Option<[f32; 2]>,
    pub missing: Option<Missing>,
    pub crop_safe: Option<bool>,
    pub flip_safe: bool,
    pub scale_safe: Option<bool>,
    pub box_format: BoxFormat,
    pub place: Place,
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

/// The numbers that follow the four of the box in a YOLO row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum YoloRows {
    /// Nothing, or the row is a polygon.
    BoxesOrPolygons,
    /// Keypoints, which are not used.
    Keypoints,
}

impl LabelsFrom {
    /// The columns that are read, where labels stand in columns.
    pub fn columns(&self) -> &[String] {
        match self {
            LabelsFrom::Columns(columns) | LabelsFrom::Csv { columns, .. } => columns,
            _ => &[],
        }
    }
}

impl TaskDeclaration {
    /// A task of which nothing is said but this.
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

    /// The parts of the declaration that its kind may need.
    pub fn asked(&self) -> Asked<'_> {
        Asked { name: &self.name, names: self.names.as_deref(), columns: self.from.columns(), place: &self.place }
    }
}
