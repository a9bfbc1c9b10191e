//! The images of all splits in one list, for the label readers.

use crate::data::declaration::Split;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One image of a split.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The path of the file, which may lead through an archive.
    pub image: PathBuf,
    /// Relative to the data set's root, with forward slashes.
    pub name: String,
    /// The folder its split was read from; the data set's root for a list file.
    pub folder: Arc<Path>,
    pub origin: Origin,
}

/// The kind of source that an image was listed from, which decides the folder of its class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A folder: the class is the first folder below it.
    Folder,
    /// One of several folders of a split that is called like one, such as `cat/train`: for an image that lies directly in it, the
    /// class is the folder above.
    SplitOfClass,
    /// A list of paths.
    List,
}

/// The images of the three splits in one list, so that labels are read in one parallel pass. If validation is to be split off
/// training, that is done once the labels are known; until then its images are among those of training.
pub struct Images {
    pub all: Vec<Listed>,
    /// The end of each split in `all`.
    pub ends: [usize; 3],
}

impl Images {
    /// The number of leading images whose labels may define classes: those of training, or all if there are none.
    pub fn class_images(&self) -> usize {
        if self.ends[1] == 0 { self.all.len() } else { self.ends[0] }
    }

    /// Whether image number `index` is in `split`, as the data set itself defines it.
    pub fn belongs(&self, index: usize, split: Split) -> bool {
        Split::ALL[self.ends.iter().filter(|end| index >= **end).count().min(2)] == split
    }
}
