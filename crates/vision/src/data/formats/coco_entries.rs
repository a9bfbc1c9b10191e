//! COCO's JSON as people's files have it, for labels: ids may be text, a box may be missing, and an entry that cannot be read
//! is one fault. `coco` has the same format as it is defined, for metrics.

use super::coco_fields::{Bounds, FOUR, Field, Object};
use crate::error::{Error, Result};
use crate::reading::{List, json, text};
use serde::de::{self, Deserialize, DeserializeOwned, Deserializer, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

/// The id of an image or a category.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CocoId {
    /// The entry has none.
    #[default]
    Missing,
    Number(i64),
    Text(Box<str>),
}

#[derive(Debug, Default)]
pub struct ImageEntry {
    pub id: CocoId,
    /// The path below the folder of images: `file_name`, or the last part of a URL.
    pub name: String,
    /// Width and height in pixels, if stated.
    pub size: [Option<f64>; 2],
}

#[derive(Debug, Default)]
pub struct AnnotationEntry {
    pub image: CocoId,
    pub category: CocoId,
    /// Left, top, width, height in pixels.
    pub bbox: [f64; 4],
    /// Whether `bbox` is missing and its values are the bounds of the polygon.
    pub from_polygon: bool,
    pub iscrowd: bool,
}

#[derive(Debug, Default)]
pub struct CategoryEntry {
    pub id: CocoId,
    pub name: String,
    pub supercategory: Option<String>,
}

/// The entries of a list, each at its position, and what is wrong with some of them.
#[derive(Debug)]
pub struct Entries<T> {
    pub all: Vec<T>,
    pub faults: Vec<(usize, String)>,
}

#[derive(Debug)]
pub struct CocoEntries {
    pub images: Entries<ImageEntry>,
    /// `None` for images without labels.
    pub annotations: Option<Entries<AnnotationEntry>>,
    pub categories: Entries<CategoryEntry>,
}

/// # Errors
/// The file cannot be read, is not JSON, or lacks `images`.
pub fn read(path: &Path) -> Result<CocoEntries> {
    let text = json::plain(text::read(path).map_err(Error::io("read", path))?);
    if text.trim_ascii_start().starts_with('[') {
        let message = "a list, as results are: expected an object with `images`, `annotations` and `categories`";
        return Err(Error::data(path, None, message));
    }
    let file: WrittenFile = serde_json::from_str(&text)
        .map_err(|e| Error::data(path, None, format!("not a file of COCO annotations: {e}")))?;
    Ok(CocoEntries {
        images: file.images,
        annotations: file.annotations,
        categories: file.categories.unwrap_or(Entries { all: Vec::new(), faults: Vec::new() }),
    })
}

#[derive(serde::Deserialize)]
struct WrittenFile {
    images: Entries<ImageEntry>,
    annotations: Option<Entries<AnnotationEntry>>,
    categories: Option<Entries<CategoryEntry>>,
}

/// An entry of one of the lists, and what is wrong with it as it is written.
trait Entry: Default {
    type Written: DeserializeOwned;
    const LIST: List;

    /// Fills in all that can be read, and says what cannot.
    fn take(&mut self, written: Self::Written) -> Result<(), String>;
}

#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct WrittenImage {
    id: Field,
    file_name: Field,
    coco_url: Field,
    flickr_url: Field,
    width: Field,
    height: Field,
}

impl Entry for ImageEntry {
    type Written = WrittenImage;
    const LIST: List = List::Images;

    fn take(&mut self, written: WrittenImage) -> Result<(), String> {
        self.size = [written.width.number(), written.height.number()];
        let last_part =
            |url: String| url.split(['?', '#']).next().and_then(|url| url.rsplit('/').next()).map(str::to_owned);
        let of_urls = || [written.coco_url, written.flickr_url].into_iter().filter_map(Field::text).find_map(last_part);
        self.name = written.file_name.text().or_else(of_urls).unwrap_or_default();
        self.name.shrink_to_fit();
        self.id = written.id.id("id")?;
        match self.name.is_empty() {
            true => Err("no `file_name`: give the path relative to the images".into()),
            false => Ok(()),
        }
    }
}

#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct WrittenAnnotation {
    image_id: Field,
    category_id: Field,
    bbox: Field,
    iscrowd: Field,
    segmentation: Bounds,
}

impl Entry for AnnotationEntry {
    type Written = WrittenAnnotation;
    const LIST: List = List::Annotations;

    fn take(&mut self, written: WrittenAnnotation) -> Result<(), String> {
        let WrittenAnnotation { image_id, category_id, bbox, iscrowd, segmentation } = written;
        self.image = image_id.id("image_id")?;
        self.category = category_id.id("category_id")?;
        self.iscrowd = match iscrowd {
            Field::Absent | Field::Null => false,
            Field::Flag(flag) => flag,
            other => match other.number() {
                Some(number) => number != 0.0,
                None => return Err(format!("`iscrowd` holds {other}: expected 0 or 1")),
            },
        };
        self.bbox = match (bbox, segmentation.0) {
            (Field::List(list), _) if list.count > 0 => list.four()?,
            (Field::Absent | Field::Null | Field::List(_), Some([x1, y1, x2, y2])) => {
                self.from_polygon = true;
                [x1, y1, x2 - x1, y2 - y1]
            }
            (Field::Absent | Field::Null, None) => {
                return Err("no `bbox` and no polygon: give the left, top, width and height in pixels".into());
            }
            (other, _) => return Err(format!("`bbox` holds {other}: expected {FOUR}")),
        };
        Ok(())
    }
}

#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct WrittenCategory {
    id: Field,
    name: Field,
    supercategory: Field,
}

impl Entry for CategoryEntry {
    type Written = WrittenCategory;
    const LIST: List = List::Categories;

    fn take(&mut self, written: WrittenCategory) -> Result<(), String> {
        self.supercategory = written.supercategory.text();
        self.name = written.name.text().unwrap_or_default().trim().to_owned();
        self.id = written.id.id("id")?;
        match self.name.is_empty() {
            true => Err("no `name`: name the class".into()),
            false => Ok(()),
        }
    }
}

impl<'de, T: Entry> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ListOf(PhantomData))
    }
}

struct ListOf<T>(PhantomData<T>);

impl<'de, T: Entry> Visitor<'de> for ListOf<T> {
    type Value = Entries<T>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "a list of {}", T::LIST.word())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Entries<T>, A::Error> {
        let mut entries = Entries { all: Vec::new(), faults: Vec::new() };
        loop {
            let index = entries.all.len();
            let named = |e| de::Error::custom(format!("{}[{index}]: {e}", T::LIST.word()));
            let Some(Object(written)) = seq.next_element::<Object<T::Written>>().map_err(|e: A::Error| named(e))?
            else {
                return Ok(entries);
            };
            let mut entry = T::default();
            let taken = written.map_or(Err("expected an object, `{…}`".into()), |written| entry.take(written));
            entries.faults.extend(taken.err().map(|message| (index, message)));
            entries.all.push(entry);
        }
    }
}

impl fmt::Display for CocoId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            CocoId::Missing => f.write_str("without an id"),
            CocoId::Number(number) => write!(f, "{number}"),
            CocoId::Text(text) => write!(f, "`{text}`"),
        }
    }
}
