//! Output files that grow with every image. They contain only complete pieces, have another name until they are
//! complete, and then replace older files.

use super::formats::Sheet;
use crate::data::{self, Own};
use crate::error::{Error, Result};
use crate::files;
use crate::new_folder;
use crate::replacing;
use std::fs::File;
use std::io::{ErrorKind, Seek, Write};
use std::path::{Path, PathBuf};

/// Pieces are buffered up to this many bytes.
const WAITING: usize = 1 << 16;

/// The place for the predictions.
pub enum Destination {
    /// A folder, created if missing, for one or more files and the pictures.
    Folder(PathBuf),
    /// A new folder in `predict` of this project's folder, with the model's name, and a number if that is taken.
    NewFolder(PathBuf),
    /// A stream of lines only.
    Lines(Box<dyn Write + Send>),
}

/// A destination whose folder exists.
pub(super) struct Made {
    pub target: Target,
    /// The folder, if it did not exist before.
    pub new_folder: Option<PathBuf>,
}

/// An existing folder, or a stream of lines.
pub enum Target {
    Folder(PathBuf),
    Lines(Box<dyn Write + Send>),
}

/// One growing file per sheet.
pub struct Outputs {
    growing: Vec<Growing>,
    /// A sentence about each unfinished file of a killed process that was removed.
    pub removed: Vec<String>,
}

struct Growing {
    place: Place,
    separators: [&'static str; 2],
    closing: &'static str,
    waiting: Vec<u8>,
    pieces: u64,
}

enum Place {
    File { file: File, aside: PathBuf, path: PathBuf, written: u64 },
    Stream(Box<dyn Write + Send>),
}

/// Whether the error means that the reader has gone.
pub fn is_closed(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == ErrorKind::BrokenPipe)
}

impl Destination {
    /// Makes the folder.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub(super) fn make(self, model: &Path) -> Result<Made> {
        match self {
            Destination::Lines(stream) => Ok(Made { target: Target::Lines(stream), new_folder: None }),
            Destination::Folder(folder) => {
                let is_new = !folder.exists();
                std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
                // With a marker, the pictures written here are no images of a later prediction or data set. A folder with other
                // files keeps them as images.
                if data::may_mark(&folder) {
                    data::mark(&folder, Own::Predictions)?;
                }
                Ok(Made { target: Target::Folder(folder.clone()), new_folder: is_new.then_some(folder) })
            }
            Destination::NewFolder(project) => {
                let parent = project.join("predict");
                std::fs::create_dir_all(&parent).map_err(Error::io("create", &parent))?;
                new_folder::mark_project(&project)?;
                let folder = new_folder::first_free(&parent, &name_of(model))?;
                data::mark(&folder, Own::Predictions)?;
                Ok(Made { target: Target::Folder(folder.clone()), new_folder: Some(folder) })
            }
        }
    }
}

/// The name of a model for its folder: the run's, or the weights file's without its ending.
fn name_of(model: &Path) -> String {
    let path = model.canonicalize().unwrap_or_else(|_| model.to_path_buf());
    let run = path.parent().filter(|folder| folder.ends_with("weights")).and_then(Path::parent);
    let name = match (path.is_dir(), run) {
        (true, _) => path.file_name(),
        (false, Some(run)) => run.file_name(),
        (false, None) => path.file_stem(),
    };
    // Room for a number after it.
    name.map_or_else(|| "model".to_owned(), |name| files::cut_to(name, 240).to_string_lossy().into_owned())
}

impl Outputs {
    /// Creates all files; an older file of the same name stays until [`Outputs::finish`].
    ///
    /// # Errors
    /// A file cannot be created, or would replace one that polyhead did not write.
    pub fn create(target: Target, sheets: &[Sheet]) -> Result<Outputs> {
        let begin = |sheet: &Sheet, place: Place| -> Result<Growing> {
            let waiting = sheet.opening()?.into_bytes();
            Ok(Growing { place, separators: sheet.separators(), closing: sheet.closing(), waiting, pieces: 0 })
        };
        let folder = match target {
            Target::Lines(stream) => {
                let growing = sheets.iter().zip([stream]).map(|(sheet, to)| begin(sheet, Place::Stream(to)));
                return Ok(Outputs { growing: growing.collect::<Result<_>>()?, removed: Vec::new() });
            }
            Target::Folder(folder) => folder,
        };
        let open = |sheet: &Sheet| {
            let path = folder.join(&sheet.file);
            replacing::check(&path, |start| sheet.has_written(start))?;
            // A unique name, so that two processes with the same folder do not write into each other's files.
            let (file, kept) = files::beside_locked(&path).map_err(Error::io("write", &path))?;
            // Keeps the path as given, because `kept` is absolute.
            let aside = path.with_file_name(kept.file_name().unwrap_or_default());
            begin(sheet, Place::File { file, aside, path, written: 0 })
        };
        let removed = sheets.iter().flat_map(|sheet| files::remove_left_beside(&folder.join(&sheet.file))).collect();
        let mut outputs = Outputs { growing: Vec::new(), removed };
        for sheet in sheets {
            match open(sheet) {
                Ok(growing) => outputs.growing.push(growing),
                Err(e) => {
                    // The new files contain no predictions, so they are removed.
                    outputs.abandon();
                    return Err(e);
                }
            }
        }
        Ok(outputs)
    }

    /// Adds an image's piece to each file.
    ///
    /// # Errors
    /// The same as [`Outputs::flush`].
    pub fn add(&mut self, pieces: &[String]) -> Result<()> {
        for (growing, piece) in self.growing.iter_mut().zip(pieces).filter(|(_, piece)| !piece.is_empty()) {
            let separator = growing.separators[usize::from(growing.pieces == 0)];
            growing.waiting.extend_from_slice(separator.as_bytes());
            growing.waiting.extend_from_slice(piece.as_bytes());
            growing.pieces += 1;
            if growing.waiting.len() > WAITING {
                growing.flush()?;
            }
        }
        Ok(())
    }

    /// Writes the buffered pieces.
    ///
    /// # Errors
    /// Writing fails or the reader has gone; complete pieces stay complete.
    pub fn flush(&mut self) -> Result<()> {
        self.growing.iter_mut().try_for_each(Growing::flush)
    }

    /// Completes all files and replaces older ones; returns their paths.
    ///
    /// # Errors
    /// The same as [`Outputs::flush`].
    pub fn finish(&mut self) -> Result<Vec<PathBuf>> {
        for growing in &mut self.growing {
            growing.waiting.extend_from_slice(growing.closing.as_bytes());
            growing.flush()?;
            if let Place::File { file, path, .. } = &growing.place {
                file.sync_all().map_err(Error::io("write", path))?;
            }
        }
        let mut paths = Vec::new();
        for growing in &mut self.growing {
            if let Place::File { aside, path, .. } = &mut growing.place {
                std::fs::rename(&*aside, &*path).map_err(Error::io("write", &*path))?;
                // If a later file cannot get its name, the predictions of this one are here.
                aside.clone_from(path);
                paths.push(path.clone());
            }
        }
        Ok(paths)
    }

    /// Whether an older file has the name of one of these.
    pub fn would_replace(&self) -> bool {
        let is_there = |growing: &Growing| matches!(&growing.place, Place::File { path, .. } if path.exists());
        self.growing.iter().any(is_there)
    }

    /// Removes the files so far; older files stay.
    pub fn discard(&mut self) {
        for growing in &self.growing {
            growing.remove();
        }
    }

    /// After an error: keeps the pieces so far, and returns the paths. Their names end in `.unfinished`, which tells them from the
    /// files of a killed process, which nobody was told of.
    pub fn abandon(&mut self) -> Vec<PathBuf> {
        let mut kept = Vec::new();
        for growing in &mut self.growing {
            // The original error is the one to report; a second error here cannot be handled.
            let _ = growing.flush();
            if let Place::File { aside, written, path, .. } = &growing.place {
                if growing.pieces > 0 && *written > 0 && aside == path {
                    kept.push(path.clone());
                } else if growing.pieces > 0 && *written > 0 {
                    let named = aside.with_extension("unfinished");
                    kept.push(match std::fs::rename(aside, &named) {
                        Ok(()) => named,
                        Err(_) => aside.clone(),
                    });
                } else {
                    growing.remove();
                }
            }
        }
        kept
    }
}

impl Growing {
    /// Removes the temporary file, unless it has got its name.
    fn remove(&self) {
        if let Place::File { aside, path, .. } = &self.place
            && aside != path
        {
            let _ = std::fs::remove_file(aside);
        }
    }

    fn flush(&mut self) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() {
            return Ok(());
        }
        match &mut self.place {
            Place::Stream(stream) => {
                let written = stream.write_all(&waiting).and_then(|()| stream.flush());
                written.map_err(Error::io("write", "the answers' output"))
            }
            Place::File { file, path, written, .. } => {
                let failed = file.write_all(&waiting).err();
                if failed.is_some() {
                    // Complete lines that were still written stay.
                    let reached = file.stream_position().unwrap_or(*written).saturating_sub(*written) as usize;
                    let whole =
                        waiting[..reached.min(waiting.len())].iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
                    *written += whole as u64;
                    let _ = file.set_len(*written);
                } else {
                    *written += waiting.len() as u64;
                }
                failed.map_or(Ok(()), |e| Err(Error::io("write", path)(e)))
            }
        }
    }
}
