//! A folder that is there whole or not at all: made beside its place under a hidden name, then renamed.

use crate::error::{Error, Result};
use std::fs;
use std::path::Path;

/// Errors: `Data` where `dir` holds something already.
pub fn check_free(dir: &Path) -> Result<()> {
    let occupied = dir.is_file() || fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    if occupied {
        let message = "is already there and not empty: give a new folder";
        return Err(Error::data(dir, None, message));
    }
    Ok(())
}

/// Has `write` fill a folder that becomes `dir`, which must be absent or empty. Nothing stays behind where it fails.
pub fn write_folder<T>(dir: &Path, write: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    check_free(dir)?;
    let name = dir.file_name().map_or("data".into(), |name| name.to_string_lossy().into_owned());
    let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    let partial = parent.join(format!(".{name}.partial-{}", std::process::id()));
    let finished = write(&partial).and_then(|value| {
        if dir.is_dir() {
            fs::remove_dir(dir).map_err(Error::io("replace", dir))?;
        }
        fs::rename(&partial, dir).map_err(Error::io("create", dir)).map(|()| value)
    });
    if finished.is_err() {
        let _ = fs::remove_dir_all(&partial); // the first error is the one to tell
    }
    finished
}
