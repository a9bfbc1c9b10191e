//! Finds the YAML file in a folder that declares its data set: `data.yaml`, or a file of another name if it is the only
//! one.

use super::{Explained, data_yaml};
use crate::archives;
use crate::data::declaration::{Declaration, explained};
use crate::data::walk::{self, relative_name};
use crate::error::{Error, Result};
use crate::reading::text;
use crate::reading::yaml::{self, Tree, Value};
use std::path::Path;

/// Reads the file of `folder` that declares its data set; `None` if there is none.
///
/// Errors: several files declare one and none of them is `data.yaml`, or the file cannot be read.
pub fn read(folder: &Path, asked: &[String], evidence: Explained) -> Result<Option<Declaration>> {
    for name in ["data.yaml", "data.yml"] {
        if archives::is_file(&folder.join(name)) {
            return data_yaml::read(&folder.join(name), asked, evidence).map(Some);
        }
    }
    let mut files = Vec::new();
    for (path, is_folder) in walk::entries(folder)? {
        if !is_folder && is_yaml(&path) && declares(&path) {
            files.push(path);
        }
    }
    match &files[..] {
        [] => Ok(None),
        [file] => {
            let why = "it is the only YAML file here that declares a data set";
            let reason = format!("{} was read because {why}", file.display());
            let found = data_yaml::read(file, asked, evidence);
            let mut found = found.map_err(|error| explained(error, std::slice::from_ref(&reason)))?;
            found.causes.push(reason);
            found.notes.insert(0, format!("{} is used: {why}, and there is no data.yaml", file.display()));
            Ok(Some(found))
        }
        [first, ..] => {
            let names: Vec<String> = files.iter().map(|file| relative_name(file, folder)).collect();
            let message = format!(
                "{} each declare a data set, and there is no data.yaml: give the file you mean, as in `polyhead train {}`",
                names.join(", "),
                first.display()
            );
            Err(Error::data(folder, None, message))
        }
    }
}

pub fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("yaml") || e.eq_ignore_ascii_case("yml"))
}

/// Whether a data set is declared by a file with `sources:`.
pub fn lists_sources(path: &Path) -> bool {
    let lists = |file: &Path| {
        let tree = text::read(file).ok().and_then(|text| yaml::read::<Tree>(&text).ok());
        tree.is_some_and(|tree| tree.value.get("sources").is_some_and(Value::is_array))
    };
    if path.is_file() {
        return is_yaml(path) && lists(path);
    }
    let named = ["data.yaml", "data.yml"].map(|name| path.join(name)).into_iter().find(|file| file.is_file());
    match named {
        Some(file) => lists(&file),
        None => {
            let files = walk::entries(path).unwrap_or_default();
            files.iter().any(|(file, is_folder)| !is_folder && is_yaml(file) && lists(file))
        }
    }
}

/// Whether the file has `names:`, `tasks:`, `train:` or `sources:` with a value that they may have in a data.yaml. Files for other
/// purposes may lie in the same folder.
fn declares(file: &Path) -> bool {
    let Ok(text) = text::read(file) else {
        return false;
    };
    match yaml::read::<Tree>(&text) {
        Ok(tree) => tree.value.as_object().is_some_and(|top| {
            let fits = |key: &str, fit: fn(&Value) -> bool| top.get(key).is_some_and(fit);
            fits("names", |v| v.is_array() || v.is_object())
                || fits("tasks", Value::is_object)
                || fits("train", |v| v.is_string() || v.is_array())
                || fits("sources", Value::is_array)
        }),
        // Reading the file will name the fault in its YAML.
        Err(_) => {
            text.lines().any(|line| ["names:", "tasks:", "train:", "sources:"].iter().any(|key| line.starts_with(key)))
        }
    }
}
