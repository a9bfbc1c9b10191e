//! One rule about the inputs that a command names: one that does not exist is a wrong request, whichever command it is for.

use super::command;
use super::refusal::Place;
use crate::error::{Error, Result, shown};
use crate::reading::did_you_mean_path;
use std::path::Path;

/// A kind of input that a command line names by its path.
pub struct Input {
    /// The flag before the path; empty for an argument.
    flag: &'static str,
    expected: &'static str,
}

pub const DATA: Input = Input { flag: "", expected: "a data.yaml or a folder of images" };
pub const DATA_FLAG: Input = Input { flag: "--data ", ..DATA };
pub const MODEL: Input = Input { flag: "", expected: "a run's folder or a weights file" };
pub const WEIGHTS: Input = Input { flag: "--weights ", ..MODEL };
pub const CONFIG: Input = Input { flag: "--config ", expected: "an args.yaml or a run's folder" };
pub const RESUME: Input = Input { flag: "--resume ", expected: "a run's folder" };
pub const FROM: Input = Input { flag: "--from ", ..RESUME };
pub const RUNS: Input = Input { flag: "--runs ", ..RESUME };
pub const COCO: Input = Input { flag: "--coco ", expected: "a file of COCO annotations" };
pub const COCO_IMAGES: Input = Input { flag: "--coco-images ", ..COCO };
pub const DETECTIONS: Input = Input { flag: "--detections ", expected: "a COCO results file" };
pub const CLASSES: Input =
    Input { flag: "--classes ", expected: "a file with one class per line, or select boxes with --only-classes" };

impl Input {
    /// # Errors
    /// Nothing is there. Other problems are left to the code that reads it.
    pub fn check(&self, path: Option<&Path>) -> Result<()> {
        let Some(path) = path.filter(|path| matches!(path.try_exists(), Ok(false))) else {
            return Ok(());
        };
        let Input { flag, expected } = self;
        let args: Vec<_> = std::env::args_os().collect();
        let root = command();
        if let Some(instead) = Place::of(&root, &args).joined(&path.to_string_lossy()) {
            return Err(Error::Usage(instead));
        }
        let other_spelling = || Place::of(&root, &args).rewritten();
        match path.to_string_lossy().contains('=').then(other_spelling).flatten() {
            Some(instead) => Err(Error::Usage(format!("{flag}{}: {instead}", shown(path)))),
            None => {
                let meant = did_you_mean_path(path);
                Err(Error::Usage(format!("{flag}{}: does not exist: give {expected}{meant}", shown(path))))
            }
        }
    }
}
