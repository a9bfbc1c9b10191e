//! Where the images of a split are.

use std::path::{Path, PathBuf};

/// The source of images that a `train:`, `val:` or `test:` names.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    Folder(PathBuf),
    List(PathBuf),
    /// The images that a file of labels names, as far as they are there.
    Labels(PathBuf),
}

impl Source {
    pub fn path(&self) -> &Path {
        let (Source::Folder(path) | Source::List(path) | Source::Labels(path)) = self;
        path
    }
}
