//! Folders for output that nobody named: `<project>/<kind>/<name>`, with a number if the name is taken.

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

/// Makes the folder `name` in `parent`, or `name2`, `name3` … if that exists.
///
/// # Errors
/// The folder cannot be made.
pub fn first_free(parent: &Path, name: &str) -> Result<PathBuf> {
    let mut number = 1;
    loop {
        let path = parent.join(if number == 1 { name.to_owned() } else { format!("{name}{number}") });
        match std::fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
            Err(e) => return Err(Error::io("create", &path)(e)),
        }
    }
}

/// The name of a model for its folder: the run's, or the weights file's without its ending.
pub(super) fn name_of(model: &Path) -> String {
    let path = model.canonicalize().unwrap_or_else(|_| model.to_path_buf());
    let run = path.parent().filter(|folder| folder.ends_with("weights")).and_then(Path::parent);
    let name = match (path.is_dir(), run) {
        (true, _) => path.file_name(),
        (false, Some(run)) => run.file_name(),
        (false, None) => path.file_stem(),
    };
    name.map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
}
