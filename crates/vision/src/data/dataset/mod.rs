//! The data set: its splits, tasks and labels, read from any layout. Images are listed but not opened.

mod account;
mod counts;
mod evidence;
pub(crate) mod faults;
mod fold;
mod groups;
mod held_out;
mod joint;
mod known;
mod label_files;
mod labels;
mod leftovers;
mod levels;
mod listing;
mod open;
mod parts;
mod sample;
mod sources;
mod splits;
mod stratify;
mod together;

pub use fold::Fold;
pub(crate) use open::open_declared;
pub use sample::Sample;
pub use sources::{Mixture, Sources};
pub(crate) use splits::DEFAULT_VAL_FRACTION;

use super::declaration::Split;
use super::progress::Progress;
use super::random::hash_text;
use crate::error::Result;
use crate::tasks::{Invariances, Task};
use faults::Faults;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// A data set with checked labels; its images have been listed but not opened.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The folder to which the samples' names are relative.
    pub root: PathBuf,
    /// A sentence that names the layout.
    pub layout: String,
    /// The tasks in the order of their declaration, with classes and columns resolved from the training labels.
    pub tasks: Vec<Task>,
    /// The transformations that do not change the labels of each task.
    pub invariances: Vec<Invariances>,
    /// Whether random crops do not change the labels of any task.
    pub crop_safe: bool,
    /// Whether a left-right flip does not change the labels of any task.
    pub flip_safe: bool,
    /// Whether the labels of all tasks are independent of the apparent size of objects.
    pub scale_safe: bool,
    /// The images to train on.
    pub train: Vec<Sample>,
    /// The images that evaluate a run during training.
    pub val: Vec<Sample>,
    /// The images that no run uses; often none.
    pub test: Vec<Sample>,
    /// Why there is no test split, if one is declared whose images are not there.
    pub no_test: Option<String>,
    /// The sources, if the data set consists of several.
    pub sources: Sources,
    /// Remarks to print before the run, as sentences.
    pub notes: Vec<String>,
    /// What the training images cannot teach, as sentences: targets without spread, classes that none of them has.
    pub problems: Vec<String>,
}

/// Options for opening a data set.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// The share of the training images used for validation if the data set has no validation split; by default its
    /// `val_fraction`, otherwise 0.2.
    pub val_fraction: Option<f32>,
    /// Validate on this fold of the training images instead; not together with `val_fraction`.
    pub fold: Option<Fold>,
    /// Decides which images those are.
    pub seed: u64,
    /// The tasks whose labels are read, in the data set's order; all if empty. Splits, framing and the meaning of
    /// missing labels remain those of the whole data set.
    pub tasks: Vec<String>,
    /// Split no validation off training: for images that are only evaluated. A data set may then have only a test split.
    pub undivided: bool,
}

impl Dataset {
    /// Opens a data.yaml or a folder in any known layout and reads all labels.
    ///
    /// Errors: `Data` with file and line if a declaration or a label is invalid, `Io` if a file cannot be read.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Dataset> {
        Ok(open_declared(path, options, &mut Faults::Stop, &Progress::default())?.1)
    }

    /// A copy without its images.
    pub(crate) fn clone_declared(&self) -> Dataset {
        Dataset {
            root: self.root.clone(),
            layout: self.layout.clone(),
            tasks: self.tasks.clone(),
            invariances: self.invariances.clone(),
            notes: self.notes.clone(),
            problems: self.problems.clone(),
            no_test: self.no_test.clone(),
            sources: self.sources.clone(),
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

    /// Keeps a random `fraction` of the training images, at least one, chosen by `seed`; other splits do not change.
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
