//! WebDataset: tar archives, called shards, whose files are grouped into samples by their names.

use super::tables::column_kind;
use super::{Splits, declaration, split_folders, task};
use crate::archives;
use crate::data::declaration::{Declaration, LabelsFrom, Source, Split, TaskDeclaration};
use crate::data::formats::samples::{OBJECT, TEXTS, beside, key_of, object_in};
use crate::data::images::decode::is_image;
use crate::data::walk::{self, relative_name};
use crate::error::{Error, Result};
use crate::reading::{count_of, list_some, text};
use crate::tasks::Content;
use rayon::prelude::*;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The number of samples whose labels decide about the tasks.
const EXAMINED: usize = 2000;

/// The shards in a folder or in its folders for the splits; or an archive that is one shard.
pub fn web(root: &Path) -> Result<Option<Declaration>> {
    let Some(splits) = shards(root)? else { return Ok(None) };
    let paths: Vec<&Path> = splits.iter().flatten().map(Source::path).collect();
    if !matches!(holds_samples(paths[0]), Ok(true)) {
        // A tar beside other files may be anything, and folders of classes have their own layout.
        return match is_tar(root) || !holds_only_shards(root)? {
            true => Ok(None),
            false => archives::check(paths[0]).map(|()| None),
        };
    }
    let training: Vec<&Path> = splits[0].iter().map(Source::path).collect();
    let each = EXAMINED.div_ceil(training.len());
    let surveys = training.par_iter().map(|shard| survey(shard, each)).collect::<Result<Vec<_>>>()?;
    paths[training.len()..].par_iter().try_for_each(|shard| archives::check(shard))?;
    let mut found = declaration(root, layout_name(root, &paths), splits.clone(), Vec::new());
    let whole = Survey::joined(surveys);
    found.tasks = whole.tasks(root, paths[0], &mut found.notes)?;
    Ok(Some(found))
}

fn layout_name(root: &Path, shards: &[&Path]) -> String {
    match is_tar(root) {
        true => format!("a WebDataset shard, {}", root.display()),
        false => format!("WebDataset ({}) in {}", count_of(shards.len(), "shard"), root.display()),
    }
}

fn is_tar(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("tar")) && path.is_file()
}

/// The shards of each split; `None` if there is none for training.
///
/// Errors: some names say the split and others do not.
fn shards(root: &Path) -> Result<Option<Splits>> {
    if is_tar(root) {
        return Ok(Some([vec![Source::Folder(root.to_path_buf())], Vec::new(), Vec::new()]));
    }
    if archives::is_member(root) || archives::is_archive(root) {
        return Ok(None);
    }
    let mut splits: Splits = [const { Vec::new() }; 3];
    let here = tars(root)?;
    if here.is_empty() {
        let Some(folders) = split_folders(root)? else { return Ok(None) };
        for (split, sources) in splits.iter_mut().zip(&folders) {
            for source in sources {
                split.extend(tars(source.path())?.into_iter().map(Source::Folder));
            }
        }
        return Ok((!splits[0].is_empty()).then_some(splits));
    }
    let named: Vec<Option<Split>> = here.iter().map(|shard| split_of(shard)).collect();
    if named.iter().any(Option::is_some)
        && let Some(at) = named.iter().position(Option::is_none)
    {
        // Only shards have to be in a split.
        if !matches!(holds_samples(&here[at]), Ok(true)) {
            return Ok(None);
        }
        let message = format!(
            "the name of {} does not say whether it is for training, validation or testing, as those of other shards do: put train, val or test into it, or list the shards in a data.yaml",
            relative_name(&here[at], root)
        );
        return Err(Error::data(root, None, message));
    }
    for (shard, split) in here.into_iter().zip(named) {
        splits[split.unwrap_or(Split::Train) as usize].push(Source::Folder(shard));
    }
    Ok((!splits[0].is_empty()).then_some(splits))
}

/// The tar files directly in a folder; none if it holds images. It stops at the first, because there may be millions.
fn tars(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let path = entry.map_err(Error::io("list", folder))?.path();
        if is_image(&path) {
            return Ok(Vec::new());
        }
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !is_hidden && is_tar(&path) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The split that a word in the shard's name says, as in `imagenet-train-000012.tar`.
fn split_of(shard: &Path) -> Option<Split> {
    let stem = shard.file_stem().unwrap_or_default().to_string_lossy();
    stem.split(|c: char| !c.is_ascii_alphabetic()).find_map(Split::called)
}

/// Whether a folder has neither images nor folders but those of the splits.
fn holds_only_shards(root: &Path) -> Result<bool> {
    let others = walk::entries(root)?.into_iter().any(|(path, is_folder)| match is_folder {
        true => Split::called(&relative_name(&path, root)).is_none() || walk::holds_image(&path).unwrap_or(true),
        false => is_image(&path),
    });
    Ok(!others)
}

/// Whether files of the archive lie beside pictures as the labels of their samples. A `.txt` alone may also hold YOLO's rows.
fn holds_samples(shard: &Path) -> Result<bool> {
    archives::check(shard)?;
    let (mut pictures, mut labels, mut folders) = (0, 0, false);
    let _ = archives::for_each_member(shard, |name| {
        let field = field_of(name);
        folders |= name.contains('/');
        pictures += usize::from(is_image(Path::new(name)));
        labels += usize::from(field == "cls" || field == OBJECT || field == "txt" && !name.contains('/'));
    });
    Ok(pictures > 0 && 2 * labels >= pictures)
}

/// The part of a member's name that is not its key, in lower case.
fn field_of(name: &str) -> String {
    key_of(name.rsplit('/').next().unwrap_or(name)).1.to_ascii_lowercase()
}

/// The labels that samples have.
#[derive(Default)]
struct Survey {
    samples: usize,
    /// The number of samples with each kind of file.
    fields: BTreeMap<String, usize>,
    /// The first sample with two pictures.
    several: Option<[String; 2]>,
    /// The values of some samples, by the name of the label.
    values: BTreeMap<String, Vec<Value>>,
}

/// Looks at all names of a shard and at the labels of `most` samples.
fn survey(shard: &Path, most: usize) -> Result<Survey> {
    let mut found = Survey::default();
    let mut pictures: Vec<String> = Vec::new();
    let (mut last_key, mut last_picture) = (String::new(), String::new());
    archives::check(shard)?;
    let _ = archives::for_each_member(shard, |name| {
        let field = field_of(name);
        // The names are sorted, so that those of a sample follow each other.
        let key = &name[..name.len() - field.len()];
        if key != last_key {
            last_key = key.to_owned();
            last_picture.clear();
        }
        if is_image(Path::new(name)) {
            if !last_picture.is_empty() && found.several.is_none() {
                found.several = Some([last_picture.clone(), name.to_owned()]);
            }
            last_picture = name.to_owned();
            found.samples += 1;
            pictures.push(name.to_owned());
        } else {
            *found.fields.entry(field).or_default() += 1;
        }
    });
    let step = pictures.len().div_ceil(most).max(1);
    for name in pictures.iter().step_by(step) {
        let image = shard.join(name);
        for field in TEXTS.iter().filter(|field| found.fields.contains_key(**field)) {
            if let Ok(text) = text::read(&beside(&image, field))
                && !text.trim().is_empty()
            {
                found.values.entry((*field).into()).or_default().push(Value::String(text.trim().into()));
            }
        }
        if found.fields.contains_key(OBJECT) {
            for (key, value) in object_in(&beside(&image, OBJECT))?.unwrap_or_default() {
                found.values.entry(key).or_default().push(value);
            }
        }
    }
    Ok(found)
}

impl Survey {
    fn joined(surveys: Vec<Survey>) -> Survey {
        let mut whole = Survey::default();
        for one in surveys {
            whole.samples += one.samples;
            whole.several = whole.several.or(one.several);
            one.fields.into_iter().for_each(|(field, count)| *whole.fields.entry(field).or_default() += count);
            one.values.into_iter().for_each(|(name, values)| whole.values.entry(name).or_default().extend(values));
        }
        whole
    }

    /// A task for each kind of label.
    ///
    /// Errors: there is none, or samples have several pictures.
    fn tasks(self, root: &Path, shard: &Path, notes: &mut Vec<String>) -> Result<Vec<TaskDeclaration>> {
        if let Some([one, other]) = &self.several {
            let message = format!(
                "a sample has two pictures, `{one}` and `{other}`: pack the shards with one picture in each sample"
            );
            return Err(Error::data(shard, None, message));
        }
        let unread = |field: &&String| **field != OBJECT && !TEXTS.contains(&field.as_str());
        let unread: Vec<String> = self.fields.keys().filter(unread).map(|field| format!(".{field}")).collect();
        if !unread.is_empty() {
            notes.push(format!(
                "files ending in {} are left out: labels are read from .cls, .txt, .label and .json",
                list_some(&unread, 6)
            ));
        }
        let mut tasks = Vec::new();
        for (name, values) in &self.values {
            let values: Vec<&Value> = values.iter().filter(|value| !value.is_null()).collect();
            let is_text = TEXTS.contains(&name.as_str());
            let kind = match name.as_str() {
                "cls" => Ok(Content::Class),
                // Numbers are those of classes.
                _ if is_text && !values.iter().any(|value| is_rows(value)) => column_kind("label", &values),
                _ if is_text => Err("its texts are rows of numbers".into()),
                _ => column_kind(name, &values),
            };
            let shown = if is_text { format!(".{name}") } else { format!("`{name}` of .json") };
            match kind {
                Ok(kind) => {
                    let own = match name.as_str() {
                        "cls" => "class",
                        "txt" if !self.values.contains_key("label") => "label",
                        other => other,
                    };
                    let mut task = task(root, own, kind, LabelsFrom::Columns(vec![name.clone()]));
                    if kind == Content::Class && is_text {
                        task.names = class_names(root, &values);
                    }
                    tasks.push(task);
                }
                Err(reason) => notes.push(format!(
                    "{shown} left out: {reason}; to use it, declare a task with `from: {name}` in a data.yaml"
                )),
            }
        }
        if tasks.is_empty() {
            let message = format!(
                "none of {} has a label that could be a task{}: labels are read from files with the same key ending in .cls, .txt, .label and .json",
                count_of(self.samples, "sample"),
                if notes.is_empty() { String::new() } else { format!(" ({})", notes.join("; ")) }
            );
            return Err(Error::data(shard, None, message));
        }
        Ok(tasks)
    }
}

/// Whether a text is a row of several numbers, as YOLO writes them.
fn is_rows(value: &Value) -> bool {
    let words: Vec<&str> = value.as_str().unwrap_or_default().split_whitespace().collect();
    words.len() > 4 && words.iter().all(|word| word.parse::<f64>().is_ok())
}

/// The names in classes.txt beside the shards, if the classes are numbers.
fn class_names(root: &Path, values: &[&Value]) -> Option<Vec<String>> {
    let number = |value: &&Value| value.as_str().and_then(|text| text.parse::<usize>().ok());
    let greatest = values.iter().map(number).collect::<Option<Vec<_>>>()?.into_iter().max()?;
    let folder = if is_tar(root) { root.parent()? } else { root };
    let text = text::read(&folder.join("classes.txt")).ok()?;
    let names: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    (greatest < names.len()).then_some(names)
}
