//! Writes YOLO label files beside the images, and a data.yaml for Ultralytics' tools.

use super::{Item, write_text};
use crate::data::dataset::Dataset;
use crate::data::declaration::Split;
use crate::error::Result;
use crate::reading::yaml::scalar;
use rayon::prelude::*;
use std::fmt::Write as _;
use std::path::Path;

pub fn write(dir: &Path, items: &[Item], dataset: &Dataset, at: usize) -> Result<()> {
    items.par_iter().try_for_each(|item| {
        let Some(rows) = rows(item, at) else {
            return Ok(());
        };
        let file = dir.join("labels").join(item.split.word()).join(&item.to).with_extension("txt");
        write_text(&file, &rows)
    })?;
    let mut yaml = String::from("path: .\n");
    for split in Split::ALL.into_iter().filter(|split| items.iter().any(|item| item.split == *split)) {
        let _ = writeln!(yaml, "{0}: images/{0}", split.word()); // writing to a String cannot fail
    }
    if items.iter().any(|item| item.boxes(at).is_none()) {
        yaml.push_str("missing: unlabelled\n");
    }
    if !dataset.flip_safe {
        yaml.push_str("flip_safe: false\n");
    }
    let _ = writeln!(yaml, "nc: {}\nnames:", dataset.tasks[at].classes().len());
    for (index, name) in dataset.tasks[at].classes().iter().enumerate() {
        let _ = writeln!(yaml, "  {index}: {}", scalar(name));
    }
    write_text(&dir.join("data.yaml"), &yaml)
}

/// Rows of `class cx cy w h`; `None` for an unlabelled image.
fn rows(item: &Item, at: usize) -> Option<String> {
    let [width, height] = item.size.map(|v| v as f32);
    let mut rows = String::new();
    for b in item.boxes(at)?.iter().filter(|b| !b.ignore) {
        let [x1, y1, x2, y2] = item.clipped(&b.xyxy);
        let centre = [(x1 + x2) / 2.0 / width, (y1 + y2) / 2.0 / height];
        let side = [(x2 - x1) / width, (y2 - y1) / height];
        if side[0] > 0.0 && side[1] > 0.0 {
            let _ = writeln!(rows, "{} {} {} {} {}", b.class, centre[0], centre[1], side[0], side[1]);
        }
    }
    Some(rows)
}
