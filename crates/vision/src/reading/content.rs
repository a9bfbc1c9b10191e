//! The content of label files about an image, whatever their format. Class names have no numbers yet, and the kind of task is not
//! known.

use super::{Place, Spot};
use crate::boxes::Xyxy;
use crate::error::Error;
use std::path::Path;
use std::sync::Arc;

/// The label of an image as the file has it, before class names have numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw {
    /// Nothing: nobody looked.
    Unlabelled,
    /// The one class that it is of.
    Class(RawClass),
    /// The classes that are there, out of several; the others are absent.
    Names(Vec<RawClass>),
    /// Each of several classes, there or absent, column by column; `None` where the cell is blank.
    Flags(Vec<Option<bool>>),
    /// The objects in it; an empty list says that there is none.
    Boxes(Vec<RawBox>),
    /// Numbers, in the order of the columns.
    Values(Vec<f32>),
}

/// An object as a file describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct RawBox {
    /// Its class, as the file writes it.
    pub class: RawClass,
    /// Where it is, in pixels of the upright image.
    pub xyxy: Xyxy,
    /// Whether it marks a region that is neither taught nor judged, such as a crowd.
    pub ignore: bool,
}

/// A class as the file writes it, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct RawClass {
    /// The name or number that stands there.
    pub word: Word,
    /// Where in the file it stands.
    pub spot: Spot,
}

/// The ways in which files refer to a class.
#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    /// Shared where a file names a class many times.
    Name(Arc<str>),
    /// By its number, from 0.
    Index(usize),
}

/// Something a person should hear about that does not stop the run.
#[derive(Clone, Debug, PartialEq)]
pub enum Remark {
    /// A box without width or height, left out.
    DegenerateBox,
    /// The same row twice, counted once.
    DuplicateBox,
    /// A box reaching beyond the image size its file states.
    BeyondImage,
    /// An image without a file of labels beside it.
    NoLabelFile,
    /// An image that the label file does not mention.
    NotMentioned,
    /// The label needs the image's size, and the image cannot be read.
    UnreadableImage,
    /// Some of a task's columns are blank, so the image is unlabelled, or is for these classes.
    PartlyBlank,
}

/// One image's answer.
#[derive(Debug)]
pub struct Reading {
    /// The label as the file has it.
    pub raw: Raw,
    /// The file that said so.
    pub place: Place,
    /// Remarks for the person, each with its place.
    pub remarks: Vec<(Remark, Place)>,
    /// Rows that cannot be followed, beside others that can.
    pub faults: Vec<Error>,
    /// For boxes, the classes that were looked for, where not all were.
    pub labelled_categories: Option<Vec<RawClass>>,
    /// Width and height of the image, where those classes make them needed.
    pub size: [u32; 2],
}

impl Reading {
    /// An answer without remarks, from a line of a file, counted from 1, or from the file as a whole.
    pub fn of(raw: Raw, file: &Path, line: Option<usize>) -> Self {
        Reading::at(raw, Place::new(file, line))
    }

    /// An answer without remarks, from a place whose file name is shared.
    pub fn at(raw: Raw, place: Place) -> Self {
        Reading { raw, place, remarks: Vec::new(), faults: Vec::new(), labelled_categories: None, size: [0; 2] }
    }
}

/// The meaning of an image that has no label file, or that no label file mentions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Missing {
    /// Labelled, with no object in it.
    Background,
    /// Not labelled: the task neither learns from it nor is judged by it.
    Unlabelled,
}

/// The form of `bbox` in a metadata table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BoxFormat {
    /// Left, top, width, height in pixels, as in COCO and Hugging Face.
    XywhAbsolute,
    /// Left, top, right, bottom in pixels.
    XyxyAbsolute,
    /// Centre, width, height as parts of the image, as in YOLO.
    CxcywhNormalised,
}
