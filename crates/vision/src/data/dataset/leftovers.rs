//! Says what is left over below a data set: pictures, label files and folders that are not used, each in a sentence. Where class
//! folders were only guessed, label files that would not be read stop it.

use super::account::{Account, Few, MayBeLabels};
use super::known::Known;
use crate::archives;
use crate::data::declaration::{Declaration, GroupedBy, LabelsFrom, Source};
use crate::data::formats::{Listed, is_box_rows, json_kind};
use crate::data::forms::Files;
use crate::data::layouts;
use crate::data::walk::{Ignored, relative_name};
use crate::error::{Error, Result};
use crate::reading::{Reading, Remark, count_of, list_some, text};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// This many files of one folder and ending are opened to see whether they hold labels.
const LOOKED_AT: usize = 8;

/// The label files that were read.
#[derive(Default)]
pub struct LabelFiles {
    /// Those with the labels of one image, which are named after it.
    of_images: Known,
    /// Those with the labels of many images, and lists of images.
    of_sets: Known,
    last: Option<Arc<Path>>,
}

impl LabelFiles {
    /// Adds the files that the declaration names.
    pub fn add_declared(&mut self, declared: &Declaration) {
        let files = self;
        for source in declared.splits.iter().flatten() {
            // A folder is not among the files, but an archive is, and a table that holds its images.
            files.of_sets.add(source.path());
        }
        for from in declared.tasks.iter().map(|task| &task.from).chain(of_group(declared)) {
            match from {
                LabelsFrom::Csv { files: named, .. }
                | LabelsFrom::Coco { files: named }
                | LabelsFrom::Bdd { files: named, .. } => named.iter().for_each(|file| files.of_sets.add(&file.path)),
                LabelsFrom::BoxRows { files: named } => {
                    named.iter().for_each(|file| files.of_sets.add(&file.path));
                    files.of_sets.add(&declared.root.join("classes.csv"));
                }
                // The tables lie beside the images, whose labels name them; a column for groups alone has no labels.
                LabelsFrom::Columns(_) => {
                    for source in declared.splits.iter().flatten().map(Source::path).chain([&*declared.root]) {
                        ["metadata.csv", "metadata.jsonl"]
                            .iter()
                            .for_each(|name| files.of_sets.add(&source.join(name)));
                    }
                }
                LabelsFrom::Form { form, files: named, .. } if form.files == Files::OfManyImages => {
                    named.iter().for_each(|file| files.of_sets.add(&file.path));
                }
                LabelsFrom::Folders | LabelsFrom::Yolo { .. } | LabelsFrom::Voc { .. } | LabelsFrom::Form { .. } => {}
            }
        }
    }

    /// Adds the files that the labels of a task came from.
    pub fn add_read(&mut self, readings: &[Reading], images: &[Listed]) {
        for (reading, image) in readings.iter().zip(images) {
            let file = &reading.place.file;
            let is_again = self.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, file));
            let is_absent = reading.remarks.iter().any(|(remark, _)| *remark == Remark::NoLabelFile);
            if is_again || is_absent || **file == *image.image {
                continue;
            }
            self.last = Some(file.clone());
            match file.file_stem() == image.image.file_stem() {
                true => self.of_images.add(file),
                false => self.of_sets.add(file),
            }
        }
    }
}

/// The source of the column by which images are grouped.
fn of_group(declared: &Declaration) -> Option<&LabelsFrom> {
    match &declared.group.as_ref()?.by {
        GroupedBy::Column(task) => Some(&task.from),
        GroupedBy::Name(_) => None,
    }
}

/// Label files that were not used.
#[derive(Default)]
pub struct LabelsLeft {
    /// Those that were not read, by ending.
    pub unread: BTreeMap<&'static str, Few>,
    /// Of the unread ones: those that look like labels of one image each, by ending.
    pub of_images: BTreeMap<&'static str, Few>,
    /// Of the unread ones: those that may hold the labels of many images.
    pub of_sets: Vec<PathBuf>,
}

/// Finds the label files that were not used.
pub fn labels_left(account: &mut Account, read: &LabelFiles) -> LabelsLeft {
    let mut left = LabelsLeft::default();
    for found in std::mem::take(&mut account.labels) {
        let MayBeLabels { folder, real, ending, names } = found;
        let is_read = |name: &OsStr| read.of_images.has(real, name) || read.of_sets.has(real, name);
        // What lies among label files of single images that were read belongs to no image, which is said with the task.
        if names.iter().any(|name| read.of_images.has(real, name)) {
            continue;
        }
        let mut rest: Vec<&OsStr> = names.iter().map(AsRef::as_ref).filter(|name| !is_read(name)).collect();
        rest.sort_unstable();
        if ending == "txt" {
            rest.retain(|name| !is_no_labels(name));
        }
        if !matches!(ending, "txt" | "xml" | "json") {
            for name in rest {
                left.unread.entry(ending).or_default().add(&folder, name);
                left.of_sets.push(folder.join(name));
            }
            continue;
        }
        let like = looks_like_labels(&folder, ending, &rest);
        for name in rest {
            let is_set = ending == "json" && json_kind(&folder.join(name)).is_some();
            if is_set {
                left.of_sets.push(folder.join(name));
            }
            if like || ending == "json" {
                left.unread.entry(ending).or_default().add(&folder, name);
                if like && !is_set {
                    left.of_images.entry(ending).or_default().add(&folder, name);
                }
            }
        }
    }
    left.of_sets.sort_unstable();
    left
}

/// Text files that lie beside labels and hold none.
fn is_no_labels(name: &OsStr) -> bool {
    let name = name.to_string_lossy().to_ascii_lowercase();
    ["classes", "readme", "license", "requirements", "notes"].iter().any(|start| name.starts_with(start))
}

/// Whether at least half of the first files look like labels of one image each.
fn looks_like_labels(folder: &Path, ending: &str, names: &[&OsStr]) -> bool {
    let first = &names[..names.len().min(LOOKED_AT)];
    let like = first.iter().filter(|name| is_like_labels(&folder.join(name), ending)).count();
    like > 0 && 2 * like >= first.len()
}

fn is_like_labels(file: &Path, ending: &str) -> bool {
    let mut start = Vec::new();
    if text::open(file).and_then(|file| file.take(1 << 14).read_to_end(&mut start)).is_err() {
        return false;
    }
    let start = String::from_utf8_lossy(&start);
    let has_any = |words: &[&str]| words.iter().any(|word| start.contains(word));
    match ending {
        "xml" => has_any(&["<annotation"]),
        "json" => {
            has_any(&["\"shapes\"", "\"bbox\"", "\"annotations\"", "\"regions\"", "\"boundingBox\"", "\"polygon\""])
        }
        _ => {
            let line = start.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
            let words: Vec<&str> = line.split_whitespace().collect();
            let numbers = words.iter().filter(|word| word.parse::<f32>().is_ok()).count();
            numbers >= 5 && numbers + 1 >= words.len()
        }
    }
}

/// The error about class folders of which no picture can be read.
pub fn lost_classes(account: &Account, declared: &Declaration, images: &[Listed]) -> Option<Error> {
    if account.unread.is_empty() || !declared.tasks.iter().any(|task| task.from == LabelsFrom::Folders) {
        return None;
    }
    let class_folder = |folder: &Path| {
        let sources = declared.splits.iter().flatten().filter(|source| matches!(source, Source::Folder(_)));
        let below =
            sources.filter_map(|source| Some((source.path(), folder.strip_prefix(source.path()).ok()?))).next_back();
        let (source, below) = below?;
        below.components().next().map(|first| source.join(first))
    };
    let mut lost: BTreeMap<PathBuf, BTreeMap<&str, usize>> = BTreeMap::new();
    for ((folder, ending), few) in &account.unread {
        if let Some(class) = class_folder(folder) {
            *lost.entry(class).or_default().entry(ending).or_default() += few.count;
        }
    }
    let mut last = None;
    for image in images {
        let folder = image.image.parent();
        if folder != last {
            last = folder;
            lost.retain(|class, _| !image.image.starts_with(class));
        }
    }
    let folders: Vec<String> = lost.keys().map(|class| shown(class, account, declared)).collect();
    let mut endings: BTreeMap<&str, usize> = BTreeMap::new();
    lost.values().flatten().for_each(|(ending, count)| *endings.entry(ending).or_default() += count);
    (!folders.is_empty()).then(|| {
        let message = format!(
            "no class for {}, where no image can be read ({}): convert them to JPEG or PNG, or move the folder out of the data set",
            list_some(&folders, 3),
            by_ending(&endings)
        );
        Error::data(&declared.place.file, None, message)
    })
}

/// The error about class folders that were recognised by their names alone while files beside them look like labels.
pub fn labels_beside_classes(
    left: &LabelsLeft,
    account: &Account,
    declared: &Declaration,
    images: &[Listed],
) -> Result<()> {
    let is_guess =
        archives::is_dir(&declared.place.file) && declared.tasks.iter().all(|task| task.from == LabelsFrom::Folders);
    if !is_guess {
        return Ok(());
    }
    let line = layouts::one_line(declared);
    let classes = declared.tasks.first().and_then(|task| task.names.clone()).unwrap_or_default();
    let would = format!("while the folders {} would be the classes", list_some(&classes, 3));
    let folders = format!("if the folders are the classes, add a data.yaml here with the line `{line}`");
    if let Some((ending, few)) = left.of_images.iter().find(|(_, few)| few.count >= (images.len() / 10).max(2)) {
        let form = match *ending {
            "txt" => ", as in `from: {yolo: DIR}`",
            "xml" => ", as in `from: {voc: DIR}`",
            _ => "",
        };
        let message = format!(
            "{} such as {} would not be read, {would}: {folders}; if they are the labels, add one that says where they are{form}",
            count_of(few.count, &format!(".{ending} label file")),
            few.first.as_ref().map_or(String::new(), |first| relative(first, account, declared)),
        );
        return Err(Error::data(&declared.root, None, message));
    }
    let some: Vec<PathBuf> =
        images.iter().step_by((images.len() / 1000).max(1)).map(|image| image.image.clone()).collect();
    for file in left.of_sets.iter().take(16) {
        let name = relative(file, account, declared);
        let other = match file.extension().map(OsStr::to_ascii_lowercase) {
            Some(ending) if ending == "json" => Some(String::new()),
            Some(ending) if ending == "csv" && is_box_rows(file) => Some(String::new()),
            _ => layouts::table_line(&declared.root, &name, &some).map(|line| format!(" with the line `{line}`")),
        };
        if let Some(other) = other {
            let message = format!(
                "{name} looks like labels of these images and would not be read, {would}: {folders}; if it holds the labels, add one{}",
                if other.is_empty() { " that names it under `tasks:`".into() } else { other }
            );
            return Err(Error::data(&declared.root, None, message));
        }
    }
    Ok(())
}

/// A sentence for everything that is left over.
pub fn notes(account: &Account, left: &LabelsLeft, declared: &Declaration) -> Vec<String> {
    let name = |path: &Path| relative(path, account, declared);
    let first = |few: &Few| few.first.as_deref().map(name).unwrap_or_default();
    let mut notes = Vec::new();
    let unused: usize = account.unused.values().map(|few| few.count).sum();
    if unused > 0 {
        let mut folders: Vec<_> = account.unused.iter().collect();
        folders.sort_by_key(|(_, few)| std::cmp::Reverse(few.count));
        let each: Vec<String> = folders
            .iter()
            .map(|(folder, few)| format!("{} in {}", few.count, shown(folder, account, declared)))
            .collect();
        notes.push(format!(
            "{} in no split, so not used: {} (such as {})",
            are(unused, "image"),
            list_some(&each, 3),
            first(folders[0].1)
        ));
    }
    let mut endings: BTreeMap<&str, usize> = BTreeMap::new();
    account.unread.iter().for_each(|((_, ending), few)| *endings.entry(ending).or_default() += few.count);
    if !endings.is_empty() {
        notes.push(format!(
            "pictures that are not read: {} (such as {}); convert them to JPEG or PNG to use them",
            by_ending(&endings),
            account.unread.values().next().map(first).unwrap_or_default()
        ));
    }
    if !left.unread.is_empty() {
        let each: Vec<String> = left
            .unread
            .iter()
            .map(|(ending, few)| {
                format!("{} (such as {})", count_of(few.count, &format!(".{ending} file")), first(few))
            })
            .collect();
        notes.push(format!("label files that are not read: {}", each.join(", ")));
    }
    notes.extend(ignored(account, declared));
    if account.hidden.count > 0 {
        let few = &account.hidden;
        notes.push(format!("{} ignored (such as {})", are(few.count, "hidden file"), first(few)));
    }
    notes.extend(account.closed.iter().map(|folder| {
        format!("{} cannot be listed, so what it holds is not counted", shown(folder, account, declared))
    }));
    if account.is_cut {
        notes.push("there are too many other files to count, so more may be left over than is named here".into());
    }
    notes
}

/// A note for each folder that polyhead wrote, and one for all others that are ignored.
fn ignored(account: &Account, declared: &Declaration) -> Vec<String> {
    let mut notes = Vec::new();
    let mut others: BTreeMap<(&OsStr, &str), Vec<&Path>> = BTreeMap::new();
    for (folder, why) in &account.ignored {
        match why {
            Ignored::Own(what) => {
                notes.push(left_out(&shown(folder, account, declared), what));
            }
            Ignored::Hidden => others.entry((name_of(folder), "hidden")).or_default().push(folder),
            Ignored::System(what) => others.entry((name_of(folder), what)).or_default().push(folder),
        }
    }
    let each = others.values().zip(others.keys()).map(|(folders, (name, why))| match folders[..] {
        [one] => format!("{} ({why})", shown(one, account, declared)),
        _ => {
            let first = shown(folders[0], account, declared);
            format!("{} {}/ (such as {first}; {why})", folders.len(), name.to_string_lossy())
        }
    });
    let each: Vec<String> = each.collect();
    if !each.is_empty() {
        notes.push(format!("ignored folders: {}", each.join(", ")));
    }
    notes
}

/// The note about a folder that polyhead wrote.
pub fn left_out(folder: &str, what: &str) -> String {
    format!("{folder} is left out: it holds {what}, not training images")
}

/// `4 .heic, 1 without an ending`.
fn by_ending(endings: &BTreeMap<&str, usize>) -> String {
    let each = endings.iter().map(|(ending, count)| match *ending {
        "" => format!("{} without an ending", count_of(*count, "file")),
        ending => count_of(*count, &format!(".{ending} file")),
    });
    each.collect::<Vec<_>>().join(", ")
}

fn are(count: usize, noun: &str) -> String {
    format!("{} {}", count_of(count, noun), if count == 1 { "is" } else { "are" })
}

fn name_of(folder: &Path) -> &OsStr {
    folder.file_name().unwrap_or_default()
}

/// A folder as `a/`, relative to the data set.
fn shown(folder: &Path, account: &Account, declared: &Declaration) -> String {
    match relative(folder, account, declared) {
        same if same.is_empty() => "./".into(),
        name => format!("{name}/"),
    }
}

/// A path relative to the data set or, if it lies beside it, to the folder that the user gave.
fn relative(path: &Path, account: &Account, declared: &Declaration) -> String {
    let base = if path.starts_with(&declared.root) { &declared.root } else { &account.root };
    relative_name(path, base)
}
