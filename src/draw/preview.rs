//! A data set's images with their labels drawn, side by side: the quickest way to see a box in the wrong place.

use super::{Canvas, LabelledFrame, READABLE_SIDE, caption, frames, grid};
use crate::data::random::Random;
use crate::data::{Image, Sample, decode};
use crate::error::{Error, Result};
use crate::task::{Label, LabelledBox, Task, TaskKind};
use rayon::prelude::*;

/// The longer side of a picture on the sheet, pixels.
const CELL: usize = 640;

/// A contact sheet of `count` of the samples, drawn by `seed`, and the names of those that cannot be read.
///
/// Errors: `Usage` where there is nothing to draw.
pub fn preview(tasks: &[Task], samples: &[Sample], count: usize, seed: u64) -> Result<(Canvas, Vec<String>)> {
    if samples.is_empty() || count == 0 {
        return Err(Error::Usage("nothing to draw: the split has no images, or --count is 0".into()));
    }
    let mut order: Vec<usize> = (0..samples.len()).collect();
    Random::new(&[seed]).shuffle(&mut order);
    order.truncate(count);
    order.sort_unstable();
    let drawn = order.par_iter().map(|&index| {
        let sample = &samples[index];
        let image = decode::decode(&sample.image).map_err(|error| format!("{}: {}", sample.name, error.reason()))?;
        // An augmented image would come with its own labels here.
        Ok(labelled(tasks, &sample.name, image, &sample.labels))
    });
    let drawn: Vec<Result<Canvas, String>> = drawn.collect();
    let (mut pictures, mut broken) = (Vec::new(), Vec::new());
    for picture in drawn {
        match picture {
            Ok(picture) => pictures.push(picture),
            Err(reason) => broken.push(reason),
        }
    }
    if pictures.is_empty() {
        return Err(Error::Other(format!("none of the images can be read: {}", broken[0])));
    }
    let columns = (pictures.len() as f32).sqrt().ceil() as usize;
    Ok((grid(&pictures, columns), broken))
}

/// One image with its boxes, and below it its name and what the labels say beside boxes.
///
/// Units: boxes in pixels of `image`.
pub fn labelled(tasks: &[Task], name: &str, image: Image, labels: &[Label]) -> Canvas {
    let whole = Canvas { width: image.width, height: image.height, rgb: image.rgb };
    let (small, shrunk) = whole.shrunk(CELL);
    let (mut canvas, enlarged) = small.enlarged(READABLE_SIDE);
    let mut lines = vec![name.to_string()];
    for (task, label) in tasks.iter().zip(labels) {
        match label {
            Label::Boxes(boxes) if !boxes.is_empty() => draw_boxes(&mut canvas, task, boxes, shrunk * enlarged),
            label => lines.push(format!("{}: {}", task.name, words(task, label))),
        }
    }
    caption(&mut canvas, &lines);
    canvas
}

fn draw_boxes(canvas: &mut Canvas, task: &Task, boxes: &[LabelledBox], scale: f32) {
    let label = |b: &LabelledBox| {
        let class = &task.classes()[b.class];
        if b.ignore { format!("{class} (ignored)") } else { class.clone() }
    };
    let labels: Vec<String> = boxes.iter().map(label).collect();
    let frame = |(b, label): (&LabelledBox, _)| LabelledFrame { xyxy: b.xyxy.map(|v| v * scale), class: b.class, label };
    let drawn: Vec<LabelledFrame> = boxes.iter().zip(&labels).map(|(b, label)| frame((b, label.as_str()))).collect();
    frames(canvas, &drawn);
}

fn words(task: &Task, label: &Label) -> String {
    match (label, &task.kind) {
        (Label::Unlabelled, _) => "unlabelled".into(),
        (Label::Boxes(_), _) => "nothing there".into(),
        (Label::Class(class), _) => task.classes()[*class].clone(),
        (Label::Classes(there), _) => {
            let said = task.classes().iter().zip(there);
            let words = said.filter_map(|(class, there)| match there {
                Some(true) => Some(class.clone()),
                Some(false) => None,
                None => Some(format!("{class}?")),
            });
            let words: Vec<String> = words.collect();
            if words.is_empty() { "none".into() } else { words.join(", ") }
        }
        (Label::Values(values), TaskKind::Regress { columns, units }) => {
            let part = |((value, unit), column): ((&f32, &String), &String)| {
                let name = if columns.len() > 1 { format!("{column} ") } else { String::new() };
                format!("{name}{value} {unit}").trim_end().to_string()
            };
            let parts: Vec<String> = values.iter().zip(units).zip(columns).map(part).collect();
            parts.join(", ")
        }
        (Label::Values(values), _) => format!("{values:?}"),
    }
}
