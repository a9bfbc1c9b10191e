//! The source of a split's images.

use std::path::{Path, PathBuf};

/// A source of images named by `train:`, `val:` or `test:`.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    Folder(PathBuf),
    List(PathBuf),
    /// The images named by a label file, as far as they exist.
    Labels(PathBuf),
}

impl Source {
    pub fn path(&self) -> &Path {
        let (Source::Folder(path) | Source::List(path) | Source::Labels(path)) = self;
        path
    }
}
