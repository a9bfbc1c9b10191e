//! Reads a BDD100K file: names, attributes and boxes, stored compactly because there may be a million frames.

use super::table::normal;
use crate::boxes::Xyxy;
use crate::error::{Error, Result};
use crate::reading::{List, Spot, text};
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// BDD100K writes this where annotators could not decide.
const UNDEFINED: &str = "undefined";

pub struct BddFile {
    pub frames: Vec<Frame>,
    pub by_name: HashMap<Arc<str>, usize>,
    words: Words,
}

/// Keys, values and class names, each stored once, because a file repeats them many times.
#[derive(Default)]
struct Words {
    all: Vec<Value>,
    number: HashMap<String, u32>,
}

pub struct Frame {
    pub name: Arc<str>,
    /// Pairs of key and value numbers; undefined attributes are left out.
    attributes: Box<[[u32; 2]]>,
    /// `None` if unlabelled.
    pub boxes: Option<Box<[FrameBox]>>,
}

pub struct FrameBox {
    /// The index among all labels of the frame.
    pub label: u32,
    category: Option<u32>,
    pub xyxy: Xyxy,
    pub ignore: bool,
}

#[derive(Deserialize)]
struct Written {
    name: String,
    attributes: Option<Map<String, Value>>,
    labels: Option<Vec<WrittenLabel>>,
}

#[derive(Deserialize)]
struct WrittenLabel {
    category: Option<String>,
    box2d: Option<Box2d>,
    attributes: Option<LabelAttributes>,
}

/// Attributes that mark an object as a region to ignore.
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

/// Accepts a value of any type.
fn is_true<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Value::deserialize(deserializer).map(|value| value == Value::Bool(true))
}

impl BddFile {
    pub fn open(path: &Path) -> Result<BddFile> {
        let text = text::read(path).map_err(Error::io("read", path))?;
        let mut json = serde_json::Deserializer::from_str(&text);
        let mut file = BddFile { frames: Vec::new(), by_name: HashMap::new(), words: Words::default() };
        let read = Frames(&mut file).deserialize(&mut json).and_then(|()| json.end());
        read.map_err(|e| Error::data(path, None, format!("not a list of BDD100K frames: {e}")))?;
        for (i, frame) in file.frames.iter().enumerate() {
            let name = normal(&frame.name);
            let name = if *name == *frame.name { frame.name.clone() } else { name.into() };
            if let Some(before) = file.by_name.insert(name, i) {
                let message = format!("`{}` is frames[{before}] already: list every image once", frame.name);
                return Err(Spot::entry(List::Frames, i).error(path, message));
            }
        }
        if file.frames.is_empty() {
            return Err(Error::data(path, None, "no frames: list each image with its name, attributes and labels"));
        }
        Ok(file)
    }

    pub fn has_boxes(&self) -> bool {
        self.frames.iter().any(|frame| frame.boxes.iter().flatten().next().is_some())
    }

    /// The attributes of the pictures and their values, without those that are undefined everywhere.
    pub fn attributes(&self) -> BTreeMap<&str, BTreeSet<String>> {
        let pairs: BTreeSet<[u32; 2]> = self.frames.iter().flat_map(|frame| frame.attributes.iter().copied()).collect();
        let mut attributes: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for [key, value] in pairs {
            attributes.entry(self.words.text(key)).or_default().insert(self.words.all[value as usize].to_string());
        }
        attributes
    }

    /// The frame's value for an attribute.
    pub fn attribute(&self, frame: &Frame, key: &str) -> Option<&Value> {
        let [_, value] = frame.attributes.iter().find(|[own, _]| self.words.text(*own) == key)?;
        self.words.all.get(*value as usize)
    }

    pub fn category(&self, found: &FrameBox) -> Option<&str> {
        found.category.map(|number| self.words.text(number))
    }

    fn take(&mut self, Written { name, attributes, labels }: Written) {
        let words = &mut self.words;
        let said = attributes.into_iter().flatten().filter(|(_, value)| !is_undefined(value));
        let attributes =
            said.map(|(key, value)| [words.number_of(Value::String(key)), words.number_of(value)]).collect();
        let boxes = labels.map(|labels| {
            let boxes = labels.into_iter().enumerate().filter_map(|(label, written)| {
                let Box2d { x1, y1, x2, y2 } = written.box2d?;
                Some(FrameBox {
                    label: label as u32,
                    category: written.category.map(|name| words.number_of(Value::String(name.trim().to_string()))),
                    xyxy: [x1, y1, x2, y2].map(|v| v as f32),
                    ignore: written.attributes.is_some_and(|a| a.crowd || a.ignored),
                })
            });
            boxes.collect()
        });
        self.frames.push(Frame { name: name.into(), attributes, boxes });
    }
}

impl Words {
    fn number_of(&mut self, word: Value) -> u32 {
        let next = self.all.len() as u32;
        let number = *self.number.entry(word.to_string()).or_insert(next);
        if number == next {
            self.all.push(word);
        }
        number
    }

    fn text(&self, number: u32) -> &str {
        self.all.get(number as usize).and_then(Value::as_str).unwrap_or_default()
    }
}

fn is_undefined(value: &Value) -> bool {
    value.is_null() || value.as_str().is_some_and(|word| word.is_empty() || word == UNDEFINED)
}

/// A list of frames, or Scalabel's export, which has the list beside its own settings.
struct Frames<'a>(&'a mut BddFile);

impl<'de> DeserializeSeed<'de> for Frames<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Frames<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list of frames")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let index = |at: usize, e| A::Error::custom(format!("frames[{at}]: {e}"));
        while let Some(frame) = seq.next_element().map_err(|e: A::Error| index(self.0.frames.len(), e))? {
            self.0.take(frame);
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut is_there = false;
        while let Some(key) = map.next_key::<String>()? {
            if key == "frames" {
                map.next_value_seed(Frames(&mut *self.0))?;
                is_there = true;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        if is_there { Ok(()) } else { Err(A::Error::missing_field("frames")) }
    }
}
