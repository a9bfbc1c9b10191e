//! Finds a data set's declaration: in its YAML file or, without one, by recognising the layout of the folder. Of several layouts that
//! match, the one that explains clearly the most images is taken; if none does, the folder is refused.

mod beside;
mod darknet;
mod data_yaml;
mod files;
mod folders;
mod forms;
mod from_yaml;
mod group_yaml;
mod hints;
mod judged;
mod label_tables;
mod parquet;
mod refusals;
mod shards;
mod sources_yaml;
mod tables;
mod task_yaml;
mod yaml_files;

pub use judged::read_to_judge;

use crate::archives;
use crate::data::declaration::{Declaration, LabelFile, LabelsFrom, Source, Split, TaskDeclaration};
use crate::data::walk::{self, relative_name};
use crate::error::{Error, Result, shown};
use crate::files::endless;
use crate::reading::{Place, count_of};
use crate::tasks::Content;
use std::path::Path;

/// Counts the images that a reading labels.
pub type Explained = fn(&Declaration) -> usize;

/// The sources of train, val and test, in the order of `Split::ALL`.
type Splits = [Vec<Source>; 3];

/// Reads `path`, which is a data.yaml, or a folder or an archive in a known layout. Only the label files of the tasks in `asked` must
/// exist, or those of all tasks if it is empty.
pub fn read(path: &Path, asked: &[String], explained: Explained) -> Result<Declaration> {
    archives::forget_changed();
    if path.is_file()
        && let Some(what) = archives::other_kind(path)
    {
        return Err(Error::data(path, None, what));
    }
    if path.is_file() && archives::is_archive(path) {
        archives::check(path)?;
    } else if path.is_file() {
        if !yaml_files::is_yaml(path) {
            let message = "not a data.yaml: give a data.yaml, a folder of images, or one in a .tar or .zip";
            return Err(Error::data(path, None, message));
        }
        return data_yaml::read(path, asked, explained);
    }
    if !archives::is_dir(path) {
        let what = endless(path).map_or("does not exist".to_owned(), |what| format!("this is {what}"));
        return Err(Error::data(path, None, format!("{what}: give a data.yaml or a folder of images")));
    }
    let found = discover(path, asked, 0, explained)?.ok_or_else(|| hints::nothing_known(path))?;
    // A folder that was recognised without a YAML file of its own may be one split of a data set that has one.
    if *found.place.file == *path
        && let Some(error) = hints::part_of_declared(path, &found)
    {
        return Err(error);
    }
    Ok(found)
}

/// Reads a data set that is one source of another.
fn read_source(path: &Path, asked: &[String], judged: bool, explained: Explained) -> Result<Declaration> {
    if judged {
        return read_to_judge(path, asked, explained);
    }
    let is_archive = path.is_file() && archives::is_archive(path);
    if is_archive {
        archives::check(path)?;
    }
    // No folder within a folder is entered, which could hold the file that lists the sources.
    let depth = if is_archive { 0 } else { DEEPEST };
    match archives::is_dir(path) {
        true => discover(path, asked, depth, explained)?.ok_or_else(|| hints::nothing_known(path)),
        false => read(path, asked, explained),
    }
}

/// Folders that contain nothing but another folder are entered to this depth. Unpacked archives often have them.
const DEEPEST: usize = 2;

fn discover(path: &Path, asked: &[String], depth: usize, explained: Explained) -> Result<Option<Declaration>> {
    if let Some(declared) = yaml_files::read(path, asked, explained)? {
        return Ok(Some(declared));
    }
    if archives::is_archive(path) {
        // Any file of a sample may look like the labels of a whole data set.
        for layout in [shards::web, parquet::rows] {
            if let Some(found) = layout(path)? {
                return Ok(Some(found));
            }
        }
    }
    if let Some(declared) = darknet::read(path)? {
        return Ok(Some(declared));
    }
    // These layouts are recognised by the names of their labels. If several match, the one that explains the most is taken.
    let certain = [
        folders::voc,
        tables::metadata,
        tables::classes,
        files::coco,
        files::bdd,
        files::boxes,
        folders::yolo,
        shards::web,
        parquet::rows,
    ];
    let mut found = Vec::new();
    for layout in certain {
        found.extend(layout(path)?);
    }
    forms::add(path, &mut found)?;
    if found.is_empty() {
        for layout in [beside::voc, beside::yolo] {
            found.extend(layout(path)?);
        }
    }
    if found.len() > 1 {
        return most_explained(path, found, explained).map(Some);
    }
    if let Some(found) = found.pop() {
        return Ok(Some(found));
    }
    if depth < DEEPEST
        && let Some(inner) = folders::only_folder(path)?
        && let Some(mut found) = discover(&inner, asked, depth + 1, explained)?
    {
        let name = relative_name(&inner, path);
        found.notes.insert(0, format!("{name}/ is the only folder with images in {} and is used", shown(path)));
        return Ok(Some(found));
    }
    if let Some(found) = label_tables::read(path)? {
        return Ok(Some(found));
    }
    // Any folder of folders matches one of these layouts, so they are tried last.
    for layout in [folders::yolo_without_labels, folders::class_folders] {
        if let Some(mut found) = layout(path)? {
            found.notes.extend(hints::part_note(path));
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Takes the reading that labels at least twice as many images as any other, and notes what the others would have labelled.
///
/// Errors: no reading does; the message names them all.
fn most_explained(root: &Path, found: Vec<Declaration>, explained: Explained) -> Result<Declaration> {
    let counts: Vec<usize> = found.iter().map(explained).collect();
    let most = counts.iter().copied().max().unwrap_or(0);
    let is_rival = |count: &&usize| 2 * **count > most;
    if most == 0 || counts.iter().filter(is_rival).count() > 1 {
        return Err(two_readings(root, &found));
    }
    let (mut best, mut others) = (None, Vec::new());
    for (one, count) in found.into_iter().zip(counts) {
        let layout = one.layout.trim_end_matches(&format!(" in {}", root.display())).to_owned();
        match count == most {
            true => best = Some((one, layout)),
            false => {
                others.push(format!("{layout} labels {count}, and is not used: for it, write `{}`", one_line(&one)))
            }
        }
    }
    let Some((mut best, layout)) = best else {
        return Err(Error::Other("the most explained reading is one of them".into()));
    };
    best.notes.push(format!("{layout} labels {} and is used; {}", count_of(most, "image"), others.join("; ")));
    Ok(best)
}

/// The error about a folder that was read as `declared`, whose class folders are a reading, too.
pub fn against_classes(root: &Path, declared: &Declaration) -> Option<Error> {
    let classes = folders::class_folders(root).ok().flatten()?;
    Some(two_readings(root, &[declared.clone(), classes]))
}

/// Lists both readings, each with the one-line data.yaml that selects it.
fn two_readings(root: &Path, found: &[Declaration]) -> Error {
    let reading = |one: &Declaration| {
        let layout = one.layout.trim_end_matches(&format!(" in {}", root.display()));
        format!("{layout}: `{}`", one_line(one))
    };
    let readings: Vec<String> = found.iter().map(reading).collect();
    let message = format!(
        "this folder can be read in {} ways; add a data.yaml here with one of these lines. {}",
        found.len(),
        readings.join("; or ")
    );
    Error::data(root, None, message)
}

/// The declaration as a data.yaml of one line in its root.
pub fn one_line(declared: &Declaration) -> String {
    let root = &declared.root;
    let name = |source: &Source| match relative_name(source.path(), root) {
        same if same.is_empty() => ".".to_owned(),
        path => path,
    };
    let splits = Split::ALL.iter().filter_map(|split| {
        let names: Vec<String> = declared.splits[*split as usize].iter().map(name).collect();
        match &names[..] {
            [] => None,
            [one] => Some(format!("{}: {one}, ", split.word())),
            several => Some(format!("{}: [{}], ", split.word(), several.join(", "))),
        }
    });
    let tasks: Vec<String> = declared.tasks.iter().map(|task| line_of(task, root)).collect();
    format!("{{{}tasks: {{{}}}}}", splits.collect::<String>(), tasks.join(", "))
}

/// The task as written in a data.yaml.
fn line_of(task: &TaskDeclaration, root: &Path) -> String {
    let files = |files: &[LabelFile]| match files {
        [one] if one.split.is_none() => relative_name(&one.path, root),
        several => {
            let each = several.iter().map(|file| {
                let path = relative_name(&file.path, root);
                file.split.map_or(path.clone(), |split| format!("{}: {path}", split.word()))
            });
            let split = several.iter().any(|file| file.split.is_some());
            let list = each.collect::<Vec<_>>().join(", ");
            if split { format!("{{{list}}}") } else { format!("[{list}]") }
        }
    };
    let dir = |dir: &Path| relative_name(dir, root);
    let from = match &task.from {
        LabelsFrom::Columns(columns) if columns.len() == 1 => columns[0].clone(),
        LabelsFrom::Columns(columns) => format!("[{}]", columns.join(", ")),
        LabelsFrom::Folders => "folders".into(),
        LabelsFrom::Csv { files: from, columns, .. } => {
            format!("{{csv: {}, column: [{}]}}", files(from), columns.join(", "))
        }
        LabelsFrom::BoxRows { files: from } => format!("{{csv: {}}}", files(from)),
        LabelsFrom::Yolo { dir: Some(at), .. } => format!("{{yolo: {}}}", dir(at)),
        LabelsFrom::Yolo { dir: None, .. } => "{yolo: labels}".into(),
        LabelsFrom::Voc { dir: at } => format!("{{voc: {}}}", dir(at)),
        LabelsFrom::Coco { files: from } => format!("{{coco: {}}}", files(from)),
        LabelsFrom::Bdd { files: from, attribute: None } => format!("{{bdd: {}}}", files(from)),
        LabelsFrom::Bdd { files: from, attribute: Some(name) } => {
            format!("{{bdd: {}, attribute: {name}}}", files(from))
        }
        LabelsFrom::Form { form, files: from, attributes } => {
            let attributes = match &attributes[..] {
                [] => String::new(),
                [one] => format!(", attribute: {one}"),
                several => format!(", attribute: [{}]", several.join(", ")),
            };
            format!("{{{}: {}{attributes}}}", form.word, files(from))
        }
    };
    let flag = task.kind.flag.map_or(String::new(), |flag| format!(", {flag}: true"));
    format!("{}: {{type: {}{flag}, from: {from}}}", task.name, task.kind.yaml_word)
}

/// A data.yaml in one line for the table `file` in `root`, if it has a row for most of these images.
pub fn table_line(root: &Path, file: &str, images: &[std::path::PathBuf]) -> Option<String> {
    tables::one_line(root, file, images).map(|(line, _)| line)
}

fn declaration(root: &Path, layout: String, splits: Splits, tasks: Vec<TaskDeclaration>) -> Declaration {
    Declaration {
        layout,
        root: root.to_path_buf(),
        splits,
        val_fraction: None,
        group: None,
        tasks,
        notes: Vec::new(),
        causes: Vec::new(),
        no_test: None,
        sources: Vec::new(),
        place: Place::new(root, None),
    }
}

fn task(root: &Path, name: &str, content: Content, from: LabelsFrom) -> TaskDeclaration {
    TaskDeclaration::new(name, content.kind(), from, Place::new(root, None))
}

/// The folders of the splits in `root` under any of their usual names; `train` must exist.
///
/// Errors: two folders match one split.
fn split_folders(root: &Path) -> Result<Option<Splits>> {
    let mut splits = [const { Vec::new() }; 3];
    for folder in walk::folders(root)? {
        let Some(split) = Split::called(&relative_name(&folder, root)) else {
            continue;
        };
        if let Some(Source::Folder(other)) = splits[split as usize].first() {
            let [a, b] = [other, &folder].map(|at| relative_name(at, root));
            let word = split.word();
            let message =
                format!("{a}/ and {b}/ both look like the {word} split: choose one with `{word}: {b}` in a data.yaml");
            return Err(Error::data(root, None, message));
        }
        splits[split as usize].push(Source::Folder(folder));
    }
    Ok((!splits[0].is_empty()).then_some(splits))
}
