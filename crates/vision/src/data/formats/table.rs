//! Reads label tables: CSV or JSON lines with a column of file names.

use super::matching::{Entry, Names};
use super::records::Records;
use crate::archives;
use crate::data::declaration::LabelFile;
use crate::data::images::decode::is_image;
use crate::error::{Error, Result};
use crate::reading::{Place, Spot, did_you_mean, json, list_some, text};
use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io::{BufRead, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The columns tried for file names if `key:` names none.
const KEY_COLUMNS: [&str; 4] = ["file", "file_name", "filename", "image"];
/// Hugging Face's two tables, and Roboflow's table of 0 and 1 per class.
const METADATA: [&str; 3] = ["metadata.jsonl", "metadata.csv", CLASSES];
pub const CLASSES: &str = "_classes.csv";

pub struct Table {
    pub file: Arc<Path>,
    /// All columns of the file.
    pub columns: Vec<String>,
    /// The columns whose cells are kept.
    pub kept: Vec<String>,
    /// For each row its line, its kept cells in the order of `kept` (null if blank), and the image it names.
    pub rows: Vec<Row>,
    pub by_name: HashMap<Arc<str>, usize>,
    /// For each row that another one contradicts, the line and the message of each.
    pub wrong: HashMap<usize, Vec<(usize, String)>>,
    /// Rows that could not be interpreted; others may be valid.
    pub faults: Vec<Error>,
}

pub struct Row {
    pub line: usize,
    pub name: Arc<str>,
    pub cells: Box<[Value]>,
}

impl Table {
    /// Reads `file` and keeps the cells of the `wanted` columns, or of all. A table with a million rows may have other
    /// columns that are larger than all the rest.
    pub fn open(file: &Path, key: Option<&str>, wanted: Option<&[String]>) -> Result<Table> {
        let words: Option<HashSet<&str>> = wanted.map(|wanted| wanted.iter().map(String::as_str).collect());
        let is_wanted = |name: &str| words.as_ref().is_none_or(|words| words.contains(name)) || is_key_of(key, name);
        let is_lines = file.extension().is_some_and(|e| e == "jsonl");
        let sheet = match is_lines {
            true => json_rows(file, &is_wanted)?,
            false => csv_rows(file, &is_wanted)?,
        };
        Table::keyed(file, key, wanted, sheet)
    }

    fn keyed(file: &Path, key: Option<&str>, wanted: Option<&[String]>, sheet: Sheet) -> Result<Table> {
        let Sheet { columns, mut kept, rows, faults, .. } = sheet;
        let found = match key {
            Some(key) => kept.iter().position(|c| c == key),
            None => KEY_COLUMNS.iter().find_map(|key| kept.iter().position(|c| c == key)),
        };
        let Some(at) = found else {
            let first_row_is_image = columns.iter().any(|column| is_image(Path::new(column)));
            let message = match key {
                _ if first_row_is_image => format!(
                    "is the first row a header? It holds {}: add a row above it with the columns' names, the one of the file names called {}",
                    list_some(&columns, 12),
                    key.map_or_else(key_columns, |key| format!("`{key}` (`key:`)"))
                ),
                Some(key) => format!(
                    "no column `{key}` (`key:`); it has {}{}",
                    list_some(&columns, 12),
                    did_you_mean(key, columns.iter().map(String::as_str))
                ),
                None => format!(
                    "no column of file names (called {}); it has {}: rename it, or name it with `key:`",
                    key_columns(),
                    list_some(&columns, 12)
                ),
            };
            return Err(Error::data(file, Some(1), message));
        };
        let is_label = wanted.is_none_or(|wanted| wanted.contains(&kept[at]));
        let width = kept.len();
        let key_column = if is_label { kept[at].clone() } else { kept.remove(at) };
        let by_name = HashMap::with_capacity(rows.len());
        let rows_there = Vec::with_capacity(rows.len());
        let wrong = HashMap::new();
        let mut table = Table { file: file.into(), columns, kept, rows: rows_there, by_name, wrong, faults };
        for (line, mut cells) in rows {
            cells.resize(width, Value::Null);
            let name: Arc<str> = match &cells[at] {
                Value::String(name) => normal(name).into(),
                Value::Number(number) => number.to_string().into(),
                _ => {
                    let message = format!("no file name in column `{key_column}`: name the image or remove the row");
                    table.faults.push(Error::data(file, Some(line), message));
                    continue;
                }
            };
            if !is_label {
                cells.remove(at);
            }
            let cells = cells.into_boxed_slice();
            if let Some(&at) = table.by_name.get(&name) {
                let before: &Row = &table.rows[at];
                if before.cells != cells {
                    let message =
                        format!("`{name}` has other labels on line {}: keep one of the two rows", before.line);
                    table.wrong.entry(at).or_default().push((line, message));
                }
                continue;
            }
            table.by_name.insert(name.clone(), table.rows.len());
            table.rows.push(Row { line, name, cells });
        }
        // Sort by line, the order in which the user will correct them.
        table.faults.sort_by_key(|fault| if let Error::Data { line, .. } = fault { *line } else { None });
        if table.rows.is_empty() && !table.faults.is_empty() {
            return Err(table.faults.swap_remove(0));
        }
        Ok(table)
    }

    /// All values of a kept column that are not blank.
    pub fn values(&self, column: usize) -> impl Iterator<Item = &Value> {
        self.rows.iter().filter_map(move |row| row.cells.get(column)).filter(|v| !v.is_null())
    }

    pub fn is_key(column: &str) -> bool {
        KEY_COLUMNS.contains(&column)
    }

    /// The faults of the rows that contradict this one.
    pub fn wrong_rows(&self, row: usize) -> impl Iterator<Item = Error> {
        let wrong = self.wrong.get(&row).into_iter().flatten();
        wrong.map(|(line, message)| Error::data(&self.file, Some(*line), message.as_str()))
    }

    /// The image name and position of a row.
    pub fn entry(&self, row: usize) -> (String, Place) {
        let Row { line, name, .. } = &self.rows[row];
        (name.to_string(), Place::at(&self.file, Spot::line(*line)))
    }

    pub fn names<'a>(&'a self, file: &'a LabelFile, entry: &'a Entry<'a>) -> Names<'a> {
        Names { file, noun: "row", by_name: &self.by_name, entry, count: self.rows.len() }
    }
}

/// The content of a file: its columns, those kept, and the kept cells of each row with its line. Trailing cells are
/// missing if the row does not have them.
#[derive(Default)]
struct Sheet {
    columns: Vec<String>,
    kept: Vec<String>,
    /// For each column, its index among the kept columns.
    places: HashMap<String, Option<usize>>,
    rows: Vec<(usize, Vec<Value>)>,
    faults: Vec<Error>,
}

impl Sheet {
    /// The index of column `name` among the kept columns; the column is added if it is new.
    fn place(&mut self, name: &str, is_wanted: &dyn Fn(&str) -> bool) -> Option<usize> {
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        let place = is_wanted(name).then_some(self.kept.len());
        self.columns.push(name.to_string());
        self.places.insert(name.to_string(), place);
        self.kept.extend(place.map(|_| name.to_string()));
        place
    }
}

/// Whether a column of this name holds the paths of images, ignoring case.
pub fn is_image_key(column: &str) -> bool {
    let column = column.trim().to_ascii_lowercase();
    KEY_COLUMNS.contains(&column.as_str()) || ["path", "filepath", "file_path", "image_path"].contains(&column.as_str())
}

/// The names of [`KEY_COLUMNS`], for use in a message.
fn key_columns() -> String {
    let [others @ .., last] = KEY_COLUMNS;
    format!("{} or {last}", others.join(", "))
}

/// Whether this may be the column of file names.
fn is_key_of(key: Option<&str>, name: &str) -> bool {
    key.map_or_else(|| KEY_COLUMNS.contains(&name), |key| key == name)
}

/// The column whose second row holds the name of an image file.
pub fn image_column(file: &Path) -> Option<String> {
    let mut records = Records::open(file).ok()?;
    let (mut names, mut cells) = (csv::StringRecord::new(), csv::StringRecord::new());
    records.read(&mut names).ok()??;
    records.read(&mut cells).ok()??;
    let is_named = |(name, cell): &(&str, &str)| is_image(Path::new(cell)) && !is_image(Path::new(name));
    names.iter().zip(&cells).find(is_named).map(|(name, _)| name.to_string())
}

/// The columns of a CSV file with the first cells of each, at most `most`; `None` if it has no second row.
pub fn columns_of(file: &Path, most: usize) -> Option<Vec<(String, Vec<String>)>> {
    let mut records = Records::open(file).ok()?;
    let mut record = csv::StringRecord::new();
    records.read(&mut record).ok()??;
    let mut columns: Vec<(String, Vec<String>)> = record.iter().map(|name| (name.to_string(), Vec::new())).collect();
    for _ in 0..most {
        if records.read(&mut record).ok()?.is_none() {
            break;
        }
        columns.iter_mut().zip(&record).for_each(|((_, cells), cell)| cells.push(cell.to_string()));
    }
    columns.iter().any(|(_, cells)| !cells.is_empty()).then_some(columns)
}

/// The names of the images in a CSV file with one row per image: those of the usual column, of the column that names files, or of
/// the first.
pub fn image_names(file: &Path) -> Result<Vec<String>> {
    let table = Table::open(file, None, Some(&[])).or_else(|error| {
        let first = || columns_of(file, 1)?.into_iter().next().map(|(name, _)| name);
        let key = image_column(file).or_else(first).ok_or(error)?;
        Table::open(file, Some(&key), Some(&[]))
    })?;
    Ok(table.rows.iter().map(|row| row.name.to_string()).collect())
}

/// The metadata table in `folder`, if there is one.
pub fn metadata_in(folder: &Path) -> Option<PathBuf> {
    METADATA.iter().map(|name| folder.join(name)).find(|file| archives::is_file(file))
}

fn csv_rows(file: &Path, is_wanted: &dyn Fn(&str) -> bool) -> Result<Sheet> {
    let mut records = Records::open(file)?;
    let mut sheet = Sheet::default();
    let mut names = csv::StringRecord::new();
    records.read(&mut names)?;
    // If two columns have the same name, the first is used.
    let places = names.iter().map(|name| match sheet.places.contains_key(name) {
        true => None,
        false => sheet.place(name, is_wanted),
    });
    let places: Vec<Option<usize>> = places.collect();
    let mut record = csv::StringRecord::new();
    while let Some(line) = records.read(&mut record)? {
        if record.len() != names.len() {
            let message =
                format!("{} cells, but the header has {}: quote cells that hold a comma", record.len(), names.len());
            sheet.faults.push(Error::data(file, Some(line), message));
            continue;
        }
        let mut cells = vec![Value::Null; sheet.kept.len()];
        for (place, text) in places.iter().zip(&record) {
            if let Some(at) = place
                && !text.is_empty()
            {
                cells[*at] = Value::String(text.into());
            }
        }
        sheet.rows.push((line, cells));
    }
    Ok(sheet)
}

fn json_rows(file: &Path, is_wanted: &dyn Fn(&str) -> bool) -> Result<Sheet> {
    let mut text = text::open(file).map_err(Error::io("read", file))?;
    let mut sheet = Sheet::default();
    let mut line = String::new();
    for number in 1.. {
        line.clear();
        let read = text.read_line(&mut line).map_err(|e| match e.kind() {
            ErrorKind::InvalidData => Error::data(file, Some(number), "the text is not UTF-8: save the file as UTF-8"),
            _ => Error::io("read", file)(e),
        });
        if read? == 0 {
            break;
        }
        if line.trim().is_empty() {
            continue;
        }
        let cells = Vec::with_capacity(sheet.kept.len());
        let plain = json::plain(std::mem::take(&mut line));
        let mut parser = serde_json::Deserializer::from_str(plain.trim_end());
        let cells = JsonRow { sheet: &mut sheet, is_wanted, cells }.deserialize(&mut parser);
        let cells = cells.and_then(|cells| parser.end().map(|()| cells));
        let wrong = |e| Error::data(file, Some(number), format!("not a JSON object on one line: {e}"));
        match cells.map_err(wrong) {
            Ok(cells) => sheet.rows.push((number, cells)),
            Err(fault) => sheet.faults.push(fault),
        }
        line = plain;
    }
    Ok(sheet)
}

/// Deserialises the object of one line, building only the wanted values.
struct JsonRow<'a> {
    sheet: &'a mut Sheet,
    is_wanted: &'a dyn Fn(&str) -> bool,
    cells: Vec<Value>,
}

impl<'de> DeserializeSeed<'de> for JsonRow<'_> {
    type Value = Vec<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Value>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for JsonRow<'_> {
    type Value = Vec<Value>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("`{\"file_name\": …, …}`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<Value>, A::Error> {
        let JsonRow { sheet, is_wanted, mut cells } = self;
        while let Some(key) = map.next_key::<String>()? {
            match sheet.place(&key, is_wanted) {
                Some(at) => {
                    cells.resize(cells.len().max(at + 1), Value::Null);
                    cells[at] = match map.next_value::<Value>()? {
                        // Boxes are kept as text, which takes a tenth of the memory; they are parsed later like a CSV
                        // cell.
                        boxes if is_boxes(&boxes) => {
                            let mut text = boxes.to_string();
                            text.shrink_to_fit();
                            Value::String(text)
                        }
                        value => value,
                    };
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(cells)
    }
}

/// Whether the value is parallel lists of boxes or a list of objects.
fn is_boxes(value: &Value) -> bool {
    value.get("bbox").or_else(|| value.get(0)?.get("bbox")).is_some()
}

/// The name with forward slashes and without a leading `./`.
pub fn normal(name: &str) -> String {
    let name = name.trim().replace('\\', "/");
    name.strip_prefix("./").unwrap_or(&name).to_string()
}
