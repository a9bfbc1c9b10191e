//! COCO's instance annotations as the labels of a detection task: sparse category numbers become names, a crowd becomes a
//! region to ignore, an image that the file lists without an annotation is *labelled, nothing there*.

use super::coco::{self, CocoAnnotations};
use super::matching::{Matches, Names, check_unused, match_images};
use super::table::normal;
use super::{Raw, RawBox, RawClass, Reading, Remark, Word};
use crate::boxes;
use crate::data::dataset::Images;
use crate::data::declaration::{LabelFile, TaskDeclaration};
use crate::data::listing::relative_name;
use crate::data::{Place, count_of};
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::path::Path;

/// How far, in pixels, a box may leave the stated image size before it is worth a word: rounding.
const ROUNDING: f64 = 0.5;

pub struct CocoReader {
    files: Vec<CocoFile>,
    matches: Matches,
    /// By category number, as the file has them.
    pub classes: Vec<String>,
    pub notes: Vec<String>,
}

struct CocoFile {
    file: LabelFile,
    content: CocoAnnotations,
    by_name: HashMap<String, usize>,
    /// Per image, its annotations.
    of_image: Vec<Vec<usize>>,
    names: HashMap<i64, String>,
}

impl CocoReader {
    pub fn open(files: &[LabelFile], root: &Path, images: &Images) -> Result<Self> {
        let mut notes = Vec::new();
        let files: Vec<CocoFile> =
            files.iter().map(|file| CocoFile::open(file, root, &mut notes)).collect::<Result<_>>()?;
        let entries: Vec<_> = files.iter().map(|file| |image: usize| file.entry(image)).collect();
        let names = files.iter().zip(&entries).map(|(file, entry)| Names {
            file: &file.file,
            noun: "image",
            by_name: &file.by_name,
            entry,
            count: file.content.images.len(),
        });
        let names: Vec<Names> = names.collect();
        let matches = match_images(&names, root, images)?;
        notes.extend(check_unused(&names, &matches, root, &images.all)?);
        let classes = class_names(&files, root, &mut notes);
        Ok(CocoReader { matches, classes, notes, files })
    }

    pub fn read(&self, task: &TaskDeclaration, index: usize) -> Result<Reading> {
        let Some((f, image)) = self.matches[index] else {
            return Ok(Reading::not_mentioned(task, &self.files[0].file.path));
        };
        let file = &self.files[f];
        let mut reading = Reading::of(Raw::Unlabelled, &file.file.path, None);
        let stated = &file.content.images[image];
        let mut found = Vec::new();
        for &index in &file.of_image[image] {
            let annotation = &file.content.annotations[index];
            let [x, y, w, h] = annotation.bbox;
            let place = Place::entry(&file.file.path, "annotations", index);
            if w <= 0.0 || h <= 0.0 {
                reading.remarks.push((Remark::DegenerateBox, place));
                continue;
            }
            let beyond = |end: f64, size: Option<f64>| size.is_some_and(|size| size > 0.0 && end > size + ROUNDING);
            if beyond(x + w, stated.width) || beyond(y + h, stated.height) {
                reading.remarks.push((Remark::BeyondImage, place));
            }
            let name = file.names[&annotation.category_id].clone();
            found.push(RawBox {
                class: RawClass { word: Word::Name(name), line: None },
                xyxy: boxes::from_xywh([x, y, w, h].map(|v| v as f32)),
                ignore: annotation.iscrowd,
            });
        }
        reading.raw = Raw::Boxes(found);
        Ok(reading)
    }
}

impl CocoFile {
    fn open(file: &LabelFile, root: &Path, notes: &mut Vec<String>) -> Result<Self> {
        let path = &file.path;
        let content = coco::read_annotations(path)?;
        let error = |message: &str| Err(Error::data(path, None, message));
        if content.categories.is_empty() {
            return error("`categories` is empty: list each class with its id and name");
        }
        if content.images.is_empty() {
            return error("`images` is empty: list each image with its id and file_name");
        }
        let mut names = HashMap::new();
        for (i, category) in content.categories.iter().enumerate() {
            let name = category.name.trim();
            if name.is_empty() {
                return Err(Place::entry(path, "categories", i).error("no `name`: name the class"));
            }
            names.insert(category.id, name.to_string());
        }
        let mut by_name = HashMap::new();
        let mut by_id = HashMap::new();
        for (i, image) in content.images.iter().enumerate() {
            let place = Place::entry(path, "images", i);
            let name = normal(&image.file_name);
            if name.is_empty() {
                return Err(place.error("no `file_name`: give the path relative to the images"));
            }
            if let Some(before) = by_name.insert(name, i) {
                let message = format!("`{}` is images[{before}] already: list every image once", image.file_name);
                return Err(place.error(message));
            }
            by_id.insert(image.id, i);
        }
        let mut of_image = vec![Vec::new(); content.images.len()];
        let mut homeless = Vec::new();
        for (i, annotation) in content.annotations.iter().enumerate() {
            if !names.contains_key(&annotation.category_id) {
                let message = format!(
                    "category {} is not among the {} of `categories`: correct it, or list it there",
                    annotation.category_id,
                    content.categories.len()
                );
                return Err(Place::entry(path, "annotations", i).error(message));
            }
            match by_id.get(&annotation.image_id) {
                Some(&image) => of_image[image].push(i),
                None => homeless.push(i),
            }
        }
        if let Some(first) = homeless.first() {
            notes.push(format!(
                "{}: {} of images that are not listed, left out (first: annotations[{first}], image {})",
                relative_name(path, root),
                count_of(homeless.len(), "annotation"),
                content.annotations[*first].image_id
            ));
        }
        Ok(CocoFile { file: file.clone(), content, by_name, of_image, names })
    }

    fn entry(&self, image: usize) -> (String, Place) {
        let name = self.content.images[image].file_name.clone();
        (name, Place::entry(&self.file.path, "images", image))
    }
}

/// The categories of all files by their numbers, each name once. Roboflow lists the data set itself as a category above
/// the others: one that no box has and that others name as theirs is no class.
fn class_names(files: &[CocoFile], root: &Path, notes: &mut Vec<String>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for file in files {
        let mut categories: Vec<_> = file.content.categories.iter().collect();
        categories.sort_by_key(|category| category.id);
        for category in categories {
            let name = category.name.trim();
            let used = || files.iter().any(|f| f.content.annotations.iter().any(|a| f.names[&a.category_id] == name));
            let above =
                |other: &&coco::CocoCategory| other.id != category.id && other.supercategory.as_deref() == Some(name);
            if names.iter().any(|known| known == name) {
                continue;
            }
            if file.content.categories.iter().any(|other| above(&other)) && !used() {
                let shown = relative_name(&file.file.path, root);
                notes.push(format!(
                    "{shown}: category {} (`{name}`) left out: no box has it, and it stands above the others",
                    category.id
                ));
                continue;
            }
            names.push(name.to_string());
        }
    }
    names
}
