//! Every label format behind one question: what does it say about this image? Readers give class names or numbers as
//! written; `dataset` turns them into indices once all are known.

pub mod coco;
mod columns;
mod folder;
pub mod table;
mod voc;
mod yolo;

use super::Place;
use super::declaration::{LabelsFrom, TaskDeclaration};
use super::listing::Listed;
use crate::boxes::Xyxy;
use crate::error::{Error, Result};
use std::path::Path;

/// What an image says about a task, before class names have numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw {
    Unlabelled,
    Class(RawClass),
    /// Of a multi-label task: the classes that are there, the others absent.
    Names(Vec<RawClass>),
    /// Of a multi-label task, column by column; `None` where the cell is blank.
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
    pub line: Option<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    Name(String),
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
}

impl Reading {
    pub fn of(raw: Raw, file: &Path, line: Option<usize>) -> Self {
        Reading::at(raw, Place::new(file, line))
    }

    fn at(raw: Raw, place: Place) -> Self {
        Reading { raw, place, remarks: Vec::new(), faults: Vec::new() }
    }
}

/// A task's labels, opened.
pub enum Reader {
    Folder,
    Table(columns::TableReader),
    Yolo(yolo::YoloReader),
    Voc(voc::VocReader),
}

impl Reader {
    /// Opens what `task` reads from. `images` are all images of all splits, in the order `read` will be asked about them.
    pub fn open(task: &TaskDeclaration, root: &Path, images: &[Listed]) -> Result<Reader> {
        Ok(match &task.from {
            LabelsFrom::Folders => Reader::Folder,
            LabelsFrom::Columns(columns) => Reader::Table(columns::TableReader::metadata(task, columns, root, images)?),
            LabelsFrom::Csv { file, columns, key } => {
                Reader::Table(columns::TableReader::csv(task, file, columns, key.as_deref(), root, images)?)
            }
            LabelsFrom::Yolo { dir, rows } => Reader::Yolo(yolo::YoloReader::new(dir.clone(), *rows, root)),
            LabelsFrom::Voc { dir } => Reader::Voc(voc::VocReader::new(dir.clone())),
        })
    }

    /// What it says about image number `index`.
    pub fn read(&self, task: &TaskDeclaration, index: usize, image: &Listed) -> Result<Reading> {
        match self {
            Reader::Folder => folder::read(image),
            Reader::Table(reader) => reader.read(task, index, image),
            Reader::Yolo(reader) => reader.read(task, image),
            Reader::Voc(reader) => reader.read(task, image),
        }
    }

    /// Sentences about the labels as a whole: rows that name no image, tables found.
    pub fn notes(&self) -> Vec<String> {
        match self {
            Reader::Table(reader) => reader.notes.clone(),
            _ => Vec::new(),
        }
    }
}
