//! Layouts recognised by their folders: Pascal VOC, YOLO, class folders, and a folder that only contains another
//! folder.

use super::{beside, declaration, hints, split_folders, task};
use crate::data::declaration::{Declaration, LabelsFrom, Source, Split, YoloRows};
use crate::data::images::decode::is_image;
use crate::data::own::written_here;
use crate::data::walk::{self, relative_name};
use crate::error::Result;
use crate::tasks::{Content, order_note};
use std::path::{Path, PathBuf};

pub fn voc(root: &Path) -> Result<Option<Declaration>> {
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
    let tasks = vec![task(root, "objects", Content::Boxes, LabelsFrom::Voc { dir })];
    Ok(Some(declaration(root, layout, splits, tasks)))
}

/// YOLO with at least one label file; without any, the folder may have another layout.
pub fn yolo(root: &Path) -> Result<Option<Declaration>> {
    let found = yolo_without_labels(root)?;
    let labels = ["labels", "train/labels"].map(|name| root.join(name));
    Ok(found.filter(|_| labels.iter().any(|dir| holds_text(dir))))
}

/// Whether a label file lies in `dir` or below.
pub fn holds_text(dir: &Path) -> bool {
    let is_label = |path: &Path| path.extension().is_some_and(|e| e == "txt") && !path.ends_with("classes.txt");
    walk::holds(dir, &is_label).unwrap_or(false)
}

pub fn yolo_without_labels(root: &Path) -> Result<Option<Declaration>> {
    let (images, labels) = (root.join("images"), root.join("labels"));
    let splits = if images.is_dir() && labels.is_dir() {
        split_folders(&images)?.unwrap_or_else(|| [vec![Source::Folder(images)], Vec::new(), Vec::new()])
    } else if root.join("train/images").is_dir() && root.join("train/labels").is_dir() {
        let inner = |source: &Source| Some(source.path().join("images")).filter(|dir| dir.is_dir()).map(Source::Folder);
        let splits = split_folders(root)?.unwrap_or_default();
        splits.map(|sources| sources.iter().filter_map(inner).collect())
    } else {
        return Ok(None);
    };
    let from = LabelsFrom::Yolo { dir: None, rows: YoloRows::BoxesOrPolygons };
    let mut task = task(root, "objects", Content::Boxes, from);
    task.names = beside::class_names(&[root]).map(|(_, names)| names);
    let layout = format!("YOLO (images/ and labels/, no data.yaml) in {}", root.display());
    let mut found = declaration(root, layout, splits, vec![task]);
    if found.tasks[0].names.is_none() {
        found.notes.push(
            "no class names found: classes are called by their numbers; to name them, add a data.yaml with `names:`"
                .into(),
        );
    }
    Ok(Some(found))
}

pub fn class_folders(root: &Path) -> Result<Option<Declaration>> {
    let splits = split_folders(root)?;
    let train = splits.as_ref().map_or(root, |splits| splits[0][0].path()).to_path_buf();
    let classes = class_names(&train)?;
    match &classes[..] {
        [] => return Ok(None),
        [class] => {
            if let Some(error) = hints::only_class(root, splits.as_ref(), &train, class)? {
                return Err(error);
            }
        }
        _ => {}
    }
    let mut task = task(root, "class", Content::Class, LabelsFrom::Folders);
    let notes = [order_note(&task.name, &classes), hints::unread_note(root, &train, &classes)?];
    task.names = Some(classes);
    let layout = match &splits {
        Some(_) => format!("class folders in the splits of {}", root.display()),
        None => format!("class folders in {}", root.display()),
    };
    let splits = splits.unwrap_or_else(|| [vec![Source::Folder(train)], Vec::new(), Vec::new()]);
    let mut found = declaration(root, layout, splits, vec![task]);
    found.notes.extend(notes.into_iter().flatten());
    Ok(Some(found))
}

/// The only folder in `root` that holds images or what may be labels, if no image lies beside it.
pub fn only_folder(root: &Path) -> Result<Option<PathBuf>> {
    let mut folders = Vec::new();
    for (path, is_folder) in walk::entries(root)? {
        match is_folder {
            true => folders.push(path),
            false if is_image(&path) => return Ok(None),
            false => {}
        }
    }
    if folders.len() > 1 {
        let mut counting = Vec::new();
        for folder in folders {
            if written_here(&folder).is_none()
                && (walk::holds_image(&folder)? || walk::holds(&folder, &hints::may_be_labels)?)
            {
                counting.push(folder);
            }
        }
        folders = counting;
    }
    let only = folders.pop().filter(|_| folders.is_empty());
    Ok(only.filter(|folder| Split::called(&relative_name(folder, root)).is_none()))
}

/// The folders in `dir` that contain an image at any depth, sorted as torchvision sorts them.
fn class_names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for folder in walk::folders(dir)? {
        if written_here(&folder).is_none() && walk::holds_image(&folder)? {
            names.push(relative_name(&folder, dir));
        }
    }
    Ok(names)
}
