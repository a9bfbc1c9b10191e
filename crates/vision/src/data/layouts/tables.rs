//! Layouts recognised by a table beside the images: Hugging Face's metadata and Roboflow's `_classes.csv`.

use super::{Splits, declaration, line_of, split_folders, task};
use crate::archives;
use crate::data::declaration::{Declaration, LabelFile, LabelsFrom, Source, Split};
use crate::data::formats::table::{CLASSES, Table, image_column};
use crate::data::walk::{self, relative_name};
use crate::error::{Error, Result};
use crate::reading::list_some;
use crate::reading::yaml::scalar;
use crate::tasks::Content;
use serde_json::Value;
use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

const HUGGING_FACE: [&str; 2] = ["metadata.jsonl", "metadata.csv"];

/// A table with more columns that could be tasks is rather one of measurements, of which the user means a few.
pub const MOST_TASKS: usize = 32;
/// A suggested data.yaml names at most this many tasks.
const SUGGESTED_TASKS: usize = 4;

/// The split folders, and the table called one of `names` in the folder of the training images or in `root`.
fn table_beside(root: &Path, names: &[&str]) -> Result<Option<(PathBuf, Splits)>> {
    let splits = split_folders(root)?;
    let splits = splits.unwrap_or_else(|| [vec![Source::Folder(root.to_path_buf())], Vec::new(), Vec::new()]);
    for folder in [splits[0][0].path().to_path_buf(), root.to_path_buf()] {
        let there: Vec<PathBuf> =
            names.iter().map(|name| folder.join(name)).filter(|file| archives::is_file(file)).collect();
        match there.as_slice() {
            [] => {}
            [one] => return Ok(Some((one.clone(), splits))),
            [one, other, ..] => {
                let [a, b] = [one, other].map(|file| relative_name(file, root));
                let message = format!(
                    "{a} and {b} both describe the images: remove one, or name it in a data.yaml as `from: {{csv: {b}, column: …}}`"
                );
                return Err(Error::data(&folder, None, message));
            }
        }
    }
    Ok(None)
}

pub fn metadata(root: &Path) -> Result<Option<Declaration>> {
    let Some((file, splits)) = table_beside(root, &HUGGING_FACE)? else {
        return Ok(None);
    };
    let table = Table::open(&file, None, None)?;
    let mut notes = Vec::new();
    let mut tasks = Vec::new();
    for (i, column) in table.columns.iter().enumerate() {
        if Table::is_key(column) {
            continue;
        }
        if let Some(error) = stray_cell(&table, i) {
            return Err(error);
        }
        match column_kind(column, &table.values(i).collect::<Vec<_>>()) {
            Ok(kind) => tasks.push(task(root, column, kind, LabelsFrom::Columns(vec![column.clone()]))),
            Err(reason) => notes.push(format!(
                "{}: column `{column}` left out: {reason}; to use it, declare a task for it in a data.yaml",
                relative_name(&file, root)
            )),
        }
    }
    if tasks.is_empty() {
        let message =
            "besides the file names, no column could be a task: add one, or a data.yaml with a `tasks:` block";
        return Err(Error::data(&file, Some(1), message));
    }
    if tasks.len() > MOST_TASKS {
        let message = format!(
            "{} columns could be tasks ({}): declare those to train in a data.yaml, as in `{{tasks: {{{}}}}}`",
            tasks.len(),
            list_some(&tasks.iter().map(|task| &task.name).collect::<Vec<_>>(), 3),
            line_of(&tasks[0], root)
        );
        return Err(Error::data(&file, Some(1), message));
    }
    let layout = format!("images with {} in {}", relative_name(&file, root), root.display());
    // A table at the root may name images in any folders.
    let train = splits[0][0].path();
    let classes = if file.starts_with(train) && train != root { walk::folders(train)? } else { Vec::new() };
    if classes.len() > 1 {
        let names: Vec<String> = classes.iter().map(|folder| relative_name(folder, train)).collect();
        notes.push(format!(
            "the folders {} are not used as classes, because there is a metadata table; to use them, add `kind: {{type: {}, from: folders}}` under `tasks:` in a data.yaml",
            list_some(&names, 4),
            Content::Class.kind().yaml_word
        ));
    }
    let mut found = declaration(root, layout, splits, tasks);
    found.notes = notes;
    Ok(Some(found))
}

/// Roboflow's multi-label export: a column of 0 and 1 for each class.
pub fn classes(root: &Path) -> Result<Option<Declaration>> {
    let Some((file, splits)) = table_beside(root, &[CLASSES])? else {
        return Ok(None);
    };
    let table = Table::open(&file, None, None)?;
    let columns: Vec<String> = table.columns.into_iter().filter(|column| !Table::is_key(column)).collect();
    if columns.is_empty() {
        let message = "no column besides the file names: expected a column of 0 and 1 for each class";
        return Err(Error::data(&file, Some(1), message));
    }
    let layout = format!("several labels per image from {} in {}", relative_name(&file, root), root.display());
    let mut files = Vec::new();
    for split in Split::ALL {
        let tables = splits[split as usize].iter().map(|source| source.path().join(CLASSES));
        let split = (splits[0][0].path() != root).then_some(split);
        files.extend(tables.filter(|path| archives::is_file(path)).map(|path| LabelFile { path, split }));
    }
    if files.is_empty() {
        files.push(LabelFile { path: file, split: None });
    }
    let from = LabelsFrom::Csv { files, columns, key: None };
    let tasks = vec![task(root, "labels", Content::Classes, from)];
    Ok(Some(declaration(root, layout, splits, tasks)))
}

/// A data.yaml in one line for `file`, a CSV with a row for each image, and the number of columns that it leaves out because there
/// are many; `None` if it is no such table of these images.
pub fn one_line(root: &Path, file: &str, images: &[PathBuf]) -> Option<(String, usize)> {
    let path = root.join(file);
    if !path.extension().is_some_and(|e| e == "csv" || e == "tsv") {
        return None;
    }
    let (key, table) = match Table::open(&path, None, None) {
        Ok(table) => (None, table),
        Err(_) => {
            let key = image_column(&path)?;
            let table = Table::open(&path, Some(&key), None).ok()?;
            (Some(key), table)
        }
    };
    let key_written = key.as_ref().map_or(String::new(), |key| format!(", key: {}", scalar(key)));
    let is_key = |column: &String| key.as_ref().map_or_else(|| Table::is_key(column), |key| key == column);
    let names: HashSet<&str> = table.rows.iter().map(|row| row.name.rsplit('/').next().unwrap_or(&row.name)).collect();
    let is_named = |image: &PathBuf| {
        let parts = [image.file_name(), image.file_stem()];
        parts.iter().flatten().any(|name| names.contains(&*name.to_string_lossy()))
    };
    // A table about other things may name a few of the images.
    if 2 * images.iter().filter(|image| is_named(image)).count() < images.len() {
        return None;
    }
    let tasks = table.columns.iter().enumerate().filter(|(_, column)| !is_key(column)).filter_map(|(i, column)| {
        let values: Vec<&Value> = table.values(i).collect();
        let content = match stray_cell(&table, i) {
            // Naming the task leads to an error at that cell.
            Some(_) => Content::Values,
            None => column_kind(column, &values).ok()?,
        };
        let content = if content == Content::Values && are_numbered(&values) { Content::Class } else { content };
        let is_plain = content == Content::Values || content == Content::Class;
        let (name, word) = (scalar(column), content.kind().yaml_word);
        is_plain
            .then(|| format!("{name}: {{type: {word}, from: {{csv: {}, column: {name}{key_written}}}}}", scalar(file)))
    });
    let mut tasks: Vec<String> = tasks.collect();
    let left_out = tasks.len().saturating_sub(SUGGESTED_TASKS);
    tasks.truncate(SUGGESTED_TASKS);
    // Without `train:`, a data.yaml takes all images, which is refused where folders of splits are.
    let base =
        ["images", "JPEGImages"].map(|name| walk::folder_in(root, name)).into_iter().find(|dir| archives::is_dir(dir));
    let splits = split_folders(base.as_deref().unwrap_or(root)).ok()?.unwrap_or_default();
    let splits = Split::ALL.into_iter().zip(&splits).filter_map(|(split, sources)| {
        let folder = relative_name(sources.first()?.path(), root);
        Some(format!("{}: {}, ", split.word(), scalar(&folder)))
    });
    let splits: String = splits.collect();
    (!tasks.is_empty()).then(|| (format!("{{{splits}tasks: {{{}}}}}", tasks.join(", ")), left_out))
}

/// Whether these numbers are rather those of classes: a few whole ones, each in several rows.
pub fn are_numbered(values: &[&Value]) -> bool {
    let text = |value: &&Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
    let distinct: BTreeSet<String> = values.iter().map(text).collect();
    distinct.len() <= 10
        && 3 * distinct.len() <= values.len()
        && distinct.iter().all(|text| text.chars().all(|c| c.is_ascii_digit()))
}

/// The error for a column of numbers in which one or two words, such as `n.a.`, stand in place of some: these are neither values
/// nor classes. Columns with more different words are names, such as the ranks of cards.
fn stray_cell(table: &Table, column: usize) -> Option<Error> {
    let name = table.columns[column].as_str();
    if OF_THE_FILE.contains(&name) || OF_CLASSES.contains(&name) {
        return None;
    }
    let values = || table.values(column);
    let (count, numbers) = (values().count(), values().filter(|value| is_number(value)).count());
    if numbers == count || 3 * numbers < 2 * count {
        return None;
    }
    let words: HashSet<String> = values().filter(|value| !is_number(value)).map(ToString::to_string).collect();
    if words.len() > 2 {
        return None;
    }
    let is_stray = |value: &&Value| !value.is_null() && !is_number(value);
    let (line, stray) = table.rows.iter().find_map(|row| Some((row.line, row.cells.get(column).filter(is_stray)?)))?;
    let shown = stray.as_str().map_or_else(|| stray.to_string(), str::to_string);
    let shown: String = shown.chars().take(40).collect();
    let task = scalar(name);
    let message = format!(
        "{numbers} of {count} cells of column `{name}` are numbers, but this one holds `{shown}`: leave the cell blank for an unlabelled image, or declare the tasks in a data.yaml, as in `tasks: {{{task}: {{type: {}, from: {task}}}}}`",
        Content::Class.kind().yaml_word
    );
    Some(Error::data(&table.file, Some(line), message))
}

/// Whether a column of numbers holds a few words that are neither values nor classes.
pub fn has_stray_cell(table: &Table, column: usize) -> bool {
    stray_cell(table, column).is_some()
}

/// Whether a column of this name describes the file and not the picture.
pub fn describes_the_file(column: &str) -> bool {
    OF_THE_FILE.contains(&column)
}

fn is_number(value: &Value) -> bool {
    value.is_number() || value.as_str().is_some_and(|text| text.parse::<f32>().is_ok())
}

/// Columns that describe the file.
const OF_THE_FILE: [&str; 6] = ["id", "image_id", "width", "height", "split", "index"];
/// Columns whose numbers are those of classes.
const OF_CLASSES: [&str; 5] = ["label", "labels", "class", "category", "target"];

/// Guesses the content of an undeclared column: boxes, numbers for regression, or words for classification.
pub fn column_kind(column: &str, values: &[&Value]) -> Result<Content, String> {
    if OF_THE_FILE.contains(&column) {
        return Err("it describes the file, not what is in the picture".into());
    }
    if values.is_empty() {
        return Err("it is blank".into());
    }
    let lists = || values.iter().filter_map(|v| v.as_array());
    let of_objects = lists().any(|list| list.first().is_some_and(Value::is_object));
    let is_text_of_objects = |text: &str| text.starts_with('{') || text.starts_with("[{");
    if of_objects || values.iter().any(|v| v.is_object() || v.as_str().is_some_and(is_text_of_objects)) {
        return Ok(Content::Boxes);
    }
    if lists().count() == values.len() {
        let all = |of: fn(&Value) -> bool| lists().flatten().all(of);
        return match (all(Value::is_string), all(Value::is_number)) {
            (true, _) => Ok(Content::Classes),
            (_, true) => Ok(Content::Values),
            _ => Err("its lists are neither all names nor all numbers".into()),
        };
    }
    if values.iter().all(|value| is_number(value)) && !OF_CLASSES.contains(&column) {
        return Ok(Content::Values);
    }
    let distinct: BTreeSet<String> = values.iter().map(|v| v.to_string()).collect();
    match distinct.len() {
        1 => Err("all its values are the same".into()),
        n if n > 20 && 2 * n > values.len() => Err("nearly every row has a different value, as in free text".into()),
        _ => Ok(Content::Class),
    }
}
