//! YOLO label files as Ultralytics' `save_txt` writes them: a file an image, `cls cx cy w h conf`, sizes as parts of the image's.

use crate::error::{Error, Result};
use crate::files;
use crate::predict::answer::Answered;
use crate::tasks::Task;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Marks a folder of labels as made here: somebody's own labels are not written over.
const MARKER: &str = ".polyhead-predictions";

/// The folders of label files, one per detection task.
pub struct Labels {
    folders: Vec<(usize, PathBuf)>,
}

impl Labels {
    /// Makes the folders in `out`: `labels`, or one per task where there are several.
    ///
    /// # Errors
    /// A folder with files that were not written here.
    pub fn create(out: &Path, tasks: &[Task]) -> Result<Labels> {
        let detects: Vec<usize> = (0..tasks.len()).filter(|&t| tasks[t].spec.finds_boxes()).collect();
        let folder = |&task: &usize| (task, out.join(super::of_task("labels", tasks, &detects, task)));
        let folders: Vec<(usize, PathBuf)> = detects.iter().map(folder).collect();
        for (_, folder) in &folders {
            std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
            let marker = folder.join(MARKER);
            let holds_files = std::fs::read_dir(folder).map_err(Error::io("list", folder))?.next().is_some();
            if holds_files && !marker.exists() {
                return Err(Error::Usage(format!(
                    "{} holds files that are no predictions, perhaps the labels to learn from: give another folder to --out",
                    folder.display()
                )));
            }
            std::fs::write(&marker, "").map_err(Error::io("write", &marker))?;
        }
        Ok(Labels { folders })
    }

    /// Writes an image's files; `name` is relative. An image without boxes has an empty one.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn write(&self, name: &Path, image: &Answered) -> Result<()> {
        for (task, folder) in &self.folders {
            let Some(rows) = image.answer[*task].yolo(image.size) else { continue };
            let path = folder.join(name);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
            }
            files::write(&path, |file| file.write_all(rows.as_bytes()))?;
        }
        Ok(())
    }
}
