//! YOLO label files as written by Ultralytics' `save_txt`: one file per image, `cls cx cy w h conf`, relative to the image's
//! size.

use crate::data::LABELS_MARKER;
use crate::error::{Error, Result, shown};
use crate::files;
use crate::predict::answer::Answered;
use crate::tasks::Task;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The folders of label files, one per detection task.
pub struct Labels {
    folders: Vec<(usize, PathBuf)>,
    /// The folders that this prediction created.
    new: Vec<PathBuf>,
}

impl Labels {
    /// Makes the folders in `out`: `labels`, or one per task if there are several.
    ///
    /// # Errors
    /// A folder contains files that polyhead did not write.
    pub fn create(out: &Path, tasks: &[Task]) -> Result<Labels> {
        let detects: Vec<usize> = (0..tasks.len()).filter(|&t| tasks[t].spec.finds_boxes()).collect();
        let folder = |&task: &usize| (task, out.join(super::of_task("labels", tasks, &detects, task)));
        let folders: Vec<(usize, PathBuf)> = detects.iter().map(folder).collect();
        let new = folders.iter().map(|(_, folder)| folder.clone()).filter(|folder| !folder.exists()).collect();
        for (_, folder) in &folders {
            std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
            // Label folders without it are not polyhead's and are not overwritten.
            let marker = folder.join(LABELS_MARKER);
            let holds_files = std::fs::read_dir(folder).map_err(Error::io("list", folder))?.next().is_some();
            if holds_files && !marker.exists() {
                return Err(Error::Usage(format!(
                    "{} holds files that are not predictions, perhaps training labels: give another folder to --out",
                    shown(folder)
                )));
            }
            std::fs::write(&marker, "").map_err(Error::io("write", &marker))?;
        }
        Ok(Labels { folders, new })
    }

    /// The folders.
    pub fn folders(&self) -> Vec<PathBuf> {
        self.folders.iter().map(|(_, folder)| folder.clone()).collect()
    }

    /// Removes the folders that this prediction made, if they hold no labels.
    pub fn discard(&self) {
        for folder in &self.new {
            let _ = std::fs::remove_file(folder.join(LABELS_MARKER));
            let _ = std::fs::remove_dir(folder);
        }
    }

    /// Writes an image's files; `name` is relative. An image without boxes gets an empty file.
    ///
    /// # Errors
    /// A file cannot be written.
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
