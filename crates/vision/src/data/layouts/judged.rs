//! Reads a data set whose images are only evaluated: it may have nothing but a test split.

use super::{Explained, data_yaml, read, yaml_files};
use crate::archives;
use crate::data::declaration::{Declaration, Split};
use crate::data::walk::{self, relative_name};
use crate::error::Result;
use std::path::{Path, PathBuf};

/// Reads `path` like [`read`]. Splits other than test may be missing, in a data.yaml or beside the folder of test.
pub fn read_to_judge(path: &Path, asked: &[String], explained: Explained) -> Result<Declaration> {
    let inside = ["data.yaml", "data.yml"].map(|name| path.join(name)).into_iter().find(|file| archives::is_file(file));
    let yaml = if path.is_file() && yaml_files::is_yaml(path) { Some(path.to_path_buf()) } else { inside };
    if let Some(file) = yaml {
        return data_yaml::read_to_judge(&file, asked, explained);
    }
    let Some(folder) = only_test(path)? else { return read(path, asked, explained) };
    let mut declared = read(&folder, asked, explained)?;
    let [train, val, test] = &mut declared.splits;
    if val.is_empty() && test.is_empty() {
        std::mem::swap(train, test);
        declared.notes.push(format!("{}/ is the only split", relative_name(&folder, path)));
    }
    Ok(declared)
}

/// The folder of test, if it is the only folder that is called like a split and no other has images.
fn only_test(path: &Path) -> Result<Option<PathBuf>> {
    if !archives::is_dir(path) {
        return Ok(None);
    }
    let mut found = None;
    for folder in walk::folders(path)? {
        match Split::called(&relative_name(&folder, path)) {
            Some(Split::Test) if found.is_none() => found = Some(folder),
            Some(_) => return Ok(None),
            None if walk::holds_image(&folder)? => return Ok(None),
            None => {}
        }
    }
    Ok(found)
}
