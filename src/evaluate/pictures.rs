//! A picture per task that one explains: a confusion matrix, or predictions against true values.

use super::{Summary, TaskResult};
use crate::draw::{self, Canvas};
use crate::error::Result;
use crate::metrics::regression::RegressionSummary;
use crate::model::init;
use crate::task::{Task, TaskKind};
use std::path::Path;

/// Scatters of a task beside each other.
const COLUMNS: usize = 3;

/// Writes `confusion_<task>.png` or `scatter_<task>.png` for every task with a labelled image and no boxes.
///
/// # Errors
/// The file system refuses.
pub fn write_pictures(folder: &Path, results: &[TaskResult]) -> Result<()> {
    for result in results.iter().filter(|r| r.labelled > 0) {
        let name = file_name(&result.task.name);
        match &result.summary {
            Summary::Classification(s) => {
                let title = format!("{} ({} images)", result.task.name, s.count);
                let picture = draw::confusion(&title, result.task.classes(), &s.confusion);
                draw::write_png(&folder.join(format!("confusion_{name}.png")), &picture)?;
            }
            Summary::Regression(columns) => {
                draw::write_png(&folder.join(format!("scatter_{name}.png")), &scatters(&result.task, columns))?;
            }
            Summary::Detection(_) | Summary::MultiLabel(_) => {}
        }
    }
    Ok(())
}

fn scatters(task: &Task, columns: &[RegressionSummary]) -> Canvas {
    let TaskKind::Regress { columns: names, units } = &task.kind else { return draw::grid(&[], COLUMNS) };
    let one = |(summary, (name, unit)): (&RegressionSummary, (&String, &String))| {
        let unit = if unit.is_empty() { String::new() } else { format!(" in {unit}") };
        draw::scatter(&format!("{name}{unit} ({} images)", summary.count), &summary.pairs)
    };
    let mut pictures: Vec<Canvas> = columns.iter().zip(names.iter().zip(units)).map(one).collect();
    if pictures.len() == 1 { pictures.remove(0) } else { draw::grid(&pictures, COLUMNS) }
}

/// A task's name as a part of a file name; where that changes it, with a hash, so that no two tasks share a file.
pub fn file_name(name: &str) -> String {
    let plain: String = name.chars().map(|c| if c.is_alphanumeric() || "-_".contains(c) { c } else { '_' }).collect();
    if plain == name { plain } else { format!("{plain}-{:08x}", init::hash_name(name) as u32) }
}
