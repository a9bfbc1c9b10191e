//! Layouts recognised by CSV files with one row per image and their labels in columns, as in Kaggle's `train.csv`: the images
//! are those that the rows name, with or without the ending of the file.

use super::{Splits, declaration, folders, split_folders, tables, task};
use crate::archives;
use crate::data::declaration::{Declaration, LabelFile, LabelsFrom, Source, Split};
use crate::data::formats::is_box_rows;
use crate::data::formats::table::{Table, columns_of};
use crate::data::walk::{self, relative_name};
use crate::error::Result;
use crate::reading::list_some;
use crate::reading::yaml::scalar;
use crate::tasks::Content;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

/// A table of labels, and its column of images if that has another name than usual.
struct Labels {
    file: PathBuf,
    split: Option<Split>,
    key: Option<String>,
    table: Table,
}

/// The words in names of files that hold no labels: Kaggle's examples of an answer, and names of classes.
const NO_LABELS: [&str; 3] = ["submission", "class-descriptions", "classes"];

/// Words in the names of folders that sort images without being classes.
const NO_CLASSES: [&str; 8] = ["image", "img", "photo", "pic", "train", "test", "val", "label"];

/// `None` if nothing says what the columns of a table mean, or if class folders say it already.
pub fn read(root: &Path) -> Result<Option<Declaration>> {
    let candidates = candidates(root)?;
    if candidates.is_empty() || has_class_folders(root)? {
        return Ok(None);
    }
    let images = walk::walk(root)?;
    let mut names: HashSet<String> = HashSet::with_capacity(2 * images.len());
    for image in &images {
        for part in [image.file_name(), image.file_stem()].into_iter().flatten() {
            names.insert(part.to_string_lossy().into_owned());
        }
    }
    let tables: Vec<Labels> = candidates.into_iter().filter_map(|file| labels(file, &names)).collect();
    let Some(tables) = chosen(tables) else {
        return Ok(None);
    };
    let Some(Columns { tasks, notes }) = columns(&tables, root) else {
        return Ok(None);
    };
    let files: Vec<LabelFile> =
        tables.iter().map(|one| LabelFile { path: one.file.clone(), split: one.split }).collect();
    let key = tables[0].key.clone();
    let shown: Vec<String> = files.iter().map(|file| relative_name(&file.path, root)).collect();
    let meaning: Vec<String> =
        tasks.iter().map(|(name, content, _)| format!("{} as {}", scalar(name), content.kind().title)).collect();
    let layout = format!(
        "CSV with one row per image ({}: {}) in {}",
        list_some(&shown, 3),
        list_some(&meaning, 6),
        root.display()
    );
    let declared = tasks.into_iter().map(|(name, content, columns)| {
        let from = LabelsFrom::Csv { files: files.clone(), columns, key: key.clone() };
        task(root, &name, content, from)
    });
    let mut found = declaration(root, layout, splits_of(root, &files)?, declared.collect());
    found.notes = notes;
    Ok(Some(found))
}

/// Tables in the root that may hold labels.
fn candidates(root: &Path) -> Result<Vec<PathBuf>> {
    let entries = walk::entries(root)?.into_iter();
    let is_table = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let ends = name.ends_with(".csv") || name.ends_with(".tsv");
        ends && !NO_LABELS.iter().any(|word| name.contains(word)) && !is_box_rows(path)
    };
    Ok(entries.filter(|(_, is_folder)| !is_folder).map(|(path, _)| path).filter(is_table).collect())
}

/// Whether the images lie in folders whose names may be classes.
fn has_class_folders(root: &Path) -> Result<bool> {
    let splits = split_folders(root)?;
    let train = splits.as_ref().map_or(root, |splits| splits[0][0].path());
    let is_class = |name: &&String| {
        let name = name.to_lowercase();
        !NO_CLASSES.iter().any(|word| name.contains(word))
    };
    Ok(folders::class_names(train)?.iter().filter(is_class).count() > 1)
}

/// The table in `file`, if at least half of its rows name one of the images.
fn labels(file: PathBuf, names: &HashSet<String>) -> Option<Labels> {
    let is_image = |cell: &str| {
        let bare = cell.rsplit(['/', '\\']).next().unwrap_or(cell);
        names.contains(bare)
    };
    let count = |table: &Table| table.rows.iter().filter(|row| is_image(&row.name)).count();
    let usual = Table::open(&file, None, None).ok().map(|table| (None, table));
    let (key, table) = usual.filter(|(_, table)| 2 * count(table) >= table.rows.len()).or_else(|| {
        // The column of which most cells name an image.
        let of_images = columns_of(&file, 50)?.into_iter().map(|(column, cells)| {
            let named = cells.iter().filter(|cell| is_image(cell.as_str())).count();
            (named, 2 * named >= cells.len(), column)
        });
        let (named, is_most, column) = of_images.rev().max_by_key(|(named, ..)| *named)?;
        let table = Table::open(&file, Some(&column), None).ok().filter(|_| is_most && named > 0)?;
        Some((Some(column), table))
    })?;
    // Several rows that differ describe something else than the whole image.
    let is_one_each = 10 * table.wrong.len() <= table.rows.len();
    let is_labelled = !table.rows.is_empty() && 2 * count(&table) >= table.rows.len() && is_one_each;
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let split = stem.split(|c: char| !c.is_alphanumeric()).find_map(Split::called);
    is_labelled.then_some(Labels { file, split, key, table })
}

/// The tables of the splits if there is one for training, `labels.csv`, or the only table.
fn chosen(mut tables: Vec<Labels>) -> Option<Vec<Labels>> {
    let is_label = |one: &Labels| !label_columns(one).is_empty();
    tables.retain(is_label);
    let trains = tables.iter().filter(|one| one.split == Some(Split::Train)).count();
    if trains == 1 {
        let (columns, key) = tables
            .iter()
            .find(|one| one.split == Some(Split::Train))
            .map(|one| (label_columns(one), one.key.clone()))?;
        tables.retain(|one| one.split.is_some() && one.key == key && label_columns(one) == columns);
        tables.sort_by_key(|one| one.split.map(|split| split as usize));
        let is_twice = tables.windows(2).any(|pair| pair[0].split == pair[1].split);
        return (!is_twice).then_some(tables);
    }
    if tables.len() > 1 {
        tables.retain(|one| one.file.file_stem().is_some_and(|stem| stem == "labels"));
    }
    let mut only = tables.pop().filter(|_| tables.is_empty())?;
    only.split = None;
    Some(vec![only])
}

/// The columns besides that of the images.
fn label_columns(labels: &Labels) -> Vec<String> {
    let is_key = |name: &&String| labels.key.as_ref().map_or_else(|| Table::is_key(name), |key| key == *name);
    labels.table.columns.iter().filter(|name| !is_key(name)).cloned().collect()
}

/// The tasks, each with its name, its content and its columns, and notes about what is left out.
struct Columns {
    tasks: Vec<(String, Content, Vec<String>)>,
    notes: Vec<String>,
}

/// The tasks that the columns hold; `None` if that is not clear.
fn columns(tables: &[Labels], root: &Path) -> Option<Columns> {
    let first = &tables[0];
    let shown = relative_name(&first.file, root);
    let names = label_columns(first);
    let mut notes = Vec::new();
    let of_labels: Vec<&String> = names.iter().filter(|name| !tables::describes_the_file(name)).collect();
    if of_labels.len() > 1 && of_labels.iter().all(|name| are_flags(&values(&first.table, name))) {
        let columns: Vec<String> = of_labels.into_iter().cloned().collect();
        return Some(Columns { tasks: vec![("labels".to_owned(), Content::Classes, columns)], notes });
    }
    let key = first.key.as_ref().map_or(String::new(), |key| format!(", key: {}", scalar(key)));
    let mut tasks = Vec::new();
    for name in &names {
        let values = values(&first.table, name);
        if place(&first.table, name).is_none_or(|at| tables::has_stray_cell(&first.table, at)) {
            return None;
        }
        let kind = if are_tags(&values) { Ok(Content::Classes) } else { tables::column_kind(name, &values) };
        match kind {
            Ok(Content::Boxes) => return None,
            Ok(content) => {
                if content == Content::Values && tables::are_numbered(&values) {
                    notes.push(format!(
                        "{shown}: the numbers in `{name}` are read as values, not as classes; if they are classes, add a data.yaml with `tasks: {{{0}: {{type: {1}, from: {{csv: {2}, column: {0}{key}}}}}}}`",
                        scalar(name),
                        Content::Class.kind().yaml_word,
                        scalar(&shown)
                    ));
                }
                tasks.push((name.clone(), content, vec![name.clone()]));
            }
            Err(reason) => notes.push(format!(
                "{shown}: column `{name}` left out: {reason}; to use it, declare a task for it in a data.yaml"
            )),
        }
    }
    (!tasks.is_empty() && tasks.len() <= tables::MOST_TASKS).then_some(Columns { tasks, notes })
}

fn place(table: &Table, column: &str) -> Option<usize> {
    table.columns.iter().position(|name| name == column)
}

/// The cells of a column that are not blank.
fn values<'a>(table: &'a Table, column: &str) -> Vec<&'a Value> {
    place(table, column).map_or(Vec::new(), |at| table.values(at).collect())
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

/// Whether all cells are 0 or 1, and both are there.
fn are_flags(values: &[&Value]) -> bool {
    let distinct: BTreeSet<String> = values.iter().map(|value| text(value)).collect();
    let is_flag = |word: &String| ["0", "1", "0.0", "1.0"].contains(&word.as_str());
    !distinct.is_empty() && distinct.iter().all(is_flag)
}

/// Whether the cells are several words each from a small vocabulary. Words of one name, such as `golden retriever`, stand
/// together; words of a vocabulary are combined anew, in different numbers, and nearly every one of them occurs again.
fn are_tags(values: &[&Value]) -> bool {
    let cells: BTreeSet<String> = values.iter().map(|value| text(value)).collect();
    let mut occurrences: BTreeMap<&str, usize> = BTreeMap::new();
    let mut counts = BTreeSet::new();
    for cell in &cells {
        let words: BTreeSet<&str> = words_of(cell).collect();
        counts.insert(words.len());
        words.into_iter().for_each(|word| *occurrences.entry(word).or_default() += 1);
    }
    let repeated = occurrences.values().filter(|count| **count > 1).count();
    let is_word = |word: &&str| word.parse::<f64>().is_err();
    counts.len() > 1
        && occurrences.len() <= 1_000
        && cells.len() > occurrences.len()
        && 10 * repeated >= 9 * occurrences.len()
        && occurrences.keys().all(is_word)
}

/// The words of a cell, which may be separated by blanks, commas, semicolons or bars.
fn words_of(cell: &str) -> impl Iterator<Item = &str> {
    cell.split(|c: char| c.is_whitespace() || ",;|".contains(c)).filter(|word| !word.is_empty())
}

/// The images of each split: those that its table names, or those of the folders if one table is for all.
fn splits_of(root: &Path, files: &[LabelFile]) -> Result<Splits> {
    let mut splits = [const { Vec::new() }; 3];
    for file in files {
        let Some(split) = file.split else {
            let images = root.join("images");
            let base = if archives::is_dir(&images) { images } else { root.to_path_buf() };
            let whole = || [vec![Source::Folder(base.clone())], Vec::new(), Vec::new()];
            return Ok(split_folders(&base)?.unwrap_or_else(whole));
        };
        splits[split as usize].push(Source::Labels(file.path.clone()));
    }
    Ok(splits)
}
