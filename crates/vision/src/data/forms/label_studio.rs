//! Label Studio: the exported JSON, a list of tasks with their annotations. Shapes are in percent of the picture; choices,
//! numbers and ratings belong to the image, each under the name of its control.

use super::json::{self, Object, number, number_or_zero};
use super::written::{Found, Part, Unreadable, Written, bounds, turned};
use super::{Files, Form, Sink, has_key};
use crate::reading::{List, Spot, cut};
use serde_json::Value;
use std::collections::HashSet;

pub static FORM: Form = Form {
    word: "label_studio",
    title: "Label Studio",
    files: Files::OfManyImages,
    ending: "json",
    folders: &["annotations", "labels", "json"],
    has_tags: true,
    begins,
    read,
};

const ANNOTATIONS: [&str; 2] = ["annotations", "completions"];

fn begins(start: &str) -> bool {
    start.starts_with('[') && has_key(start, &["data"]) && has_key(start, &ANNOTATIONS)
}

fn read(text: &str, each: Sink) -> Result<Vec<String>, Unreadable> {
    if !text.trim_ascii_start().starts_with('[') {
        return Err(Unreadable::new("no list: expected the tasks that Label Studio exports as JSON"));
    }
    json::entries(text, None, &mut |i, _, task| each(image(i, &task)))?;
    Ok(Vec::new())
}

fn image(index: usize, task: &Value) -> Written {
    let spot = Spot::entry(List::Entries, index);
    let reference = task.get("data").and_then(reference).unwrap_or_default();
    let (name, other_names) = names(&reference);
    let mut image = Written::new(name, spot);
    image.other_names = other_names;
    let annotations = ANNOTATIONS.iter().find_map(|key| task.get(key));
    let all = match annotations {
        Some(Value::Array(all)) => all.as_slice(),
        Some(Value::Null) | None => &[],
        Some(other) => {
            image.is_wrong(format!(
                "`annotations` of `{}` is {}: expected a list",
                cut(&image.name),
                json::shown(other)
            ));
            return image;
        }
    };
    let is = |annotation: &Value, key: &str| annotation.get(key).and_then(Value::as_bool).unwrap_or(false);
    let mut valid = all.iter().filter(|one| !is(one, "was_cancelled")).peekable();
    let first = valid.peek().copied();
    let chosen = valid.clone().find(|one| is(one, "ground_truth")).or(first);
    if valid.count() > 1 {
        image.remarks.push("with several annotations, of which one is used: the ground truth, or the first");
    }
    let Some(results) = chosen.and_then(|one| one.get("result")) else { return image };
    let Some(results) = results.as_array() else {
        image.is_wrong(format!("`result` of `{}` is {}: expected a list", cut(&image.name), json::shown(results)));
        return image;
    };
    image.shapes = Some(Vec::new());
    take_results(results, &mut image);
    image
}

/// The path or address of the picture: `image`, or the first value that looks like one.
fn reference(data: &Value) -> Option<String> {
    let data = data.as_object()?;
    let is_picture = |value: &&str| {
        let ending = value.rsplit('.').next().unwrap_or_default().to_lowercase();
        ["jpg", "jpeg", "png", "bmp", "webp", "tif", "tiff", "gif"].contains(&ending.as_str())
    };
    let image = data.get("image").and_then(Value::as_str);
    image.or_else(|| data.values().filter_map(Value::as_str).find(is_picture)).map(str::to_string)
}

/// The name of a picture, and others that it may have: without the folders of the server, and without the eight characters that
/// an upload puts before the name.
fn names(reference: &str) -> (String, Vec<String>) {
    let (path, query) = reference.split_once('?').unwrap_or((reference, ""));
    let local = query.split('&').find_map(|part| part.strip_prefix("d="));
    let path = decoded(local.unwrap_or(path));
    let bare = path.rsplit(['/', '\\']).next().unwrap_or(&path).to_string();
    let is_elsewhere = local.is_none() && (path.starts_with('/') || path.contains("://"));
    let mut others = Vec::new();
    let is_mark = |mark: &str| mark.len() == 8 && mark.bytes().all(|byte| byte.is_ascii_hexdigit());
    if let Some((mark, rest)) = bare.split_once('-')
        && is_mark(mark)
        && !rest.is_empty()
    {
        others.push(rest.to_string());
    }
    if is_elsewhere {
        return (bare, others);
    }
    others.push(bare);
    (path, others)
}

/// Text in which `%20` stands for a blank.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let code = bytes.get(at + 1..at + 3).filter(|_| byte == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        let code = code.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        plain.push(code.unwrap_or(byte));
        at += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8(plain).unwrap_or_else(|_| text.to_string())
}

fn take_results(results: &[Value], image: &mut Written) {
    let size = |result: &Value| {
        ["original_width", "original_height"].map(|key| result.get(key).and_then(Value::as_f64).unwrap_or(0.0))
    };
    let stated = results.iter().map(size).find(|[width, height]| *width > 0.0 && *height > 0.0);
    image.size = stated.unwrap_or_default();
    image.fractions = stated.is_none();
    // A shape may be drawn with one control and named with another.
    let named: HashSet<&str> = results
        .iter()
        .filter(|result| labels_of(result).is_some())
        .filter_map(|result| result.get("id")?.as_str())
        .collect();
    for (i, result) in results.iter().enumerate() {
        let spot = image.spot;
        let entry = format!("result[{i}] of `{}`: ", cut(&image.name));
        let kind = result.get("type").and_then(Value::as_str).unwrap_or_default();
        let control = result.get("from_name").and_then(Value::as_str).unwrap_or(kind);
        let Some(value) = result.get("value").and_then(Value::as_object) else { continue };
        // Choices about a single region are not those of the image.
        let is_of_region = value.contains_key("x") || value.contains_key("points");
        match kind {
            "choices" | "number" | "rating" if is_of_region => {}
            "choices" => match value.get("choices") {
                Some(Value::Array(choices)) => {
                    for choice in choices {
                        match json::class(Some(choice), "choices") {
                            Ok(class) => image.tags.push((control.to_string(), Some(Value::String(class)))),
                            Err(message) => image.faults.push((Part::Tags, spot, format!("{entry}{message}"))),
                        }
                    }
                }
                other => {
                    let shown = other.map_or("absent".into(), json::shown);
                    image.faults.push((Part::Tags, spot, format!("{entry}`choices` is {shown}: expected a list")));
                }
            },
            "number" | "rating" => match number(value, kind) {
                Ok(_) => image.tags.push((control.to_string(), value.get(kind).cloned())),
                Err(message) => image.faults.push((Part::Tags, spot, format!("{entry}{message}"))),
            },
            _ if is_of_region => {
                let is_named = result.get("id").and_then(Value::as_str).is_some_and(|id| named.contains(id));
                if labels_of(result).is_some() || !is_named {
                    let found = found(result, value, stated);
                    image.add(spot, &entry, found);
                }
            }
            "brushlabels" | "brush" => image.left_out.push("brush".into()),
            _ => {}
        }
    }
}

/// The list of class names: `rectanglelabels`, `polygonlabels`, or `labels`.
fn labels_of(result: &Value) -> Option<&Vec<Value>> {
    let value = result.get("value")?.as_object()?;
    value.iter().find(|(key, _)| key.ends_with("labels")).and_then(|(_, list)| list.as_array())
}

fn found(result: &Value, value: &Object, stated: Option<[f64; 2]>) -> Result<Found, String> {
    let [width, height] = stated.unwrap_or([1.0, 1.0]);
    let pixels = |[x, y]: [f64; 2]| [x / 100.0 * width, y / 100.0 * height];
    let degrees = number_or_zero(value, "rotation");
    if degrees != 0.0 && stated.is_none() {
        return Err("a turned shape without `original_width` and `original_height`: export the labels again".into());
    }
    let pair = |x: &str, y: &str| Ok::<_, String>(pixels([number(value, x)?, number(value, y)?]));
    let has = |key: &str| value.contains_key(key);
    let xyxy = if has("points") {
        let points = json::points(value.get("points"))?;
        bounds(&points.into_iter().map(pixels).collect::<Vec<_>>())?
    } else if has("radiusX") {
        let ([x, y], [w, h]) = (pair("x", "y")?, pair("radiusX", "radiusY")?);
        turned([x - w, y - h, x + w, y + h], degrees, [x, y])
    } else if has("height") {
        let ([x, y], [w, h]) = (pair("x", "y")?, pair("width", "height")?);
        turned([x, y, x + w, y + h], degrees, [x, y])
    } else {
        let kind = result.get("type").and_then(Value::as_str).unwrap_or("shape");
        return Ok(Found::NoBox(kind.trim_end_matches("labels").to_string()));
    };
    let labels = labels_of(result).map(Vec::as_slice).unwrap_or_default();
    match labels {
        [one] => Ok(Found::Object { class: Some(json::class(Some(one), "label")?), xyxy, ignore: false }),
        [] => Err("no label: give its class".into()),
        several => Err(format!("{} labels: give it one", several.len())),
    }
}
