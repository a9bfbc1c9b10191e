//! Writes a folder atomically: it is filled under a hidden temporary name beside its destination, then renamed.

use crate::error::{Error, Result};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Errors: `Data` if `dir` exists and is not empty.
pub fn check_free(dir: &Path) -> Result<()> {
    let occupied = dir.exists() && !dir.is_dir() || fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    if occupied {
        let message = "already exists and is not empty: give a new folder";
        return Err(Error::data(dir, None, message));
    }
    Ok(())
}

/// Calls `write` on a temporary folder and renames it to `dir`, which must be absent or empty. On failure nothing is
/// left behind.
pub fn write_folder<T>(dir: &Path, write: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    check_free(dir)?;
    let (parent, name) = place(dir)?;
    let dir = &parent.join(&name);
    let partial = claim(&parent, &name)?;
    let finished = write(&partial).and_then(|value| {
        if dir.is_dir() {
            fs::remove_dir(dir).map_err(Error::io("replace", dir))?;
        }
        fs::rename(&partial, dir).map_err(Error::io("create", dir)).map(|()| value)
    });
    if finished.is_err() {
        let _ = fs::remove_dir_all(&partial); // report the first error instead
    }
    finished
}

/// The folder that contains or will contain `dir`, with links resolved, and the name of `dir` in it.
///
/// Errors: `Data` if `dir` is the current folder or a parent of it, `Io` if the parent cannot be created.
pub fn place(dir: &Path) -> Result<(PathBuf, String)> {
    let whole = match dir.canonicalize() {
        Ok(whole) => whole,
        Err(_) => {
            let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
            let parent = parent.canonicalize().map_err(Error::io("create", parent))?;
            dir.file_name().map_or(parent.clone(), |name| parent.join(name))
        }
    };
    let here = std::env::current_dir().is_ok_and(|here| here.starts_with(&whole));
    match (whole.parent(), whole.file_name()) {
        (Some(parent), Some(name)) if !here => Ok((parent.to_path_buf(), name.to_string_lossy().into_owned())),
        _ => Err(Error::data(dir, None, "is the current folder or contains it: give the name of a new folder")),
    }
}

/// Creates an empty folder under an unused name, so that leftovers of a killed process with the same process id are not
/// reused.
fn claim(parent: &Path, name: &str) -> Result<PathBuf> {
    for attempt in 0.. {
        let partial = parent.join(format!(".{name}.partial-{}-{attempt}", std::process::id()));
        match fs::create_dir(&partial) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            made => return made.map_err(Error::io("create", &partial)).map(|()| partial),
        }
    }
    unreachable!("some number is free")
}
