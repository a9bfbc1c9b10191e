//! COCO instance annotations as labels of a detection task: sparse category ids become names, a crowd becomes a region
//! to ignore, and a listed image without annotations is *labelled, nothing there*.

use super::coco_entries::{self, AnnotationEntry, CocoEntries, CocoId, Entries, ImageEntry};
use super::corners::Found;
use super::listed::Images;
use super::matching::{Matches, Names, check_unused, match_images};
use super::table::normal;
use super::{Raw, RawBox, RawClass, Reading, Remark, Word};
use crate::boxes;
use crate::data::declaration::{LabelFile, Split, TaskDeclaration};
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
    /// Entries that could not be interpreted and belong to no image.
    pub faults: Vec<Error>,
}

struct CocoFile {
    path: Arc<Path>,
    content: CocoEntries,
    by_name: HashMap<Arc<str>, usize>,
    /// The valid annotations sorted by image, and the start of each image's annotations in this order.
    order: Vec<u32>,
    starts: Vec<u32>,
    names: HashMap<CocoId, Arc<str>>,
    wrong: Wrong,
    faults: Vec<Error>,
}

impl CocoReader {
    pub fn open(files: &[LabelFile], root: &Path, images: &Images) -> Result<Self> {
        let mut notes = Vec::new();
        let mut opened: Vec<CocoFile> =
            files.iter().map(|file| CocoFile::open(file, files.len() > 1, root, &mut notes)).collect::<Result<_>>()?;
        let entries: Vec<_> = opened.iter().map(|file| |image: usize| file.entry(image)).collect();
        let names = opened.iter().zip(files).zip(&entries).map(|((file, at), entry)| Names {
            file: at,
            noun: "image",
            by_name: &file.by_name,
            entry,
            count: file.content.images.all.len(),
        });
        let names: Vec<Names> = names.collect();
        let matches = match_images(&names, root, images)?;
        notes.extend(check_unused(&names, &matches, root, &images.all)?);
        let classes = class_names(&opened, root, &mut notes);
        let mut faults: Vec<Error> = opened.iter_mut().flat_map(|file| std::mem::take(&mut file.faults)).collect();
        // An entry of an image that is not in this data set belongs to nobody who would report it.
        let matched: HashSet<(usize, usize)> = matches.iter().flatten().copied().collect();
        for (f, file) in opened.iter().enumerate() {
            let mut unmatched: Vec<_> =
                file.wrong.iter().filter(|(image, _)| !matched.contains(&(f, **image))).collect();
            unmatched.sort_by_key(|(image, _)| **image);
            faults.extend(
                unmatched.into_iter().flat_map(|(_, wrong)| wrong).map(|(spot, text)| spot.error(&file.path, text)),
            );
        }
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
        let wrong = file.wrong.get(&image).into_iter().flatten();
        reading.faults = wrong.map(|(spot, text)| spot.error(&file.path, text)).collect();
        let Some(annotations) = &file.content.annotations else {
            return Ok(reading);
        };
        let [width, height] = file.content.images.all[image].size;
        let mut found = Found::default();
        for &index in file.annotations_of(image) {
            let annotation = &annotations.all[index as usize];
            let [x, y, w, h] = annotation.bbox;
            let spot = Spot::Entry(List::Annotations, index);
            let Some([x1, y1, x2, y2]) = found.in_order([x, y, x + w, y + h], spot, &mut reading) else {
                continue;
            };
            let beyond = |end: f64, size: Option<f64>| size.is_some_and(|size| size > 0.0 && end > size + ROUNDING);
            if beyond(x2, width) || beyond(y2, height) {
                reading.remarks.push((Remark::BeyondImage, Place::at(&file.path, spot)));
            }
            let name = file.names[&annotation.category].clone();
            found.boxes.push(RawBox {
                class: RawClass { word: Word::Name(name), spot },
                xyxy: boxes::from_xywh([x1, y1, x2 - x1, y2 - y1].map(|v| v as f32)),
                ignore: annotation.iscrowd,
            });
        }
        found.finish(&mut reading);
        Ok(reading)
    }
}

impl CocoFile {
    fn open(at: &LabelFile, is_one_of_several: bool, root: &Path, notes: &mut Vec<String>) -> Result<Self> {
        let path = &at.path;
        let mut content = coco_entries::read(path)?;
        let error = |message: &str| Err(Error::data(path, None, message));
        let is_unlabelled = content.annotations.is_none();
        let may_be_unlabelled = at.split == Some(Split::Test) || (at.split.is_none() && is_one_of_several);
        if is_unlabelled && !may_be_unlabelled {
            return error("no `annotations`: list the boxes of all images there, `[]` if there are none");
        }
        if content.categories.all.is_empty() && !is_unlabelled {
            return error("`categories` is empty: list each class with its id and name");
        }
        if content.images.all.is_empty() {
            return error("`images` is empty: list each image with its id and file_name");
        }
        if is_unlabelled {
            notes.push(format!(
                "{}: no `annotations`, so its {} unlabelled",
                relative_name(path, root),
                match content.images.all.len() {
                    1 => "image is".to_owned(),
                    n => format!("{n} images are"),
                }
            ));
        }
        if let Some((i, message)) = content.categories.faults.first() {
            return Err(Spot::entry(List::Categories, *i).error(path, message));
        }
        let mut names: HashMap<CocoId, Arc<str>> = HashMap::new();
        let mut first = HashMap::new();
        for (i, category) in content.categories.all.iter().enumerate() {
            names.insert(category.id.clone(), Arc::from(category.name.as_str()));
            if let Some(before) = first.insert(&category.id, i) {
                return error(&same_id("categories", before, i, &category.id));
            }
        }
        let mut wrong = Wrong::new();
        for (i, message) in std::mem::take(&mut content.images.faults) {
            wrong.entry(i).or_default().push((Spot::entry(List::Images, i), message));
        }
        let (by_name, by_id) = by_name_and_id(&content.images.all, &mut wrong);
        let mut owners = Owners::default();
        if let Some(annotations) = &mut content.annotations {
            owners.find(annotations, &by_id, &names, content.images.all.len(), &mut wrong);
            notes.extend(owners.notes(annotations, &relative_name(path, root)));
        }
        let faults = owners.faults.into_iter().map(|(spot, message)| spot.error(path, message)).collect();
        let (order, starts) = by_image(&owners.images, content.images.all.len());
        Ok(CocoFile { path: path.as_path().into(), content, by_name, order, starts, names, wrong, faults })
    }

    fn annotations_of(&self, image: usize) -> &[u32] {
        &self.order[self.starts[image] as usize..self.starts[image + 1] as usize]
    }

    fn entry(&self, image: usize) -> (String, Place) {
        let name = self.content.images.all[image].name.clone();
        (name, Place::at(&self.path, Spot::entry(List::Images, image)))
    }
}

/// For each image with a wrong entry, the position and the message of each.
type Wrong = HashMap<usize, Vec<(Spot, String)>>;

/// The positions of images by their names and by their ids. Entries with one name or id are wrong.
fn by_name_and_id<'a>(
    images: &'a [ImageEntry],
    wrong: &mut Wrong,
) -> (HashMap<Arc<str>, usize>, HashMap<&'a CocoId, usize>) {
    let mut by_name: HashMap<Arc<str>, usize> = HashMap::with_capacity(images.len());
    let mut by_id: HashMap<&CocoId, usize> = HashMap::with_capacity(images.len());
    for (i, image) in images.iter().enumerate() {
        let name = normal(&image.name);
        if let Some(&before) = by_name.get(name.as_str()) {
            let message = format!("`{}` is images[{before}] already: list every image once", image.name);
            wrong.entry(before).or_default().push((Spot::entry(List::Images, i), message));
        } else if !name.is_empty() {
            by_name.insert(name.into(), i);
        }
        if image.id == CocoId::Missing {
            continue;
        }
        if let Some(&before) = by_id.get(&image.id) {
            let message = same_id("images", before, i, &image.id);
            // Nobody can say whose annotations they are.
            for image in [before, i] {
                wrong.entry(image).or_default().push((Spot::File, message.clone()));
            }
        } else {
            by_id.insert(&image.id, i);
        }
    }
    (by_name, by_id)
}

/// The images that annotations belong to, and those that belong to none.
#[derive(Default)]
struct Owners {
    /// For each annotation its image; one beyond the images if it has no valid image, box or category.
    images: Vec<usize>,
    unlisted: Vec<usize>,
    from_polygons: Vec<usize>,
    /// Wrong annotations whose image is not known.
    faults: Vec<(Spot, String)>,
}

impl Owners {
    fn find(
        &mut self,
        annotations: &mut Entries<AnnotationEntry>,
        by_id: &HashMap<&CocoId, usize>,
        names: &HashMap<CocoId, Arc<str>>,
        unknown: usize,
        wrong: &mut Wrong,
    ) {
        self.images.reserve_exact(annotations.all.len());
        let mut as_written = std::mem::take(&mut annotations.faults).into_iter().peekable();
        for (i, annotation) in annotations.all.iter().enumerate() {
            let spot = Spot::entry(List::Annotations, i);
            let of_category = || {
                let (id, count) = (&annotation.category, names.len());
                let message =
                    || format!("category {id} is not among the {count} of `categories`: correct it, or list it there");
                (!names.contains_key(id)).then(message)
            };
            let message = as_written.next_if(|(at, _)| *at == i).map(|(_, message)| message).or_else(of_category);
            let image = by_id.get(&annotation.image).copied();
            self.images.push(if message.is_none() { image.unwrap_or(unknown) } else { unknown });
            match (message, image) {
                (None, Some(_)) if annotation.from_polygon => self.from_polygons.push(i),
                (None, Some(_)) => {}
                (None, None) => self.unlisted.push(i),
                (Some(message), Some(image)) => wrong.entry(image).or_default().push((spot, message)),
                (Some(message), None) => self.faults.push((spot, message)),
            }
        }
    }

    /// Notes about annotations that are left out or lack a box; `shown` is the file.
    fn notes(&self, annotations: &Entries<AnnotationEntry>, shown: &str) -> Vec<String> {
        let unlisted = self.unlisted.first().map(|first| {
            format!(
                "{shown}: {} of images that are not listed, left out (first: annotations[{first}], image {})",
                count_of(self.unlisted.len(), "annotation"),
                annotations.all[*first].image
            )
        });
        let from_polygons = self.from_polygons.first().map(|first| {
            format!(
                "{shown}: {} without `bbox`, for which the bounds of the polygon are used (first: annotations[{first}])",
                count_of(self.from_polygons.len(), "annotation")
            )
        });
        unlisted.into_iter().chain(from_polygons).collect()
    }
}

/// The message about two entries of a list with one id.
fn same_id(list: &str, before: usize, index: usize, id: &CocoId) -> String {
    format!("{list}[{before}] and {list}[{index}] both have id {id}: each needs its own")
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
        let all = file.content.annotations.iter().flat_map(|annotations| &annotations.all);
        all.filter_map(|annotation| file.names.get(&annotation.category))
    };
    let used: HashSet<&str> = files.iter().flat_map(of_annotations).map(|name| &**name).collect();
    for file in files {
        let mut categories: Vec<_> = file.content.categories.all.iter().collect();
        categories.sort_by(|a, b| a.id.cmp(&b.id));
        // The ids of the categories that name another one as theirs.
        let mut below: HashMap<&str, Vec<&CocoId>> = HashMap::new();
        for category in &categories {
            if let Some(above) = category.supercategory.as_deref() {
                below.entry(above).or_default().push(&category.id);
            }
        }
        for category in categories {
            let name = category.name.as_str();
            if !known.insert(name) {
                continue;
            }
            // A category may name itself.
            let is_above = below.get(name).is_some_and(|ids| *ids[0] != category.id || ids.len() > 1);
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
