//! VIA (VGG Image Annotator 1 and 2): the project or its exported annotations, a JSON object with an entry per image. The class
//! of a region is the attribute that most regions have a value for.

use super::json::{self, Object, as_number, number};
use super::written::{Found, Part, Unreadable, Written, bounds, turned};
use super::{Files, Form, Sink, has_key};
use crate::reading::{List, Spot, count_of, cut, list_some};
use serde_json::Value;
use std::collections::BTreeMap;

pub static FORM: Form = Form {
    word: "via",
    title: "VIA",
    files: Files::OfManyImages,
    ending: "json",
    folders: &["annotations", "labels", "json"],
    has_tags: true,
    begins,
    read,
};

/// The key of the images in a project.
const IMAGES: &str = "_via_img_metadata";

/// The class of all regions if none has an attribute.
const ONLY_CLASS: &str = "object";

fn begins(start: &str) -> bool {
    let exported = has_key(start, &["filename"]) && has_key(start, &["regions"]);
    start.starts_with('{') && (has_key(start, &["_via_settings", IMAGES]) || exported)
}

fn read(text: &str, each: Sink) -> Result<Vec<String>, Unreadable> {
    let below = text.contains(&format!("\"{IMAGES}\"")).then_some(IMAGES);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    json::entries(text, below, &mut |_, _, entry| count_attributes(&entry, &mut counts))?;
    // Of several that are as frequent, the first by name.
    let most = counts.values().max().copied().unwrap_or(0);
    let class = counts.iter().find(|(_, count)| **count == most).map(|(name, _)| name.clone());
    json::entries(text, below, &mut |i, _, entry| each(image(i, &entry, class.as_deref())))?;
    let others: Vec<&String> = counts.keys().filter(|name| Some(*name) != class.as_ref()).collect();
    Ok(vec![match &class {
        None => format!("no region has an attribute, so all are of the class `{ONLY_CLASS}`"),
        Some(name) => {
            let others = match others.is_empty() {
                true => String::new(),
                false => format!("; others are not read: {}", list_some(&others, 6)),
            };
            format!(
                "the class is the region attribute `{}`, which {} have{others}",
                cut(name),
                count_of(most, "region")
            )
        }
    }])
}

/// The regions of an image: a list or, in the first version, an object.
fn regions(entry: &Value) -> Vec<&Value> {
    match entry.get("regions") {
        Some(Value::Array(list)) => list.iter().collect(),
        Some(Value::Object(map)) => map.values().collect(),
        _ => Vec::new(),
    }
}

fn count_attributes(entry: &Value, counts: &mut BTreeMap<String, usize>) {
    for region in regions(entry) {
        let attributes = region.get("region_attributes").and_then(Value::as_object);
        for (name, value) in attributes.into_iter().flatten() {
            if !chosen(value).is_empty() {
                *counts.entry(name.clone()).or_default() += 1;
            }
        }
    }
}

/// The values of an attribute: a text or number, or the options that are ticked.
fn chosen(value: &Value) -> Vec<Value> {
    match value {
        Value::String(text) if !text.trim().is_empty() => vec![Value::String(text.trim().to_string())],
        Value::Number(_) => vec![value.clone()],
        Value::Object(options) => {
            let ticked = options.iter().filter(|(_, ticked)| **ticked == Value::Bool(true));
            ticked.map(|(option, _)| Value::String(option.clone())).collect()
        }
        _ => Vec::new(),
    }
}

fn image(index: usize, entry: &Value, class: Option<&str>) -> Written {
    let spot = Spot::entry(List::Entries, index);
    let name = entry.get("filename").and_then(Value::as_str).unwrap_or_default();
    let mut image = Written::new(name, spot);
    let name = cut(name);
    image.shapes = Some(Vec::new());
    if let Some(other) = entry.get("regions").filter(|regions| !regions.is_array() && !regions.is_object()) {
        let message = format!("`regions` of `{name}` is {}: expected a list", json::shown(other));
        image.faults.push((Part::Boxes, spot, message));
    }
    for (i, region) in regions(entry).into_iter().enumerate() {
        image.add(spot, &format!("regions[{i}] of `{name}`: "), found(region, class));
    }
    for (name, value) in entry.get("file_attributes").and_then(Value::as_object).into_iter().flatten() {
        // Ticked options are asked for as a whole.
        if value.is_object() {
            image.tags.push((name.clone(), None));
        }
        image.tags.extend(chosen(value).into_iter().map(|value| (name.clone(), Some(value))));
    }
    image
}

fn found(region: &Value, class: Option<&str>) -> Result<Found, String> {
    let object = |key: &str| region.get(key).and_then(Value::as_object);
    let shape = object("shape_attributes").ok_or("no `shape_attributes`: draw it again")?;
    let kind = shape.get("name").and_then(Value::as_str).unwrap_or_default();
    let edge = |key: &str| number(shape, key);
    let xyxy = match kind {
        "rect" => {
            let [x, y, w, h] = [edge("x")?, edge("y")?, edge("width")?, edge("height")?];
            [x, y, x + w, y + h]
        }
        "circle" => {
            let [x, y, r] = [edge("cx")?, edge("cy")?, edge("r")?];
            [x - r, y - r, x + r, y + r]
        }
        "ellipse" => {
            let [x, y, w, h] = [edge("cx")?, edge("cy")?, edge("rx")?, edge("ry")?];
            let radians = shape.get("theta").and_then(Value::as_f64).unwrap_or(0.0);
            turned([x - w, y - h, x + w, y + h], radians.to_degrees(), [x, y])
        }
        "polygon" | "polyline" => bounds(&points(shape)?)?,
        other => return Ok(Found::NoBox(other.to_string())),
    };
    let Some(name) = class else {
        return Ok(Found::Object { class: Some(ONLY_CLASS.into()), xyxy, ignore: false });
    };
    let value = object("region_attributes").and_then(|attributes| attributes.get(name));
    let class = match &value.map(chosen).unwrap_or_default()[..] {
        [one] => Some(json::class(Some(one), name)?),
        [] => return Err(format!("no `{}` among its attributes: give the class", cut(name))),
        several => return Err(format!("{} values of `{}`: choose one", several.len(), cut(name))),
    };
    Ok(Found::Object { class, xyxy, ignore: false })
}

fn points(shape: &Object) -> Result<Vec<[f64; 2]>, String> {
    let list = |key: &str| shape.get(key).and_then(Value::as_array);
    let (Some(xs), Some(ys)) = (list("all_points_x"), list("all_points_y")) else {
        return Err("no `all_points_x` and `all_points_y`: draw it again".into());
    };
    if xs.len() != ys.len() {
        return Err(format!("{} x and {} y: expected one of each per point", xs.len(), ys.len()));
    }
    let wrong = |shown: String| format!("a point at {shown}: expected a number of pixels");
    let pair = |(x, y): (&Value, &Value)| Ok([as_number(x).map_err(wrong)?, as_number(y).map_err(wrong)?]);
    xs.iter().zip(ys).map(pair).collect()
}
