//! A picture per task whose figures one explains.

use super::TaskResult;
use crate::draw;
use crate::error::Result;
use crate::model::init;
use std::path::Path;

/// Writes `confusion_<task>.png`, `scatter_<task>.png` and the like for every task with a labelled image whose kind has a picture.
///
/// # Errors
/// The file system refuses.
pub fn write_pictures(folder: &Path, results: &[TaskResult]) -> Result<()> {
    for result in results.iter().filter(|r| r.labelled > 0) {
        if let Some((what, picture)) = result.summary.picture(&result.task.name) {
            let name = format!("{what}_{}.png", file_name(&result.task.name));
            draw::write_png(&folder.join(name), &picture)?;
        }
    }
    Ok(())
}

/// A task's name as a part of a file name; where that changes it, with a hash, so that no two tasks share a file.
pub fn file_name(name: &str) -> String {
    let plain: String = name.chars().map(|c| if c.is_alphanumeric() || "-_".contains(c) { c } else { '_' }).collect();
    if plain == name { plain } else { format!("{plain}-{:08x}", init::hash_name(name) as u32) }
}
