//! Darknet's declaration of a data set: `obj.data` with the lists of images, and the file with the names of the classes.

use super::{declaration, task};
use crate::archives;
use crate::data::declaration::{Declaration, LabelsFrom, Source, YoloRows};
use crate::data::walk::{self, relative_name};
use crate::error::{Error, Result};
use crate::reading::{Place, count_of, text};
use crate::tasks::Content;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The `key = value` lines of a file, each with its line.
type Keys = HashMap<String, (usize, String)>;

/// Reads the only `.data` file in `root` or in one of the usual folders below it; `None` if there is none.
///
/// Errors: there are several, or a file that it names is not there.
pub fn read(root: &Path) -> Result<Option<Declaration>> {
    let mut found = Vec::new();
    for folder in ["", "data", "cfg"].map(|name| root.join(name)).iter().filter(|folder| archives::is_dir(folder)) {
        for (path, is_folder) in walk::entries(folder)? {
            if !is_folder
                && path.extension().is_some_and(|e| e == "data")
                && let Some(keys) = keys_of(&path)
            {
                found.push((path, keys));
            }
        }
    }
    match &found[..] {
        [] => Ok(None),
        [(file, keys)] => declared(root, file, keys).map(Some),
        several => {
            let names: Vec<String> = several.iter().map(|(file, _)| relative_name(file, root)).collect();
            let message = format!(
                "{} each declare a data set: keep one, or write a data.yaml with `train:`, `val:` and `names:`",
                names.join(" and ")
            );
            Err(Error::data(root, None, message))
        }
    }
}

/// The keys of a file that names training images and classes; `None` for any other file.
fn keys_of(file: &Path) -> Option<Keys> {
    let text = text::read(file).ok()?;
    let pair = |(i, line): (usize, &str)| {
        let (key, value) = line.split('#').next()?.split_once('=')?;
        Some((key.trim().to_ascii_lowercase(), (i + 1, value.trim().to_owned())))
    };
    let keys: Keys = text.lines().enumerate().filter_map(pair).collect();
    (keys.contains_key("train") && keys.contains_key("names")).then_some(keys)
}

fn declared(root: &Path, file: &Path, keys: &Keys) -> Result<Declaration> {
    let missing = |key: &str| {
        let (line, written) = &keys[key];
        let message = format!(
            "`{key} = {written}` is not there (looked in {} and beside this file): correct the path",
            root.display()
        );
        Place::new(file, Some(*line)).error(message)
    };
    let existing = |key: &str| keys.get(key).and_then(|(_, written)| resolve(root, file, written));
    let names = existing("names").ok_or_else(|| missing("names"))?;
    let train = existing("train").ok_or_else(|| missing("train"))?;
    let text = text::read(&names).map_err(Error::io("read", &names))?;
    let classes: Vec<String> = text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_string).collect();
    if let Some((line, written)) = keys.get("classes")
        && written.parse() != Ok(classes.len())
    {
        let message = format!(
            "`classes = {written}`, but {} has {}: make them agree",
            relative_name(&names, root),
            count_of(classes.len(), "name")
        );
        return Err(Place::new(file, Some(*line)).error(message));
    }
    let mut splits = [vec![source(train)], Vec::new(), Vec::new()];
    let mut notes = Vec::new();
    if let Some(key) = ["valid", "val", "test"].into_iter().find(|key| keys.contains_key(*key)) {
        match existing(key) {
            Some(list) => splits[1].push(source(list)),
            // Exports of a single list often name a second one that they do not have.
            None => notes.push(format!(
                "{}: `{key} = {}` is not there, so some of the training images validate",
                relative_name(file, root),
                keys[key].1
            )),
        }
    }
    let from = LabelsFrom::Yolo { dir: None, rows: YoloRows::BoxesOrPolygons };
    let mut objects = task(root, "objects", Content::Boxes, from);
    objects.names = Some(classes);
    let layout = format!("Darknet ({}) in {}", relative_name(file, root), root.display());
    let mut found = declaration(root, layout, splits, vec![objects]);
    found.notes = notes;
    found.place = Place::new(file, None);
    Ok(found)
}

fn source(path: PathBuf) -> Source {
    if archives::is_dir(&path) { Source::Folder(path) } else { Source::List(path) }
}

/// The file or folder that a path leads to from the folder of the data set or of the file. Darknet resolves paths from the folder it is started
/// in, so the first parts may be missing here.
fn resolve(root: &Path, file: &Path, written: &str) -> Option<PathBuf> {
    let written = written.replace('\\', "/");
    let parts: Vec<&str> = written.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let folders = [root, file.parent().unwrap_or(root)];
    let whole = folders.iter().map(|folder| folder.join(&written)).find(|path| path.exists());
    whole.or_else(|| {
        let ends = (1..parts.len()).map(|skipped| parts[skipped..].join("/"));
        ends.flat_map(|end| folders.map(|folder| folder.join(&end))).find(|path| path.exists())
    })
}
