//! One image of a data set after its labels were read: where its file is, and its label for every task.

use crate::tasks::Label;
use std::path::{Path, PathBuf};

/// One image and what is known about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The path of the file.
    pub image: PathBuf,
    /// Relative to the data set, for people.
    pub name: String,
    /// One per task, boxes in pixels of the original image (EXIF orientation applied).
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
