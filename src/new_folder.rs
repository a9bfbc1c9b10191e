//! New folders for runs and predictions, with a number if the name is taken, and the folder that holds a run.

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

/// The folder in which the run in `folder` lies now, and in which it may write what runs share: the folder of a project, or one that
/// is called `train`, or else the run's own.
///
/// # Errors
/// There is no such folder.
pub fn project_of(folder: &Path) -> Result<PathBuf> {
    let folder = folder.canonicalize().map_err(Error::io("find", folder))?;
    let holds_runs = |parent: &&Path| parent.ends_with("train") || parent.join(RUNS_MARKER).exists();
    let project = folder.parent().filter(holds_runs);
    Ok(project.unwrap_or(&folder).to_path_buf())
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
