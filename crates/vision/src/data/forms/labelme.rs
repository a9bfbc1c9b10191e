//! LabelMe: a JSON file per image with its shapes in pixels and its flags. Shapes other than rectangles become the box
//! around them. The picture may stand in the file again, as `imageData`; it is skipped.

use super::json::{self, Object};
use super::written::{Found, Part, Unreadable, Written, bounds};
use super::{Files, Form, Sink, has_key};
use crate::reading::{List, Spot, cut};
use serde::Deserialize;
use serde_json::Value;

pub static FORM: Form = Form {
    word: "labelme",
    title: "LabelMe",
    files: Files::OfOneImage,
    ending: "json",
    folders: &["annotations", "annotation", "ann", "labels", "label", "json", "jsons", "labelme"],
    has_tags: true,
    begins,
    read,
};

/// The name of the task for the flags of the image.
const FLAGS: &str = "flags";

fn begins(start: &str) -> bool {
    // The picture may come first and be longer than the beginning.
    let shapes = has_key(start, &["shapes"]) && has_key(start, &["shape_type", "flags", "imagePath", "points"]);
    start.starts_with('{') && (shapes || has_key(start, &["imageData"]))
}

#[derive(Deserialize)]
struct File {
    shapes: Option<Value>,
    flags: Option<Value>,
    #[serde(rename = "imageWidth")]
    width: Option<Value>,
    #[serde(rename = "imageHeight")]
    height: Option<Value>,
}

fn read(text: &str, each: Sink) -> Result<Vec<String>, Unreadable> {
    // A list of the values in their order would be taken for the object.
    if !text.trim_ascii_start().starts_with('{') {
        return Err(Unreadable::new("not an object: expected the JSON that LabelMe writes for one image"));
    }
    let file: File = serde_json::from_str(text).map_err(|e| json::not_json(&e))?;
    let mut image = Written::new("", Spot::File);
    image.size = [file.width, file.height].map(|side| side.and_then(|side| side.as_f64()).unwrap_or(0.0));
    let Some(Value::Array(shapes)) = file.shapes else {
        return Err(Unreadable::new("no list `shapes`: expected the JSON that LabelMe writes for one image"));
    };
    image.shapes = Some(Vec::with_capacity(shapes.len()));
    for (i, shape) in shapes.iter().enumerate() {
        image.add(Spot::entry(List::Shapes, i), "", found(shape));
    }
    match file.flags {
        Some(Value::Object(flags)) => take_flags(&flags, &mut image),
        Some(Value::Null) | None => {}
        Some(other) => {
            let message = format!("`flags` is {}: expected an object of true and false", json::shown(&other));
            image.faults.push((Part::Tags, Spot::File, message));
        }
    }
    each(image);
    Ok(Vec::new())
}

fn found(shape: &Value) -> Result<Found, String> {
    let Some(shape) = shape.as_object() else {
        return Err(format!("{} in place of a shape: expected a label and points", json::shown(shape)));
    };
    // The first versions drew polygons only and gave no type.
    let kind = shape.get("shape_type").and_then(Value::as_str).unwrap_or("polygon");
    let points = json::points(shape.get("points"))?;
    let xyxy = match kind {
        "point" => return Ok(Found::NoBox("point".into())),
        "circle" => circle(&points)?,
        _ => bounds(&points)?,
    };
    let class = Some(json::class(shape.get("label"), "label")?);
    let ignore = shape.get("difficult").and_then(Value::as_bool).unwrap_or(false);
    Ok(Found::Object { class, xyxy, ignore })
}

/// A circle is written as its centre and a point on it.
fn circle(points: &[[f64; 2]]) -> Result<[f64; 4], String> {
    let [[x, y], [on_x, on_y]] = points else {
        return Err(format!("a circle of {} points: expected its centre and a point on it", points.len()));
    };
    let radius = (on_x - x).hypot(on_y - y);
    Ok([x - radius, y - radius, x + radius, y + radius])
}

fn take_flags(flags: &Object, image: &mut Written) {
    for (name, value) in flags {
        match value {
            _ if name.trim().is_empty() => {
                image.faults.push((Part::Tags, Spot::File, "a flag without a name: give the class".into()));
            }
            Value::Bool(true) => image.tags.push((FLAGS.into(), Some(Value::String(name.clone())))),
            Value::Bool(false) => {}
            other => {
                let message = format!("flag `{}` is {}: expected true or false", cut(name), json::shown(other));
                image.faults.push((Part::Tags, Spot::File, message));
            }
        }
    }
    if !flags.is_empty() {
        image.tags.push((FLAGS.into(), None));
    }
}
