//! Draws predictions on the image.

use crate::data::Image;
use crate::draw::{self, Canvas, LabelledFrame};
use crate::tasks::{Prediction, Task};

/// The image with its boxes, and a line per other task.
pub fn annotate(tasks: &[Task], image: &Image, answer: &[Box<dyn Prediction>]) -> Canvas {
    let plain = Canvas { width: image.width, height: image.height, rgb: image.rgb.clone() };
    let (mut canvas, scale) = plain.enlarged(384);
    let mut lines = Vec::new();
    for (task, prediction) in tasks.iter().zip(answer) {
        let frames: Vec<LabelledFrame> = prediction.frames().into_iter().map(|frame| frame.scaled(scale)).collect();
        draw::frames(&mut canvas, &frames);
        lines.extend(prediction.caption().map(|caption| format!("{}: {caption}", task.name)));
    }
    draw::caption(&mut canvas, &lines);
    canvas
}
