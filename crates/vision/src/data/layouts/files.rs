//! Layouts recognised by files that hold the labels of many images: COCO and BDD100K JSON, and CSV files with one row
//! per box. The split of such a file follows from its name or its folder's name; its images are in a folder of that
//! split, or wherever the file says.

use super::{Splits, declaration, split_folders, task};
use crate::archives;
use crate::data::declaration::{Declaration, LabelFile, LabelsFrom, Source, Split, TaskDeclaration};
use crate::data::formats::{BddFile, Json, is_box_rows, json_kind};
use crate::data::walk::{self, folder_called, folder_in, relative_name};
use crate::error::{Error, Result};
use crate::reading::{list_some, text};
use crate::tasks::Content;
use std::path::{Path, PathBuf};

/// File name prefixes of COCO files with labels other than boxes.
const NOT_INSTANCES: [&str; 5] = ["captions_", "person_keypoints_", "image_info_", "stuff_", "panoptic_"];

/// Finds `annotations/instances_train2017.json` beside `train2017/`, `_annotations.coco.json` beside the images, and
/// similar layouts.
pub fn coco(root: &Path) -> Result<Option<Declaration>> {
    let is_coco = |file: &Path| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let other = NOT_INSTANCES.iter().any(|start| name.starts_with(start));
        ends(file, "json") && !other && json_kind(file) == Some(Json::Coco)
    };
    let files = label_files(root, &[root.to_path_buf(), folder_in(root, "annotations")], &is_coco)?;
    let Some((files, splits)) = arrange(root, files, "coco")? else {
        return Ok(None);
    };
    let layout = format!("COCO ({}) in {}", shown(&files, root), root.display());
    let tasks = vec![task(root, "objects", Content::Boxes, LabelsFrom::Coco { files })];
    Ok(Some(declaration(root, layout, splits, tasks)))
}

/// Finds `labels/det_20/det_train.json` beside `images/100k/train/`: a task for the boxes, and one for each attribute
/// of the pictures.
pub fn bdd(root: &Path) -> Result<Option<Declaration>> {
    let mut folders = vec![root.to_path_buf()];
    if let Some(labels) = folder_called(root, "labels") {
        folders.extend(walk::folders(&labels)?);
        folders.push(labels);
    }
    let is_bdd = |file: &Path| ends(file, "json") && json_kind(file) == Some(Json::Bdd);
    let mut files = label_files(root, &folders, &is_bdd)?;
    // Files with lanes and areas have the same format and lie beside those with boxes.
    let is_detection = |file: &LabelFile| words(&file.path).first().is_some_and(|word| word == "det");
    if files.iter().any(is_detection) {
        files.retain(is_detection);
    }
    let Some((files, splits)) = arrange(root, files, "bdd")? else {
        return Ok(None);
    };
    let first = BddFile::open(&files[0].path)?;
    let mut tasks: Vec<TaskDeclaration> = Vec::new();
    if first.has_boxes() {
        tasks.push(task(root, "objects", Content::Boxes, LabelsFrom::Bdd { files: files.clone(), attribute: None }));
    }
    let mut notes = Vec::new();
    for (name, values) in first.attributes() {
        if values.len() > 1 {
            let attribute = Some(name.to_string());
            tasks.push(task(root, name, Content::Class, LabelsFrom::Bdd { files: files.clone(), attribute }));
        } else {
            notes.push(format!("attribute `{name}` left out: all its values are the same"));
        }
    }
    if tasks.is_empty() {
        let message = "no frame has a box, and no attribute has two values: there is nothing to learn";
        return Err(Error::data(&files[0].path, None, message));
    }
    let layout = format!("BDD100K ({}) in {}", shown(&files, root), root.display());
    let mut found = declaration(root, layout, splits, tasks);
    found.notes = notes;
    Ok(Some(found))
}

/// Finds the CSV files of TensorFlow, Roboflow, keras-retinanet and Open Images, in the root or beside the images.
pub fn boxes(root: &Path) -> Result<Option<Declaration>> {
    let folders = [root.to_path_buf(), folder_in(root, "annotations"), folder_in(root, "labels")];
    // Hugging Face's table may have a column `bbox`, too.
    let is_boxes = |file: &Path| ends(file, "csv") && !file.ends_with("metadata.csv") && is_box_rows(file);
    let files = label_files(root, &folders, &is_boxes)?;
    let Some((files, splits)) = arrange(root, files, "csv")? else {
        return Ok(None);
    };
    let layout = format!("CSV with one row per box ({}) in {}", shown(&files, root), root.display());
    let mut objects = task(root, "objects", Content::Boxes, LabelsFrom::BoxRows { files });
    objects.names = class_list(root);
    let mut found = declaration(root, layout, splits, vec![objects]);
    if let Some(names) = &found.tasks[0].names {
        found.notes.push(format!("objects: classes in the order of classes.csv: {}", list_some(names, 12)));
    }
    Ok(Some(found))
}

/// Reads the `class_name,id` lines of keras-retinanet.
fn class_list(root: &Path) -> Option<Vec<String>> {
    let text = text::read(&root.join("classes.csv")).ok()?;
    let pair = |line: &str| Some((line.rsplit_once(',')?.1.trim().parse().ok()?, line.rsplit_once(',')?.0.to_string()));
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut pairs: Vec<(usize, String)> = lines.map(pair).collect::<Option<_>>()?;
    pairs.sort();
    let numbered = !pairs.is_empty() && pairs.iter().enumerate().all(|(i, (id, _))| i == *id);
    numbered.then(|| pairs.into_iter().map(|(_, name)| name).collect())
}

pub fn ends(file: &Path, with: &str) -> bool {
    file.extension().is_some_and(|e| e.eq_ignore_ascii_case(with))
}

/// The words in a file's name: `instances` and `train` for `instances_train2017.json`.
fn words(file: &Path) -> Vec<String> {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    stem.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty()).map(str::to_string).collect()
}

pub fn shown(files: &[LabelFile], root: &Path) -> String {
    list_some(&files.iter().map(|file| relative_name(&file.path, root)).collect::<Vec<_>>(), 3)
}

/// Label files in `folders`, assigned to splits by name, and those in the splits' own folders.
pub fn label_files(root: &Path, folders: &[PathBuf], fits: &dyn Fn(&Path) -> bool) -> Result<Vec<LabelFile>> {
    let mut found = Vec::new();
    let mut look = |folder: &Path, split: Option<Split>| -> Result<()> {
        for (path, is_folder) in walk::entries(folder)? {
            if !is_folder && fits(&path) {
                let split = split.or_else(|| words(&path).iter().find_map(|word| Split::called(word)));
                found.push(LabelFile { path, split });
            }
        }
        Ok(())
    };
    for (split, sources) in Split::ALL.into_iter().zip(&split_folders(root)?.unwrap_or_default()) {
        for source in sources {
            look(source.path(), Some(split))?;
        }
    }
    for folder in folders.iter().filter(|folder| archives::is_dir(folder)) {
        look(folder, None)?;
    }
    Ok(found)
}

/// Chooses one file per split, or one for all, with the images of each; `None` if there is nothing to train on.
///
/// Errors: several files fit equally well.
pub fn arrange(root: &Path, mut files: Vec<LabelFile>, form: &str) -> Result<Option<(Vec<LabelFile>, Splits)>> {
    let several = |a: &LabelFile, b: &LabelFile| {
        let [a, b] = [a, b].map(|file| relative_name(&file.path, root));
        let message = format!(
            "{a} and {b} could both hold the labels: choose with a data.yaml that has `train:`, `val:` and, under `tasks:`, `objects: {{type: {}, from: {{{form}: {a}}}}}`",
            Content::Boxes.kind().yaml_word
        );
        Err(Error::data(root, None, message))
    };
    files.sort_by_key(|file| file.split.map_or(3, |split| split as usize));
    if let Some(pair) = files.windows(2).find(|pair| pair[0].split == pair[1].split || pair[1].split.is_none()) {
        return several(&pair[0], &pair[1]);
    }
    let mut splits = [const { Vec::new() }; 3];
    match files.first().map(|file| file.split) {
        Some(Some(Split::Train)) => {
            for file in &files {
                let split = file.split.unwrap_or(Split::Train);
                splits[split as usize].push(images_of(root, file, split)?);
            }
        }
        Some(None) => {
            let images = folder_in(root, "images");
            let base = if archives::is_dir(&images) { &images } else { root };
            let whole = || [vec![Source::Folder(base.to_path_buf())], Vec::new(), Vec::new()];
            splits = split_folders(base)?.unwrap_or_else(whole);
        }
        _ => return Ok(None),
    }
    Ok(Some((files, splits)))
}

/// The images of a split: the file's own folder, `train2017/` for a file of that name, or `train/`; otherwise the
/// images that the file names.
fn images_of(root: &Path, file: &LabelFile, split: Split) -> Result<Source> {
    let beside = file.path.parent().unwrap_or(root);
    let own = relative_name(beside, root);
    if Split::called(&own) == Some(split) {
        return Ok(Source::Folder(beside.to_path_buf()));
    }
    let stem = file.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let year: String = stem.chars().rev().take_while(char::is_ascii_digit).collect();
    let year: String = year.chars().rev().collect();
    for base in [root.to_path_buf(), folder_in(root, "images"), folder_in(root, "images/100k")] {
        if !archives::is_dir(&base) {
            continue;
        }
        let named = |folder: &PathBuf, tail: &str| {
            relative_name(folder, &base).strip_suffix(tail).and_then(Split::called) == Some(split)
        };
        let folders = walk::folders(&base)?;
        let dated = folders.iter().find(|folder| !year.is_empty() && named(folder, &year));
        if let Some(folder) = dated.or_else(|| folders.iter().find(|folder| named(folder, ""))) {
            return Ok(Source::Folder(folder.clone()));
        }
    }
    Ok(Source::Labels(file.path.clone()))
}
