//! COCO's two JSON formats as written: instance annotations and detector results. Their meaning for tasks and metrics
//! is defined elsewhere.

use crate::error::{Error, Result};
use crate::reading::text;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, de};
use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

/// A file of instance annotations.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct CocoAnnotations {
    /// All images of the file, with or without boxes.
    #[serde(deserialize_with = "list")]
    pub images: Vec<CocoImage>,
    /// The boxes of all images.
    #[serde(deserialize_with = "list")]
    pub annotations: Vec<CocoAnnotation>,
    /// The classes.
    #[serde(deserialize_with = "list")]
    pub categories: Vec<CocoCategory>,
}

/// One image of the file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct CocoImage {
    /// The id by which annotations refer to it.
    #[serde(deserialize_with = "whole")]
    pub id: i64,
    /// Its path below the folder of images.
    #[serde(default)]
    pub file_name: String,
    /// In pixels.
    pub width: Option<f64>,
    /// In pixels, as stated in the file.
    pub height: Option<f64>,
}

/// One ground-truth box. Polygons and masks are not read.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct CocoAnnotation {
    /// Its id. As in pycocotools, a detection matched with id 0 counts as wrong.
    #[serde(deserialize_with = "whole")]
    pub id: i64,
    /// The [`CocoImage::id`] of its image.
    #[serde(deserialize_with = "whole")]
    pub image_id: i64,
    /// The [`CocoCategory::id`] of its class.
    #[serde(deserialize_with = "whole")]
    pub category_id: i64,
    /// Left, top, width, height in pixels.
    pub bbox: [f64; 4],
    /// The mask's area in square pixels, if there is a mask.
    pub area: Option<f64>,
    /// Whether it marks a group of objects: detections in it are neither right nor wrong.
    #[serde(default, deserialize_with = "flag")]
    pub iscrowd: bool,
}

/// One class of the file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct CocoCategory {
    /// Any integer; COCO's own ids are 80 of the numbers 1 to 90.
    #[serde(deserialize_with = "whole")]
    pub id: i64,
    /// The name of the class.
    #[serde(default)]
    pub name: String,
    /// The name of its group. As in Roboflow's exports, a category that is the group of others and has no boxes is not
    /// a class.
    pub supercategory: Option<String>,
}

/// One detection.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct CocoResult {
    /// The [`CocoImage::id`] of the image.
    #[serde(deserialize_with = "whole")]
    pub image_id: i64,
    /// The [`CocoCategory::id`] of the class.
    #[serde(deserialize_with = "whole")]
    pub category_id: i64,
    /// Left, top, width, height in pixels.
    pub bbox: [f64; 4],
    /// The confidence; only the order of scores matters.
    pub score: f64,
}

/// Reads instance annotations. Every image and category must have its own id.
///
/// # Errors
/// The file cannot be read or has another format; the message names the list entry.
pub fn read_annotations(path: &Path) -> Result<CocoAnnotations> {
    let text = text::read(path).map_err(Error::io("read", path))?;
    if text.trim_ascii_start().starts_with('[') {
        let message = "a list, as results are: expected an object with `images`, `annotations` and `categories`";
        return Err(Error::data(path, None, message));
    }
    let file: CocoAnnotations = serde_json::from_str(&text)
        .map_err(|e| Error::data(path, None, format!("not a file of COCO annotations: {e}")))?;
    check_unique(path, "images", file.images.iter().map(|i| i.id))?;
    check_unique(path, "categories", file.categories.iter().map(|c| c.id))?;
    Ok(file)
}

/// Reads a detector's results: a list, possibly empty.
///
/// # Errors
/// The errors of [`read_annotations`].
pub fn read_results(path: &Path) -> Result<Vec<CocoResult>> {
    let text = text::read(path).map_err(Error::io("read", path))?;
    let mut json = serde_json::Deserializer::from_str(&text);
    let results = list(&mut json).and_then(|results| json.end().map(|()| results));
    results.map_err(|e| Error::data(path, None, format!("not a file of COCO results: {e}")))
}

/// # Errors
/// Two entries of a list have the same id.
pub fn check_unique(path: &Path, list: &str, ids: impl Iterator<Item = i64>) -> Result<()> {
    let mut first = HashMap::new();
    for (index, id) in ids.enumerate() {
        if let Some(before) = first.insert(id, index) {
            let message = format!("{list}[{before}] and {list}[{index}] both have id {id}: each needs its own");
            return Err(Error::data(path, None, message));
        }
    }
    Ok(())
}

/// An entry of one of the lists.
trait Entry {
    const LIST: &str;
}

impl Entry for CocoImage {
    const LIST: &str = "images";
}

impl Entry for CocoAnnotation {
    const LIST: &str = "annotations";
}

impl Entry for CocoCategory {
    const LIST: &str = "categories";
}

impl Entry for CocoResult {
    const LIST: &str = "results";
}

/// Deserialises a list so that errors name the entry, because these files are usually a single long line.
fn list<'de, D: Deserializer<'de>, T: Entry + Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_seq(List(PhantomData))
}

struct List<T>(PhantomData<T>);

impl<'de, T: Entry + Deserialize<'de>> Visitor<'de> for List<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "a list of {}", T::LIST)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        let mut entries = Vec::new();
        let index = |entries: &Vec<T>, e| A::Error::custom(format!("{}[{}]: {e}", T::LIST, entries.len()));
        while let Some(entry) = seq.next_element().map_err(|e: A::Error| index(&entries, e))? {
            entries.push(entry);
        }
        Ok(entries)
    }
}

/// An integer, also if written as `17.0`, as exports from tables do.
fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    deserializer.deserialize_any(Whole)
}

/// `0`, `1`, `false` or `true`.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    deserializer.deserialize_any(Whole).map(|number| number != 0)
}

struct Whole;

impl Visitor<'_> for Whole {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<i64, E> {
        Ok(i64::from(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<i64, E> {
        Ok(value)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<i64, E> {
        value.try_into().map_err(|_| E::invalid_value(de::Unexpected::Unsigned(value), &self))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<i64, E> {
        // Above 2^53, not every integer is representable.
        match value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 {
            true => Ok(value as i64),
            false => Err(E::invalid_value(de::Unexpected::Float(value), &self)),
        }
    }
}
