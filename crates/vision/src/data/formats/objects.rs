//! Boxes in a cell of a metadata table, as in Hugging Face's data sets: parallel lists, or a list of objects.

use super::columns::class_word;
use super::corners::Found;
use super::listed::Listed;
use super::{Raw, RawBox, RawClass, Reading, Remark};
use crate::boxes::{self, Xyxy};
use crate::data::images::decode;
use crate::error::Result;
use crate::reading::{BoxFormat, Place, count_of};
use serde_json::{Map, Value};

/// Keys of a box's class, and of the flag that makes it a region to ignore.
const CLASS: [&str; 3] = ["categories", "category", "label"];
const IGNORE: [&str; 3] = ["ignore", "iscrowd", "difficult"];

/// `{"bbox": [[x, y, w, h], …], "categories": [name or number, …]}`, or `[{"bbox": …, "category": …}, …]`. In addition,
/// `iscrowd` marks regions to ignore, and `labelled_categories` lists the classes that were looked for.
pub fn read(column: &str, value: &Value, format: BoxFormat, image: &Listed, reading: &mut Reading) -> Result<Raw> {
    let parsed;
    let value = match value {
        Value::String(text) => {
            parsed = serde_json::from_str::<Value>(text).unwrap_or(Value::Null);
            &parsed
        }
        other => other,
    };
    let place = reading.place.clone();
    let beside;
    let value = match value.as_array() {
        Some(list) if list.is_empty() => return Ok(Raw::Boxes(Vec::new())),
        Some(list) => {
            beside = side_by_side(list);
            &beside
        }
        None => value,
    };
    let expected = || {
        place.error(format!(
            "column `{column}` is not a list of boxes: expected {{\"bbox\": [[x, y, w, h], …], \"categories\": [class, …]}}"
        ))
    };
    let list = |keys: &[&str]| keys.iter().find_map(|key| value.get(key)?.as_array());
    let boxes = list(&["bbox"]).ok_or_else(expected)?;
    let classes = list(&CLASS).ok_or_else(expected)?;
    if boxes.len() != classes.len() {
        let message = format!(
            "column `{column}`: {} but {} categories: give one category per box",
            count_of(boxes.len(), "box"),
            classes.len()
        );
        return Err(place.error(message));
    }
    let class = |value: &Value| Ok(RawClass { word: class_word(column, value, &place)?, spot: place.spot });
    if let Some(looked_for) = list(&["labelled_categories", "labeled_categories"]) {
        reading.labelled_categories = Some(looked_for.iter().map(class).collect::<Result<_>>()?);
    }
    let mut size = [1.0f32; 2];
    if format == BoxFormat::CxcywhNormalised && !boxes.is_empty() {
        let Ok([width, height]) = decode::dimensions(&image.image) else {
            reading.remarks.push((Remark::UnreadableImage, Place::new(&image.image, None)));
            return Ok(Raw::Unlabelled);
        };
        size = [width as f32, height as f32];
    }
    let ignored = list(&IGNORE);
    let mut found = Found::default();
    for (i, (numbers, name)) in boxes.iter().zip(classes).enumerate() {
        let xyxy = to_pixels(format, four(numbers).ok_or_else(expected)?, size);
        let Some(xyxy) = found.in_order(xyxy, place.spot, reading) else { continue };
        let ignore = ignored.and_then(|flags| flags.get(i)).is_some_and(is_set);
        found.boxes.push(RawBox { class: class(name)?, xyxy, ignore });
    }
    found.finish(reading);
    Ok(std::mem::replace(&mut reading.raw, Raw::Unlabelled))
}

/// The four numbers of a box.
fn four(numbers: &Value) -> Option<[f32; 4]> {
    let numbers: Vec<f32> = numbers.as_array()?.iter().map(|v| v.as_f64().map(|v| v as f32)).collect::<Option<_>>()?;
    numbers.try_into().ok()
}

/// Whether a flag is true or 1.
fn is_set(flag: &Value) -> bool {
    flag.as_bool() == Some(true) || flag.as_i64() == Some(1)
}

/// Converts `[{"bbox": b, "category": c}, …]` to `{"bbox": [b, …], "category": [c, …]}`, with null for a missing key.
fn side_by_side(list: &[Value]) -> Value {
    let mut lists = Map::new();
    for key in ["bbox"].iter().chain(&CLASS).chain(&IGNORE) {
        if list.iter().any(|entry| entry.get(key).is_some()) {
            let values = list.iter().map(|entry| entry.get(key).cloned().unwrap_or(Value::Null));
            lists.insert((*key).to_string(), Value::Array(values.collect()));
        }
    }
    Value::Object(lists)
}

fn to_pixels(format: BoxFormat, numbers: [f32; 4], [width, height]: [f32; 2]) -> Xyxy {
    match format {
        BoxFormat::XywhAbsolute => boxes::from_xywh(numbers),
        BoxFormat::XyxyAbsolute => numbers,
        BoxFormat::CxcywhNormalised => {
            let [x1, y1, x2, y2] = boxes::from_cxcywh(numbers);
            [x1 * width, y1 * height, x2 * width, y2 * height]
        }
    }
}
