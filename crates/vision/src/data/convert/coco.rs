//! Writes COCO instance annotations, one file per split, with category ids in the order of the classes, from 1. A
//! data.yaml, which other tools ignore, keeps the task's name and its options.

use super::{Item, as_written, write_text};
use crate::boxes;
use crate::data::declaration::{Split, TaskDeclaration};
use crate::data::describe::keys;
use crate::error::Result;
use crate::reading::yaml::scalar;
use crate::tasks::{Task, written_number, written_xywh};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;

pub fn write(dir: &Path, items: &[Item], declared: &TaskDeclaration, task: &Task, at: usize) -> Result<()> {
    let mut yaml = String::from("path: .\n");
    let mut files = Vec::new();
    let categories = task.classes().iter().enumerate();
    let categories: Vec<Value> = categories.map(|(i, name)| json!({"id": i + 1, "name": name})).collect();
    for split in Split::ALL {
        let (mut images, mut annotations) = (Vec::new(), Vec::new());
        let of_split = || items.iter().filter(|item| item.split == split);
        // Unlabelled images are not listed, because an image without annotations counts as labelled and empty.
        for (image, item) in of_split().filter(|item| item.boxes(at).is_some()).enumerate() {
            let [width, height] = item.size;
            images.push(json!({"id": image + 1, "file_name": item.to, "width": width, "height": height}));
            for b in item.boxes(at).into_iter().flat_map(|boxes| boxes.with_regions(categories.len())) {
                annotations.push(json!({
                    "id": annotations.len() + 1,
                    "image_id": image + 1,
                    "category_id": b.class + 1,
                    "bbox": written_xywh(&b.xyxy),
                    "area": written_number(boxes::area(&b.xyxy)),
                    "iscrowd": u8::from(b.ignore),
                    "segmentation": [],
                }));
            }
        }
        if of_split().next().is_some() {
            let file = json!({"images": &images, "annotations": annotations, "categories": categories});
            let word = split.word();
            let name = format!("annotations/instances_{word}.json");
            write_text(&dir.join(&name), &file.to_string())?;
            let _ = writeln!(yaml, "{word}: {word}"); // writing to a String cannot fail
            // A file without images would not describe any image, so it is not declared.
            if !images.is_empty() {
                files.push(format!("{word}: {name}"));
            }
        }
    }
    let _ = writeln!(yaml, "tasks:\n  {}:", scalar(&task.name));
    let from = format!("{{coco: {{{}}}}}", files.join(", "));
    for (key, value) in keys(&as_written(declared, task), Some(task), Some(from)) {
        let _ = writeln!(yaml, "    {key}: {value}");
    }
    write_text(&dir.join("data.yaml"), &yaml)
}
