//! Parquet files with the pictures inside, as Hugging Face keeps data sets: `data/train-00000-of-00001.parquet`.

use super::tables::column_kind;
use super::{Splits, declaration, task};
use crate::archives::{self, RowColumn};
use crate::data::declaration::{Declaration, LabelsFrom, Source, Split, TaskDeclaration};
use crate::data::images::decode::is_image;
use crate::data::walk::relative_name;
use crate::error::{Error, Result};
use crate::reading::{count_of, list_some};
use crate::tasks::Content;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Folders are looked into to this depth: `default/train/0000.parquet` is how the Hub converts data sets.
const DEEPEST: usize = 3;

/// Parquet files below a folder without other images; or one file.
pub fn rows(root: &Path) -> Result<Option<Declaration>> {
    let mut files = Vec::new();
    if archives::has_rows(root) && root.is_file() {
        files.push(root.to_path_buf());
    } else if archives::is_archive(root) || archives::is_member(root) || !find(root, DEEPEST, &mut files)? {
        return Ok(None);
    }
    if files.is_empty() {
        return Ok(None);
    }
    files.iter().try_for_each(|file| archives::check(file))?;
    let layout = match files.as_slice() {
        [one] if one == root => format!("pictures in the parquet file {}", root.display()),
        several => format!("pictures in {} in {}", count_of(several.len(), "parquet file"), root.display()),
    };
    let Some(splits) = splits(root, files)? else { return Ok(None) };
    let training: Vec<&Path> = splits[0].iter().map(Source::path).collect();
    let mut notes = Vec::new();
    let tasks = tasks(root, &training, &mut notes)?;
    let mut found = declaration(root, layout, splits.clone(), tasks);
    found.notes = notes;
    Ok(Some(found))
}

/// Adds the parquet files below a folder; false if it holds an image, beside which a parquet file is a table about them. It stops at
/// the first, because there may be millions.
fn find(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<bool> {
    let (mut here, mut folders) = (Vec::new(), Vec::new());
    for entry in archives::read_dir(folder).map_err(Error::io("list", folder))? {
        let entry = entry.map_err(Error::io("list", folder))?;
        let path = entry.path();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        } else if is_folder && depth > 0 {
            folders.push(path);
        } else if !is_folder && is_image(&path) {
            return Ok(false);
        } else if !is_folder && archives::has_rows(&path) {
            here.push(path);
        }
    }
    here.sort();
    files.append(&mut here);
    folders.sort();
    for folder in folders {
        if !find(&folder, depth - 1, files)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The files of each split, by a word in their names or the names of their folders; all are for training if none says so.
///
/// Errors: some say so and others do not.
fn splits(root: &Path, files: Vec<PathBuf>) -> Result<Option<Splits>> {
    let named = |file: &PathBuf| {
        let name =
            if file == root { file.file_name()?.to_string_lossy().into_owned() } else { relative_name(file, root) };
        name.split(|c: char| !c.is_ascii_alphabetic()).find_map(Split::called)
    };
    let words: Vec<Option<Split>> = files.iter().map(named).collect();
    if words.iter().any(Option::is_some)
        && let Some(at) = words.iter().position(Option::is_none)
    {
        let message = format!(
            "the name of {} does not say whether it is for training, validation or testing, as those of other files do: put train, val or test into it, or list the files in a data.yaml",
            relative_name(&files[at], root)
        );
        return Err(Error::data(root, None, message));
    }
    let mut splits: Splits = [const { Vec::new() }; 3];
    // A single file is what the user means, whatever its name.
    let only = files.len() == 1;
    for (file, split) in files.into_iter().zip(words) {
        let split = split.filter(|_| !only).unwrap_or(Split::Train);
        splits[split as usize].push(Source::Folder(file));
    }
    Ok((!splits[0].is_empty()).then_some(splits))
}

/// A task for each column that can be one.
fn tasks(root: &Path, files: &[&Path], notes: &mut Vec<String>) -> Result<Vec<TaskDeclaration>> {
    let mut tasks = Vec::new();
    let columns = archives::row_columns(files[0])?;
    for RowColumn { name, classes, is_class } in &columns {
        let kind = match (is_class, classes) {
            (true, Some(_)) => Ok(Content::Class),
            _ => {
                // One column after the other, because all at once may take much memory.
                let of_file = |file: &&Path| archives::row_cells(file, std::slice::from_ref(name));
                let cells = files.iter().map(of_file).collect::<Result<Vec<_>>>()?;
                let values: Vec<&Value> = cells.iter().flatten().flatten().filter(|value| !value.is_null()).collect();
                column_kind(name, &values)
            }
        };
        match kind {
            Ok(kind) => {
                let mut task = task(root, name, kind, LabelsFrom::Columns(vec![name.clone()]));
                task.names = classes.clone();
                tasks.push(task);
            }
            Err(reason) => notes.push(format!(
                "column `{name}` left out: {reason}; to use it, declare a task with `from: [{name}]` in a data.yaml"
            )),
        }
    }
    if tasks.is_empty() {
        let names: Vec<&String> = columns.iter().map(|column| &column.name).collect();
        let message = match names.is_empty() {
            true => "besides the pictures there is no column, so that there is nothing to learn".to_owned(),
            false => format!(
                "besides the pictures, no column could be a task ({}): {}",
                list_some(&names, 12),
                notes.join("; ")
            ),
        };
        return Err(Error::data(files[0], None, message));
    }
    Ok(tasks)
}
