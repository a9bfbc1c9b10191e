//! Positions in the user's files, for error messages that point to them.

use crate::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A position in one of the user's files.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// Shared; otherwise every row of a table would keep its own copy of the name.
    pub file: Arc<Path>,
    /// Where in the file.
    pub spot: Spot,
}

/// A position within a file. It is small because there may be a million labels with one each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Spot {
    /// The file as a whole.
    File,
    /// A line, counted from 1.
    Line(u32),
    /// An entry in a list of a JSON file, whose text is often a single line: the list, and the number of the entry.
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
    /// The top-level list of a BDD100K file.
    Frames,
    /// The rows of a parquet file, counted from 0.
    Rows,
    /// `shapes` of a LabelMe file.
    Shapes,
    /// `items` of a Datumaro file.
    Items,
    /// The images in a list that has no name of its own.
    Entries,
}

impl Place {
    /// A line of a file, counted from 1, or the file as a whole.
    pub fn new(file: impl AsRef<Path>, line: Option<usize>) -> Self {
        Place { file: file.as_ref().into(), spot: line.map_or(Spot::File, Spot::line) }
    }

    /// A position in a file whose name is shared by many places.
    pub fn at(file: &Arc<Path>, spot: Spot) -> Self {
        Place { file: file.clone(), spot }
    }

    /// An error with this position.
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

    /// An error with this position in `file`.
    pub fn error(self, file: &Path, message: impl Into<String>) -> Error {
        Error::data(file, self.line_number(), self.said(&message.into()))
    }

    /// The line number, if the position is a line.
    pub fn line_number(self) -> Option<usize> {
        match self {
            Spot::Line(number) => Some(number as usize),
            _ => None,
        }
    }

    /// The message, with the list entry added: list entries have no line number, so the message must name them.
    pub fn said(self, message: &str) -> String {
        match self {
            Spot::Entry(..) => format!("{self}: {message}"),
            _ => message.to_string(),
        }
    }
}

/// Written as `line 5` or `images[3]`.
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
    /// The list's key in the file, as shown in messages.
    pub fn word(self) -> &'static str {
        match self {
            List::Images => "images",
            List::Annotations => "annotations",
            List::Categories => "categories",
            List::Frames => "frames",
            List::Rows => "rows",
            List::Shapes => "shapes",
            List::Items => "items",
            List::Entries => "entries",
        }
    }
}
