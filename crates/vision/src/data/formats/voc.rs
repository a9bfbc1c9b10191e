//! Pascal VOC: one XML file per image, with pixels counted from 1 and the last one included.

use super::corners::Found;
use super::listed::Listed;
use super::{Raw, RawBox, RawClass, Reading, Remark, Word};
use crate::data::declaration::{Split, TaskDeclaration};
use crate::data::walk::{self, relative_name};
use crate::error::{Error, Result};
use crate::reading::{Missing, Place, Spot, text};
use quick_xml::Reader as XmlReader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;
use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Whether a file is an annotation of Pascal VOC.
pub fn is_voc(file: &Path) -> bool {
    let mut start = Vec::new();
    let read = text::open(file).and_then(|file| file.take(1 << 12).read_to_end(&mut start));
    read.is_ok() && String::from_utf8_lossy(&start).contains("<annotation")
}

/// Names of folders that hold label files and say nothing about their images.
const OF_LABELS: [&str; 9] =
    ["annotations", "annotation", "annots", "annot", "labels", "label", "xml", "xmls", "bboxes"];

pub struct VocReader {
    dir: PathBuf,
    /// All label files below `dir` by their names without endings, listed when one is not found in the usual places.
    by_stem: OnceLock<HashMap<OsString, Vec<PathBuf>>>,
}

impl VocReader {
    pub fn new(dir: PathBuf) -> Self {
        VocReader { dir, by_stem: OnceLock::new() }
    }

    pub fn read(&self, task: &TaskDeclaration, image: &Listed) -> Result<Reading> {
        let candidates = self.files(image);
        let elsewhere = || self.elsewhere(image);
        for file in candidates.iter().cloned().chain(std::iter::once_with(elsewhere).flatten()) {
            let file = &file;
            match text::read(file) {
                Ok(text) => return read_xml(file, &text),
                Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
                Err(e) => return Err(Error::io("read", file)(e)),
            }
        }
        let raw = match task.missing {
            Some(Missing::Background) => Raw::Boxes(Vec::new()),
            _ => Raw::Unlabelled,
        };
        let mut reading = Reading::of(raw, &candidates[0], None);
        reading.remarks.push((Remark::NoLabelFile, reading.place.clone()));
        Ok(reading)
    }

    /// `ID.xml` for `ID.jpg`, in one folder, in the images' folder structure, or beside the image; never empty.
    fn files(&self, image: &Listed) -> Vec<PathBuf> {
        let below = self.dir.join(relative_name(&image.image, &image.folder));
        let bare = self.dir.join(image.image.file_name().unwrap_or_default());
        let mut files = vec![bare, below];
        files.extend(image.image.starts_with(&self.dir).then(|| image.image.clone()));
        for file in &mut files {
            file.set_extension("xml");
        }
        files.dedup();
        files
    }

    /// The only label file of the image's name in any folder below that does not belong to other images: a folder of another
    /// split, or one whose name is not in the image's path.
    fn elsewhere(&self, image: &Listed) -> Option<PathBuf> {
        let by_stem = self.by_stem.get_or_init(|| {
            let is_xml = |path: &Path| path.extension().is_some_and(|e| e == "xml");
            let mut by_stem: HashMap<OsString, Vec<PathBuf>> = HashMap::new();
            for file in walk::files(&self.dir, &is_xml).unwrap_or_default() {
                by_stem.entry(file.file_stem().unwrap_or_default().to_owned()).or_default().push(file);
            }
            by_stem
        });
        let parts: Vec<String> = image.name.split('/').map(str::to_lowercase).collect();
        let split = parts.iter().find_map(|part| Split::called(part));
        let fits = |file: &&PathBuf| {
            let below = relative_name(file, &self.dir).to_lowercase();
            let folders = below.rsplit_once('/').map_or("", |(folders, _)| folders);
            folders.split('/').filter(|folder| !folder.is_empty()).all(|folder| match Split::called(folder) {
                Some(other) => split.is_none_or(|split| split == other),
                None => OF_LABELS.contains(&folder) || parts.iter().any(|part| part == folder),
            })
        };
        let mut fitting = by_stem.get(image.image.file_stem()?)?.iter().filter(fits);
        let only = fitting.next()?;
        fitting.next().is_none().then(|| only.clone())
    }
}

/// An object while it is read; the order of its elements differs between tools.
#[derive(Default)]
struct Object {
    line: usize,
    name: Option<String>,
    edges: [Option<f32>; 4],
    difficult: bool,
}

const EDGES: [&str; 4] = ["xmin", "ymin", "xmax", "ymax"];

fn read_xml(file: &Path, text: &str) -> Result<Reading> {
    let mut reading = Reading::of(Raw::Unlabelled, file, None);
    let mut found = Found::default();
    let mut xml = XmlReader::from_str(text);
    let mut path: Vec<String> = Vec::new();
    let mut object = Object::default();
    let mut size = [0f32; 2];
    let mut seen_root = false;
    // Lines are counted as the reader advances, so that the file is scanned only once.
    let (mut line, mut counted) = (1, 0);
    loop {
        let event = xml.read_event();
        let position = (xml.buffer_position() as usize).clamp(counted, text.len());
        let start_line = line;
        line += text.as_bytes()[counted..position].iter().filter(|b| **b == b'\n').count();
        counted = position;
        let malformed = |e: &dyn std::fmt::Display| {
            Place::new(file, Some(line)).error(format!("not well-formed XML ({e}): correct the file or remove it"))
        };
        match event.map_err(|e| malformed(&e))? {
            Event::Start(tag) => {
                path.push(tag.name().as_ref().to_owned());
                seen_root |= path.len() == 1 && path[0] == "annotation";
                if at(&path, &["annotation", "object"]) {
                    object = Object { line, ..Object::default() };
                }
            }
            Event::Text(value) => {
                let place = Place::new(file, Some(start_line));
                take_text(&path, &value, &place, &mut object, &mut size)?;
            }
            Event::CData(value) => {
                let place = Place::new(file, Some(start_line));
                take_text(&path, &value, &place, &mut object, &mut size)?;
            }
            Event::GeneralRef(reference) => {
                // The reader splits the text around a reference such as `&amp;` or `&#233;` in a class name.
                let character = reference.resolve_char_ref().map_err(|e| malformed(&e))?.map(String::from);
                let resolved = match character {
                    Some(character) => character,
                    None => match resolve_predefined_entity(&reference) {
                        Some(text) => text.to_owned(),
                        None => return Err(malformed(&format_args!("`&{};` has no meaning", &*reference))),
                    },
                };
                if at(&path, &["annotation", "object", "name"]) {
                    object.name.get_or_insert_default().push_str(&resolved);
                }
            }
            Event::End(_) => {
                if at(&path, &["annotation", "object"]) {
                    let object = std::mem::take(&mut object);
                    if let Err(fault) = finish(object, size, &mut reading, &mut found) {
                        reading.faults.push(fault);
                    }
                }
                path.pop();
            }
            Event::Eof => break,
            _ => {}
        }
    }
    if !seen_root || !path.is_empty() {
        let message = "no whole <annotation> element: correct the file or remove it";
        return Err(Place::new(file, Some(line)).error(message));
    }
    found.finish(&mut reading);
    Ok(reading)
}

fn at(path: &[String], expected: &[&str]) -> bool {
    path.len() == expected.len() && path.iter().zip(expected).all(|(a, b)| a == b)
}

fn take_text(path: &[String], value: &str, place: &Place, object: &mut Object, size: &mut [f32; 2]) -> Result<()> {
    let names: Vec<&str> = path.iter().map(String::as_str).collect();
    // A name may arrive in parts around an `&amp;`, so blanks are only trimmed when it is complete.
    if names == ["annotation", "object", "name"] {
        object.name.get_or_insert_default().push_str(value);
    }
    let value = value.trim();
    match names.as_slice() {
        ["annotation", "object", "difficult"] => object.difficult = value == "1",
        ["annotation", "object", "bndbox", edge] => {
            if let Some(i) = EDGES.iter().position(|e| e == edge) {
                let number = value.parse::<f32>().ok().filter(|v| v.is_finite());
                let wrong = || place.error(format!("<{edge}> holds `{value}`: expected a number of pixels"));
                object.edges[i] = Some(number.ok_or_else(wrong)?);
            }
        }
        ["annotation", "size", "width"] => size[0] = value.parse().unwrap_or(0.0),
        ["annotation", "size", "height"] => size[1] = value.parse().unwrap_or(0.0),
        _ => {}
    }
    Ok(())
}

fn finish(object: Object, size: [f32; 2], reading: &mut Reading, found: &mut Found) -> Result<()> {
    let place = Place::new(&reading.place.file, Some(object.line));
    let name = object.name.map(|name| name.trim().to_string());
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Err(place.error("this <object> has no <name>: give its class"));
    };
    let [Some(x1), Some(y1), Some(x2), Some(y2)] = object.edges else {
        let absent = EDGES.iter().zip(object.edges).find(|(_, e)| e.is_none());
        let edge = absent.map_or("xmin", |(name, _)| name);
        return Err(place
            .error(format!("this <object> has no <bndbox> with <{edge}>: give xmin, ymin, xmax and ymax in pixels")));
    };
    // Compared as written: `xmin = xmax` is either a box one pixel wide, drawn by accident, or an empty box from a tool
    // that counts from 0.
    let Some([x1, y1, x2, y2]) = found.in_order([x1, y1, x2, y2], place.spot, reading) else {
        return Ok(());
    };
    if size[0] > 0.0 && size[1] > 0.0 && (x2 > size[0] || y2 > size[1]) {
        reading.remarks.push((Remark::BeyondImage, place));
    }
    found.boxes.push(RawBox {
        class: RawClass { word: Word::Name(name.into()), spot: Spot::line(object.line) },
        xyxy: [(x1 - 1.0).max(0.0), (y1 - 1.0).max(0.0), x2, y2],
        ignore: object.difficult,
    });
    Ok(())
}
