//! Decides which existing files may be replaced: only those that polyhead wrote. They are recognised by their content.

use crate::draw;
use crate::error::{Error, Result, shown};
use crate::files;
use std::io::Read;
use std::path::Path;

/// A file is recognised by this many bytes at its start.
const START: u64 = 1 << 16;

/// Checks a text file that is about to be written. `is_own` recognises one of polyhead's by its start.
///
/// # Errors
/// There is a file that polyhead did not write.
pub fn check(path: &Path, is_own: impl FnOnce(&str) -> bool) -> Result<()> {
    if !holds_something(path) {
        return Ok(());
    }
    let mut start = Vec::new();
    let read = files::open(path).and_then(|file| file.take(START).read_to_end(&mut start));
    read.map_err(Error::io("read", path))?;
    if is_own(&String::from_utf8_lossy(&start)) { Ok(()) } else { Err(refused(path)) }
}

/// Checks a picture that is about to be written.
///
/// # Errors
/// There is a file that is not one of polyhead's pictures.
pub fn check_picture(path: &Path) -> Result<()> {
    if !holds_something(path) || draw::is_own_picture(path) { Ok(()) } else { Err(refused(path)) }
}

/// Whether something would be lost: a device and a pipe are not replaced, and an empty file holds nothing.
fn holds_something(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() > 0)
}

fn refused(path: &Path) -> Error {
    Error::Usage(format!(
        "{} would be replaced, and polyhead did not write this file: name another place, or move the file away",
        shown(path)
    ))
}
