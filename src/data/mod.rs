//! From files a person has to batches a step takes: label formats, the data set, decoding, augmentation, the loader and
//! the built-in digits. It knows no model and no strides, and prints nothing.

mod aside;
pub mod augment;
pub mod cache;
pub mod check;
pub mod convert;
mod data_yaml;
pub mod dataset;
mod declaration;
pub mod decode;
pub mod describe;
pub mod digits;
mod discovery;
mod faults;
mod formats;
mod from_yaml;
mod jpeg;
mod labels;
mod listing;
pub mod loader;
mod loss_options;
mod multi_label;
mod partial;
mod pipeline;
mod progress;
pub mod random;
pub mod resize;
mod sampling;
mod scene;
mod task_yaml;
pub mod transforms;
mod yaml;

#[cfg(test)]
mod tests;

pub use augment::{Augment, Framing};
pub use dataset::{Dataset, OpenOptions, Sample, Split};
pub use decode::Image;
pub use formats::coco;
pub use listing::{RUNS_MARKER, walk};
pub use loader::{Batch, Broken, EvalLoader, Item, LoaderOptions, TrainLoader, Variety};
pub use progress::Progress;
pub use sampling::Sampling;
pub use transforms::{Bears, Transforms};

pub use crate::geometry::Geometry;

use crate::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Where a person wrote something, for the error that sends them there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Place {
    /// Shared: a table's name would else be kept once a row.
    pub file: Arc<Path>,
    pub spot: Spot,
}

/// Where in a file; small, for a million labels have one each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Spot {
    /// The file as a whole.
    File,
    Line(u32),
    /// In a JSON file, which is one long line: the list and the entry's number in it.
    Entry(List, u32),
}

/// The lists of the JSON files that hold the labels of many images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum List {
    Images,
    Annotations,
    Categories,
    Frames,
}

impl Place {
    pub fn new(file: impl AsRef<Path>, line: Option<usize>) -> Self {
        Place { file: file.as_ref().into(), spot: line.map_or(Spot::File, Spot::line) }
    }

    pub fn at(file: &Arc<Path>, spot: Spot) -> Self {
        Place { file: file.clone(), spot }
    }

    pub fn error(&self, message: impl Into<String>) -> Error {
        self.spot.error(&self.file, message)
    }
}

impl Spot {
    pub fn line(number: usize) -> Self {
        Spot::Line(number as u32)
    }

    pub fn entry(list: List, index: usize) -> Self {
        Spot::Entry(list, index as u32)
    }

    pub fn error(self, file: &Path, message: impl Into<String>) -> Error {
        Error::data(file, self.line_number(), self.said(&message.into()))
    }

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
    pub fn word(self) -> &'static str {
        match self {
            List::Images => "images",
            List::Annotations => "annotations",
            List::Categories => "categories",
            List::Frames => "frames",
        }
    }
}

/// `; did you mean `x`?` where one of `known` is near `word`, else nothing.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let limit = word.chars().count().div_ceil(3).clamp(1, 3);
    let nearest = known
        .into_iter()
        .map(|candidate| (edit_distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min();
    match nearest {
        Some((_, candidate)) => format!("; did you mean `{candidate}`?"),
        None => String::new(),
    }
}

fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.to_lowercase().chars().collect(), b.to_lowercase().chars().collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// `a, b, c` of the first `most`, with `…` where there are more.
pub(crate) fn list_some<S: AsRef<str>>(words: &[S], most: usize) -> String {
    let shown: Vec<&str> = words.iter().take(most).map(AsRef::as_ref).collect();
    let tail = if words.len() > most { ", …" } else { "" };
    format!("{}{tail}", shown.join(", "))
}

/// `1 image`, `2 images`, `1 box`, `2 boxes`.
pub(crate) fn count_of(count: usize, noun: &str) -> String {
    match (count, noun.ends_with('x')) {
        (1, _) => format!("1 {noun}"),
        (_, true) => format!("{count} {noun}es"),
        (_, false) => format!("{count} {noun}s"),
    }
}
