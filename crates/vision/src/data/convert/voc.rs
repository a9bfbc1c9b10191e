//! Writes Pascal VOC: one XML file per image, lists of IDs, and a data.yaml that keeps the task's name and the order of
//! classes.

use super::{Item, as_written, write_text};
use crate::boxes::Xyxy;
use crate::data::declaration::{Split, TaskDeclaration};
use crate::data::describe::keys;
use crate::error::Result;
use crate::reading::yaml::scalar;
use crate::tasks::Task;
use quick_xml::escape::escape;
use rayon::prelude::*;
use std::fmt::Write as _;
use std::path::Path;

/// Whether VOC can store the box. Pixels are counted from 1 with the last one included, so a box one pixel wide has
/// `xmin = xmax` and would look degenerate.
pub fn holds(&[x1, y1, x2, y2]: &Xyxy) -> bool {
    x2 > x1 + 1.0 && y2 > y1 + 1.0
}

pub fn write(dir: &Path, items: &[Item], declared: &TaskDeclaration, task: &Task, at: usize) -> Result<()> {
    let id = |item: &Item| Path::new(&item.to).with_extension("").to_string_lossy().into_owned();
    items.par_iter().try_for_each(|item| match xml(item, task, at) {
        Some(text) => write_text(&dir.join("Annotations").join(id(item) + ".xml"), &text),
        None => Ok(()),
    })?;
    // The folder must exist even if no image is labelled, because data.yaml refers to it.
    std::fs::create_dir_all(dir.join("Annotations")).map_err(crate::error::Error::io("create", dir))?;
    let mut yaml = String::from("path: .\n");
    for split in Split::ALL {
        let ids = items.iter().filter(|item| item.split == split).map(|item| id(item) + "\n").collect::<String>();
        if !ids.is_empty() {
            let list = format!("ImageSets/Main/{}.txt", split.word());
            write_text(&dir.join(&list), &ids)?;
            let _ = writeln!(yaml, "{}: {list}", split.word()); // writing to a String cannot fail
        }
    }
    let _ = writeln!(yaml, "tasks:\n  {}:", scalar(&task.name));
    for (key, value) in keys(&as_written(declared, task), Some(task), Some("{voc: Annotations}".into())) {
        let _ = writeln!(yaml, "    {key}: {value}");
    }
    write_text(&dir.join("data.yaml"), &yaml)
}

fn xml(item: &Item, task: &Task, at: usize) -> Option<String> {
    let [width, height] = item.size;
    let mut xml = format!(
        "<annotation>\n  <folder>JPEGImages</folder>\n  <filename>{}</filename>\n  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>\n  <segmented>0</segmented>\n",
        escape(item.to.as_str())
    );
    for b in item.boxes(at)?.with_regions(task.classes().len()) {
        let xyxy = item.clipped(&b.xyxy);
        if holds(&xyxy) {
            let [x1, y1, x2, y2] = xyxy;
            let _ = writeln!(
                xml,
                "  <object>\n    <name>{}</name>\n    <pose>Unspecified</pose>\n    <truncated>0</truncated>\n    <difficult>{}</difficult>\n    <bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>\n  </object>",
                escape(task.classes()[b.class].as_str()),
                u8::from(b.ignore),
                x1 + 1.0,
                y1 + 1.0
            );
        }
    }
    xml.push_str("</annotation>\n");
    Some(xml)
}
