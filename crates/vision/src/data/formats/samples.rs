//! Labels that lie with the picture in its archive: the columns of a parquet file, and the samples of a WebDataset shard.
//!
//! A sample of a WebDataset shard consists of files of one archive that share a key, which is their name up to the first dot of its last
//! part. `000012.jpg` has its class in `000012.cls` or `000012.txt`, and any number of labels in the object of `000012.json`.

use super::columns::{label_of, nearest_metadata};
use super::listed::Listed;
use super::{Raw, Reading};
use crate::archives;
use crate::data::declaration::TaskDeclaration;
use crate::error::{Error, Result};
use crate::reading::{List, Place, Spot, did_you_mean, list_some, text};
use serde_json::Value;
use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The endings of files that each hold one label as text.
pub const TEXTS: [&str; 3] = ["cls", "txt", "label"];
/// The ending of files with an object of labels.
pub const OBJECT: &str = "json";

/// The labels of a task: columns of parquet files, or the endings of files and keys in the JSON file of a sample.
pub struct SampleReader {
    columns: Vec<String>,
    /// The columns of each parquet file.
    rows: HashMap<PathBuf, Table>,
    /// The classes in the order of their numbers, if the files say so.
    pub classes: Option<Vec<String>>,
}

/// A parquet file and the cells of the task's columns, one list for each.
struct Table {
    file: Arc<Path>,
    cells: Vec<Vec<Value>>,
}

impl SampleReader {
    /// `None` if the first image lies in no archive, or in one with a metadata table.
    ///
    /// Errors: a parquet file is damaged, or none has a column that the task reads.
    pub fn open(task: &TaskDeclaration, columns: &[String], root: &Path, images: &[Listed]) -> Result<Option<Self>> {
        let Some(first) = images.first().filter(|first| archives::is_member(&first.image)) else { return Ok(None) };
        let folder = first.image.parent().unwrap_or(root);
        if !archives::has_rows(folder) && nearest_metadata(folder, root, &first.folder).is_some() {
            return Ok(None);
        }
        let (mut rows, mut classes, mut last) = (HashMap::new(), None, None);
        let mut known = Vec::new();
        for image in images {
            let Some((file, _)) = archives::row_of(&image.image).filter(|(file, _)| last != Some(*file)) else {
                continue;
            };
            last = Some(file);
            if rows.contains_key(file) {
                continue;
            }
            for column in archives::row_columns(file)? {
                if columns.contains(&column.name) && classes.is_none() {
                    classes = column.classes;
                }
                if !known.contains(&column.name) {
                    known.push(column.name);
                }
            }
            let cells = archives::row_cells(file, columns)?;
            rows.insert(file.to_path_buf(), Table { file: file.into(), cells });
        }
        if !rows.is_empty()
            && let Some(absent) = columns.iter().find(|column| !known.contains(column))
        {
            let message = format!(
                "task `{}` reads the column `{absent}`, which the parquet files do not have; they have {}{}",
                task.name,
                list_some(&known, 12),
                did_you_mean(absent, known.iter().map(String::as_str))
            );
            return Err(task.place.error(message));
        }
        Ok(Some(SampleReader { columns: columns.to_vec(), rows, classes }))
    }

    pub fn read(&self, task: &TaskDeclaration, image: &Listed) -> Result<Reading> {
        if let Some((file, row)) = archives::row_of(&image.image)
            && let Some(Table { file, cells }) = self.rows.get(file)
        {
            let cells = cells.iter().map(|cells| cells.get(row).unwrap_or(&Value::Null));
            let cells: Vec<(&str, &Value)> = self.columns.iter().map(String::as_str).zip(cells).collect();
            let place = Place::at(file, Spot::entry(List::Rows, row));
            return label_of(task, &cells, None, image, Reading::at(Raw::Unlabelled, place));
        }
        let (cells, place) = cells(&image.image, &self.columns)?;
        let cells: Vec<(&str, &Value)> = self.columns.iter().map(String::as_str).zip(&cells).collect();
        label_of(task, &cells, None, image, Reading::at(Raw::Unlabelled, place))
    }
}

/// The cells of these columns for an image, and where they come from. A file that is not there is a blank cell.
fn cells(image: &Path, columns: &[String]) -> Result<(Vec<Value>, Place)> {
    let mut place = Place::new(image, None);
    let mut object = None;
    let mut found = Vec::with_capacity(columns.len());
    for column in columns {
        if TEXTS.contains(&column.as_str()) {
            let file = beside(image, column);
            if let Some(text) = read(&file)? {
                place = Place::new(&file, None);
                let text = text.trim();
                found.push(if text.is_empty() { Value::Null } else { Value::String(text.into()) });
                continue;
            }
        }
        let object = match &mut object {
            Some(object) => object,
            none => {
                let file = beside(image, OBJECT);
                let read = object_in(&file)?;
                if read.is_some() {
                    place = Place::new(&file, None);
                }
                none.insert(read.unwrap_or_default())
            }
        };
        found.push(object.remove(column).unwrap_or_default());
    }
    Ok((found, place))
}

/// The labels in a JSON file; `None` if it is not there.
///
/// Errors: it is no JSON object.
pub fn object_in(file: &Path) -> Result<Option<serde_json::Map<String, Value>>> {
    let Some(text) = read(file)? else { return Ok(None) };
    match serde_json::from_str(&text) {
        Ok(Value::Object(object)) => Ok(Some(object)),
        Ok(_) => Err(Error::data(file, None, "not a JSON object: expected `{\"label\": …}`")),
        Err(e) => Err(Error::data(file, Some(e.line()), format!("not a JSON object: {e}"))),
    }
}

fn read(file: &Path) -> Result<Option<String>> {
    match text::read(file) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) if e.kind() == ErrorKind::InvalidData => Err(Error::data(file, None, e.to_string())),
        Err(e) => Err(Error::io("read", file)(e)),
    }
}

/// The file of the same sample with another ending.
pub fn beside(image: &Path, ending: &str) -> PathBuf {
    let name = image.file_name().unwrap_or_default().to_string_lossy();
    image.with_file_name(format!("{}.{ending}", key_of(&name).0))
}

/// The key of a sample and the rest of the name, from the last part of a path.
pub fn key_of(name: &str) -> (&str, &str) {
    name.split_once('.').unwrap_or((name, ""))
}
