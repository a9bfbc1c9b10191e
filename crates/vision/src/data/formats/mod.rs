//! All label formats behind one interface that returns the label of an image. Readers return class names or numbers as
//! written; `dataset` converts them to indices once all classes are known.

mod bdd;
mod bdd_file;
mod box_columns;
mod box_rows;
pub mod coco;
mod coco_entries;
mod coco_fields;
mod coco_labels;
mod columns;
mod corners;
mod folder;
mod form;
mod form_file;
mod image_list;
mod listed;
mod matching;
mod objects;
mod records;
pub mod samples;
mod stems;
pub mod table;
mod voc;
mod yolo;
mod yolo_rows;

use crate::data::declaration::{LabelsFrom, TaskDeclaration};
use crate::data::forms::{Files, Form};

use crate::error::{Error, Result};
use crate::reading::{Missing, Place, Raw, RawBox, RawClass, Reading, Remark, Spot, Word, text};
use crate::tasks::Content;
use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use bdd_file::BddFile;
pub use box_columns::is_box_rows;
pub use folder::below_class;
pub use form_file::FormFile;
pub use image_list::image_list;
pub use listed::{Images, Listed, Origin};
pub use voc::is_voc;
pub use yolo_rows::begins_with_row;

/// The reading of an image that `file` does not mention: as given by `missing:`, otherwise unlabelled.
fn not_mentioned(task: &TaskDeclaration, file: &Arc<Path>) -> Reading {
    let boxes = task.kind.content == Content::Boxes;
    let background = boxes && task.missing == Some(Missing::Background);
    let raw = if background { Raw::Boxes(Vec::new()) } else { Raw::Unlabelled };
    let mut reading = Reading::at(raw, Place::at(file, Spot::File));
    if boxes {
        reading.remarks = vec![(Remark::NotMentioned, reading.place.clone())];
    }
    reading
}

/// The opened labels of a task.
pub enum Reader {
    Folder,
    Table(columns::TableReader),
    Samples(samples::SampleReader),
    Yolo(yolo::YoloReader),
    Voc(voc::VocReader),
    BoxRows(box_rows::BoxRowsReader),
    Coco(coco_labels::CocoReader),
    Bdd(bdd::BddReader),
    Form(form::FormReader),
}

/// Files that several tasks use, so that each is opened once.
#[derive(Default)]
pub struct Cache {
    bdd: HashMap<PathBuf, Arc<BddFile>>,
    forms: HashMap<(&'static str, PathBuf), Arc<FormFile>>,
}

impl Cache {
    fn bdd(&mut self, path: &Path) -> Result<Arc<BddFile>> {
        if let Some(file) = self.bdd.get(path) {
            return Ok(file.clone());
        }
        let file = Arc::new(BddFile::open(path)?);
        self.bdd.insert(path.to_path_buf(), file.clone());
        Ok(file)
    }

    fn form(&mut self, form: &'static Form, path: &Path) -> Result<Arc<FormFile>> {
        let key = (form.word, path.to_path_buf());
        if let Some(file) = self.forms.get(&key) {
            return Ok(file.clone());
        }
        let file = Arc::new(FormFile::open(form, path)?);
        self.forms.insert(key, file.clone());
        Ok(file)
    }
}

impl Reader {
    /// Opens the label files of `task`. `images` are the images of all splits; `read` refers to them by index.
    pub fn open(task: &TaskDeclaration, root: &Path, images: &Images, cache: &mut Cache) -> Result<Reader> {
        Ok(match &task.from {
            LabelsFrom::Folders => Reader::Folder,
            LabelsFrom::Columns(columns) => match samples::SampleReader::open(task, columns, root, &images.all)? {
                Some(reader) => Reader::Samples(reader),
                None => Reader::Table(columns::TableReader::metadata(task, columns, root, &images.all)?),
            },
            LabelsFrom::Csv { files, columns, key } => {
                Reader::Table(columns::TableReader::csv(task, files, columns, key.as_deref(), root, images)?)
            }
            LabelsFrom::BoxRows { files } => Reader::BoxRows(box_rows::BoxRowsReader::open(files, root, images)?),
            LabelsFrom::Yolo { dir, rows } => Reader::Yolo(yolo::YoloReader::new(&task.name, dir.clone(), *rows, root)),
            LabelsFrom::Voc { dir } => Reader::Voc(voc::VocReader::new(dir.clone())),
            LabelsFrom::Coco { files } => Reader::Coco(coco_labels::CocoReader::open(files, root, images)?),
            LabelsFrom::Bdd { files, attribute } => {
                Reader::Bdd(bdd::BddReader::open(task, files, attribute.as_deref(), root, images, cache)?)
            }
            LabelsFrom::Form { form, files, attributes } => {
                Reader::Form(form::FormReader::open(task, form, files, attributes, root, images, cache)?)
            }
        })
    }

    /// Reads the labels of image number `index`.
    pub fn read(&self, task: &TaskDeclaration, index: usize, image: &Listed) -> Result<Reading> {
        match self {
            Reader::Folder => folder::read(image),
            Reader::Table(reader) => reader.read(task, index, image),
            Reader::Samples(reader) => reader.read(task, image),
            Reader::Yolo(reader) => reader.read(task, image),
            Reader::Voc(reader) => reader.read(task, image),
            Reader::BoxRows(reader) => reader.read(task, index, image),
            Reader::Coco(reader) => reader.read(task, index),
            Reader::Bdd(reader) => reader.read(task, index),
            Reader::Form(reader) => reader.read(task, index, image),
        }
    }

    /// Whether the images must be read again, because all labels together mean something else than each alone suggests.
    pub fn reconsiders(&mut self) -> bool {
        match self {
            Reader::Yolo(reader) => reader.reconsiders(),
            _ => false,
        }
    }

    /// Takes the faults of single entries in files that hold the labels of many images.
    pub fn take_faults(&mut self) -> Vec<Error> {
        match self {
            Reader::Table(reader) => std::mem::take(&mut reader.faults),
            Reader::BoxRows(reader) => std::mem::take(&mut reader.faults),
            Reader::Coco(reader) => std::mem::take(&mut reader.faults),
            Reader::Form(reader) => std::mem::take(&mut reader.faults),
            _ => Vec::new(),
        }
    }

    /// The classes in file order, if the files define one.
    pub fn classes(&self) -> Option<Vec<String>> {
        match self {
            Reader::Coco(reader) => Some(reader.classes.clone()),
            Reader::Samples(reader) => reader.classes.clone(),
            _ => None,
        }
    }

    /// Notes about the labels as a whole: rows that match no image, tables found.
    pub fn notes(&self) -> Vec<String> {
        match self {
            Reader::Table(reader) => reader.notes.clone(),
            Reader::BoxRows(reader) => reader.notes.clone(),
            Reader::Coco(reader) => reader.notes.clone(),
            Reader::Bdd(reader) => reader.notes.clone(),
            Reader::Yolo(reader) => reader.note().into_iter().collect(),
            Reader::Form(reader) => reader.notes.clone(),
            _ => Vec::new(),
        }
    }
}

/// The format of a JSON label file, recognised by its beginning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Json {
    Coco,
    Bdd,
}

pub fn json_kind(file: &Path) -> Option<Json> {
    let mut start = Vec::new();
    text::open(file).ok()?.take(1 << 16).read_to_end(&mut start).ok()?;
    let text = String::from_utf8_lossy(&start);
    let text = text.trim_start();
    if Form::is_json(text) {
        return None;
    }
    let holds = |keys: &[&str]| keys.iter().any(|key| text.contains(&format!("\"{key}\"")));
    match text.as_bytes().first()? {
        b'{' if holds(&["frames"]) => Some(Json::Bdd),
        b'{' if holds(&["images", "annotations", "categories"]) => Some(Json::Coco),
        b'[' if holds(&["name"]) && holds(&["labels", "attributes", "videoName"]) => Some(Json::Bdd),
        _ => None,
    }
}

/// The images named by a label file, for a split that is declared by that file.
pub fn image_names(file: &Path) -> Result<Vec<String>> {
    if let Some(form) = Form::of_file(file).filter(|form| form.files == Files::OfManyImages) {
        return Ok(FormFile::open(form, file)?.images.iter().map(|image| image.name.to_string()).collect());
    }
    let is_json = file.extension().is_some_and(|e| e.eq_ignore_ascii_case("json"));
    if !is_json {
        return match is_box_rows(file) {
            true => Ok(box_rows::BoxFile::open(file)?.image_names().map(str::to_string).collect()),
            false => table::image_names(file),
        };
    }
    match json_kind(file) {
        Some(Json::Bdd) => Ok(BddFile::open(file)?.frames.iter().map(|frame| frame.name.to_string()).collect()),
        Some(Json::Coco) => {
            let images = coco_entries::read(file)?.images.all.into_iter();
            Ok(images.map(|image| table::normal(&image.name)).filter(|name| !name.is_empty()).collect())
        }
        None => {
            let message =
                "neither COCO annotations nor a list of BDD100K frames: name a folder, a list file, or one of these";
            Err(Error::data(file, None, message))
        }
    }
}
