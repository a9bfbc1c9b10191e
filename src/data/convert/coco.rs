//! COCO's instance annotations, a file a split: categories in the order of the classes, counted from 1.

use super::{Item, number, write_text, xywh};
use crate::boxes;
use crate::data::dataset::Split;
use crate::error::Result;
use crate::task::Task;
use serde_json::{Value, json};
use std::path::Path;

pub fn write(dir: &Path, items: &[Item], task: &Task, at: usize) -> Result<()> {
    let categories = task.classes().iter().enumerate();
    let categories: Vec<Value> = categories.map(|(i, name)| json!({"id": i + 1, "name": name})).collect();
    for split in Split::ALL {
        let (mut images, mut annotations) = (Vec::new(), Vec::new());
        let of_split = || items.iter().filter(|item| item.split == split);
        // An image nobody labelled is not mentioned: one without annotations is labelled as empty.
        for (image, item) in of_split().filter(|item| item.boxes(at).is_some()).enumerate() {
            let [width, height] = item.size;
            images.push(json!({"id": image + 1, "file_name": item.to, "width": width, "height": height}));
            for b in item.boxes(at).unwrap_or(&[]) {
                annotations.push(json!({
                    "id": annotations.len() + 1,
                    "image_id": image + 1,
                    "category_id": b.class + 1,
                    "bbox": xywh(&b.xyxy),
                    "area": number(boxes::area(&b.xyxy)),
                    "iscrowd": u8::from(b.ignore),
                    "segmentation": [],
                }));
            }
        }
        if of_split().next().is_some() {
            let file = json!({"images": images, "annotations": annotations, "categories": categories});
            write_text(&dir.join(format!("annotations/instances_{}.json", split.word())), &file.to_string())?;
        }
    }
    Ok(())
}
