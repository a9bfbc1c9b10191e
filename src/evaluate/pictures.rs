//! Writes a picture per task, such as a confusion matrix.

use super::TaskResult;
use crate::draw;
use crate::error::Result;
use crate::random::fnv;
use crate::tasks::KINDS;
use std::path::Path;

/// Writes `confusion_<task>.png`, `scatter_<task>.png` and the like for every task with a labelled image whose kind has a picture.
///
/// # Errors
/// A file cannot be written; the others are written nevertheless.
pub fn write_pictures(folder: &Path, results: &[TaskResult]) -> Result<()> {
    let mut written = Ok(());
    for result in results.iter().filter(|r| r.labelled > 0) {
        let picture = result.summary.picture(&result.task.name);
        if let (Some(word), Some(picture)) = (result.task.spec.kind().picture, picture) {
            written = written.and(draw::write_png(&folder.join(picture_name(word, &result.task.name)), &picture));
        }
    }
    written
}

/// All possible names of a task's picture, whatever its kind; at most one of them exists.
pub fn picture_names(task: &str) -> impl Iterator<Item = String> {
    KINDS.iter().filter_map(|kind| kind.picture).map(move |word| picture_name(word, task))
}

fn picture_name(word: &str, task: &str) -> String {
    format!("{word}_{}.png", file_name(task))
}

/// Turns a task's name into a part of a file name. A changed name gets a hash, so that no two tasks share a file.
pub fn file_name(name: &str) -> String {
    let plain: String = name.chars().map(|c| if c.is_alphanumeric() || "-_".contains(c) { c } else { '_' }).collect();
    if plain == name { plain } else { format!("{plain}-{:08x}", fnv(name) as u32) }
}
