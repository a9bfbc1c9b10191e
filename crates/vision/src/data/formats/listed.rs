//! The images that label files are asked about: those of all splits, in one list.

use crate::data::declaration::Split;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One image of a split.
#[derive(Clone, Debug)]
pub struct Listed {
    pub image: PathBuf,
    /// Relative to the data set's root, with forward slashes.
    pub name: String,
    /// The folder its split was read from; the root for a list file.
    pub folder: Arc<Path>,
}

/// Images of the three splits in one list, so that labels are read in one parallel pass.
pub struct Images {
    pub all: Vec<Listed>,
    /// Where each split ends in `all`.
    pub ends: [usize; 3],
    /// Whether validation was cut from training here, so that classes may be counted over both.
    pub seeded_split: bool,
}

impl Images {
    /// The first so many images may name classes.
    pub fn taught(&self) -> usize {
        if self.seeded_split { self.ends[1] } else { self.ends[0] }
    }

    /// Whether image number `index` is one of what the data set itself calls `split`.
    pub fn belongs(&self, index: usize, split: Split) -> bool {
        let own = Split::ALL[self.ends.iter().filter(|end| index >= **end).count().min(2)];
        own == split || (self.seeded_split && own == Split::Val && split == Split::Train)
    }
}
