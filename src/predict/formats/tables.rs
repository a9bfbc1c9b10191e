//! CSV tables: `predictions.csv` with a row an image for classes and values, `boxes.csv` with a row a box.

use crate::error::{Error, Result};
use crate::model::Prediction;
use crate::predict::answer::{Answered, best, round};
use crate::task::{Task, TaskKind};
use std::path::Path;

/// `file`, each task's columns, and last `error`, empty but for an unreadable image.
pub fn header(tasks: &[Task]) -> Result<String> {
    let mut cells = vec!["file".to_owned()];
    cells.extend(tasks.iter().flat_map(columns));
    cells.push("error".into());
    text([cells])
}

/// A class and the probability of each; a value by the task's name, several by their columns'.
fn columns(task: &Task) -> Vec<String> {
    let of = |part: &String| format!("{}.{part}", task.name);
    match &task.kind {
        TaskKind::Classify { classes } => [task.name.clone()].into_iter().chain(classes.iter().map(of)).collect(),
        // Which labels are there are those of a probability from ½.
        TaskKind::MultiLabel { classes } => classes.iter().map(of).collect(),
        TaskKind::Regress { columns, .. } if columns.len() == 1 => vec![task.name.clone()],
        TaskKind::Regress { columns, .. } => columns.iter().map(of).collect(),
        TaskKind::Detect { .. } => Vec::new(),
    }
}

pub fn row(tasks: &[Task], image: &Answered) -> Result<String> {
    let mut cells = vec![image.file.to_string_lossy().into_owned()];
    for (task, answer) in tasks.iter().zip(image.answer) {
        match answer {
            Prediction::Class(probabilities) => {
                cells.push(task.classes()[best(probabilities)].clone());
                cells.extend(probabilities.iter().map(|&p| round(p, 1e6).to_string()));
            }
            Prediction::Classes(probabilities) => {
                cells.extend(probabilities.iter().map(|&p| round(p, 1e6).to_string()));
            }
            Prediction::Values(values) => cells.extend(values.iter().map(|&v| round(v, 1e5).to_string())),
            Prediction::Boxes(_) => {}
        }
    }
    cells.push(String::new());
    text([cells])
}

pub fn broken(tasks: &[Task], file: &Path, reason: &str) -> Result<String> {
    let mut cells = vec![file.to_string_lossy().into_owned()];
    cells.extend(tasks.iter().flat_map(columns).map(|_| String::new()));
    cells.push(reason.to_owned());
    text([cells])
}

pub fn boxes_header(task: &Task) -> Result<String> {
    debug_assert!(matches!(task.kind, TaskKind::Detect { .. }));
    text([["file", "class", "score", "x1", "y1", "x2", "y2"].map(str::to_owned)])
}

pub fn boxes(task: usize, image: &Answered) -> Result<String> {
    let Prediction::Boxes(found) = &image.answer[task] else { return Ok(String::new()) };
    let file = image.file.to_string_lossy();
    text(found.iter().map(|found| {
        let mut cells =
            vec![file.clone().into_owned(), image.card.architecture.tasks[task].classes()[found.class].clone()];
        cells.push(round(found.score, 1e6).to_string());
        cells.extend(found.xyxy.iter().map(|&v| round(v, 1e2).to_string()));
        cells
    }))
}

fn text(rows: impl IntoIterator<Item = impl IntoIterator<Item = String>>) -> Result<String> {
    let failed = |e: &dyn std::fmt::Display| Error::Other(format!("cannot make a row of CSV: {e}"));
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.write_record(row).map_err(|e| failed(&e))?;
    }
    let bytes = writer.into_inner().map_err(|e| failed(&e))?;
    String::from_utf8(bytes).map_err(|e| failed(&e))
}
