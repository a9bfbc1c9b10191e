//! VoTT 2: the exported JSON, an object of assets with their regions in pixels.

use super::json::{self, number};
use super::written::{Found, Unreadable, Written, bounds};
use super::{Files, Form, Sink, has_key};
use crate::reading::{List, Spot, cut};
use serde_json::Value;

pub static FORM: Form = Form {
    word: "vott",
    title: "VoTT",
    files: Files::OfManyImages,
    ending: "json",
    folders: &["annotations", "labels", "json", "vott-json-export"],
    has_tags: false,
    begins,
    read,
};

fn begins(start: &str) -> bool {
    start.starts_with('{') && has_key(start, &["assets"]) && has_key(start, &["tags", "regions", "asset"])
}

fn read(text: &str, each: Sink) -> Result<Vec<String>, Unreadable> {
    json::entries(text, Some("assets"), &mut |i, _, entry| each(image(i, &entry)))?;
    Ok(Vec::new())
}

fn image(index: usize, entry: &Value) -> Written {
    let spot = Spot::entry(List::Entries, index);
    let asset = entry.get("asset").unwrap_or(&Value::Null);
    let name = asset.get("name").and_then(Value::as_str).unwrap_or_default();
    let mut image = Written::new(name, spot);
    let name = cut(name);
    let side = |key: &str| asset.get("size").and_then(|size| size.get(key)?.as_f64()).unwrap_or(0.0);
    image.size = [side("width"), side("height")];
    let is_visited = asset.get("state").and_then(Value::as_u64) != Some(0);
    match entry.get("regions") {
        Some(Value::Array(regions)) => {
            // Nobody has looked at an asset of state 0.
            image.shapes = is_visited.then(Vec::new);
            for (i, region) in regions.iter().enumerate() {
                let entry = format!("regions[{i}] of `{name}`: ");
                match found(region) {
                    Ok(found) => found.into_iter().for_each(|found| image.add(spot, &entry, Ok(found))),
                    Err(message) => image.add(spot, &entry, Err(message)),
                }
            }
        }
        Some(Value::Null) | None => {}
        Some(other) => image.is_wrong(format!("`regions` of `{name}` is {}: expected a list", json::shown(other))),
    }
    image
}

/// A box for each tag of the region.
fn found(region: &Value) -> Result<Vec<Found>, String> {
    let xyxy = match (region.get("boundingBox"), region.get("points")) {
        (Some(Value::Object(edges)), _) => {
            let [x, y, w, h] = ["left", "top", "width", "height"].map(|key| number(edges, key));
            let [x, y, w, h] = [x?, y?, w?, h?];
            [x, y, x + w, y + h]
        }
        (_, Some(Value::Array(points))) => {
            let point = |point: &Value| {
                let point = point.as_object().ok_or("a point without x and y: expected pixels")?;
                Ok::<_, String>([number(point, "x")?, number(point, "y")?])
            };
            bounds(&points.iter().map(point).collect::<Result<Vec<_>, _>>()?)?
        }
        _ => return Err("no `boundingBox`: draw it again".into()),
    };
    let tags = region.get("tags").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if tags.is_empty() {
        return Err("no tag: give its class".into());
    }
    let tagged = |tag: &Value| Ok(Found::Object { class: Some(json::class(Some(tag), "tags")?), xyxy, ignore: false });
    tags.iter().map(tagged).collect()
}
