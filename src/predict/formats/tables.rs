//! CSV tables: `predictions.csv` with a row per image for classes and values, `boxes.csv` with a row per box.

use crate::error::{Error, Result, path_text};
use crate::predict::answer::Answered;
use crate::tasks::Task;
use std::path::Path;

/// The header: `file`, each task's columns, and last `error`, which is filled only for an unreadable image.
pub fn header(tasks: &[Task]) -> Result<String> {
    let mut cells = vec!["file".to_owned()];
    cells.extend(tasks.iter().flat_map(columns));
    cells.push("error".into());
    text([cells])
}

fn columns(task: &Task) -> Vec<String> {
    task.spec.table(&task.name)
}

pub fn row(image: &Answered) -> Result<String> {
    let mut cells = vec![path_text(image.file)];
    cells.extend(image.answer.iter().flat_map(|answer| answer.cells()));
    cells.push(String::new());
    text([cells])
}

pub fn broken(tasks: &[Task], file: &Path, reason: &str) -> Result<String> {
    let mut cells = vec![path_text(file)];
    cells.extend(tasks.iter().flat_map(columns).map(|_| String::new()));
    cells.push(reason.to_owned());
    text([cells])
}

pub fn boxes_header() -> Result<String> {
    text([["file", "class", "score", "x1", "y1", "x2", "y2"].map(str::to_owned)])
}

pub fn boxes(task: usize, image: &Answered) -> Result<String> {
    let file = path_text(image.file);
    text(image.answer[task].box_rows().into_iter().map(|row| [vec![file.clone()], row].concat()))
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
