//! Layouts recognised by their folders: Pascal VOC, YOLO, class folders, and a folder that only contains another
//! folder.

use super::{Splits, beside, declaration, hints, refusals, split_folders, task};
use crate::archives;
use crate::data::declaration::{Declaration, LabelsFrom, Source, Split, YoloRows};
use crate::data::images::decode::is_image;
use crate::data::own::written_here;
use crate::data::walk::{self, folder_called, folder_in, relative_name};
use crate::error::{Error, Result};
use crate::reading::list_some;
use crate::tasks::{Content, order_note};
use std::path::{Path, PathBuf};

pub fn voc(root: &Path) -> Result<Option<Declaration>> {
    let (images, dir) = (folder_in(root, "JPEGImages"), folder_in(root, "Annotations"));
    if !archives::is_dir(&images) || !archives::is_dir(&dir) {
        return Ok(None);
    }
    let lists = folder_in(root, "ImageSets/Main");
    let list = |name: &str| -> Vec<Source> {
        let file = lists.join(name);
        if archives::is_file(&file) { vec![Source::List(file)] } else { Vec::new() }
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
    let labels = ["labels", "train/labels"].map(|name| folder_in(root, name));
    Ok(found.filter(|_| labels.iter().any(|dir| holds_text(dir))))
}

/// Whether a label file lies in `dir` or below.
pub fn holds_text(dir: &Path) -> bool {
    let is_label = |path: &Path| path.extension().is_some_and(|e| e == "txt") && !path.ends_with("classes.txt");
    walk::holds(dir, &is_label).unwrap_or(false)
}

pub fn yolo_without_labels(root: &Path) -> Result<Option<Declaration>> {
    let (images, labels) = (folder_in(root, "images"), folder_in(root, "labels"));
    let splits = if archives::is_dir(&images) && archives::is_dir(&labels) {
        split_folders(&images)?.unwrap_or_else(|| [vec![Source::Folder(images)], Vec::new(), Vec::new()])
    } else if folder_called(root, "train/images").is_some() && folder_called(root, "train/labels").is_some() {
        let inner = |source: &Source| folder_called(source.path(), "images").map(Source::Folder);
        let splits = split_folders(root)?.unwrap_or_default();
        splits.map(|sources| sources.iter().filter_map(inner).collect())
    } else {
        return Ok(None);
    };
    // Pictures in labels/ are rather masks.
    if !holds_text(&labels) && archives::is_dir(&labels) && walk::holds_image(&labels)? {
        return Ok(None);
    }
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
    let mut splits = split_folders(root)?;
    if let Some(only) = &splits
        && only[1].is_empty()
        && only[2].is_empty()
        && class_names(root)?.iter().filter(|name| Split::called(name).is_none()).count() > 1
    {
        // A single folder called `train` among other classes is a class.
        splits = None;
    }
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
    let note = order_note(&task.name, &classes);
    task.names = Some(classes.clone());
    let mut layout = match &splits {
        Some(_) => format!("class folders in the splits of {}", root.display()),
        None => format!("class folders in {}", root.display()),
    };
    let is_split = splits.is_some();
    let splits = splits.unwrap_or_else(|| [vec![Source::Folder(train.clone())], Vec::new(), Vec::new()]);
    let mut found = declaration(root, String::new(), splits, vec![task]);
    if !is_split && let Some(splits) = splits_in_classes(&found, &train, &classes)? {
        layout = format!("class folders that hold the splits in {}", root.display());
        found.splits = splits;
    } else {
        refusals::check(&found, &train, &classes)?;
    }
    found.layout = layout;
    found.notes.extend(note);
    Ok(Some(found))
}

/// The splits of `cat/train/1.jpg`, where the class is the folder above the split; `None` if no class folder holds folders of
/// splits.
///
/// Errors: only some of the classes hold them, or there are further folders in them, which may be the classes.
fn splits_in_classes(found: &Declaration, root: &Path, classes: &[String]) -> Result<Option<Splits>> {
    let mut splits: Splits = [const { Vec::new() }; 3];
    let (mut with, mut without, mut deeper) = (Vec::new(), Vec::new(), None);
    for class in classes {
        let mut words = Vec::new();
        let mut others = false;
        for (path, is_folder) in walk::entries(&root.join(class))? {
            if !is_folder {
                others |= is_image(&path);
                continue;
            }
            if !walk::holds_image(&path)? {
                continue;
            }
            match Split::called(&relative_name(&path, &root.join(class))) {
                Some(split) => words.push((split, path)),
                None => others = true,
            }
        }
        let has = |wanted: Split| words.iter().any(|(split, _)| *split == wanted);
        if others || !has(Split::Train) || words.len() < 2 {
            without.push(class.as_str());
            if words.len() < 2 {
                continue;
            }
        }
        with.push(class.as_str());
        for (split, path) in words {
            for inner in walk::folders(&path)? {
                if deeper.is_none() && walk::holds_image(&inner)? {
                    deeper = Some(relative_name(&inner, root));
                }
            }
            splits[split as usize].push(Source::Folder(path));
        }
    }
    if with.is_empty() || classes.len() < 2 {
        return Ok(None);
    }
    let shown = list_some(&with, 3);
    let all = super::one_line(found);
    let refuse = |seen: String| {
        let message =
            format!("{seen}; to train on all images of these folders, add a data.yaml here with the line `{all}`");
        Err(Error::data(root, None, message))
    };
    if let Some(deeper) = deeper {
        let line = super::one_line(&Declaration { splits, ..found.clone() });
        return refuse(format!(
            "folders of splits are in {shown}, and they hold further folders, such as {deeper}/: if those are the classes, add a data.yaml here with the line `{line}`"
        ));
    }
    if !without.is_empty() {
        let others = list_some(&without, 3);
        return refuse(format!(
            "folders of splits are in {shown}, but {others} have other images, too, or no `train` and `test`"
        ));
    }
    Ok(Some(splits))
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
pub fn class_names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for folder in walk::folders(dir)? {
        if written_here(&folder).is_none() && walk::holds_image(&folder)? {
            names.push(relative_name(&folder, dir));
        }
    }
    Ok(names)
}
