//! One image of a data set with its file and its label for every task.

use crate::tasks::Label;
use std::path::{Path, PathBuf};

/// An image and its labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The path of the file. It may lead through an archive to a member, or to a row of a parquet file: see [`crate::archives`].
    pub image: PathBuf,
    /// The path relative to the data set, for display.
    pub name: String,
    /// One label per task; boxes are in pixels of the original image (EXIF orientation applied).
    pub labels: Vec<Label>,
}

impl Sample {
    /// An image without labels, for prediction.
    pub fn unlabelled(image: &Path, tasks: usize) -> Sample {
        Sample {
            image: image.to_path_buf(),
            name: image.to_string_lossy().into_owned(),
            labels: vec![Label::UNLABELLED; tasks],
        }
    }
}
