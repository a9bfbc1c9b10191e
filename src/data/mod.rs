//! From files a person has to batches a step takes: label formats, the data set, decoding, augmentation, the loader and
//! the built-in digits. It knows no model and no strides, and prints nothing.

mod aside;
pub mod augment;
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
pub mod geometry;
mod labels;
mod listing;
pub mod loader;
mod loss_options;
mod multi_label;
mod pipeline;
mod progress;
pub mod random;
pub mod resize;
mod scene;
mod task_yaml;
mod yaml;

#[cfg(test)]
mod tests;

pub use augment::{Augment, Framing};
pub use dataset::{Dataset, OpenOptions, Sample, Split};
pub use decode::Image;
pub use formats::coco;
pub use geometry::Geometry;
pub use listing::{RUNS_MARKER, walk};
pub use loader::{Batch, Broken, EvalLoader, Item, LoaderOptions, TrainLoader};
pub use progress::Progress;

use crate::error::Error;
use std::path::Path;
use std::sync::Arc;

/// Where a person wrote something, for the error that sends them there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Place {
    /// Shared: a table's name would else be kept once a row.
    pub file: Arc<Path>,
    pub line: Option<usize>,
}

impl Place {
    pub fn new(file: impl AsRef<Path>, line: Option<usize>) -> Self {
        let file = file.as_ref().into();
        Place { file, line }
    }

    pub fn error(&self, message: impl Into<String>) -> Error {
        Error::data(&self.file, self.line, message)
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
