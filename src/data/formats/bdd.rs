//! BDD100K's JSON, which Scalabel writes: a list of frames, each with attributes of the picture and a list of labels. A
//! `labels` that is null or absent is *unlabelled*, an empty list *nothing there*; an attribute of "undefined" is unlabelled.

use super::coco::{Entry, list};
use super::columns::class_word;
use super::matching::{Matches, Names, check_unused, match_images};
use super::table::normal;
use super::{Cache, Raw, RawBox, RawClass, Reading, Remark, Word};
use crate::data::dataset::Images;
use crate::data::declaration::{LabelFile, TaskDeclaration};
use crate::data::{List, Place, Spot, did_you_mean, list_some};
use crate::error::{Error, Result};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

/// What BDD100K writes where nobody could tell.
const UNDEFINED: &str = "undefined";

pub struct BddFile {
    frames: Vec<Frame>,
    by_name: HashMap<Arc<str>, usize>,
}

/// What Scalabel exports: the frames, with its own settings beside them.
#[derive(Deserialize)]
struct Export {
    #[serde(deserialize_with = "list")]
    frames: Vec<Frame>,
}

#[derive(Deserialize)]
struct Frame {
    name: String,
    attributes: Option<Map<String, Value>>,
    labels: Option<Vec<FrameLabel>>,
}

#[derive(Deserialize)]
struct FrameLabel {
    category: Option<String>,
    box2d: Option<Box2d>,
    attributes: Option<LabelAttributes>,
}

/// Of all that an object can have, what makes it a region to ignore.
#[derive(Deserialize)]
struct LabelAttributes {
    #[serde(default, deserialize_with = "is_true")]
    crowd: bool,
    #[serde(default, deserialize_with = "is_true")]
    ignored: bool,
}

#[derive(Deserialize)]
struct Box2d {
    x1: f64,
    y1: f64,
    x2: f64,
    y2: f64,
}

impl Entry for Frame {
    const LIST: &str = "frames";
}

/// Anything may stand there.
fn is_true<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Value::deserialize(deserializer).map(|value| value == Value::Bool(true))
}

impl BddFile {
    pub fn open(path: &Path) -> Result<BddFile> {
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        let mut text = serde_json::Deserializer::from_slice(&bytes);
        let frames = match bytes.trim_ascii_start().starts_with(b"{") {
            true => Export::deserialize(&mut text).map(|export| export.frames),
            false => list(&mut text),
        };
        let frames = frames.and_then(|frames: Vec<Frame>| text.end().map(|()| frames));
        let wrong = |e| Error::data(path, None, format!("not a list of BDD100K frames: {e}"));
        let mut file = BddFile { frames: frames.map_err(wrong)?, by_name: HashMap::new() };
        for (i, frame) in file.frames.iter().enumerate() {
            if let Some(before) = file.by_name.insert(normal(&frame.name).into(), i) {
                let message = format!("`{}` is frames[{before}] already: list every image once", frame.name);
                return Err(Spot::entry(List::Frames, i).error(path, message));
            }
        }
        if file.frames.is_empty() {
            return Err(Error::data(path, None, "no frames: list each image with its name, attributes and labels"));
        }
        Ok(file)
    }

    pub fn image_names(&self) -> impl Iterator<Item = &str> {
        self.frames.iter().map(|frame| frame.name.as_str())
    }

    pub fn has_boxes(&self) -> bool {
        self.frames.iter().flat_map(|frame| frame.labels.iter().flatten()).any(|label| label.box2d.is_some())
    }

    /// The attributes of the pictures, each with its values; not those that are undefined everywhere.
    pub fn attributes(&self) -> BTreeMap<&str, BTreeSet<String>> {
        let mut attributes: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for (key, value) in self.frames.iter().flat_map(|frame| frame.attributes.iter().flatten()) {
            if !is_undefined(value) {
                attributes.entry(key).or_default().insert(value.to_string());
            }
        }
        attributes
    }
}

fn is_undefined(value: &Value) -> bool {
    value.is_null() || value.as_str().is_some_and(|word| word.is_empty() || word == UNDEFINED)
}

pub struct BddReader {
    paths: Vec<Arc<Path>>,
    files: Vec<(LabelFile, Arc<BddFile>)>,
    matches: Matches,
    attribute: Option<String>,
    pub notes: Vec<String>,
}

impl BddReader {
    pub fn open(
        task: &TaskDeclaration,
        files: &[LabelFile],
        attribute: Option<&str>,
        root: &Path,
        images: &Images,
        cache: &mut Cache,
    ) -> Result<Self> {
        let files: Vec<(LabelFile, Arc<BddFile>)> =
            files.iter().map(|file| Ok((file.clone(), cache.bdd(&file.path)?))).collect::<Result<_>>()?;
        let entry_of = |path: &Path, file: &BddFile, frame: usize| {
            (file.frames[frame].name.clone(), Place { file: path.into(), spot: Spot::entry(List::Frames, frame) })
        };
        let entries: Vec<_> = files.iter().map(|(at, file)| move |i: usize| entry_of(&at.path, file, i)).collect();
        let names = files.iter().zip(&entries).map(|((at, file), entry)| Names {
            file: at,
            noun: "frame",
            by_name: &file.by_name,
            entry,
            count: file.frames.len(),
        });
        let names: Vec<Names> = names.collect();
        let matches = match_images(&names, root, images)?;
        let notes = check_unused(&names, &matches, root, &images.all)?;
        match attribute {
            None if !files.iter().any(|(_, file)| file.has_boxes()) => {
                let message =
                    "no label has a `box2d`: lanes and areas (`poly2d`) are no boxes; name the file with boxes";
                return Err(Error::data(&files[0].0.path, None, message));
            }
            Some(wanted) => {
                let known: BTreeSet<&str> = files.iter().flat_map(|(_, file)| file.attributes().into_keys()).collect();
                if !known.contains(wanted) {
                    let message = format!(
                        "task `{}` reads the attribute `{wanted}`, which no frame of {} has; they have {}{}",
                        task.name,
                        files[0].0.path.display(),
                        list_some(&known.iter().collect::<Vec<_>>(), 12),
                        did_you_mean(wanted, known.iter().copied())
                    );
                    return Err(task.place.error(message));
                }
            }
            None => {}
        }
        let paths = files.iter().map(|(file, _)| Arc::from(file.path.as_path())).collect();
        Ok(BddReader { paths, matches, attribute: attribute.map(str::to_string), notes, files })
    }

    pub fn read(&self, task: &TaskDeclaration, index: usize) -> Result<Reading> {
        let Some((f, i)) = self.matches[index] else {
            return Ok(Reading::not_mentioned(task, &self.paths[0]));
        };
        let (path, frame) = (&self.paths[f], &self.files[f].1.frames[i]);
        let place = Place::at(path, Spot::entry(List::Frames, i));
        let mut reading = Reading::at(Raw::Unlabelled, place);
        if let Some(attribute) = &self.attribute {
            let value = frame.attributes.as_ref().and_then(|attributes| attributes.get(attribute));
            if let Some(value) = value.filter(|value| !is_undefined(value)) {
                let word = class_word(attribute, value, &reading.place)?;
                reading.raw = Raw::Class(RawClass { word, spot: reading.place.spot });
            }
            return Ok(reading);
        }
        let Some(labels) = &frame.labels else {
            return Ok(Reading::not_mentioned(task, path));
        };
        let mut boxes = Vec::new();
        for (l, label) in labels.iter().enumerate() {
            let Some(&Box2d { x1, y1, x2, y2 }) = label.box2d.as_ref() else {
                continue;
            };
            let Some(category) = label.category.as_deref().filter(|name| !name.trim().is_empty()) else {
                let message = format!("labels[{l}] has a box and no `category`: give its class");
                reading.faults.push(reading.place.error(message));
                continue;
            };
            if x2 <= x1 || y2 <= y1 {
                reading.remarks.push((Remark::DegenerateBox, reading.place.clone()));
                continue;
            }
            boxes.push(RawBox {
                class: RawClass { word: Word::Name(category.trim().into()), spot: reading.place.spot },
                xyxy: [x1, y1, x2, y2].map(|v| v as f32),
                ignore: label.attributes.as_ref().is_some_and(|a| a.crowd || a.ignored),
            });
        }
        reading.raw = Raw::Boxes(boxes);
        Ok(reading)
    }
}
