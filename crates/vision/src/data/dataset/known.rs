//! A set of files, compared by their folder with links resolved and their name. It holds hashes of 128 bits, so that a million
//! files take little memory.

use crate::archives;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_128;

#[derive(Default)]
pub struct Known {
    files: HashSet<u128>,
    folders: HashMap<PathBuf, u128>,
    /// The folder of the file added last: files come in the order of their folders.
    last: Option<(PathBuf, u128)>,
}

impl Known {
    pub fn add(&mut self, file: &Path) {
        let (Some(folder), Some(name)) = (file.parent(), file.file_name()) else { return };
        let key = match &self.last {
            Some((last, key)) if last == folder => *key,
            _ => {
                let key = *self.folders.entry(folder.to_path_buf()).or_insert_with(|| {
                    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
                    Known::folder(&archives::canonicalize(folder).unwrap_or_else(|_| folder.to_path_buf()))
                });
                self.last = Some((folder.to_path_buf(), key));
                key
            }
        };
        self.files.insert(of(key, name));
    }

    /// The key of a folder. Units: links in `real` are resolved.
    pub fn folder(real: &Path) -> u128 {
        xxh3_128(real.as_os_str().as_encoded_bytes())
    }

    /// Whether the file `name` in the folder of this key was added.
    pub fn has(&self, folder: u128, name: &OsStr) -> bool {
        self.files.contains(&of(folder, name))
    }
}

fn of(folder: u128, name: &OsStr) -> u128 {
    folder.rotate_left(1) ^ xxh3_128(name.as_encoded_bytes())
}
