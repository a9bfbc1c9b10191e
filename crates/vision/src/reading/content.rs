//! What the label files say of an image, whatever their format, before class names have numbers and before anybody asks which
//! kind of task it is for.

use super::{Place, Spot};
use crate::boxes::Xyxy;
use crate::error::Error;
use std::path::Path;
use std::sync::Arc;

/// What an image says about a task, before class names have numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw {
    Unlabelled,
    Class(RawClass),
    /// Of several classes those that are there, the others absent.
    Names(Vec<RawClass>),
    /// Of several classes each, there or absent, column by column; `None` where the cell is blank.
    Flags(Vec<Option<bool>>),
    Boxes(Vec<RawBox>),
    Values(Vec<f32>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct RawBox {
    pub class: RawClass,
    pub xyxy: Xyxy,
    pub ignore: bool,
}

/// A class as the file writes it, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct RawClass {
    pub word: Word,
    pub spot: Spot,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    /// Shared where a file names a class many times.
    Name(Arc<str>),
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
    pub raw: Raw,
    /// The file that said so.
    pub place: Place,
    pub remarks: Vec<(Remark, Place)>,
    /// Rows that cannot be followed, beside others that can.
    pub faults: Vec<Error>,
    /// Of boxes: the classes that were looked for, where not all were.
    pub labelled_categories: Option<Vec<RawClass>>,
    /// Width and height of the image, where those classes make them needed.
    pub size: [u32; 2],
}

impl Reading {
    pub fn of(raw: Raw, file: &Path, line: Option<usize>) -> Self {
        Reading::at(raw, Place::new(file, line))
    }

    pub fn at(raw: Raw, place: Place) -> Self {
        Reading { raw, place, remarks: Vec::new(), faults: Vec::new(), labelled_categories: None, size: [0; 2] }
    }
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
