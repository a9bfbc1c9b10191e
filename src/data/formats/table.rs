//! Tables of labels, read: CSV or JSON lines, with a column of file names that says which image a row belongs to.

use super::matching::Names;
use crate::data::declaration::LabelFile;
use crate::data::{Place, did_you_mean, list_some};
use crate::error::{Error, Result};
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Columns that hold the file name where `key:` names none.
const KEY_COLUMNS: [&str; 4] = ["file", "file_name", "filename", "image"];
/// Hugging Face's two, and Roboflow's table of 0 and 1 a class.
const METADATA: [&str; 3] = ["metadata.jsonl", "metadata.csv", CLASSES];
pub const CLASSES: &str = "_classes.csv";

pub struct Table {
    pub file: PathBuf,
    pub columns: Vec<String>,
    /// The line of each row, its cells in the order of `columns` (null where blank) and the image it names.
    pub rows: Vec<Row>,
    pub by_name: HashMap<String, usize>,
}

pub struct Row {
    pub line: usize,
    pub name: String,
    pub cells: Vec<Value>,
}

impl Table {
    pub fn open(file: &Path, key: Option<&str>) -> Result<Table> {
        let text = std::fs::read_to_string(file).map_err(Error::io("read", file))?;
        let text = text.trim_start_matches('\u{feff}');
        let is_lines = file.extension().is_some_and(|e| e == "jsonl");
        let sheet = match is_lines {
            true => json_rows(file, text)?,
            false => csv_rows(file, text)?,
        };
        Table::keyed(file, key, sheet)
    }

    fn keyed(file: &Path, key: Option<&str>, (columns, rows): Sheet) -> Result<Table> {
        let names = columns.iter().map(String::as_str);
        let found = match key {
            Some(key) => columns.iter().position(|c| c == key),
            None => KEY_COLUMNS.iter().find_map(|key| columns.iter().position(|c| c == key)),
        };
        let Some(at) = found else {
            let message = match key {
                Some(key) => format!(
                    "no column `{key}` (`key:`); it has {}{}",
                    list_some(&columns, 12),
                    did_you_mean(key, names)
                ),
                None => format!(
                    "no column of file names ({}); it has {}: name it with `key:`",
                    KEY_COLUMNS.join(", "),
                    list_some(&columns, 12)
                ),
            };
            return Err(Error::data(file, Some(1), message));
        };
        let mut table = Table { file: file.to_path_buf(), columns, rows: Vec::new(), by_name: HashMap::new() };
        for (line, cells) in rows {
            let name = match cells.get(at) {
                Some(Value::String(name)) => normal(name),
                Some(Value::Number(number)) => number.to_string(),
                _ => {
                    let message =
                        format!("no file name in column `{}`: name the image or remove the row", table.columns[at]);
                    return Err(Error::data(file, Some(line), message));
                }
            };
            if let Some(&before) = table.by_name.get(&name) {
                let before: &Row = &table.rows[before];
                if before.cells != cells {
                    let message =
                        format!("`{name}` has other labels on line {}: keep one of the two rows", before.line);
                    return Err(Error::data(file, Some(line), message));
                }
                continue;
            }
            table.by_name.insert(name.clone(), table.rows.len());
            table.rows.push(Row { line, name, cells });
        }
        Ok(table)
    }

    /// All values of a column that are not blank.
    pub fn values(&self, column: usize) -> impl Iterator<Item = &Value> {
        self.rows.iter().filter_map(move |row| row.cells.get(column)).filter(|v| !v.is_null())
    }

    pub fn is_key(column: &str) -> bool {
        KEY_COLUMNS.contains(&column)
    }

    /// The image and the place of a row.
    pub fn entry(&self, row: usize) -> (String, Place) {
        let Row { line, name, .. } = &self.rows[row];
        (name.clone(), Place::new(&self.file, Some(*line)))
    }

    pub fn names<'a>(&'a self, file: &'a LabelFile, entry: &'a dyn Fn(usize) -> (String, Place)) -> Names<'a> {
        Names { file, noun: "row", by_name: &self.by_name, entry, count: self.rows.len() }
    }
}

/// Column names, and the rows with their lines.
type Sheet = (Vec<String>, Vec<(usize, Vec<Value>)>);

/// The metadata table in `folder`, if there is one.
pub fn metadata_in(folder: &Path) -> Option<PathBuf> {
    METADATA.iter().map(|name| folder.join(name)).find(|file| file.is_file())
}

/// For comma-, semicolon- or tab-separated values, as the first line has it.
pub fn csv_reader(text: &str) -> csv::ReaderBuilder {
    let header = text.lines().next().unwrap_or("");
    let delimiter = [b',', b';', b'\t'].into_iter().find(|d| header.as_bytes().contains(d)).unwrap_or(b',');
    let mut builder = csv::ReaderBuilder::new();
    builder.delimiter(delimiter).trim(csv::Trim::All).flexible(true);
    builder
}

pub fn not_csv(file: &Path, e: &csv::Error) -> Error {
    let line = e.position().map(|at| at.line() as usize);
    Error::data(file, line, format!("not a table of comma-separated values: {e}"))
}

fn csv_rows(file: &Path, text: &str) -> Result<Sheet> {
    let mut reader = csv_reader(text).from_reader(text.as_bytes());
    let wrong = |e: csv::Error| not_csv(file, &e);
    let columns: Vec<String> = reader.headers().map_err(wrong)?.iter().map(str::to_string).collect();
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(wrong)?;
        let line = record.position().map_or(0, |at| at.line() as usize);
        if record.len() != columns.len() {
            let message =
                format!("{} cells, but the header has {}: quote cells that hold a comma", record.len(), columns.len());
            return Err(Error::data(file, Some(line), message));
        }
        let cell = |text: &str| {
            if text.is_empty() { Value::Null } else { Value::String(text.into()) }
        };
        rows.push((line, record.iter().map(cell).collect()));
    }
    Ok((columns, rows))
}

fn json_rows(file: &Path, text: &str) -> Result<Sheet> {
    let mut columns: Vec<String> = Vec::new();
    let mut rows = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |reason: String| Error::data(file, Some(i + 1), format!("not a JSON object on one line: {reason}"));
        let value: Value = serde_json::from_str(line).map_err(|e| wrong(e.to_string()))?;
        let Value::Object(object) = value else {
            return Err(wrong("expected `{\"file_name\": …, …}`".into()));
        };
        let mut cells = vec![Value::Null; columns.len()];
        for (key, value) in object {
            match columns.iter().position(|c| *c == key) {
                Some(at) => cells[at] = value,
                None => {
                    columns.push(key);
                    cells.push(value);
                }
            }
        }
        rows.push((i + 1, cells));
    }
    for (_, cells) in &mut rows {
        cells.resize(columns.len(), Value::Null);
    }
    Ok((columns, rows))
}

/// Forward slashes, no leading `./`.
pub fn normal(name: &str) -> String {
    let name = name.trim().replace('\\', "/");
    name.strip_prefix("./").unwrap_or(&name).to_string()
}
