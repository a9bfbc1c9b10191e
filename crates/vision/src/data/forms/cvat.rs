//! CVAT's XML 1.1 for images: one file with the shapes and tags of every image, in pixels. Attributes of shapes and tags
//! are not read.

use super::written::{Found, Part, Unreadable, Written, bounds, turned};
use super::{Files, Form, Sink};
use crate::reading::{Spot, cut};
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader as XmlReader, XmlVersion};
use serde_json::Value;

pub static FORM: Form = Form {
    word: "cvat",
    title: "CVAT XML",
    files: Files::OfManyImages,
    ending: "xml",
    folders: &["annotations", "labels", "xml"],
    has_tags: true,
    begins,
    read,
};

/// The name of the task for the tags of the image.
const TAGS: &str = "tags";

fn begins(start: &str) -> bool {
    let holds = |tag: &str| start.contains(&format!("<{tag}>")) || start.contains(&format!("<{tag} "));
    holds("annotations") && (holds("version") || holds("image") || holds("track") || holds("meta"))
}

fn read(text: &str, each: Sink) -> Result<Vec<String>, Unreadable> {
    let mut xml = XmlReader::from_str(text);
    // The depth of the element that is read, and the image that is open.
    let (mut depth, mut image, mut has_root) = (0usize, None::<Written>, false);
    let (mut line, mut counted) = (1, 0);
    loop {
        let event = xml.read_event();
        let position = (xml.buffer_position() as usize).clamp(counted, text.len());
        let start_line = line;
        line += text.as_bytes()[counted..position].iter().filter(|b| **b == b'\n').count();
        counted = position;
        let malformed = |e: &dyn std::fmt::Display| Unreadable {
            line: Some(line),
            message: format!("not well-formed XML ({e}): export the labels again"),
        };
        let event = event.map_err(|e| malformed(&e))?;
        let is_empty = matches!(event, Event::Empty(_));
        match event {
            Event::Start(tag) | Event::Empty(tag) => {
                let name = tag.name().as_ref().to_owned();
                match (depth, name.as_str()) {
                    (0, "annotations") => has_root = true,
                    (1, "track") if has_root => {
                        let message = "this file has tracks of a video: export it from CVAT as `CVAT for images`";
                        return Err(Unreadable { line: Some(start_line), message: message.into() });
                    }
                    (1, "image") if has_root => image = Some(begin(&tag, start_line)),
                    (2, name) => {
                        if let Some(image) = &mut image {
                            take(name, &tag, start_line, image);
                        }
                    }
                    _ => {}
                }
                if is_empty && depth == 1 {
                    image.take().into_iter().for_each(&mut *each);
                }
                depth += usize::from(!is_empty);
            }
            Event::End(_) => {
                depth = depth.saturating_sub(1);
                if depth == 1 {
                    image.take().into_iter().for_each(&mut *each);
                }
            }
            Event::Eof => break,
            _ => {}
        }
    }
    if !has_root || depth > 0 {
        let message = "no whole <annotations> element: export the labels again as `CVAT for images`";
        return Err(Unreadable { line: Some(line), message: message.into() });
    }
    Ok(Vec::new())
}

fn begin(tag: &BytesStart, line: usize) -> Written {
    let name = text_of(tag, "name");
    let mut image = Written::new(name.as_deref().unwrap_or_default(), Spot::line(line));
    image.size = ["width", "height"].map(|side| number_of(tag, side).unwrap_or(0.0));
    image.shapes = Some(Vec::new());
    if let Err(message) = name {
        image.is_wrong(message);
    }
    image
}

/// Takes an element inside an image.
fn take(name: &str, tag: &BytesStart, line: usize, image: &mut Written) {
    let spot = Spot::line(line);
    if name == "tag" {
        match class_of(tag) {
            Ok(class) => image.tags.push((TAGS.into(), Some(Value::String(class)))),
            Err(message) => image.faults.push((Part::Tags, spot, format!("this <tag> has {message}"))),
        }
        return;
    }
    let found = found(name, tag).map_err(|message| format!("this <{name}> has {message}"));
    image.add(spot, "", found);
}

fn found(name: &str, tag: &BytesStart) -> Result<Found, String> {
    let edge = |key: &str| number_of(tag, key);
    let xyxy = match name {
        "box" => {
            let [x1, y1, x2, y2] = [edge("xtl")?, edge("ytl")?, edge("xbr")?, edge("ybr")?];
            let degrees = if has(tag, "rotation") { edge("rotation")? } else { 0.0 };
            turned([x1, y1, x2, y2], degrees, [(x1 + x2) / 2.0, (y1 + y2) / 2.0])
        }
        "polygon" | "polyline" => bounds(&points_of(tag)?)?,
        "ellipse" => {
            let [cx, cy, rx, ry] = [edge("cx")?, edge("cy")?, edge("rx")?, edge("ry")?];
            let degrees = if has(tag, "rotation") { edge("rotation")? } else { 0.0 };
            // The ends of a turned ellipse are nearer than the corners of its turned box.
            let (sin, cos) = degrees.to_radians().sin_cos();
            let (w, h) = ((rx * cos).hypot(ry * sin), (rx * sin).hypot(ry * cos));
            [cx - w, cy - h, cx + w, cy + h]
        }
        "mask" => {
            let [x, y, w, h] = [edge("left")?, edge("top")?, edge("width")?, edge("height")?];
            [x, y, x + w, y + h]
        }
        other => return Ok(Found::NoBox(other.to_string())),
    };
    Ok(Found::Object { class: Some(class_of(tag)?), xyxy, ignore: false })
}

fn class_of(tag: &BytesStart) -> Result<String, String> {
    let class = text_of(tag, "label")?.trim().to_string();
    if class.is_empty() { Err("a blank `label`: give the class".into()) } else { Ok(class) }
}

fn has(tag: &BytesStart, key: &str) -> bool {
    matches!(tag.try_get_attribute(key), Ok(Some(_)))
}

fn text_of(tag: &BytesStart, key: &str) -> Result<String, String> {
    let attribute = tag.try_get_attribute(key).map_err(|e| format!("attributes that are no XML ({e})"))?;
    let Some(attribute) = attribute else {
        return Err(format!("no `{key}`: export the labels again"));
    };
    let text =
        attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|e| format!("a `{key}` that is no XML ({e})"))?;
    Ok(text.into_owned())
}

fn number_of(tag: &BytesStart, key: &str) -> Result<f64, String> {
    parsed(&text_of(tag, key)?).map_err(|shown| format!("`{key}` of `{shown}`: expected a number of pixels"))
}

/// Points as `x,y;x,y`.
fn points_of(tag: &BytesStart) -> Result<Vec<[f64; 2]>, String> {
    let text = text_of(tag, "points")?;
    let point = |pair: &str| {
        let (x, y) = pair.split_once(',').unwrap_or((pair, ""));
        match (parsed(x), parsed(y)) {
            (Ok(x), Ok(y)) => Ok([x, y]),
            _ => Err(format!("a point `{}`: expected `x,y` in pixels", cut(pair))),
        }
    };
    text.split(';').filter(|pair| !pair.trim().is_empty()).map(point).collect()
}

fn parsed(text: &str) -> Result<f64, String> {
    text.trim().parse::<f64>().ok().filter(|number| number.is_finite()).ok_or_else(|| cut(text))
}
