//! One image of a data set, as everything after the reading of labels sees it: where its file is, and what is said of it.

use crate::tasks::Label;
use std::path::{Path, PathBuf};

/// One image and what is known about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub image: PathBuf,
    /// Relative to the data set, for people.
    pub name: String,
    /// One per task, boxes in pixels of the original image (EXIF orientation applied).
    pub labels: Vec<Label>,
}

impl Sample {
    /// An image of which nothing is known, for prediction.
    pub fn unlabelled(image: &Path, tasks: usize) -> Sample {
        Sample {
            image: image.to_path_buf(),
            name: image.to_string_lossy().into_owned(),
            labels: vec![Label::UNLABELLED; tasks],
        }
    }
}
