//! From files a person has to batches a step takes: label formats, the data set, decoding, augmentation, the loader and
//! the built-in digits. It knows no model and no strides, and prints nothing.

pub mod augment;
pub mod cache;
mod data_yaml;
pub mod dataset;
mod declaration;
pub mod decode;
pub mod describe;
pub mod digits;
mod discovery;
mod formats;
mod from_yaml;
pub mod geometry;
mod jpeg;
mod labels;
mod listing;
pub mod loader;
mod loss_options;
mod multi_label;
mod partial;
mod pipeline;
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
pub use geometry::Geometry;
pub use listing::{RUNS_MARKER, walk};
pub use loader::{Batch, Broken, EvalLoader, Item, LoaderOptions, TrainLoader, Variety};
pub use sampling::Sampling;
pub use transforms::{Bears, Transforms};

use crate::error::Error;
use std::path::{Path, PathBuf};

/// Where a person wrote something, for the error that sends them there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Place {
    pub file: PathBuf,
    pub line: Option<usize>,
    /// In a JSON file, which is one long line: the list and the entry's number in it.
    pub entry: Option<(&'static str, usize)>,
}

impl Place {
    pub fn new(file: impl AsRef<Path>, line: Option<usize>) -> Self {
        let file = file.as_ref().to_path_buf();
        Place { file, line, entry: None }
    }

    pub fn entry(file: impl AsRef<Path>, list: &'static str, index: usize) -> Self {
        Place { entry: Some((list, index)), ..Place::new(file, None) }
    }

    /// Where in the file: `line 5`, `images[3]`.
    pub fn spot(&self) -> String {
        match (self.line, self.entry) {
            (Some(line), _) => format!("line {line}"),
            (None, Some((list, index))) => format!("{list}[{index}]"),
            (None, None) => "the file".into(),
        }
    }

    pub fn error(&self, message: impl Into<String>) -> Error {
        let message = message.into();
        match self.entry {
            Some((list, index)) => Error::data(&self.file, self.line, format!("{list}[{index}]: {message}")),
            None => Error::data(&self.file, self.line, message),
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
