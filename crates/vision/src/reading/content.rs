//! The content of label files about one image, independent of the file format. At this stage classes are not numbered
//! and the kind of task is not known.

use super::{Place, Spot};
use crate::boxes::Xyxy;
use crate::error::Error;
use std::path::Path;
use std::sync::Arc;

/// Limit of the number of classes that a number in a file can stand for, so that a wrong number takes no memory.
pub const MOST_CLASSES: usize = 1 << 20;

/// The label of one image as the file states it, before class names are turned into numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw {
    /// No label.
    Unlabelled,
    /// One class.
    Class(RawClass),
    /// The classes that are present, out of several; all others are absent.
    Names(Vec<RawClass>),
    /// Presence or absence of several classes, one per column; `None` if the cell is blank.
    Flags(Vec<Option<bool>>),
    /// The objects in the image; an empty list means that there are none.
    Boxes(Vec<RawBox>),
    /// Numbers, in the order of the columns.
    Values(Vec<f64>),
}

/// An object as a file describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct RawBox {
    /// Its class, as the file writes it.
    pub class: RawClass,
    /// Where it is, in pixels of the upright image.
    pub xyxy: Xyxy,
    /// Whether the box marks a region that the loss and the metrics ignore, such as a crowd.
    pub ignore: bool,
}

/// A class as the file writes it, and its place in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct RawClass {
    /// The name or number in the file.
    pub word: Word,
    /// Its place in the file.
    pub spot: Spot,
}

/// The ways in which files refer to a class.
#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    /// A name, shared because a file may repeat it many times.
    Name(Arc<str>),
    /// A number, counted from 0.
    Index(usize),
}

/// A warning for the user that does not stop the run.
#[derive(Clone, Debug, PartialEq)]
pub enum Remark {
    /// A box without width or height was left out.
    DegenerateBox,
    /// Every box of an image was left out, which does not make it an image without objects.
    NoBoxLeft,
    /// The right edge of a box is left of its left edge, so its image is unlabelled.
    SwappedX,
    /// The lower edge of a box is above its upper edge, so its image is unlabelled.
    SwappedY,
    /// The same row occurs twice and is counted once.
    DuplicateBox,
    /// A box extends beyond the image size that its file states.
    BeyondImage,
    /// An image has no label file beside it.
    NoLabelFile,
    /// The label file does not mention the image.
    NotMentioned,
    /// The label needs the image's size, and the image cannot be read.
    UnreadableImage,
    /// Some of a task's columns are blank, so the image is unlabelled, at least for these classes.
    PartlyBlank,
}

impl Remark {
    /// The fact about swapped corners, for use in a sentence.
    pub fn swapped_corners(&self) -> Option<&'static str> {
        match self {
            Remark::SwappedX => Some("xmax is left of xmin"),
            Remark::SwappedY => Some("ymax is above ymin"),
            _ => None,
        }
    }
}

/// The label of one image and the messages about it.
#[derive(Debug)]
pub struct Reading {
    /// The label as the file states it.
    pub raw: Raw,
    /// The label with swapped corners put right, if that is why the image is unlabelled.
    pub mended: Option<Box<Raw>>,
    /// The file and place the label was read from.
    pub place: Place,
    /// Warnings, each with its place.
    pub remarks: Vec<(Remark, Place)>,
    /// Rows that could not be interpreted; other rows of the image may be valid.
    pub faults: Vec<Error>,
    /// For boxes: the classes that annotators looked for, if they did not look for all.
    pub labelled_categories: Option<Vec<RawClass>>,
    /// Width and height of the image; set only if `labelled_categories` is.
    pub size: [u32; 2],
}

impl Reading {
    /// A reading without remarks, from a line of a file (counted from 1) or from the file as a whole.
    pub fn of(raw: Raw, file: &Path, line: Option<usize>) -> Self {
        Reading::at(raw, Place::new(file, line))
    }

    /// A reading without remarks, from a place whose file name is shared.
    pub fn at(raw: Raw, place: Place) -> Self {
        let (remarks, faults) = (Vec::new(), Vec::new());
        Reading { raw, mended: None, place, remarks, faults, labelled_categories: None, size: [0; 2] }
    }

    /// Removes the label, because something in it is wrong.
    pub fn unlabel(&mut self) {
        self.raw = Raw::Unlabelled;
        self.labelled_categories = None;
    }
}

/// The meaning of an image without a label file, or one that no label file mentions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Missing {
    /// The image counts as labelled and has no objects.
    Background,
    /// The image is unlabelled: the task neither trains nor is evaluated on it.
    Unlabelled,
}

/// The box format of `bbox` in a metadata table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BoxFormat {
    /// Left, top, width, height in pixels, as in COCO and Hugging Face.
    XywhAbsolute,
    /// Left, top, right, bottom in pixels.
    XyxyAbsolute,
    /// Centre, width and height as fractions of the image size, as in YOLO.
    CxcywhNormalised,
}
