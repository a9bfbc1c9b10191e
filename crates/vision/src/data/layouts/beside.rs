//! Layouts recognised by label files of single images wherever they lie: Pascal VOC's XML in any folder, and YOLO's text files
//! beside the images.

use super::{Splits, declaration, split_folders, task};
use crate::archives;
use crate::data::declaration::{Declaration, LabelsFrom, Source, Split, YoloRows};
use crate::data::formats::{begins_with_row, is_voc};
use crate::data::images::decode::{EXTENSIONS, is_image};
use crate::data::own::written_here;
use crate::data::walk::{self, relative_name};
use crate::error::Result;
use crate::reading::text;
use crate::tasks::Content;
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// The search for a first label file ends after this many entries of one folder and of all, so that a million pictures are not
/// listed once more.
const MOST_IN_FOLDER: usize = 2_000;
const MOST: usize = 20_000;
const DEEPEST: usize = 3;

/// XML files of Pascal VOC that are not in `Annotations/`: in another folder, in one for each split, or beside the images.
pub fn voc(root: &Path) -> Result<Option<Declaration>> {
    let is_published = ["JPEGImages", "Annotations"].iter().all(|name| walk::folder_called(root, name).is_some());
    let is_xml = |path: &Path| path.extension().is_some_and(|e| e.eq_ignore_ascii_case("xml"));
    if is_published || !some_files(root).iter().any(|path| is_xml(path) && is_voc(path)) {
        return Ok(None);
    }
    let stem = |path: &PathBuf| path.file_stem().map(OsString::from);
    let images = walk::walk(root)?;
    let pictures: HashSet<OsString> = images.iter().filter_map(stem).collect();
    let files = walk::files(root, &is_xml)?;
    let of_pictures: Vec<&PathBuf> =
        files.iter().filter(|file| stem(file).is_some_and(|s| pictures.contains(&s))).collect();
    // XML files are used for many other things.
    if of_pictures.is_empty() || 2 * of_pictures.len() < files.len() {
        return Ok(None);
    }
    let Some(dir) = common_folder(&of_pictures) else {
        return Ok(None);
    };
    let dir = above_shared_names(dir, root, &images);
    let is_beside = of_pictures.iter().all(|file| picture_beside(file).is_some());
    let dir = if is_beside { root.to_path_buf() } else { dir };
    let place = match (is_beside, relative_name(&dir, root)) {
        (true, _) => "beside the images".to_owned(),
        (false, name) if name.is_empty() => "in folders of its own".to_owned(),
        (false, name) => format!("in {name}/"),
    };
    let layout = format!("Pascal VOC (.xml files {place}) in {}", root.display());
    let tasks = vec![task(root, "objects", Content::Boxes, LabelsFrom::Voc { dir })];
    Ok(Some(declaration(root, layout, splits_of(root)?, tasks)))
}

/// Text files of YOLO beside the images, as labelImg and Roboflow's Darknet export write them.
pub fn yolo(root: &Path) -> Result<Option<Declaration>> {
    let is_label = |path: &PathBuf| path.extension().is_some_and(|e| e == "txt") && begins_with_row(path);
    let labels: Vec<PathBuf> = some_files(root).into_iter().filter(is_label).take(200).collect();
    let beside = labels.iter().filter(|label| picture_beside(label).is_some()).count();
    if labels.is_empty() || 10 * beside < 9 * labels.len() {
        return Ok(None);
    }
    let splits = splits_of(root)?;
    let from = LabelsFrom::Yolo { dir: Some(root.to_path_buf()), rows: YoloRows::BoxesOrPolygons };
    let mut task = task(root, "objects", Content::Boxes, from);
    let classes = class_names(&[root, splits[0][0].path()]);
    let layout = format!("YOLO (.txt files beside the images) in {}", root.display());
    let note = match &classes {
        Some((file, _)) => format!("objects: the names of classes are those of {}", relative_name(file, root)),
        None => "no class names found: classes are called by their numbers; to name them, add a classes.txt with a name per line, or a data.yaml with `names:`".into(),
    };
    task.names = classes.map(|(_, names)| names);
    let mut found = declaration(root, layout, splits, vec![task]);
    found.notes.push(note);
    Ok(Some(found))
}

/// Names of classes, one per line, in one of the files where labelling programs write them.
pub fn class_names(folders: &[&Path]) -> Option<(PathBuf, Vec<String>)> {
    const NAMED: [&str; 5] = ["classes.txt", "labels/classes.txt", "obj.names", "data/obj.names", "_darknet.labels"];
    let of_folder = |folder: &&Path| NAMED.iter().map(|name| folder.join(name)).find(|file| archives::is_file(file));
    let file = folders.iter().find_map(of_folder).or_else(|| {
        let entries = walk::entries(folders.first()?).ok()?.into_iter();
        let mut names = entries.map(|(path, _)| path).filter(|path| path.extension().is_some_and(|e| e == "names"));
        let only = names.next()?;
        names.next().is_none().then_some(only)
    })?;
    let text = text::read(&file).ok()?;
    let names: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_string).collect();
    (!names.is_empty()).then_some((file, names))
}

/// The folders of the splits, in the root or below a folder of images, or else the whole folder.
fn splits_of(root: &Path) -> Result<Splits> {
    let bases = ["", "images", "JPEGImages", "imgs", "img"].map(|name| root.join(name));
    for base in bases.iter().filter(|base| archives::is_dir(base)) {
        if let Some(splits) = split_folders(base)?
            && walk::holds_image(splits[0][0].path())?
        {
            return Ok(splits);
        }
    }
    Ok([vec![Source::Folder(root.to_path_buf())], Vec::new(), Vec::new()])
}

/// Some of the files in the folder and below it.
fn some_files(root: &Path) -> Vec<PathBuf> {
    let (mut files, mut level, mut left) = (Vec::new(), vec![root.to_path_buf()], MOST);
    for _ in 0..=DEEPEST {
        let mut next = Vec::new();
        for folder in level {
            let entries = archives::read_dir(&folder).into_iter().flatten().flatten();
            for entry in entries.take(MOST_IN_FOLDER.min(left)) {
                left -= 1;
                let path = entry.path();
                if entry.file_name().as_encoded_bytes().starts_with(b".") {
                    continue;
                }
                match entry.file_type().is_ok_and(|kind| kind.is_dir()) || path.is_dir() {
                    true if written_here(&path).is_none() => next.push(path),
                    true => {}
                    false => files.push(path),
                }
            }
        }
        level = next;
    }
    // Folders list their entries in no particular order.
    files.sort_unstable();
    files
}

/// The picture with the same name as a label file, in its folder.
fn picture_beside(label: &Path) -> Option<PathBuf> {
    let known = || EXTENSIONS.iter().map(|ending| label.with_extension(ending)).find(|path| archives::is_file(path));
    let upper = || {
        EXTENSIONS.iter().map(|ending| label.with_extension(ending.to_uppercase())).find(|path| archives::is_file(path))
    };
    known().or_else(upper).filter(|path| is_image(path))
}

/// The deepest folder that holds all files.
fn common_folder(files: &[&PathBuf]) -> Option<PathBuf> {
    let mut common = files.first()?.parent()?.to_path_buf();
    for file in files {
        while !file.starts_with(&common) {
            common = common.parent()?.to_path_buf();
        }
    }
    Some(common)
}

/// The folder itself or, if its name only repeats that of a split or of a folder of images, one above.
fn above_shared_names(mut dir: PathBuf, root: &Path, images: &[PathBuf]) -> PathBuf {
    let folders: HashSet<&Path> = images.iter().filter_map(|image| image.parent()).collect();
    let names: HashSet<&OsStr> =
        folders.into_iter().filter_map(|folder| folder.strip_prefix(root).ok()).flatten().collect();
    let is_split = |name: &OsStr| Split::called(&name.to_string_lossy()).is_some();
    while dir != root && dir.file_name().is_some_and(|name| names.contains(name) || is_split(name)) && dir.pop() {}
    dir
}
