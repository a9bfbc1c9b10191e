//! Messages for folders that cannot be read as they are: what was found there, what was looked for, and what to do.

use super::folders::holds_text;
use super::{Splits, discover, tables, yaml_files};
use crate::archives;
use crate::data::declaration::{Declaration, LabelsFrom, Source, Split};
use crate::data::images::decode::is_image;
use crate::data::images::unread::looks_like_picture;
use crate::data::walk::{self, relative_name};
use crate::error::{Error, Result};
use crate::reading::{count_of, list_some, text};
use crate::tasks::Content;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Names of folders that hold pictures of every class.
const OF_IMAGES: [&str; 8] = ["images", "image", "imgs", "img", "pictures", "pics", "photos", "jpegimages"];

/// The endings of files that may hold labels.
const OF_LABELS: [&str; 6] = ["json", "jsonl", "csv", "tsv", "xml", "parquet"];

/// The error for a folder in which no layout was recognised.
pub fn nothing_known(root: &Path) -> Error {
    if let Some(whole) = whole_set(root) {
        let message = format!(
            "this is only a part of the YOLO data set {0}, which has the images in images/ and the labels in labels/: give the whole set, as in `polyhead train {0}`",
            whole.display()
        );
        return Error::data(root, None, message);
    }
    if let Ok(images) = walk::walk(root)
        && !images.is_empty()
    {
        return without_labels(root, &images);
    }
    if let Ok(unread) = unread_pictures(root)
        && !unread.is_empty()
    {
        let folders: BTreeSet<String> = unread.iter().filter_map(|file| first_folder(file, root)).collect();
        let folders = list_some(&Vec::from_iter(folders), 3);
        let below = if folders.is_empty() { "here".into() } else { format!("below {folders}") };
        let message =
            format!("no image it can read {below}: {}; convert them to JPEG or PNG", count_by_ending(&unread));
        return Error::data(root, None, message);
    }
    let entries = walk::entries(root).unwrap_or_default();
    let names: Vec<String> = entries.iter().map(|(path, _)| relative_name(path, root)).collect();
    if let Some((folder, what)) = walk::own_folders(root).into_iter().next() {
        let message = format!(
            "no image or label that is read, except in {}/, which holds {what} and is read only if it is given itself, as in `polyhead train {}`",
            relative_name(&folder, root),
            folder.display()
        );
        return Error::data(root, None, message);
    }
    let message = if names.is_empty() {
        "the folder is empty: expected images in class folders, images/ + labels/, or a data.yaml".to_string()
    } else {
        format!(
            "no layout recognised (it holds {}): expected class folders (train/<class>/…), images/ + labels/ (YOLO), JPEGImages/ + Annotations/ (VOC), annotations/instances_train2017.json or _annotations.coco.json (COCO), labels/**/det_train.json (BDD100K), a CSV with one row per box, metadata.csv or metadata.jsonl beside the images, or a data.yaml",
            list_some(&names, 6)
        )
    };
    Error::data(root, None, message)
}

/// The YOLO data set of which `root` holds only images or only labels: `X` for `X/images`, `X/images/train` and
/// `X/train/images`.
pub fn whole_set(root: &Path) -> Option<PathBuf> {
    let real = root.canonicalize().ok()?;
    let is_part = |folder: &Path| {
        folder
            .file_name()
            .is_some_and(|name| name.eq_ignore_ascii_case("images") || name.eq_ignore_ascii_case("labels"))
    };
    let depth = real.ancestors().take(3).position(is_part)?;
    let base = real.ancestors().nth(depth + 1)?;
    if walk::folder_called(base, "images").is_none() || !holds_text(&walk::folder_in(base, "labels")) {
        return None;
    }
    let is_split = base.file_name().is_some_and(|name| Split::called(&name.to_string_lossy()).is_some());
    let of_splits =
        |above: &&Path| is_split && above.join("train/images").is_dir() && above.join("train/labels").is_dir();
    let above = base.parent().filter(of_splits);
    let levels = depth + 1 + usize::from(above.is_some());
    let whole = above.unwrap_or(base);
    // The path as the user would write it, unless links lead elsewhere.
    let written = (0..levels).fold(root.to_path_buf(), |at, _| one_up(&at));
    Some(if written.canonicalize().is_ok_and(|at| at == whole) { written } else { whole.to_path_buf() })
}

/// A note for a folder that has another layout, too, but lies in a YOLO data set.
pub fn part_note(root: &Path) -> Option<String> {
    whole_set(root).map(|whole| {
        format!(
            "{0} is a YOLO data set of which this folder is only a part; to train on its boxes, run `polyhead train {0}`",
            whole.display()
        )
    })
}

/// The error for a folder, read as `found`, that a YAML file one level up declares as the images of one split. A folder with
/// validation images of its own, or without those of another split, may be used as it is.
pub fn part_of_declared(root: &Path, found: &Declaration) -> Option<Error> {
    if !found.splits[Split::Val as usize].is_empty() {
        return None;
    }
    let above = one_up(root);
    let whole = yaml_files::read(&above, &[], |_| 0).ok().flatten()?;
    let real = root.canonicalize().ok()?;
    // The file may also lie beside the folder of the whole data set.
    if whole.root.canonicalize().is_ok_and(|at| at == real) {
        return None;
    }
    let is_within = |source: &Source| match source {
        Source::Folder(folder) => archives::canonicalize(folder).is_ok_and(|at| at.starts_with(&real)),
        Source::List(_) | Source::Labels(_) => false,
    };
    let of_split = |split: &Split| whole.splits[*split as usize].iter();
    let split = Split::ALL.into_iter().find(|split| of_split(split).any(is_within))?;
    Split::ALL.iter().find(|other| **other != split && of_split(other).any(|source| !is_within(source)))?;
    let message = format!(
        "this is only the {} split of the data set that {} declares: give the whole set, as in `polyhead train {}`",
        split.word(),
        whole.place.file.display(),
        above.display()
    );
    Some(Error::data(root, None, message))
}

/// The pictures below `folder` in formats that are not read.
fn unread_pictures(folder: &Path) -> Result<Vec<PathBuf>> {
    walk::files(folder, &|path| !is_image(path) && looks_like_picture(path))
}

/// The folder directly in `root` that holds `file`, as `a/`; `None` if `file` lies in `root` itself.
fn first_folder(file: &Path, root: &Path) -> Option<String> {
    let below = file.strip_prefix(root).ok()?;
    let mut parts = below.components();
    let first = parts.next()?;
    parts.next().map(|_| format!("{}/", first.as_os_str().to_string_lossy()))
}

/// `6 .HEIC files, 1 .avif file`.
fn count_by_ending(files: &[PathBuf]) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for file in files {
        *counts.entry(file.extension().unwrap_or_default().to_string_lossy().into_owned()).or_default() += 1;
    }
    let each = counts.iter().map(|(ending, count)| count_of(*count, &format!(".{ending} file")));
    each.collect::<Vec<_>>().join(", ")
}

/// Whether a file may hold labels: by its ending, or a text that begins with a number, as YOLO's do.
pub fn may_be_labels(path: &Path) -> bool {
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    let begins_with_number = || {
        let mut first = [0];
        let read = text::open(path).and_then(|mut file| file.read_exact(&mut first));
        read.is_ok() && first[0].is_ascii_digit()
    };
    OF_LABELS.contains(&ending.as_str()) || yaml_files::is_yaml(path) || (ending == "txt" && begins_with_number())
}

fn one_up(path: &Path) -> PathBuf {
    match (path.file_name(), path.parent()) {
        (Some(_), Some(parent)) if parent.as_os_str().is_empty() => PathBuf::from("."),
        (Some(_), Some(parent)) => parent.to_path_buf(),
        _ if path == Path::new(".") => PathBuf::from(".."),
        _ => path.join(".."),
    }
}

/// Explains why the only class folder, `class` in the folder `train`, is no class: it holds the class folders, or all
/// images without labels. `None` if it may be a class.
pub fn only_class(root: &Path, splits: Option<&Splits>, train: &Path, class: &str) -> Result<Option<Error>> {
    if let Some(holder) = lower_folders(&train.join(class))?
        && let Ok(Some(lower)) = discover(&holder, &[], 0, |_| 0)
    {
        let by_folder = lower.tasks.first().filter(|task| task.from == LabelsFrom::Folders);
        let what = match by_folder.and_then(|task| task.names.as_ref()) {
            Some(names) => {
                format!("if the classes are those of {}/ ({})", relative_name(&holder, root), list_some(names, 6))
            }
            None => format!("if you mean {}", lower.layout),
        };
        let then = match splits {
            None => format!("run `polyhead train {}`", holder.display()),
            Some(splits) => {
                format!("add a data.yaml here with the line `{}`", lower_splits(root, splits, train, &holder))
            }
        };
        let message = format!(
            "all images are below {}/, which would be the only class; {what}, {then}",
            relative_name(&train.join(class), root)
        );
        return Ok(Some(Error::data(root, None, message)));
    }
    if !OF_IMAGES.contains(&class.to_lowercase().as_str()) {
        return Ok(None);
    }
    Ok(Some(without_labels(root, &walk::walk(root)?)))
}

/// The first folder, from `folder` down, that holds several folders of images; `None` if images lie directly in it or
/// above.
fn lower_folders(folder: &Path) -> Result<Option<PathBuf>> {
    let mut inner = Vec::new();
    for (path, is_folder) in walk::entries(folder)? {
        if !is_folder && is_image(&path) {
            return Ok(None);
        }
        if is_folder && walk::holds_image(&path)? {
            inner.push(path);
        }
    }
    match &inner[..] {
        [] => Ok(None),
        [one] => lower_folders(one),
        _ => Ok(Some(folder.to_path_buf())),
    }
}

/// A data.yaml for class folders that lie as far below each split's folder as `holder` lies below `train`.
fn lower_splits(root: &Path, splits: &Splits, train: &Path, holder: &Path) -> String {
    let below = holder.strip_prefix(train).unwrap_or(holder);
    let lines = Split::ALL.iter().filter_map(|split| {
        let folder = splits[*split as usize].first()?.path().join(below);
        archives::is_dir(&folder).then(|| format!("{}: {}, ", split.word(), relative_name(&folder, root)))
    });
    let word = Content::Class.kind().yaml_word;
    format!("{{{}tasks: {{class: {{type: {word}, from: folders}}}}}}", lines.collect::<String>())
}

fn without_labels(root: &Path, images: &[PathBuf]) -> Error {
    let names: Vec<String> = images.iter().take(3).map(|image| relative_name(image, root)).collect();
    let more = if images.len() > names.len() { ", …" } else { "" };
    let mut others = Vec::new();
    label_files(root, root, 2, &mut others);
    let found = format!("{} found ({}{more})", count_of(images.len(), "image"), names.join(", "));
    if let Some((table, (line, left_out))) =
        others.iter().find_map(|file| Some((file, tables::one_line(root, file, images)?)))
    {
        let [number, class] = [Content::Values, Content::Class].map(|content| content.kind().yaml_word);
        let more = match left_out {
            0 => String::new(),
            n => format!("; the table has {} more, which can be declared in the same way", count_of(n, "column")),
        };
        let message = format!(
            "{found}, and {table} has rows for them, but nothing says what its columns are: add a data.yaml here with the line `{line}`, where the type of numbers is {number} and that of classes is {class}{more}"
        );
        return Error::data(root, None, message);
    }
    let others = match others.is_empty() {
        true => String::new(),
        false => format!(" (not recognised as labels: {})", list_some(&others, 3)),
    };
    let message = format!(
        "{found}, but no labels for them: looked for .txt files in labels/ (YOLO), .xml files in Annotations/ (VOC), COCO or BDD100K .json files, a .csv file with one row per box, metadata.csv, metadata.jsonl, and a folder for each class{others}; add one of these, or a data.yaml that says where the labels are"
    );
    Error::data(root, None, message)
}

/// Adds the names of up to four files that look like labels to `found`.
fn label_files(root: &Path, folder: &Path, depth: usize, found: &mut Vec<String>) {
    for (path, is_folder) in walk::entries(folder).unwrap_or_default() {
        let may_hold = |path: &Path| {
            let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
            // A text file directly in the data set is more likely a readme.
            OF_LABELS.contains(&ending.as_str()) || (ending == "txt" && folder != root)
        };
        if found.len() > 3 {
            return;
        } else if is_folder && depth > 0 {
            label_files(root, &path, depth - 1, found);
        } else if !is_folder && may_hold(&path) {
            found.push(relative_name(&path, root));
        }
    }
}
