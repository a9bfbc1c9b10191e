//! Writes a folder atomically: it is filled under a hidden temporary name beside its destination, then renamed. While it is
//! filled it is locked, so that the leftovers of a killed process are known from a folder that another process is filling.

use crate::error::{Error, Result, shown};
use crate::files::cut_to;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Stands between a folder's name and the process that fills it, in the name of a temporary folder.
const PARTIAL: &str = ".partial-";
/// The longest name of a folder in bytes, without `.`, [`PARTIAL`], two numbers and a dash.
const LONGEST: usize = 255 - 1 - PARTIAL.len() - 2 * 20 - 1;

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
    let (partial, lock) = claim(&parent, &name)?;
    let finished = write(&partial).and_then(|value| {
        if dir.is_dir() {
            fs::remove_dir(dir).map_err(Error::io("replace", dir))?;
        }
        fs::rename(&partial, dir).map_err(Error::io("create", dir)).map(|()| value)
    });
    if finished.is_err() {
        let _ = fs::remove_dir_all(&partial); // report the first error instead
    }
    drop(lock);
    finished
}

/// The folder that contains or will contain `dir`, with links resolved, and the name of `dir` in it.
///
/// Errors: `Data` if `dir` is the current folder or a parent of it, `Io` if the parent cannot be created.
pub fn place(dir: &Path) -> Result<(PathBuf, OsString)> {
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
        (Some(parent), Some(name)) if !here => Ok((parent.to_path_buf(), name.to_owned())),
        _ => Err(Error::data(dir, None, "is the current folder or contains it: give the name of a new folder")),
    }
}

/// Removes what killed processes left beside `dir` when they filled a folder of its name. Returns a sentence about each.
/// Folders that another process is filling are kept, and so are all folders where they cannot be locked.
pub fn remove_leftovers(dir: &Path) -> Vec<String> {
    let Some(name) = dir.file_name() else { return Vec::new() };
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let start = start_of(name);
    let is_partial = |entry: &OsStr| {
        let rest = entry.as_encoded_bytes().strip_prefix(start.as_encoded_bytes());
        rest.is_some_and(|rest| {
            let mut numbers = rest.split(|byte| *byte == b'-');
            let is_number =
                |part: Option<&[u8]>| part.is_some_and(|p| !p.is_empty() && p.iter().all(u8::is_ascii_digit));
            is_number(numbers.next()) && is_number(numbers.next()) && numbers.next().is_none()
        })
    };
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let mut left: Vec<PathBuf> = entries.filter(|e| is_partial(&e.file_name())).map(|e| e.path()).collect();
    left.sort();
    let removed = left.into_iter().filter_map(|partial| {
        let lock = File::open(&partial).ok()?;
        lock.try_lock().ok()?;
        fs::remove_dir_all(&partial).ok()?;
        Some(format!("{} was left unfinished by a process that was killed, and is removed", shown(&partial)))
    });
    removed.collect()
}

/// The start of the names of temporary folders.
fn start_of(name: &OsStr) -> OsString {
    let mut start = OsString::from(".");
    start.push(cut_to(name, LONGEST));
    start.push(PARTIAL);
    start
}

/// Creates an empty folder under an unused name and locks it, so that leftovers of a killed process with the same process id are
/// not reused. Without a lock, the folder is used all the same: then its leftovers are never removed.
fn claim(parent: &Path, name: &OsStr) -> Result<(PathBuf, Option<File>)> {
    for attempt in 0.. {
        let mut own = start_of(name);
        own.push(format!("{}-{attempt}", std::process::id()));
        let partial = parent.join(own);
        match fs::create_dir(&partial) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => continue,
            made => made.map_err(Error::io("create", &partial))?,
        }
        let Ok(lock) = File::open(&partial) else { return Ok((partial, None)) };
        match lock.try_lock() {
            Ok(()) if partial.is_dir() => return Ok((partial, Some(lock))),
            // Another process took the empty folder for a leftover and removes it.
            Ok(()) | Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(_)) => return Ok((partial, None)),
        }
    }
    unreachable!("some number is free")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[cfg(unix)]
    #[test]
    fn leftovers_are_removed_and_folders_that_are_being_filled_are_kept() {
        let folder = new_folder();
        let out = folder.join("out");
        for name in
            [".out.partial-12-0", ".out.partial-12-3", ".out.partial-x-0", ".out.partial-1", ".other.partial-1-0"]
        {
            fs::create_dir(folder.join(name)).unwrap();
            fs::write(folder.join(name).join("image"), "").unwrap();
        }
        let kept = [".other.partial-1-0", ".out.partial-1", ".out.partial-x-0"];
        write_folder(&out, |partial| {
            let own = partial.file_name().unwrap().to_str().unwrap().to_owned();
            let removed = remove_leftovers(&out);
            assert_eq!(removed.len(), 2, "{removed:?}");
            assert!(removed[0].contains(".out.partial-12-0 was left unfinished"), "{removed:?}");
            let mut expected = [&kept[..], &[own.as_str()]].concat();
            expected.sort_unstable();
            assert_eq!(names(&folder), expected);
            Ok(())
        })
        .unwrap();
        assert_eq!(names(&folder), [&kept[..], &["out"]].concat());
        assert!(remove_leftovers(&out).is_empty());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_folder_may_have_the_longest_name() {
        let folder = new_folder();
        for name in ["n".repeat(255), "é".repeat(127)] {
            write_folder(&folder.join(&name), |partial| {
                fs::write(partial.join("file"), "").map_err(Error::io("write", partial))
            })
            .unwrap();
            assert!(folder.join(&name).join("file").exists(), "{name}");
        }
        let failed: Result<()> = write_folder(&folder.join("failed"), |_| Err(Error::Interrupted));
        assert!(matches!(failed, Err(Error::Interrupted)));
        assert_eq!(names(&folder).len(), 2);
        fs::remove_dir_all(folder).unwrap();
    }

    fn new_folder() -> PathBuf {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("polyhead-aside-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        path.canonicalize().unwrap()
    }
}
