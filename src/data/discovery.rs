//! A folder without instructions: which of the known layouts it is, said in a sentence, as the same declaration a
//! `data.yaml` would give.

use super::data_yaml;
use super::declaration::{BoxFormat, Declaration, Kind, LabelsFrom, LossDeclaration, TaskDeclaration, YoloRows};
use super::formats::table::{Table, metadata_in};
use super::listing::{self, Source, relative_name};
use super::{Place, Split, list_some};
use crate::error::{Error, Result};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// Reads `path`: a data.yaml, or a folder in one of the layouts.
pub fn read(path: &Path) -> Result<Declaration> {
    if path.is_file() {
        let is_yaml = path.extension().is_some_and(|e| e == "yaml" || e == "yml");
        if !is_yaml {
            let message = "this file is no data.yaml: point at a data.yaml or at a folder of images";
            return Err(Error::data(path, None, message));
        }
        return data_yaml::read(path);
    }
    if !path.is_dir() {
        let message = "not there: point at a data.yaml or at a folder of images";
        return Err(Error::data(path, None, message));
    }
    for name in ["data.yaml", "data.yml"] {
        if path.join(name).is_file() {
            return data_yaml::read(&path.join(name));
        }
    }
    let layouts = [voc, metadata, yolo, class_folders];
    for layout in layouts {
        if let Some(found) = layout(path)? {
            return Ok(found);
        }
    }
    Err(nothing_known(path))
}

fn nothing_known(root: &Path) -> Error {
    let entries = listing::entries(root).unwrap_or_default();
    let names: Vec<String> = entries.iter().map(|(path, _)| relative_name(path, root)).collect();
    let coco = entries.iter().any(|(path, is_folder)| {
        (*is_folder && path.ends_with("annotations")) || path.to_string_lossy().ends_with(".coco.json")
    });
    let message = if names.is_empty() {
        "the folder is empty: expected images in class folders, images/ + labels/, or a data.yaml".to_string()
    } else if coco {
        "this looks like COCO, which comes with a later version: convert it to YOLO labels or VOC files".to_string()
    } else {
        format!(
            "no layout recognised (it holds {}): expected class folders (train/<class>/…), images/ + labels/ (YOLO), JPEGImages/ + Annotations/ (VOC), metadata.csv or metadata.jsonl beside the images, or a data.yaml",
            list_some(&names, 6)
        )
    };
    Error::data(root, None, message)
}

fn declaration(root: &Path, layout: String, splits: [Vec<Source>; 3], tasks: Vec<TaskDeclaration>) -> Declaration {
    Declaration {
        layout,
        root: root.to_path_buf(),
        splits,
        val_fraction: None,
        tasks,
        notes: Vec::new(),
        place: Place::new(root, None),
    }
}

fn task(root: &Path, name: &str, kind: Kind, from: LabelsFrom) -> TaskDeclaration {
    TaskDeclaration {
        name: name.to_string(),
        kind,
        from,
        names: None,
        units: Vec::new(),
        range: None,
        missing: None,
        crop_safe: None,
        flip_safe: true,
        box_format: BoxFormat::XywhAbsolute,
        loss: LossDeclaration::default(),
        place: Place::new(root, None),
    }
}

/// The folders of the splits in `root`, `train` at least; `valid` and `validation` are `val`.
fn split_folders(root: &Path) -> Option<[Vec<Source>; 3]> {
    let mut splits = [const { Vec::new() }; 3];
    for split in Split::ALL {
        let found = split.folder_names().iter().map(|name| root.join(name)).find(|dir| dir.is_dir());
        splits[split as usize].extend(found.map(Source::Folder));
    }
    (!splits[0].is_empty()).then_some(splits)
}

fn voc(root: &Path) -> Result<Option<Declaration>> {
    let (images, dir) = (root.join("JPEGImages"), root.join("Annotations"));
    if !images.is_dir() || !dir.is_dir() {
        return Ok(None);
    }
    let list = |name: &str| -> Vec<Source> {
        let file = root.join("ImageSets/Main").join(name);
        if file.is_file() { vec![Source::List(file)] } else { Vec::new() }
    };
    let mut splits = [list("train.txt"), list("val.txt"), list("test.txt")];
    if splits[0].is_empty() {
        splits[0] = list("trainval.txt");
        splits[1].clear();
    }
    if splits[0].is_empty() {
        splits[0].push(Source::Folder(images));
    }
    let layout = format!("Pascal VOC (JPEGImages/ and Annotations/) in {}", root.display());
    let tasks = vec![task(root, "objects", Kind::Detect, LabelsFrom::Voc { dir })];
    Ok(Some(declaration(root, layout, splits, tasks)))
}

fn yolo(root: &Path) -> Result<Option<Declaration>> {
    let (images, labels) = (root.join("images"), root.join("labels"));
    let splits = if images.is_dir() && labels.is_dir() {
        split_folders(&images).unwrap_or_else(|| [vec![Source::Folder(images)], Vec::new(), Vec::new()])
    } else if root.join("train/images").is_dir() && root.join("train/labels").is_dir() {
        let mut splits = [const { Vec::new() }; 3];
        for split in Split::ALL {
            let dirs = split.folder_names().iter().map(|name| root.join(name).join("images"));
            splits[split as usize].extend(dirs.filter(|dir| dir.is_dir()).map(Source::Folder));
        }
        splits
    } else {
        return Ok(None);
    };
    let from = LabelsFrom::Yolo { dir: None, rows: YoloRows::BoxesOrPolygons };
    let mut task = task(root, "objects", Kind::Detect, from);
    for file in ["classes.txt", "labels/classes.txt"].map(|name| root.join(name)) {
        if let Ok(text) = std::fs::read_to_string(&file) {
            task.names = Some(text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_string).collect());
            break;
        }
    }
    let layout = format!("YOLO (images/ and labels/, no data.yaml) in {}", root.display());
    let mut found = declaration(root, layout, splits, vec![task]);
    if found.tasks[0].names.is_none() {
        found.notes.push(
            "no class names found: classes are called by their numbers; a data.yaml with `names:` names them".into(),
        );
    }
    Ok(Some(found))
}

fn class_folders(root: &Path) -> Result<Option<Declaration>> {
    let splits = split_folders(root);
    let train = match splits.as_ref().map(|s| &s[0][0]) {
        Some(Source::Folder(dir)) => dir.clone(),
        _ => root.to_path_buf(),
    };
    let classes = class_names(&train)?;
    if classes.is_empty() {
        return Ok(None);
    }
    let mut task = task(root, "class", Kind::Classify, LabelsFrom::Folders);
    task.names = Some(classes);
    let layout = match &splits {
        Some(_) => format!("class folders in the splits of {}", root.display()),
        None => format!("class folders in {}", root.display()),
    };
    let splits = splits.unwrap_or_else(|| [vec![Source::Folder(train)], Vec::new(), Vec::new()]);
    Ok(Some(declaration(root, layout, splits, vec![task])))
}

/// The folders in `dir` that hold an image somewhere, sorted as torchvision sorts them.
fn class_names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for folder in listing::folders(dir)? {
        if listing::holds_image(&folder)? {
            names.push(relative_name(&folder, dir));
        }
    }
    Ok(names)
}

/// `class10` before `class2` is what torchvision does and timm does not.
pub fn order_note(names: &[String]) -> Option<String> {
    let mut natural = names.to_vec();
    natural.sort_by_key(|name| natural_key(name));
    (natural != names).then(|| {
        format!(
            "classes are numbered in lexicographic order ({}), as torchvision does; natural order, as timm's, would differ: `names:` in a data.yaml fixes it",
            list_some(names, 4)
        )
    })
}

fn natural_key(name: &str) -> Vec<(u64, String)> {
    let mut key = vec![(0, String::new())];
    let mut chars = name.chars().peekable();
    while let Some(&c) = chars.peek() {
        if c.is_ascii_digit() {
            let mut number = 0u64;
            while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                number = number.saturating_mul(10).saturating_add(u64::from(digit));
                chars.next();
            }
            key.push((number, String::new()));
        } else {
            chars.next();
            if let Some((_, text)) = key.last_mut() {
                text.push(c);
            }
        }
    }
    key
}

fn metadata(root: &Path) -> Result<Option<Declaration>> {
    let splits = split_folders(root);
    let train = match splits.as_ref().map(|s| &s[0][0]) {
        Some(Source::Folder(dir)) => dir.clone(),
        _ => root.to_path_buf(),
    };
    let Some(file) = metadata_in(&train).or_else(|| metadata_in(root)) else {
        return Ok(None);
    };
    let table = Table::open(&file, None, None)?;
    let mut notes = Vec::new();
    let mut tasks = Vec::new();
    for (i, column) in table.columns.iter().enumerate() {
        if Table::is_key(column) {
            continue;
        }
        match column_kind(column, &table.values(i).collect::<Vec<_>>()) {
            Ok(kind) => tasks.push(task(root, column, kind, LabelsFrom::Columns(vec![column.clone()]))),
            Err(reason) => notes.push(format!(
                "{}: column `{column}` left out: {reason}; a `tasks:` block in a data.yaml decides otherwise",
                relative_name(&file, root)
            )),
        }
    }
    if tasks.is_empty() {
        let message =
            "no column that could be a task beside the file names: add one, or a data.yaml with a `tasks:` block";
        return Err(Error::data(&file, Some(1), message));
    }
    let layout = format!("images with {} in {}", relative_name(&file, root), root.display());
    let splits = splits.unwrap_or_else(|| [vec![Source::Folder(root.to_path_buf())], Vec::new(), Vec::new()]);
    let mut found = declaration(root, layout, splits, tasks);
    found.notes = notes;
    Ok(Some(found))
}

/// What a column is when nobody says: boxes, numbers to regress, or words to tell apart.
fn column_kind(column: &str, values: &[&Value]) -> Result<Kind, String> {
    if ["id", "image_id", "width", "height", "split", "index"].contains(&column) {
        return Err("it describes the file, not what is in the picture".into());
    }
    if values.is_empty() {
        return Err("it is blank".into());
    }
    if values.iter().any(|v| v.is_object() || v.as_str().is_some_and(|s| s.starts_with('{'))) {
        return Ok(Kind::Detect);
    }
    let is_number = |v: &&Value| v.is_number() || v.as_str().is_some_and(|s| s.parse::<f32>().is_ok());
    let named_class = ["label", "labels", "class", "category", "target"].contains(&column);
    if values.iter().all(is_number) && !named_class {
        return Ok(Kind::Regress);
    }
    let distinct: BTreeSet<String> = values.iter().map(|v| v.to_string()).collect();
    match distinct.len() {
        1 => Err("all its values are the same".into()),
        n if n > 20 && 2 * n > values.len() => Err("nearly every row has another value, as free text has".into()),
        _ => Ok(Kind::Classify),
    }
}
