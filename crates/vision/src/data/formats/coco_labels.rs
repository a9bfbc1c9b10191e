//! COCO instance annotations as labels of a detection task: sparse category ids become names, a crowd becomes a region
//! to ignore, and a listed image without annotations is *labelled, nothing there*.

use super::coco::{self, CocoAnnotations};
use super::listed::Images;
use super::matching::{Matches, Names, check_unused, match_images};
use super::table::normal;
use super::{Raw, RawBox, RawClass, Reading, Remark, Word};
use crate::boxes;
use crate::data::declaration::{LabelFile, TaskDeclaration};
use crate::data::walk::relative_name;
use crate::error::{Error, Result};
use crate::reading::{List, Place, Spot, count_of};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// A box may exceed the stated image size by this many pixels without a remark, because of rounding.
const ROUNDING: f64 = 0.5;

pub struct CocoReader {
    files: Vec<CocoFile>,
    matches: Matches,
    /// In the order of category ids in the file.
    pub classes: Vec<String>,
    pub notes: Vec<String>,
    /// Annotations that could not be interpreted.
    pub faults: Vec<Error>,
}

struct CocoFile {
    path: Arc<Path>,
    content: CocoAnnotations,
    by_name: HashMap<Arc<str>, usize>,
    /// The valid annotations sorted by image, and the start of each image's annotations in this order.
    order: Vec<u32>,
    starts: Vec<u32>,
    names: HashMap<i64, Arc<str>>,
    faults: Vec<Error>,
}

impl CocoReader {
    pub fn open(files: &[LabelFile], root: &Path, images: &Images) -> Result<Self> {
        let mut notes = Vec::new();
        let mut opened: Vec<CocoFile> =
            files.iter().map(|file| CocoFile::open(&file.path, root, &mut notes)).collect::<Result<_>>()?;
        let entries: Vec<_> = opened.iter().map(|file| |image: usize| file.entry(image)).collect();
        let names = opened.iter().zip(files).zip(&entries).map(|((file, at), entry)| Names {
            file: at,
            noun: "image",
            by_name: &file.by_name,
            entry,
            count: file.content.images.len(),
        });
        let names: Vec<Names> = names.collect();
        let matches = match_images(&names, root, images)?;
        notes.extend(check_unused(&names, &matches, root, &images.all)?);
        let classes = class_names(&opened, root, &mut notes);
        let faults = opened.iter_mut().flat_map(|file| std::mem::take(&mut file.faults)).collect();
        // Every image now has its entry, so the names are no longer needed.
        opened.iter_mut().for_each(|file| file.by_name = HashMap::new());
        Ok(CocoReader { matches, classes, notes, faults, files: opened })
    }

    pub fn read(&self, task: &TaskDeclaration, index: usize) -> Result<Reading> {
        let Some((f, image)) = self.matches[index] else {
            return Ok(super::not_mentioned(task, &self.files[0].path));
        };
        let file = &self.files[f];
        let mut reading = Reading::at(Raw::Unlabelled, Place::at(&file.path, Spot::entry(List::Images, image)));
        let stated = &file.content.images[image];
        let own = file.annotations_of(image);
        let mut found = Vec::with_capacity(own.len());
        for &index in own {
            let annotation = &file.content.annotations[index as usize];
            let [x, y, w, h] = annotation.bbox;
            let spot = Spot::Entry(List::Annotations, index);
            if w <= 0.0 || h <= 0.0 {
                reading.remarks.push((Remark::DegenerateBox, Place::at(&file.path, spot)));
                continue;
            }
            let beyond = |end: f64, size: Option<f64>| size.is_some_and(|size| size > 0.0 && end > size + ROUNDING);
            if beyond(x + w, stated.width) || beyond(y + h, stated.height) {
                reading.remarks.push((Remark::BeyondImage, Place::at(&file.path, spot)));
            }
            let name = file.names[&annotation.category_id].clone();
            found.push(RawBox {
                class: RawClass { word: Word::Name(name), spot },
                xyxy: boxes::from_xywh([x, y, w, h].map(|v| v as f32)),
                ignore: annotation.iscrowd,
            });
        }
        reading.raw = Raw::Boxes(found);
        Ok(reading)
    }
}

impl CocoFile {
    fn open(path: &Path, root: &Path, notes: &mut Vec<String>) -> Result<Self> {
        let mut content = coco::read_annotations(path)?;
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
                return Err(Spot::entry(List::Categories, i).error(path, "no `name`: name the class"));
            }
            names.insert(category.id, Arc::from(name));
        }
        let mut by_name = HashMap::with_capacity(content.images.len());
        let mut by_id = HashMap::with_capacity(content.images.len());
        for (i, image) in content.images.iter().enumerate() {
            let spot = Spot::entry(List::Images, i);
            let name = normal(&image.file_name);
            if name.is_empty() {
                return Err(spot.error(path, "no `file_name`: give the path relative to the images"));
            }
            if let Some(before) = by_name.insert(name.into(), i) {
                let message = format!("`{}` is images[{before}] already: list every image once", image.file_name);
                return Err(spot.error(path, message));
            }
            by_id.insert(image.id, i);
        }
        // One index beyond the images stands for annotations without a valid image or category.
        let (unknown, mut image_indices) = (content.images.len(), Vec::with_capacity(content.annotations.len()));
        let (mut unlisted, mut faults) = (Vec::new(), Vec::new());
        for (i, annotation) in content.annotations.iter().enumerate() {
            if !names.contains_key(&annotation.category_id) {
                let message = format!(
                    "category {} is not among the {} of `categories`: correct it, or list it there",
                    annotation.category_id,
                    content.categories.len()
                );
                faults.push(Spot::entry(List::Annotations, i).error(path, message));
                image_indices.push(unknown);
                continue;
            }
            image_indices.push(by_id.get(&annotation.image_id).copied().unwrap_or(unknown));
            if image_indices[i] == unknown {
                unlisted.push(i);
            }
        }
        if let Some(first) = unlisted.first() {
            notes.push(format!(
                "{}: {} of images that are not listed, left out (first: annotations[{first}], image {})",
                relative_name(path, root),
                count_of(unlisted.len(), "annotation"),
                content.annotations[*first].image_id
            ));
        }
        let (order, starts) = by_image(&image_indices, unknown);
        content.images.iter_mut().for_each(|image| image.file_name.shrink_to_fit());
        Ok(CocoFile { path: path.into(), content, by_name, order, starts, names, faults })
    }

    fn annotations_of(&self, image: usize) -> &[u32] {
        &self.order[self.starts[image] as usize..self.starts[image + 1] as usize]
    }

    fn entry(&self, image: usize) -> (String, Place) {
        let name = self.content.images[image].file_name.clone();
        (name, Place::at(&self.path, Spot::entry(List::Images, image)))
    }
}

/// The annotation indices sorted by image, in file order, and the start of each image's part. A list per image would
/// take ten times the memory.
fn by_image(image_indices: &[usize], images: usize) -> (Vec<u32>, Vec<u32>) {
    let mut starts = vec![0u32; images + 2];
    image_indices.iter().for_each(|image| starts[image + 1] += 1);
    for i in 1..starts.len() {
        starts[i] += starts[i - 1];
    }
    let mut next = starts.clone();
    let mut order = vec![0u32; image_indices.len()];
    for (annotation, &image) in image_indices.iter().enumerate() {
        order[next[image] as usize] = annotation as u32;
        next[image] += 1;
    }
    (order, starts)
}

/// The categories of all files in the order of their ids, each name once. Roboflow lists the data set itself as a
/// supercategory: a category without boxes that others name as their supercategory is not a class.
fn class_names<'a>(files: &'a [CocoFile], root: &Path, notes: &mut Vec<String>) -> Vec<String> {
    let (mut names, mut known) = (Vec::new(), HashSet::new());
    let of_annotations = |file: &'a CocoFile| {
        file.content.annotations.iter().filter_map(|annotation| file.names.get(&annotation.category_id))
    };
    let used: HashSet<&str> = files.iter().flat_map(of_annotations).map(|name| &**name).collect();
    for file in files {
        let mut categories: Vec<_> = file.content.categories.iter().collect();
        categories.sort_by_key(|category| category.id);
        // The ids of the categories that name another one as theirs.
        let mut below: HashMap<&str, Vec<i64>> = HashMap::new();
        for category in &categories {
            if let Some(above) = category.supercategory.as_deref() {
                below.entry(above).or_default().push(category.id);
            }
        }
        for category in categories {
            let name = category.name.trim();
            if !known.insert(name) {
                continue;
            }
            // A category may name itself.
            let is_above = below.get(name).is_some_and(|ids| ids[0] != category.id || ids.len() > 1);
            if is_above && !used.contains(name) {
                known.remove(name);
                let shown = relative_name(&file.path, root);
                notes.push(format!(
                    "{shown}: category {} (`{name}`) left out: no box has it, and it is the supercategory of others",
                    category.id
                ));
                continue;
            }
            names.push(name.to_string());
        }
    }
    names
}
