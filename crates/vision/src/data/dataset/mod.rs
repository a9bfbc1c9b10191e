//! The data set: its splits, tasks and labels, read from whatever layout it has. Images are listed, not opened.

pub(crate) mod faults;
mod labels;
mod listing;
mod open;
mod sample;
mod splits;

pub(crate) use open::open_declared;
pub use sample::Sample;
pub(crate) use splits::DEFAULT_VAL_FRACTION;

use super::declaration::Split;
use super::progress::Progress;
use super::random::hash_text;
use crate::error::Result;
use crate::tasks::{Bears, Task};
use faults::Faults;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// A data set whose labels were read and checked; its images were listed and not opened.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The folder that the samples' names are relative to.
    pub root: PathBuf,
    /// A sentence: which layout was taken.
    pub layout: String,
    /// The tasks in the order of their declaration, each settled by the training labels.
    pub tasks: Vec<Task>,
    /// The transformations that keep each task's labels true.
    pub bears: Vec<Bears>,
    /// Whether random crops leave every task's truth as it is.
    pub crop_safe: bool,
    /// Whether a left-right flip leaves every task's truth as it is.
    pub flip_safe: bool,
    /// Whether no task says that the size things are seen at is part of its truth.
    pub scale_safe: bool,
    /// The images to train on.
    pub train: Vec<Sample>,
    /// The images that judge a run while it trains.
    pub val: Vec<Sample>,
    /// The images that no run looks at; often none.
    pub test: Vec<Sample>,
    /// Remarks to print before the run, as sentences.
    pub notes: Vec<String>,
}

/// Choices that a person makes about the same files.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// The part of the training images that validates where the data set has no validation split; default its own
    /// `val_fraction`, else 0.2.
    pub val_fraction: Option<f32>,
    /// Decides which those are.
    pub seed: u64,
    /// The tasks whose labels are read, in the data set's order; all if empty. Splits, framing and what a missing label means
    /// stay those of the whole data set.
    pub tasks: Vec<String>,
}

impl Dataset {
    /// Opens a data.yaml or a folder in any known layout and reads all labels.
    ///
    /// Errors: `Data` with file and line for a declaration or a label that is wrong, `Io` where a file cannot be read.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Dataset> {
        Ok(open_declared(path, options, &mut Faults::Stop, &Progress::default())?.1)
    }

    /// The data set without its images.
    pub(crate) fn clone_declared(&self) -> Dataset {
        Dataset {
            root: self.root.clone(),
            layout: self.layout.clone(),
            tasks: self.tasks.clone(),
            bears: self.bears.clone(),
            notes: self.notes.clone(),
            train: Vec::new(),
            val: Vec::new(),
            test: Vec::new(),
            ..*self
        }
    }

    /// The images of one split.
    pub fn split(&self, split: Split) -> &[Sample] {
        match split {
            Split::Train => &self.train,
            Split::Val => &self.val,
            Split::Test => &self.test,
        }
    }

    /// Keeps a seeded `fraction` of the training images, at least one; the other splits stay whole.
    pub fn keep_fraction(&mut self, fraction: f32, seed: u64) {
        let keep = ((self.train.len() as f32 * fraction).round() as usize).max(1);
        let mut order: Vec<(u64, usize)> =
            self.train.iter().enumerate().map(|(i, s)| (hash_text(seed, &s.name), i)).collect();
        order.sort_unstable();
        let kept: HashSet<usize> = order.into_iter().take(keep).map(|(_, i)| i).collect();
        let mut index = 0;
        self.train.retain(|_| {
            index += 1;
            kept.contains(&(index - 1))
        });
    }
}
