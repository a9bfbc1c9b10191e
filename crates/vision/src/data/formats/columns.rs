//! Labels in table columns: Hugging Face's metadata.jsonl or metadata.csv beside the images, and any CSV with a column
//! of file names. A blank or null cell means *unlabelled*.

use super::listed::{Images, Listed};
use super::matching::{Matches, check_unused, match_images};
use super::table::{Table, metadata_in};
use super::{Raw, RawClass, Reading, Remark, Word, objects};
use crate::data::declaration::{LabelFile, TaskDeclaration};
use crate::data::walk::relative_name;
use crate::error::{Error, Result};
use crate::reading::{Place, Spot, did_you_mean, list_some};
use crate::tasks::Content;
use rayon::prelude::*;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// A task's columns in one or more tables, with the row of every image.
pub struct TableReader {
    tables: Vec<Table>,
    /// For each table, the positions of the task's columns; `None` if the table lacks one.
    columns: Vec<Vec<Option<usize>>>,
    /// The separator of the names of classes in the cells of a single column.
    separator: Option<Separator>,
    /// For each image, its table and row.
    matches: Matches,
    pub notes: Vec<String>,
    /// Rows that could not be interpreted.
    pub faults: Vec<Error>,
}

impl TableReader {
    /// Columns of the metadata tables beside the images. For each image, the table in the nearest folder above it is
    /// used.
    pub fn metadata(task: &TaskDeclaration, columns: &[String], root: &Path, images: &[Listed]) -> Result<Self> {
        let mut tables: Vec<Table> = Vec::new();
        let mut by_folder: HashMap<PathBuf, Option<usize>> = HashMap::new();
        let mut found = Vec::with_capacity(images.len());
        for image in images {
            let parent = image.image.parent().unwrap_or(root);
            let table = match by_folder.get(parent) {
                Some(known) => *known,
                None => {
                    let nearest = nearest_metadata(parent, root, &image.folder);
                    let index = match nearest {
                        Some(file) => Some(match tables.iter().position(|t| *t.file == *file) {
                            Some(index) => index,
                            None => {
                                tables.push(Table::open(&file, None, Some(columns))?);
                                tables.len() - 1
                            }
                        }),
                        None => None,
                    };
                    by_folder.insert(parent.to_path_buf(), index);
                    index
                }
            };
            found.push(table);
        }
        let row_of = |(image, table): (&Listed, &Option<usize>)| {
            let table = (*table)?;
            let base = tables[table].file.parent().unwrap_or(root);
            let row = tables[table].by_name.get(relative_name(&image.image, base).as_str())?;
            Some((table, *row))
        };
        let matches = images.par_iter().zip(&found).map(row_of).collect();
        if tables.is_empty() {
            let message = format!(
                "task `{}` reads the column `{}` of a metadata.jsonl or metadata.csv, and none lies beside the images: add one, or say `from: {{csv: FILE, column: NAME}}`",
                task.name, columns[0]
            );
            return Err(task.place.error(message));
        }
        TableReader::new(task, tables, columns, matches, root, images)
    }

    /// Columns of CSV files. The key is matched with the path relative to the images, or with the file name alone if it
    /// is unique.
    pub fn csv(
        task: &TaskDeclaration,
        files: &[LabelFile],
        columns: &[String],
        key: Option<&str>,
        root: &Path,
        images: &Images,
    ) -> Result<Self> {
        let open = |file: &LabelFile| Table::open(&file.path, key, Some(columns));
        let tables = files.iter().map(open).collect::<Result<Vec<_>>>()?;
        let entries: Vec<_> = tables.iter().map(|table| |row: usize| table.entry(row)).collect();
        let names = tables.iter().zip(files).zip(&entries).map(|((table, file), entry)| table.names(file, entry));
        let matches = match_images(&names.collect::<Vec<_>>(), root, images)?;
        TableReader::new(task, tables, columns, matches, root, &images.all)
    }

    fn new(
        task: &TaskDeclaration,
        mut tables: Vec<Table>,
        columns: &[String],
        matches: Matches,
        root: &Path,
        images: &[Listed],
    ) -> Result<Self> {
        let find = |table: &Table| -> Vec<Option<usize>> {
            let kept: HashMap<&str, usize> =
                table.kept.iter().enumerate().map(|(i, name)| (name.as_str(), i)).collect();
            columns.iter().map(|name| kept.get(name.as_str()).copied()).collect()
        };
        let places: Vec<Vec<Option<usize>>> = tables.iter().map(find).collect();
        for (i, name) in columns.iter().enumerate() {
            if places.iter().all(|place| place[i].is_none()) {
                let known = &tables[0].columns;
                let message = format!(
                    "task `{}` reads the column `{name}`, which {} does not have; it has {}{}",
                    task.name,
                    tables[0].file.display(),
                    list_some(known, 12),
                    did_you_mean(name, known.iter().map(String::as_str))
                );
                return Err(task.place.error(message));
            }
        }
        let mut faults: Vec<Error> = tables.iter_mut().flat_map(|table| std::mem::take(&mut table.faults)).collect();
        // The faults of images that are not in this data set belong to nobody who would report them.
        let matched: HashSet<(usize, usize)> = matches.iter().flatten().copied().collect();
        for (t, table) in tables.iter().enumerate().filter(|(_, table)| !table.wrong.is_empty()) {
            let unmatched = (0..table.rows.len()).filter(|row| !matched.contains(&(t, *row)));
            faults.extend(unmatched.flat_map(|row| table.wrong_rows(row)));
        }
        let is_list = task.kind.content == Content::Classes && columns.len() == 1;
        let separator = if is_list { Separator::of(&tables, &places) } else { None };
        let mut reader = TableReader { tables, columns: places, separator, matches, notes: Vec::new(), faults };
        let files: Vec<LabelFile> =
            reader.tables.iter().map(|table| LabelFile { path: table.file.to_path_buf(), split: None }).collect();
        let entries: Vec<_> = reader.tables.iter().map(|table| |row: usize| table.entry(row)).collect();
        let names =
            reader.tables.iter().zip(&files).zip(&entries).map(|((table, file), entry)| table.names(file, entry));
        reader.notes = check_unused(&names.collect::<Vec<_>>(), &reader.matches, root, images)?;
        reader.notes.extend(separator.map(|separator| {
            let column = &columns[0];
            format!("{}: the cells of `{column}` are lists of classes separated by {}", task.name, separator.words())
        }));
        // Every image now has its row, so the names are no longer needed.
        reader.tables.iter_mut().for_each(|table| table.by_name = HashMap::new());
        Ok(reader)
    }

    pub fn read(&self, task: &TaskDeclaration, index: usize, image: &Listed) -> Result<Reading> {
        let Some((t, r)) = self.matches[index] else {
            return Ok(super::not_mentioned(task, &self.tables[0].file));
        };
        let (table, row) = (&self.tables[t], &self.tables[t].rows[r]);
        let cells: Vec<(&str, &Value)> = self.columns[t]
            .iter()
            .map(|at| match at {
                Some(at) => (table.kept[*at].as_str(), &row.cells[*at]),
                None => ("", &Value::Null),
            })
            .collect();
        let mut reading = Reading::at(Raw::Unlabelled, Place::at(&table.file, Spot::line(row.line)));
        reading.faults = table.wrong_rows(r).collect();
        label_of(task, &cells, self.separator, image, reading)
    }
}

/// Adds the label in the cells of a task's columns to a reading without one. Each cell comes with its column's name; null is blank.
pub(super) fn label_of(
    task: &TaskDeclaration,
    cells: &[(&str, &Value)],
    separator: Option<Separator>,
    image: &Listed,
    mut reading: Reading,
) -> Result<Reading> {
    let blanks = cells.iter().filter(|(_, value)| value.is_null()).count();
    if blanks > 0 {
        if blanks < cells.len() {
            reading.remarks.push((Remark::PartlyBlank, reading.place.clone()));
        }
        if task.kind.content != Content::Classes || blanks == cells.len() {
            return Ok(reading);
        }
    }
    reading.raw = match task.kind.content {
        Content::Class => {
            Raw::Class(RawClass { word: class_word(cells[0].0, cells[0].1, &reading.place)?, spot: reading.place.spot })
        }
        Content::Classes => match (separator, cells) {
            (Some(separator), [(_, Value::String(cell))]) => separator.names(cell, &reading.place),
            _ => flags(cells, &reading.place)?,
        },
        Content::Values => Raw::Values(values(cells, task.range, &reading.place)?),
        Content::Boxes => objects::read(cells[0].0, cells[0].1, task.box_format, image, &mut reading)?,
    };
    Ok(reading)
}

/// The metadata table in the nearest folder from `start` up to the data set's root, or to the split's folder if it lies elsewhere.
pub(super) fn nearest_metadata(start: &Path, root: &Path, folder: &Path) -> Option<PathBuf> {
    let top = if start.starts_with(root) { root } else { folder };
    start.ancestors().take_while(|dir| dir.starts_with(top)).find_map(metadata_in)
}

pub(super) fn class_word(column: &str, value: &Value, place: &Place) -> Result<Word> {
    match value {
        Value::String(name) => Ok(Word::Name(name.trim().into())),
        Value::Number(number) => Ok(Word::Name(number.to_string().into())),
        Value::Bool(flag) => Ok(Word::Name(flag.to_string().into())),
        other => Err(place.error(format!(
            "column `{column}` holds {other}; expected a class name or number, or null for unlabelled"
        ))),
    }
}

/// The character between the names of classes in a cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Separator {
    Character(char),
    Blanks,
}

impl Separator {
    /// The first of these that occurs in a cell of the only column; `None` if a cell is 0 or 1, or if
    /// they are lists already.
    fn of(tables: &[Table], columns: &[Vec<Option<usize>>]) -> Option<Separator> {
        let cells = || {
            let columns = tables.iter().zip(columns).filter_map(|(table, columns)| Some((table, columns[0]?)));
            columns.flat_map(|(table, column)| table.values(column)).filter_map(Value::as_str)
        };
        let is_flag =
            |cell: &str| matches!(cell.trim().to_lowercase().as_str(), "0" | "0.0" | "1" | "1.0" | "true" | "false");
        if cells().next().is_none() || cells().any(is_flag) {
            return None;
        }
        let character = ['|', ';', ','].into_iter().find(|character| cells().any(|cell| cell.contains(*character)));
        Some(character.map_or(Separator::Blanks, Separator::Character))
    }

    fn names(self, cell: &str, place: &Place) -> Raw {
        let parts: Vec<&str> = match self {
            Separator::Character(character) => cell.split(character).map(str::trim).collect(),
            Separator::Blanks => cell.split_whitespace().collect(),
        };
        let names = parts.into_iter().filter(|name| !name.is_empty());
        Raw::Names(names.map(|name| RawClass { word: Word::Name(name.into()), spot: place.spot }).collect())
    }

    fn words(self) -> String {
        match self {
            Separator::Character(character) => format!("`{character}`"),
            Separator::Blanks => "blanks".into(),
        }
    }
}

/// One cell of 0 or 1 per column; or a single column with a list, of the names of present classes or of 0 and 1 for
/// each class.
fn flags(cells: &[(&str, &Value)], place: &Place) -> Result<Raw> {
    let [(column, Value::Array(list))] = cells else {
        return Ok(Raw::Flags(cells.iter().map(|(column, cell)| flag(column, cell, place)).collect::<Result<_>>()?));
    };
    if list.iter().all(Value::is_string) {
        let name = |value: &Value| Ok(RawClass { word: class_word(column, value, place)?, spot: place.spot });
        return Ok(Raw::Names(list.iter().map(name).collect::<Result<_>>()?));
    }
    Ok(Raw::Flags(list.iter().map(|value| flag(column, value, place)).collect::<Result<_>>()?))
}

fn flag(column: &str, value: &Value, place: &Place) -> Result<Option<bool>> {
    let shown = value.as_str().map_or_else(|| value.to_string(), str::to_string);
    match shown.trim().to_lowercase().as_str() {
        "1" | "1.0" | "true" => Ok(Some(true)),
        "0" | "0.0" | "false" => Ok(Some(false)),
        _ if value.is_null() => Ok(None),
        _ => Err(place.error(format!(
            "column `{column}` holds `{shown}`; expected 1 (present) or 0 (absent), or a blank cell for unlabelled"
        ))),
    }
}

/// The numbers in some cells; a list stands for several.
pub(super) fn values(cells: &[(&str, &Value)], range: Option<[f64; 2]>, place: &Place) -> Result<Vec<f64>> {
    let mut values = Vec::new();
    for (column, cell) in cells {
        match cell {
            Value::Array(list) => {
                for value in list {
                    values.push(number(column, value, place)?);
                }
            }
            value => values.push(number(column, value, place)?),
        }
    }
    if let Some([low, high]) = range
        && let Some(outside) = values.iter().find(|v| **v < low || **v > high)
    {
        let message =
            format!("{outside} is outside the declared `range: [{low}, {high}]`: correct the value or the range");
        return Err(place.error(message));
    }
    Ok(values)
}

/// Values of a larger magnitude are refused, so that sums of squared errors stay finite.
const LARGEST: f64 = 1e100;

fn number(column: &str, value: &Value, place: &Place) -> Result<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse::<f64>().ok(),
        _ => None,
    };
    let shown = value.as_str().map_or_else(|| value.to_string(), str::to_string);
    match number.filter(|v| v.is_finite()) {
        Some(number) if number.abs() <= LARGEST => Ok(number),
        Some(_) => Err(place.error(format!(
            "column `{column}` holds `{shown}`; expected a number from -{LARGEST:e} to {LARGEST:e}: use a larger unit"
        ))),
        None => Err(place
            .error(format!("column `{column}` holds `{shown}`; expected a number, or a blank cell for unlabelled"))),
    }
}
