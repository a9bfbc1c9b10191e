//! Draws predictions on the image, and writes the pictures.

use super::names::{ProtectedImages, overwritten};
use super::sources::Found;
use crate::data::Image;
use crate::draw::{self, Canvas, LabelledFrame, PictureFormat};
use crate::error::{Error, Result, shown};
use crate::reading::count_of;
use crate::replacing;
use crate::tasks::{Prediction, Task};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

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

/// The folder for pictures, and the images that they must not overwrite.
pub struct Pictures {
    folder: PathBuf,
    format: PictureFormat,
    protected: ProtectedImages,
    /// Pictures of the same images in another format, which an earlier prediction left.
    older: Mutex<Counted>,
    /// Pictures that the format cannot store.
    too_large: Mutex<Counted>,
}

/// The number of files, and the first of their names.
#[derive(Default)]
struct Counted {
    count: usize,
    first: Option<PathBuf>,
}

impl Counted {
    fn add(counted: &Mutex<Counted>, path: &Path) {
        // The value is consistent between statements, so a panic elsewhere does not corrupt it.
        let mut counted = counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.count += 1;
        // Workers finish in any order, so the first name is the smallest.
        if counted.first.as_deref().is_none_or(|first| path < first) {
            counted.first = Some(path.to_path_buf());
        }
    }
}

impl Pictures {
    pub fn new(folder: &Path, format: PictureFormat, protected: ProtectedImages) -> Pictures {
        let [older, too_large] = [Mutex::default(), Mutex::default()];
        Pictures { folder: folder.to_path_buf(), format, protected, older, too_large }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes the picture of an image.
    ///
    /// # Errors
    /// It would overwrite an image or a file that polyhead did not write, or writing fails.
    pub fn write(&self, image: &Found, canvas: &Canvas) -> Result<()> {
        let format = if self.format.fits(canvas) { self.format } else { PictureFormat::Png };
        let picture = self.folder.join(image.name.with_ending(&image.path, format.ending()));
        self.protected.check(&picture)?;
        // A path in a list may be relative to a folder that is not protected as a whole.
        if picture.canonicalize().is_ok_and(|there| image.path.canonicalize().is_ok_and(|own| own == there)) {
            return Err(overwritten(&picture));
        }
        replacing::check_picture(&picture)?;
        if let Some(folder) = picture.parent() {
            std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        }
        draw::write_picture(&picture, canvas, format)?;
        if format != self.format {
            Counted::add(&self.too_large, &picture);
        }
        for other in PictureFormat::ALL.into_iter().filter(|other| *other != format) {
            let older = picture.with_extension(other.ending());
            // A file that is one of the images was not left by an earlier prediction, even if polyhead drew it.
            if draw::is_own_picture(&older) && self.protected.check(&older).is_ok() {
                Counted::add(&self.older, &older);
            }
        }
        Ok(())
    }

    /// Sentences about files that the user does not expect.
    pub fn remarks(&self) -> Vec<String> {
        let sentence = |counted: &Mutex<Counted>, of: &dyn Fn(&str, String) -> String| {
            let counted = counted.lock().unwrap_or_else(PoisonError::into_inner);
            let first = shown(counted.first.as_ref()?);
            Some(of(&count_of(counted.count, "picture"), first))
        };
        let [older, too_large] = [&self.older, &self.too_large];
        let older = sentence(older, &|count, first| {
            format!(
                "{count} of the same images in another format, such as {first}, remain from an earlier prediction: delete what you no longer need"
            )
        });
        let too_large = sentence(too_large, &|count, first| {
            format!("{count} in PNG, such as {first}, because JPEG cannot hold a side of more than 65535 pixels")
        });
        older.into_iter().chain(too_large).collect()
    }
}
