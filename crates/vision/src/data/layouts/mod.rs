//! Finds a data set's declaration: in its YAML file or, without one, by recognising the layout of the folder. A folder
//! that matches two layouts is refused.

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
mod tables;
mod task_yaml;
mod yaml_files;

pub use judged::read_to_judge;

use crate::data::declaration::{Declaration, LabelFile, LabelsFrom, Source, Split, TaskDeclaration};
use crate::data::walk::{self, relative_name};
use crate::error::{Error, Result, shown};
use crate::files::endless;
use crate::reading::Place;
use crate::tasks::Content;
use std::path::Path;

/// The sources of train, val and test, in the order of `Split::ALL`.
type Splits = [Vec<Source>; 3];

/// Reads `path`, which is a data.yaml or a folder in a known layout. Only the label files of the tasks in `asked` must
/// exist, or those of all tasks if it is empty.
pub fn read(path: &Path, asked: &[String]) -> Result<Declaration> {
    if path.is_file() {
        if !yaml_files::is_yaml(path) {
            let message = "not a data.yaml: give a data.yaml or a folder of images";
            return Err(Error::data(path, None, message));
        }
        return data_yaml::read(path, asked);
    }
    if !path.is_dir() {
        let what = endless(path).map_or("does not exist".to_owned(), |what| format!("this is {what}"));
        return Err(Error::data(path, None, format!("{what}: give a data.yaml or a folder of images")));
    }
    let found = discover(path, asked, 0)?.ok_or_else(|| hints::nothing_known(path))?;
    // A folder that was recognised without a YAML file of its own may be one split of a data set that has one.
    if *found.place.file == *path
        && let Some(error) = hints::part_of_declared(path, &found)
    {
        return Err(error);
    }
    Ok(found)
}

/// Folders that contain nothing but another folder are entered to this depth. Unpacked archives often have them.
const DEEPEST: usize = 2;

fn discover(path: &Path, asked: &[String], depth: usize) -> Result<Option<Declaration>> {
    if let Some(declared) = yaml_files::read(path, asked)? {
        return Ok(Some(declared));
    }
    if let Some(declared) = darknet::read(path)? {
        return Ok(Some(declared));
    }
    // These layouts are recognised by the names of their labels. If two match, the folder is refused.
    let certain =
        [folders::voc, tables::metadata, tables::classes, files::coco, files::bdd, files::boxes, folders::yolo];
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
        return Err(two_readings(path, &found));
    }
    if let Some(found) = found.pop() {
        return Ok(Some(found));
    }
    if depth < DEEPEST
        && let Some(inner) = folders::only_folder(path)?
        && let Some(mut found) = discover(&inner, asked, depth + 1)?
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

/// Lists both readings, each with the one-line data.yaml that selects it.
fn two_readings(root: &Path, found: &[Declaration]) -> Error {
    let reading = |one: &Declaration| {
        let layout = one.layout.trim_end_matches(&format!(" in {}", root.display()));
        let splits = Split::ALL.iter().filter_map(|split| {
            let path = relative_name(one.splits[*split as usize].first()?.path(), root);
            Some(format!("{}: {}, ", split.word(), if path.is_empty() { "." } else { &path }))
        });
        let tasks: Vec<String> = one.tasks.iter().map(|task| line_of(task, root)).collect();
        format!("{layout}: `{{{}tasks: {{{}}}}}`", splits.collect::<String>(), tasks.join(", "))
    };
    let readings: Vec<String> = found.iter().map(reading).collect();
    let message = format!(
        "this folder can be read in {} ways; add a data.yaml here with one of these lines. {}",
        found.len(),
        readings.join("; or ")
    );
    Error::data(root, None, message)
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
