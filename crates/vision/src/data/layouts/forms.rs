//! Recognises the files of annotation tools (`data::forms`): one file with the labels of many images in the usual folders,
//! or a file per image beside the images or in a folder of label files.

use super::files::{arrange, label_files, shown};
use super::{Splits, declaration, split_folders, task};
use crate::archives;
use crate::data::declaration::{Declaration, LabelFile, LabelsFrom, Source, Split, TaskDeclaration};
use crate::data::formats::FormFile;
use crate::data::forms::{FORMS, Files, Form};
use crate::data::images::decode::EXTENSIONS;
use crate::data::walk::{self, relative_name};
use crate::error::{Error, Result};
use crate::reading::{cut, list_some};
use crate::tasks::Content;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Folders of images beside a folder of label files, in lower case.
const IMAGES: [&str; 7] = ["images", "image", "imgs", "img", "jpegimages", "image_2", "pictures"];

/// Adds a declaration for each form of which the folder has files.
pub fn add(root: &Path, found: &mut Vec<Declaration>) -> Result<()> {
    // The beginning of a file is read once, however many forms there are.
    let known: RefCell<HashMap<PathBuf, Option<&'static Form>>> = RefCell::default();
    let form_of = |file: &Path| {
        let mut known = known.borrow_mut();
        *known.entry(file.to_path_buf()).or_insert_with(|| Form::of_file(file))
    };
    for form in FORMS.iter().copied() {
        let is_own = |file: &Path| form.is_ending_of(file) && form_of(file) == Some(form);
        let placed = match form.files {
            Files::OfManyImages => of_many_images(form, root, &is_own)?,
            Files::OfOneImage => of_one_image(form, root, &is_own)?,
        };
        let Some((files, splits)) = placed else { continue };
        // Their folder also looks like that of YOLO's files, which have the same ending.
        found.retain(|other| {
            !other.tasks.iter().any(|task| matches!(task.from, LabelsFrom::Yolo { .. }) && form.ending == "txt")
        });
        found.push(declared(form, root, files, splits)?);
    }
    Ok(())
}

type Placed = Option<(Vec<LabelFile>, Splits)>;

/// Whether a file is of the form that is looked for.
type IsOwn<'a> = &'a dyn Fn(&Path) -> bool;

fn of_many_images(form: &Form, root: &Path, is_own: IsOwn) -> Result<Placed> {
    let folders: Vec<PathBuf> = std::iter::once(root.to_path_buf()).chain(subfolders(root, form.folders)?).collect();
    let files = label_files(root, &folders, is_own)?;
    arrange(root, files, form.word)
}

/// The label files lie beside the images of each split, in a folder of each split, or in one folder for all.
fn of_one_image(form: &Form, root: &Path, is_own: IsOwn) -> Result<Placed> {
    let own_splits = split_folders(root)?.unwrap_or_default();
    let (mut files, mut splits) = (Vec::new(), [const { Vec::new() }; 3]);
    for (split, source) in Split::ALL.into_iter().filter_map(|split| Some((split, own_splits[split as usize].first()?)))
    {
        if let Some(path) = label_folder(form, source.path(), is_own)? {
            files.push(LabelFile { path, split: Some(split) });
        }
        splits[split as usize].push(Source::Folder(images_in(source.path())?));
    }
    if files.first().is_some_and(|file| file.split == Some(Split::Train)) {
        return Ok(Some((files, splits)));
    }
    let Some(path) = label_folder(form, root, is_own)? else {
        return Ok(None);
    };
    let base = images_in(root)?;
    let whole = || [vec![Source::Folder(base.clone())], Vec::new(), Vec::new()];
    let splits = split_folders(&base)?.unwrap_or_else(whole);
    Ok(Some((vec![LabelFile { path, split: None }], splits)))
}

/// The folder of label files for the images of `folder`: itself, or one with a usual name in it.
fn label_folder(form: &Form, folder: &Path, is_own: IsOwn) -> Result<Option<PathBuf>> {
    for below in subfolders(folder, form.folders)? {
        if walk::holds(&below, is_own)? {
            return Ok(Some(below));
        }
    }
    let has_image = |file: &Path| EXTENSIONS.iter().any(|ending| archives::is_file(&file.with_extension(ending)));
    let is_beside = |file: &Path| form.is_ending_of(file) && has_image(file) && is_own(file);
    Ok(walk::holds(folder, &is_beside)?.then(|| folder.to_path_buf()))
}

/// The folders in `folder` with one of these names, regardless of case.
fn subfolders(folder: &Path, names: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = walk::folders(folder)?;
    found.retain(|path| names.contains(&relative_name(path, folder).to_lowercase().as_str()));
    Ok(found)
}

/// The folder of the images in `folder`: the one with a usual name, or itself.
fn images_in(folder: &Path) -> Result<PathBuf> {
    for below in subfolders(folder, &IMAGES)? {
        if walk::holds_image(&below)? {
            return Ok(below);
        }
    }
    Ok(folder.to_path_buf())
}

/// A task for the boxes, and one for each attribute of the images.
fn declared(form: &'static Form, root: &Path, files: Vec<LabelFile>, splits: Splits) -> Result<Declaration> {
    let from = |attributes| LabelsFrom::Form { form, files: files.clone(), attributes };
    let mut tasks: Vec<TaskDeclaration> = Vec::new();
    let mut notes = Vec::new();
    let (mut has_boxes, mut attributes) = (!form.has_tags, BTreeMap::new());
    if form.has_tags {
        for file in &files {
            let opened = FormFile::open(form, &file.path)?;
            has_boxes |= opened.has_boxes();
            opened.add_attributes(&mut attributes);
        }
    }
    if has_boxes {
        tasks.push(task(root, "objects", Content::Boxes, from(Vec::new())));
    }
    for (name, attribute) in attributes {
        let left_out = match attribute.distinct() {
            _ if name.trim().is_empty() => Some("it has no name"),
            _ if name == "objects" => Some("it has the name of the task of boxes"),
            1 if !attribute.are_several => Some("all its values are the same"),
            n if n == attribute.images && n > 2 && !attribute.are_numbers => Some("every image has a value of its own"),
            _ => None,
        };
        if let Some(why) = left_out {
            notes.push(format!("`{}` of the images left out: {why}", cut(&name)));
            continue;
        }
        let content = match (attribute.are_numbers, attribute.are_several) {
            (_, true) => Content::Classes,
            (true, false) => Content::Values,
            (false, false) => Content::Class,
        };
        tasks.push(task(root, &name, content, from(vec![name.clone()])));
    }
    if tasks.is_empty() {
        let message = format!(
            "no shape in the {} files is a box, and no image has a class: there is nothing to learn",
            form.title
        );
        return Err(Error::data(&files[0].path, None, message));
    }
    let layout = format!("{} ({}) in {}", form.title, described(form, root, &files), root.display());
    let mut found = declaration(root, layout, splits, tasks);
    found.notes = notes;
    Ok(found)
}

fn described(form: &Form, root: &Path, files: &[LabelFile]) -> String {
    if form.files == Files::OfManyImages {
        return shown(files, root);
    }
    let folders: Vec<String> =
        files.iter().map(|file| relative_name(&file.path, root)).filter(|name| !name.is_empty()).collect();
    let place = if folders.is_empty() { "beside it".to_string() } else { format!("in {}", list_some(&folders, 3)) };
    format!("a .{} file for each image, {place}", form.ending)
}
