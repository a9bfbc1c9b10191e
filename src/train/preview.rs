//! The first batch of a run as the network would see it: its pictures after framing and augmentation, boxes and labels drawn
//! on them.

use super::setup::Data;
use crate::config::TrainConfig;
use crate::data::TrainLoader;
use crate::draw::{self, Canvas, LabelledFrame};
use crate::error::Result;
use crate::task::{Label, LabelledBox, MixedClass, Task, TaskKind};
use std::sync::Arc;

/// The picture, and what a person should hear of the data set and the augmentations: sentences.
///
/// # Errors
/// A data set that cannot be opened, or too many unreadable images.
pub fn augmented_batch(config: &TrainConfig) -> Result<(Canvas, Vec<String>)> {
    let mut data = Data::open(config)?;
    let encode = Arc::new(|labels: &[Label]| labels.to_vec());
    let mut loader = TrainLoader::new(Arc::clone(&data.train), data.loader_options(config), encode, 0)?;
    let batch = loader.next()?;
    let side = config.imgsz;
    let pictures = batch.items.iter().zip(batch.images.chunks_exact(side * side * 3));
    let pictures: Vec<Canvas> = pictures.map(|(item, rgb)| annotate(&data.tasks, side, rgb, &item.encoded)).collect();
    let columns = (pictures.len() as f64).sqrt().ceil() as usize;
    let mut notes = std::mem::take(&mut data.notes);
    notes.extend(batch.broken.iter().map(|b| format!("unreadable, left out: {b}")));
    Ok((draw::grid(&pictures, columns), notes))
}

/// A picture of the batch with its boxes drawn and a line per other label.
fn annotate(tasks: &[Task], side: usize, rgb: &[u8], labels: &[Label]) -> Canvas {
    let (mut canvas, scale) = Canvas { width: side, height: side, rgb: rgb.to_vec() }.enlarged(draw::READABLE_SIDE);
    let mut lines = Vec::new();
    for (task, label) in tasks.iter().zip(labels) {
        match label {
            Label::Boxes(boxes) if boxes.is_empty() => lines.push(format!("{}: nothing there", task.name)),
            Label::Boxes(boxes) => {
                let name = |b: &LabelledBox| {
                    let class = &task.classes()[b.class];
                    if b.ignore { format!("{class} (ignored)") } else { class.clone() }
                };
                let names: Vec<String> = boxes.iter().map(name).collect();
                let frames = boxes.iter().zip(&names).map(|(b, label)| LabelledFrame {
                    xyxy: b.xyxy.map(|v| v * scale),
                    class: b.class,
                    label,
                });
                draw::frames(&mut canvas, &frames.collect::<Vec<_>>());
            }
            label => lines.extend(describe(task, label).map(|text| format!("{}: {text}", task.name))),
        }
    }
    draw::caption(&mut canvas, &lines);
    canvas
}

/// A label that is no box in words; nothing where there is none.
fn describe(task: &Task, label: &Label) -> Option<String> {
    match label {
        Label::Class(class) => Some(task.classes()[*class].clone()),
        Label::Mixed(MixedClass { classes: [first, second], share }) => {
            let [first, second] = [first, second].map(|c| &task.classes()[*c]);
            Some(format!("{share:.2} {first}, {:.2} {second}", 1.0 - share))
        }
        Label::Classes(there) => {
            let names = task.classes().iter().zip(there).filter(|(_, there)| **there == Some(true));
            let names: Vec<&str> = names.map(|(name, _)| name.as_str()).collect();
            Some(if names.is_empty() { "none".into() } else { names.join(", ") })
        }
        Label::Values(values) => {
            let TaskKind::Regress { units, .. } = &task.kind else { return None };
            let parts = values.iter().zip(units).map(|(v, unit)| format!("{v} {unit}").trim_end().to_owned());
            Some(parts.collect::<Vec<_>>().join(", "))
        }
        Label::Boxes(_) | Label::Unlabelled => None,
    }
}
