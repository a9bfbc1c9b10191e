//! Datumaro: a JSON file per split with categories and items; boxes and polygons in pixels, and labels of the image.

use super::json::{self, as_number};
use super::written::{Found, Part, Unreadable, Written, bounds};
use super::{Files, Form, Sink, has_key};
use crate::reading::{List, Spot, cut};
use serde_json::Value;

pub static FORM: Form = Form {
    word: "datumaro",
    title: "Datumaro",
    files: Files::OfManyImages,
    ending: "json",
    folders: &["annotations"],
    has_tags: true,
    begins,
    read,
};

/// The name of the task for the labels of the image.
const LABELS: &str = "labels";

fn begins(start: &str) -> bool {
    let own = has_key(start, &["items", "dm_format_version", "media_type"]);
    start.starts_with('{') && has_key(start, &["categories"]) && own
}

fn read(text: &str, each: Sink) -> Result<Vec<String>, Unreadable> {
    let categories = json::value_of(text, "categories")?.unwrap_or_default();
    let labels = categories.get("label").and_then(|label| label.get("labels")?.as_array());
    let Some(labels) = labels else {
        return Err(Unreadable::new("no `categories` with a `label` list: expected what Datumaro exports"));
    };
    let name = |label: &Value| label.get("name").and_then(Value::as_str).unwrap_or_default().trim().to_string();
    let labels: Vec<String> = labels.iter().map(name).collect();
    json::entries(text, Some("items"), &mut |i, _, item| each(image(i, &item, &labels)))?;
    Ok(Vec::new())
}

fn image(index: usize, item: &Value, labels: &[String]) -> Written {
    let spot = Spot::entry(List::Items, index);
    let id = item.get("id").and_then(Value::as_str).unwrap_or_default();
    let media = item.get("image").or_else(|| item.get("media"));
    let path = media.and_then(|media| media.get("path")?.as_str()).filter(|path| !path.is_empty());
    let mut image = Written::new(path.unwrap_or(id), spot);
    if path.is_some() && !id.is_empty() {
        image.other_names.push(id.to_string());
    }
    // Height first.
    if let Some([height, width]) = media.and_then(|media| media.get("size")?.as_array()).map(Vec::as_slice) {
        image.size = [width, height].map(|side| side.as_f64().unwrap_or(0.0));
    }
    let id = cut(id);
    match item.get("annotations") {
        Some(Value::Array(annotations)) => {
            image.shapes = Some(Vec::new());
            for (i, annotation) in annotations.iter().enumerate() {
                take(annotation, &format!("annotations[{i}] of `{id}`: "), labels, &mut image);
            }
        }
        Some(Value::Null) | None => {}
        Some(other) => image.is_wrong(format!("`annotations` of `{id}` is {}: expected a list", json::shown(other))),
    }
    image
}

fn take(annotation: &Value, entry: &str, labels: &[String], image: &mut Written) {
    let spot = image.spot;
    match annotation.get("type").and_then(Value::as_str) {
        Some("label") => match class_of(annotation, labels) {
            Ok(class) => image.tags.push((LABELS.into(), Some(Value::String(class)))),
            Err(message) => image.faults.push((Part::Tags, spot, format!("{entry}{message}"))),
        },
        Some("caption") => {}
        kind => image.add(spot, entry, found(annotation, kind.unwrap_or_default(), labels)),
    }
}

fn found(annotation: &Value, kind: &str, labels: &[String]) -> Result<Found, String> {
    let xyxy = match kind {
        "bbox" => {
            let [x, y, w, h] = numbers(annotation, "bbox")?[..] else {
                return Err("`bbox` has other than four numbers: expected left, top, width, height".into());
            };
            [x, y, x + w, y + h]
        }
        "polygon" | "polyline" | "ellipse" => {
            let numbers = numbers(annotation, "points")?;
            let (pairs, rest) = numbers.as_chunks::<2>();
            if !rest.is_empty() {
                return Err("an odd number of `points`: expected x, y, x, y, …".into());
            }
            bounds(pairs)?
        }
        other => return Ok(Found::NoBox(other.to_string())),
    };
    let is_crowd = annotation.get("attributes").and_then(|own| own.get("is_crowd")?.as_bool()).unwrap_or(false);
    Ok(Found::Object { class: Some(class_of(annotation, labels)?), xyxy, ignore: is_crowd })
}

fn numbers(annotation: &Value, key: &str) -> Result<Vec<f64>, String> {
    let list = annotation.get(key).and_then(Value::as_array).ok_or_else(|| format!("no `{key}`: expected numbers"))?;
    let number = |value: &Value| as_number(value).map_err(|shown| format!("{shown} in `{key}`: expected numbers"));
    list.iter().map(number).collect()
}

fn class_of(annotation: &Value, labels: &[String]) -> Result<String, String> {
    let Some(id) = annotation.get("label_id").and_then(Value::as_u64) else {
        return Err("no `label_id`: give the class".into());
    };
    let name = usize::try_from(id).ok().and_then(|id| labels.get(id)).filter(|name| !name.is_empty());
    let unknown =
        || format!("label {id} is not among the {} of `categories`: correct it, or list it there", labels.len());
    name.cloned().ok_or_else(unknown)
}
