//! Labels in columns of tables: Hugging Face's metadata.jsonl or metadata.csv beside the images, and any CSV with a column
//! of file names. A blank or null cell is *unlabelled*.

use super::table::{Row, Table, metadata_in};
use super::{Raw, RawBox, RawClass, Reading, Remark, Word};
use crate::boxes::{self, Xyxy};
use crate::data::declaration::{BoxFormat, Kind, TaskDeclaration};
use crate::data::listing::{Listed, relative_name};
use crate::data::{Place, count_of, decode, did_you_mean, list_some};
use crate::error::{Error, Result};
use rayon::prelude::*;
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A task's columns in one or several tables, with the row of every image found.
pub struct TableReader {
    tables: Vec<Table>,
    /// Per table, where the task's columns stand; `None` where this table lacks one.
    columns: Vec<Vec<Option<usize>>>,
    /// Per image: table and row.
    matches: Vec<Option<(usize, usize)>>,
    root: PathBuf,
    pub notes: Vec<String>,
}

impl TableReader {
    /// Columns of the metadata tables beside the images: of each image, the nearest folder above it that holds one.
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

    /// Columns of one CSV, its key matched with the path relative to the images or the bare name where that is unique.
    pub fn csv(
        task: &TaskDeclaration,
        file: &Path,
        columns: &[String],
        key: Option<&str>,
        root: &Path,
        images: &[Listed],
    ) -> Result<Self> {
        let table = Table::open(file, key, Some(columns))?;
        let beside = file.parent().unwrap_or(root);
        let find = |image: &Listed| {
            let bases = [root, &*image.folder, beside];
            let mut by_path =
                bases.iter().filter_map(|base| table.by_name.get(relative_name(&image.image, base).as_str()));
            // `images/a.jpg` is meant by `a.jpg` and by `train/a.jpg` alike.
            let below_images = || {
                let inner = ["images/", "JPEGImages/"].iter().find_map(|prefix| image.name.strip_prefix(prefix))?;
                table.by_name.get(inner)
            };
            let bare = || table.by_name.get(bare_name(&image.name));
            by_path.next().or_else(below_images).or_else(bare).map(|row| (0, *row))
        };
        let matches: Vec<Option<(usize, usize)>> = images.par_iter().map(find).collect();
        let mut claimed = vec![0usize; table.rows.len()];
        matches.iter().flatten().for_each(|(_, row)| claimed[*row] += 1);
        // The first in the file, so that the error is the same every time.
        if let Some((row, count)) = claimed.into_iter().enumerate().find(|(_, count)| *count > 1) {
            let Row { line, name, .. } = &table.rows[row];
            let message =
                format!("`{name}` is the name of {count} images: write the path relative to {}", root.display());
            return Err(Error::data(file, Some(*line), message));
        }
        TableReader::new(task, vec![table], columns, matches, root, images)
    }

    fn new(
        task: &TaskDeclaration,
        tables: Vec<Table>,
        columns: &[String],
        matches: Vec<Option<(usize, usize)>>,
        root: &Path,
        images: &[Listed],
    ) -> Result<Self> {
        let find = |table: &Table| -> Vec<Option<usize>> {
            columns.iter().map(|name| table.kept.iter().position(|c| c == name)).collect()
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
        let mut reader = TableReader { tables, columns: places, matches, root: root.to_path_buf(), notes: Vec::new() };
        reader.check_matches(images)?;
        // Every image has its row.
        reader.tables.iter_mut().for_each(|table| table.by_name = HashMap::new());
        Ok(reader)
    }

    /// Rows that name no image are worth a word; a table none of whose rows does is a mistake.
    fn check_matches(&mut self, images: &[Listed]) -> Result<()> {
        let mut used: Vec<Vec<bool>> = self.tables.iter().map(|table| vec![false; table.rows.len()]).collect();
        self.matches.iter().flatten().for_each(|&(t, row)| used[t][row] = true);
        for (t, table) in self.tables.iter().enumerate() {
            let unused: Vec<&Row> =
                table.rows.iter().zip(&used[t]).filter(|(_, used)| !**used).map(|(row, _)| row).collect();
            let Some(first) = unused.first() else {
                continue;
            };
            if unused.len() == table.rows.len() && !images.is_empty() {
                let message = format!(
                    "no row names an image of this data set: `{}` does not match `{}`; write paths relative to the images",
                    first.name, images[0].name
                );
                return Err(Error::data(&table.file, Some(first.line), message));
            }
            self.notes.push(format!(
                "{}: {} no image of this data set (first: line {}, `{}`)",
                relative_name(&table.file, &self.root),
                match unused.len() {
                    1 => "1 row names".to_string(),
                    n => format!("{n} rows name"),
                },
                first.line,
                first.name
            ));
        }
        Ok(())
    }

    pub fn read(&self, task: &TaskDeclaration, index: usize, image: &Listed) -> Result<Reading> {
        let Some((t, r)) = self.matches[index] else {
            return Ok(Reading::of(Raw::Unlabelled, &self.tables[0].file, None));
        };
        let (table, row) = (&self.tables[t], &self.tables[t].rows[r]);
        let cells: Vec<(&str, &Value)> = self.columns[t]
            .iter()
            .map(|at| match at {
                Some(at) => (table.kept[*at].as_str(), &row.cells[*at]),
                None => ("", &Value::Null),
            })
            .collect();
        let place = Place { file: table.file.clone(), line: Some(row.line) };
        let mut reading = Reading::at(Raw::Unlabelled, place);
        let blanks = cells.iter().filter(|(_, value)| value.is_null()).count();
        if blanks > 0 {
            if blanks < cells.len() {
                reading.remarks.push((Remark::PartlyBlank, reading.place.clone()));
            }
            if task.kind != Kind::MultiLabel || blanks == cells.len() {
                return Ok(reading);
            }
        }
        reading.raw = match task.kind {
            Kind::Classify => {
                Raw::Class(RawClass { word: class_word(cells[0].0, cells[0].1, &reading.place)?, line: Some(row.line) })
            }
            Kind::MultiLabel => flags(&cells, &reading.place)?,
            Kind::Regress => Raw::Values(values(&cells, task.range, &reading.place)?),
            Kind::Detect => objects(cells[0].0, cells[0].1, task.box_format, image, &mut reading)?,
        };
        Ok(reading)
    }
}

fn bare_name(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn nearest_metadata(start: &Path, root: &Path, folder: &Path) -> Option<PathBuf> {
    let top = if start.starts_with(root) { root } else { folder };
    start.ancestors().take_while(|dir| dir.starts_with(top)).find_map(metadata_in)
}

fn class_word(column: &str, value: &Value, place: &Place) -> Result<Word> {
    match value {
        Value::String(name) => Ok(Word::Name(name.trim().to_string())),
        Value::Number(number) => Ok(Word::Name(number.to_string())),
        Value::Bool(flag) => Ok(Word::Name(flag.to_string())),
        other => Err(place.error(format!(
            "column `{column}` holds {other}, a class name or number was expected; null is unlabelled"
        ))),
    }
}

/// 0 or 1 a column; or, where the one column holds a list, the names of the classes that are there, or 0 or 1 each.
fn flags(cells: &[(&str, &Value)], place: &Place) -> Result<Raw> {
    let [(column, Value::Array(list))] = cells else {
        return Ok(Raw::Flags(cells.iter().map(|(column, cell)| flag(column, cell, place)).collect::<Result<_>>()?));
    };
    if list.iter().all(Value::is_string) {
        let name = |value: &Value| Ok(RawClass { word: class_word(column, value, place)?, line: place.line });
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
            "column `{column}` holds `{shown}`, 1 (there) or 0 (absent) was expected; a blank cell is unlabelled"
        ))),
    }
}

fn values(cells: &[(&str, &Value)], range: Option<[f32; 2]>, place: &Place) -> Result<Vec<f32>> {
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

fn number(column: &str, value: &Value, place: &Place) -> Result<f32> {
    let number = match value {
        Value::Number(number) => number.as_f64().map(|v| v as f32),
        Value::String(text) => text.trim().parse::<f32>().ok(),
        _ => None,
    };
    let shown = value.as_str().map_or_else(|| value.to_string(), str::to_string);
    number.filter(|v| v.is_finite()).ok_or_else(|| {
        place.error(format!("column `{column}` holds `{shown}`, a number was expected; a blank cell is unlabelled"))
    })
}

/// `{"bbox": [[x, y, w, h], …], "categories": [name or number, …]}`; `category` is accepted too, and `"ignore": [true, …]`
/// marks what is neither taught nor counted.
fn objects(column: &str, value: &Value, format: BoxFormat, image: &Listed, reading: &mut Reading) -> Result<Raw> {
    let parsed;
    let value = match value {
        Value::String(text) => {
            parsed = serde_json::from_str::<Value>(text).unwrap_or(Value::Null);
            &parsed
        }
        other => other,
    };
    let place = reading.place.clone();
    if value.as_array().is_some_and(Vec::is_empty) {
        return Ok(Raw::Boxes(Vec::new()));
    }
    let expected = || {
        place.error(format!(
            "column `{column}` is not a list of boxes: expected {{\"bbox\": [[x, y, w, h], …], \"categories\": [class, …]}}"
        ))
    };
    let boxes = value.get("bbox").and_then(Value::as_array).ok_or_else(expected)?;
    let classes = value.get("categories").or_else(|| value.get("category"));
    let classes = classes.and_then(Value::as_array).ok_or_else(expected)?;
    if boxes.len() != classes.len() {
        let message = format!(
            "column `{column}`: {} but {} categories: one category a box",
            count_of(boxes.len(), "box"),
            classes.len()
        );
        return Err(place.error(message));
    }
    let ignored = value.get("ignore").and_then(Value::as_array);
    let mut size = [1.0f32; 2];
    if format == BoxFormat::CxcywhNormalised && !boxes.is_empty() {
        let Ok([width, height]) = decode::dimensions(&image.image) else {
            reading.remarks.push((Remark::UnreadableImage, Place::new(&image.image, None)));
            return Ok(Raw::Unlabelled);
        };
        size = [width as f32, height as f32];
    }
    let mut found = Vec::with_capacity(boxes.len());
    for (i, (numbers, class)) in boxes.iter().zip(classes).enumerate() {
        let numbers: Option<Vec<f32>> =
            numbers.as_array().and_then(|list| list.iter().map(|v| v.as_f64().map(|v| v as f32)).collect());
        let Some(&[a, b, c, d]) = numbers.as_deref() else {
            return Err(expected());
        };
        let xyxy = to_pixels(format, [a, b, c, d], size);
        if xyxy[2] <= xyxy[0] || xyxy[3] <= xyxy[1] {
            reading.remarks.push((Remark::DegenerateBox, place.clone()));
            continue;
        }
        let word = class_word(column, class, &place)?;
        let ignore = ignored.and_then(|list| list.get(i)).and_then(Value::as_bool).unwrap_or(false);
        found.push(RawBox { class: RawClass { word, line: place.line }, xyxy, ignore });
    }
    Ok(Raw::Boxes(found))
}

fn to_pixels(format: BoxFormat, numbers: [f32; 4], [width, height]: [f32; 2]) -> Xyxy {
    match format {
        BoxFormat::XywhAbsolute => boxes::from_xywh(numbers),
        BoxFormat::XyxyAbsolute => numbers,
        BoxFormat::CxcywhNormalised => {
            let [x1, y1, x2, y2] = boxes::from_cxcywh(numbers);
            [x1 * width, y1 * height, x2 * width, y2 * height]
        }
    }
}
