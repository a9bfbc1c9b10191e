//! Reads the files of a form (`data::forms`): one file, or a folder with a file per image. Stored compactly, because there
//! may be a million images.

use super::table::normal;
use crate::boxes::Xyxy;
use crate::data::forms::{Files, Form, Part, Shape, Unreadable, Written};
use crate::data::walk::{self, relative_name};
use crate::error::{Error, Result};
use crate::reading::{Place, Spot, count_of, cut, text};
use rayon::prelude::*;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The number of files of single images that are read at once.
const AT_ONCE: usize = 1024;

/// What a file or a folder of files states.
pub struct FormFile {
    pub images: Vec<FormImage>,
    /// By the names in the file or, for files of single images, by their path below the folder without the ending.
    pub by_name: HashMap<Arc<str>, usize>,
    /// Classes, names of attributes and their values, each stored once.
    words: Words,
    /// Entries that belong to no image, each with the sentence that says what is wrong.
    pub faults: Vec<(Place, String)>,
    /// Notes about the boxes.
    pub notes: Vec<String>,
}

pub struct FormImage {
    pub name: Arc<str>,
    /// The file that the image is in.
    pub file: Arc<Path>,
    pub spot: Spot,
    /// Width and height as the file states them, or zeros.
    pub size: [f32; 2],
    /// Whether the corners of its boxes are fractions of the picture.
    pub fractions: bool,
    /// `None` if unlabelled.
    pub boxes: Option<Box<[FormBox]>>,
    /// Whether something that is no box was left out.
    pub has_others: bool,
    /// Pairs of an attribute and its value, or of an attribute that was asked for and `u32::MAX`.
    tags: Box<[[u32; 2]]>,
    pub faults: Box<[(Part, Spot, String)]>,
}

pub struct FormBox {
    class: Option<u32>,
    pub xyxy: Xyxy,
    pub ignore: bool,
    pub spot: Spot,
}

#[derive(Default)]
struct Words {
    all: Vec<(Arc<str>, Value)>,
    number: HashMap<String, u32>,
}

/// The second number of a tag that only says that its attribute was asked for.
const ASKED: u32 = u32::MAX;

/// The values of an attribute of images.
#[derive(Default)]
pub struct Attribute {
    values: HashSet<u32>,
    /// The number of images with a value.
    pub images: usize,
    pub are_numbers: bool,
    /// Whether an image may have several values, or none of them.
    pub are_several: bool,
}

impl Attribute {
    /// The number of different values.
    pub fn distinct(&self) -> usize {
        self.values.len()
    }
}

impl FormFile {
    /// Reads a file or, for a form with a file per image, all files below a folder.
    pub fn open(form: &'static Form, path: &Path) -> Result<FormFile> {
        let mut file = FormFile {
            images: Vec::new(),
            by_name: HashMap::new(),
            words: Words::default(),
            faults: Vec::new(),
            notes: Vec::new(),
        };
        let mut odd = Odd::default();
        match form.files {
            Files::OfManyImages => {
                let at: Arc<Path> = path.into();
                let text = text::read(path).map_err(Error::io("read", path))?;
                let read = (form.read)(&text, &mut |image| file.take(image, &at, &mut odd));
                let notes = read.map_err(|e| unreadable(form, path, e))?;
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                file.notes.extend(notes.into_iter().map(|note| format!("{name}: {note}")));
                if file.images.is_empty() && file.faults.is_empty() {
                    let message = format!("no image is listed: expected {} with the labels of images", form.title);
                    return Err(Error::data(path, None, message));
                }
            }
            Files::OfOneImage => {
                let paths = walk::files(path, &|file| form.is_ending_of(file))?;
                for some in paths.chunks(AT_ONCE) {
                    let read: Vec<_> = some.par_iter().map(|at| read_one(form, at)).collect();
                    for (at, image) in some.iter().zip(read) {
                        file.take(Written { name: stem(at, path), ..image }, &at.as_path().into(), &mut odd);
                    }
                }
            }
        }
        for (name, index) in std::mem::take(&mut odd.other_names) {
            if let Some(index) = index {
                file.by_name.entry(name.into()).or_insert(index);
            }
        }
        file.notes.extend(odd.notes(form, path));
        file.images.shrink_to_fit();
        Ok(file)
    }

    fn take(&mut self, image: Written, file: &Arc<Path>, odd: &mut Odd) {
        let name = normal(&image.name);
        let spot = image.spot;
        if name.is_empty() {
            let message = match image.faults.into_iter().next() {
                Some((_, _, message)) => message,
                None => "no name of an image: give the path relative to the images".into(),
            };
            return self.faults.push((Place::at(file, spot), message));
        }
        let index = self.images.len();
        if let Some(&before) = self.by_name.get(name.as_str()) {
            let other = &self.images[before];
            let message = match *other.file == **file {
                true => format!("`{}` is in this file already ({}): list every image once", cut(&name), other.spot),
                false => {
                    format!("`{}` has another label file, {}: remove one of them", cut(&name), other.file.display())
                }
            };
            // It is not known which of the two is right.
            self.images[before].faults = Box::new([(Part::Everything, spot, message)]);
            return;
        }
        odd.count(&image);
        let name: Arc<str> = name.into();
        self.by_name.insert(name.clone(), index);
        for other in image.other_names {
            let first = odd.other_names.entry(normal(&other)).or_insert(Some(index));
            // A name that two images may have is that of neither.
            if *first != Some(index) {
                *first = None;
            }
        }
        let words = &mut self.words;
        let boxes = image.shapes.map(|shapes| {
            let boxes = shapes.into_iter().map(|Shape { class, xyxy, ignore, spot }| FormBox {
                class: class.map(|class| words.number_of(Value::String(class))),
                xyxy: xyxy.map(|v| v as f32),
                ignore,
                spot,
            });
            boxes.collect()
        });
        let tags = image.tags.into_iter().map(|(name, value)| {
            let value = value.map_or(ASKED, |value| words.number_of(value));
            [words.number_of(Value::String(name)), value]
        });
        self.images.push(FormImage {
            name,
            file: file.clone(),
            spot: image.spot,
            size: image.size.map(|side| side as f32),
            fractions: image.fractions,
            boxes,
            has_others: !image.left_out.is_empty(),
            tags: tags.collect(),
            faults: image.faults.into(),
        });
    }

    pub fn has_boxes(&self) -> bool {
        self.images.iter().any(|image| image.boxes.iter().flatten().next().is_some())
    }

    pub fn class_of(&self, found: &FormBox) -> Option<&Arc<str>> {
        found.class.map(|number| self.words.text(number))
    }

    /// The classes of the boxes of one image.
    pub fn classes_of(&self, image: usize) -> impl Iterator<Item = &Arc<str>> {
        self.images[image].boxes.iter().flatten().filter_map(|found| self.class_of(found))
    }

    /// The values of an attribute of an image; `None` if it says nothing of it.
    pub fn values<'a>(&'a self, image: &'a FormImage, attribute: &str) -> Option<Vec<&'a Value>> {
        let own = |tag: &&[u32; 2]| **self.words.text(tag[0]) == *attribute;
        let mut tags = image.tags.iter().filter(own).peekable();
        tags.peek()?;
        Some(tags.filter(|tag| tag[1] != ASKED).map(|tag| &self.words.all[tag[1] as usize].1).collect())
    }

    /// Adds the attributes of the images, without those that have no value anywhere.
    pub fn add_attributes(&self, all: &mut BTreeMap<String, Attribute>) {
        for image in &self.images {
            let mut counted: HashMap<u32, usize> = HashMap::new();
            for [name, value] in &image.tags {
                *counted.entry(*name).or_default() += usize::from(*value != ASKED);
                let attribute = all
                    .entry(self.words.text(*name).to_string())
                    .or_insert_with(|| Attribute { are_numbers: true, ..Attribute::default() });
                attribute.are_several |= *value == ASKED;
                if *value != ASKED {
                    attribute.values.insert(*value);
                    attribute.are_numbers &= self.words.all[*value as usize].1.is_number();
                }
            }
            for (name, values) in counted {
                if let Some(attribute) = all.get_mut(&**self.words.text(name)) {
                    attribute.images += usize::from(values > 0);
                    attribute.are_several |= values > 1;
                }
            }
        }
        all.retain(|_, attribute| !attribute.values.is_empty());
    }
}

impl Words {
    fn number_of(&mut self, word: Value) -> u32 {
        let next = self.all.len() as u32;
        let number = *self.number.entry(word.to_string()).or_insert(next);
        if number == next {
            self.all.push((word.as_str().unwrap_or_default().into(), word));
        }
        number
    }

    fn text(&self, number: u32) -> &Arc<str> {
        &self.all[number as usize].0
    }
}

/// What is counted over all files of a folder.
#[derive(Default)]
struct Odd {
    left_out: BTreeMap<String, usize>,
    remarks: BTreeMap<&'static str, usize>,
    /// The image of each other name; `None` if several may have it.
    other_names: HashMap<String, Option<usize>>,
}

impl Odd {
    fn count(&mut self, image: &Written) {
        for kind in &image.left_out {
            *self.left_out.entry(kind.clone()).or_default() += 1;
        }
        for remark in &image.remarks {
            *self.remarks.entry(remark).or_default() += 1;
        }
    }

    fn notes(self, form: &Form, path: &Path) -> Vec<String> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let noun = if form.files == Files::OfOneImage { "file" } else { "image" };
        let kinds = self.left_out.into_iter().take(6);
        let left_out: Vec<String> = kinds.map(|(kind, count)| format!("{count} × {}", cut(&kind))).collect();
        let left_out = (!left_out.is_empty()).then(|| left_out.join(", "));
        let no_boxes = left_out.map(|kinds| format!("{name}: shapes that are no boxes are left out: {kinds}"));
        let remarks = self.remarks.into_iter().map(|(what, count)| format!("{name}: {} {what}", count_of(count, noun)));
        no_boxes.into_iter().chain(remarks).collect()
    }
}

/// The file of one image. Whatever is wrong with it, other images have theirs.
fn read_one(form: &'static Form, path: &Path) -> Written {
    let text = match text::read(path) {
        Ok(text) => text,
        Err(e) => return wrong(format!("cannot be read: {e}"), None),
    };
    let mut image = None;
    match (form.read)(&text, &mut |written| image = Some(written)) {
        Ok(_) => image.unwrap_or_else(|| wrong("nothing about an image".into(), None)),
        Err(Unreadable { line, message }) => wrong(format!("not read as {}: {message}", form.title), line),
    }
}

/// An image whose file cannot be read.
fn wrong(message: String, line: Option<usize>) -> Written {
    let mut image = Written::new("", line.map_or(Spot::File, Spot::line));
    image.is_wrong(message);
    image
}

fn unreadable(form: &Form, path: &Path, Unreadable { line, message }: Unreadable) -> Error {
    Error::data(path, line, format!("not read as {}: {message}", form.title))
}

/// The path of a file below its folder without the ending.
fn stem(file: &Path, folder: &Path) -> String {
    relative_name(&PathBuf::from(file).with_extension(""), folder)
}
