//! The folders in which targets write their files, and the form of every refusal.

use polyhead::error::{Error, is_hidden};
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A folder that is removed when its thread ends.
struct Made(PathBuf);

impl Drop for Made {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The thread's folder of this name. It is kept between calls, because making it takes longer than most readers.
pub fn folder(name: &'static str, fill: impl FnOnce(&Path)) -> PathBuf {
    thread_local!(static ALL: RefCell<HashMap<&'static str, Made>> = RefCell::default());
    let make = || {
        let (process, thread) = (std::process::id(), std::thread::current().id());
        let path = std::env::temp_dir().join(format!("polyhead-fuzz-{process}-{thread:?}-{name}"));
        std::fs::create_dir_all(&path).unwrap();
        fill(&path);
        Made(path)
    };
    ALL.with_borrow_mut(|all| all.entry(name).or_insert_with(make).0.clone())
}

/// Writes a file and the folders above it.
pub fn write(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let file = folder.join(name);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, bytes).unwrap();
    file
}

/// Longer messages quote too much of the file.
const LONGEST: usize = 2500;

/// Asserts that a refusal is one line of a length that can be read, and shows nothing that a terminal would act on.
pub fn refused(error: &Error) {
    let said = error.to_string();
    assert!(!said.is_empty() && said.chars().count() < LONGEST && !said.contains(is_hidden), "{said:?}");
}
