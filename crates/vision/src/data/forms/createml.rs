//! CreateML: a list of images with their boxes in pixels, given by centre and size.

use super::json::{self, Object, number};
use super::written::{Found, Unreadable, Written};
use super::{Files, Form, Sink, has_key};
use crate::reading::{List, Spot, cut};
use serde_json::Value;

pub static FORM: Form = Form {
    word: "createml",
    title: "CreateML",
    files: Files::OfManyImages,
    ending: "json",
    folders: &["annotations", "labels", "json"],
    has_tags: false,
    begins,
    read,
};

/// The keys of an image's name and of its list of boxes, in the versions of the format.
const IMAGE: [&str; 4] = ["image", "imagefilename", "imageURL", "filename"];
const BOXES: [&str; 2] = ["annotations", "annotation"];

fn begins(start: &str) -> bool {
    // Label Studio's list has the image in `data`.
    start.starts_with('[') && has_key(start, &IMAGE) && has_key(start, &BOXES) && !has_key(start, &["data"])
}

fn read(text: &str, each: Sink) -> Result<Vec<String>, Unreadable> {
    if !text.trim_ascii_start().starts_with('[') {
        return Err(Unreadable::new("no list: expected CreateML's list of images with their annotations"));
    }
    json::entries(text, None, &mut |i, _, entry| each(image(i, &entry)))?;
    Ok(Vec::new())
}

fn image(index: usize, entry: &Value) -> Written {
    let spot = Spot::entry(List::Entries, index);
    let name = IMAGE.iter().find_map(|key| entry.get(key)?.as_str()).unwrap_or_default();
    let mut image = Written::new(name, spot);
    let name = cut(name);
    match BOXES.iter().find_map(|key| entry.get(key)) {
        Some(Value::Array(list)) => {
            image.shapes = Some(Vec::with_capacity(list.len()));
            for (i, annotation) in list.iter().enumerate() {
                image.add(spot, &format!("annotations[{i}] of `{name}`: "), found(annotation));
            }
        }
        Some(Value::Null) | None => {}
        Some(other) => {
            image.is_wrong(format!("`annotations` of `{name}` is {}: expected a list", json::shown(other)));
        }
    }
    image
}

fn found(annotation: &Value) -> Result<Found, String> {
    let annotation = annotation.as_object().ok_or("not an object: expected a label and coordinates")?;
    let class = Some(json::class(annotation.get("label"), "label")?);
    let edges: &Object = match annotation.get("coordinates") {
        Some(Value::Object(edges)) => edges,
        _ => return Err("no `coordinates`: give x and y of the centre, width and height".into()),
    };
    let [x, y, w, h] = ["x", "y", "width", "height"].map(|key| number(edges, key));
    let [x, y, w, h] = [x?, y?, w?, h?];
    Ok(Found::Object { class, xyxy: [x - w / 2.0, y - h / 2.0, x + w / 2.0, y + h / 2.0], ignore: false })
}
