//! Where in a person's files something stands, for the error that sends them there.

use crate::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Where a person wrote something, for the error that sends them there.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// Shared: a table's name would else be kept once a row.
    pub file: Arc<Path>,
    /// Where in the file.
    pub spot: Spot,
}

/// Where in a file; small, for a million labels have one each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Spot {
    /// The file as a whole.
    File,
    /// A line, counted from 1.
    Line(u32),
    /// In a JSON file, which is one long line: the list and the entry's number in it.
    Entry(List, u32),
}

/// The lists of the JSON files that hold the labels of many images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum List {
    /// `images` of a COCO file.
    Images,
    /// `annotations` of a COCO file.
    Annotations,
    /// `categories` of a COCO file.
    Categories,
    /// The list that a BDD100K file is.
    Frames,
}

impl Place {
    /// A line, counted from 1, of a file, or the file as a whole.
    pub fn new(file: impl AsRef<Path>, line: Option<usize>) -> Self {
        Place { file: file.as_ref().into(), spot: line.map_or(Spot::File, Spot::line) }
    }

    /// A place in a file whose name many places share.
    pub fn at(file: &Arc<Path>, spot: Spot) -> Self {
        Place { file: file.clone(), spot }
    }

    /// The error that sends a person there.
    pub fn error(&self, message: impl Into<String>) -> Error {
        self.spot.error(&self.file, message)
    }
}

impl Spot {
    /// The line of this number, counted from 1.
    pub fn line(number: usize) -> Self {
        Spot::Line(number as u32)
    }

    /// Entry `index`, counted from 0, of a list.
    pub fn entry(list: List, index: usize) -> Self {
        Spot::Entry(list, index as u32)
    }

    /// The error that sends a person to this place in `file`.
    pub fn error(self, file: &Path, message: impl Into<String>) -> Error {
        Error::data(file, self.line_number(), self.said(&message.into()))
    }

    /// The number of the line, where the place is one.
    pub fn line_number(self) -> Option<usize> {
        match self {
            Spot::Line(number) => Some(number as usize),
            _ => None,
        }
    }

    /// A message about it: an entry of a list has no other place than the message.
    pub fn said(self, message: &str) -> String {
        match self {
            Spot::Entry(..) => format!("{self}: {message}"),
            _ => message.to_string(),
        }
    }
}

/// `line 5`, `images[3]`.
impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Spot::File => f.write_str("the file"),
            Spot::Line(number) => write!(f, "line {number}"),
            Spot::Entry(list, index) => write!(f, "{}[{index}]", list.word()),
        }
    }
}

impl List {
    /// The list's key in the file, as messages write it.
    pub fn word(self) -> &'static str {
        match self {
            List::Images => "images",
            List::Annotations => "annotations",
            List::Categories => "categories",
            List::Frames => "frames",
        }
    }
}
