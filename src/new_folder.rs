//! New folders for runs and predictions, with a number if the name is taken.

use crate::data::RUNS_MARKER;
use crate::error::{Error, Result};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Marks a project's folder, so that data sets around it do not read what is written there.
///
/// # Errors
/// The folder cannot be written.
pub fn mark_project(project: &Path) -> Result<()> {
    let marker = project.join(RUNS_MARKER);
    // The file is not truncated, because it might be a link.
    File::options().append(true).create(true).open(&marker).map_err(Error::io("write", &marker)).map(drop)
}

/// Makes the folder `name` in `parent`, or `name-2`, `name-3` … if that exists.
///
/// # Errors
/// The folder cannot be made.
pub fn first_free(parent: &Path, name: &str) -> Result<PathBuf> {
    let mut number = 1;
    loop {
        let path = parent.join(if number == 1 { name.to_owned() } else { format!("{name}-{number}") });
        match std::fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
            Err(e) => return Err(Error::io("create", &path)(e)),
        }
    }
}
