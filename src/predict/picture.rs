//! Answers drawn on the image they are about.

use super::answer::best;
use crate::boxes::Detection;
use crate::data::Image;
use crate::draw::{self, Canvas, LabelledFrame};
use crate::model::Prediction;
use crate::model::prediction::is_present;
use crate::task::{Task, TaskKind};

/// The image with its boxes drawn and a line per other task.
pub fn annotate(tasks: &[Task], image: &Image, answer: &[Prediction]) -> Canvas {
    let plain = Canvas { width: image.width, height: image.height, rgb: image.rgb.clone() };
    let (mut canvas, scale) = plain.enlarged(384);
    let mut lines = Vec::new();
    for (task, prediction) in tasks.iter().zip(answer) {
        match prediction {
            Prediction::Boxes(found) => {
                let label = |b: &Detection| format!("{} {:.2}", task.classes()[b.class], b.score);
                let labels: Vec<String> = found.iter().map(label).collect();
                let boxes = found.iter().zip(&labels);
                let frames: Vec<LabelledFrame> = boxes
                    .map(|(b, label)| LabelledFrame { xyxy: b.xyxy.map(|v| v * scale), class: b.class, label })
                    .collect();
                draw::frames(&mut canvas, &frames);
            }
            Prediction::Class(p) => {
                let class = best(p);
                lines.push(format!("{}: {} {:.2}", task.name, task.classes()[class], p[class]));
            }
            Prediction::Classes(p) => lines.push(describe_labels(task, p)),
            Prediction::Values(values) => lines.push(describe_values(task, values)),
        }
    }
    draw::caption(&mut canvas, &lines);
    canvas
}

fn describe_labels(task: &Task, probabilities: &[f32]) -> String {
    let there = task.classes().iter().zip(probabilities).filter(|(_, p)| is_present(**p));
    let there: Vec<String> = there.map(|(class, p)| format!("{class} {p:.2}")).collect();
    format!("{}: {}", task.name, if there.is_empty() { "none".into() } else { there.join(", ") })
}

fn describe_values(task: &Task, values: &[f32]) -> String {
    let TaskKind::Regress { units, .. } = &task.kind else {
        return task.name.clone();
    };
    let parts = values.iter().zip(units).map(|(v, unit)| format!("{v:.2} {unit}"));
    format!("{}: {}", task.name, parts.collect::<Vec<_>>().join(", "))
}
