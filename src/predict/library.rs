//! Prediction for programs: image files or arrays in, typed answers out. The numbers are those of `polyhead predict` with the
//! same batch, bit for bit.

use super::sight::Sight;
use crate::config::check_image_size;
use crate::data::Image;
use crate::data::images::decode::decode;
use crate::error::{Error, Result};
use crate::model::{Model, rgb_bytes};
use crate::tasks::{DecodeOptions, Prediction};
use candle_core::Tensor;
use rayon::prelude::*;
use serde_json::Value;
use std::any::Any;
use std::path::Path;

/// The settings of a prediction. The default is that of `polyhead predict` without flags.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Images that the network computes at once; fewer if fewer are asked for.
    pub batch: usize,
    /// Side of the network's input in pixels; `None` for the training size.
    pub image_size: Option<usize>,
    /// Which boxes are kept.
    pub boxes: DecodeOptions,
}

impl Settings {
    /// Images of a batch.
    pub const BATCH: usize = 8;
    /// The smallest score that a box may have, higher than where boxes are judged.
    pub const SCORE: f32 = 0.25;
}

impl Default for Settings {
    fn default() -> Settings {
        let boxes = DecodeOptions { score_threshold: Settings::SCORE, ..DecodeOptions::default() };
        Settings { batch: Settings::BATCH, image_size: None, boxes }
    }
}

/// A model's answer for one image.
#[derive(Debug)]
pub struct Answer {
    /// Width and height of the image in pixels. Boxes are in them.
    pub size: [usize; 2],
    /// Each task's name and its answer, in the order of the card.
    pub tasks: Vec<(String, Box<dyn Prediction>)>,
}

impl Answer {
    /// The answer of the task of this name, as the value of its kind: `Probabilities` of a classification,
    /// `LabelProbabilities` of one with several labels, `FoundBoxes` of a detection, `Amounts` of a regression; all are under
    /// [`crate::tasks`]. `None` if no task has this name, or if it is of another kind.
    pub fn get<T: Any>(&self, task: &str) -> Option<&T> {
        self.tasks.iter().find(|(name, _)| name == task).and_then(|(_, answer)| answer.get())
    }

    /// The value that `predictions.jsonl` holds under `tasks`.
    pub fn to_json(&self) -> Value {
        self.tasks.iter().map(|(name, answer)| (name.clone(), answer.to_json())).collect()
    }
}

/// Answers about images of any size.
impl Model {
    /// Answers for image files, one result for each in their order. A file that cannot be read as an image has an error in
    /// its place and changes no other answer.
    ///
    /// Units: boxes are `[x1, y1, x2, y2]` in pixels of the image, after EXIF has turned it; values are in the task's unit.
    ///
    /// Files are decoded on all cores, a batch at a time; `polyhead predict` also decodes while the network computes.
    ///
    /// # Errors
    /// Settings out of range, a size that the network cannot take, or a GPU that refuses a call.
    pub fn predict_files(
        &mut self,
        files: &[impl AsRef<Path> + Sync],
        settings: &Settings,
    ) -> Result<Vec<Result<Answer>>> {
        let batch = settings.batch_of(files.len())?;
        let mut answers = Vec::with_capacity(files.len());
        // The command fills its batches in another way, but the other images of a batch have no influence on an answer.
        for files in files.chunks(batch.max(1)) {
            let mut images: Vec<Result<Image>> = files.par_iter().map(|file| decode(file.as_ref())).collect();
            let readable: Vec<&Image> = images.iter().filter_map(|image| image.as_ref().ok()).collect();
            let mut answered = self.predict_batch(batch, &readable, settings)?.into_iter();
            answers.extend(images.drain(..).map(|image| {
                image.map(|_| answered.next().unwrap_or_else(|| unreachable!("every readable image has an answer")))
            }));
        }
        Ok(answers)
    }

    /// Answers for images as arrays, one for each.
    ///
    /// Shapes: u8 `[N, H, W, 3]`, RGB, of any height and width; each is scaled and framed as a file would be.
    ///
    /// Units: see [`Model::predict_files`].
    ///
    /// # Errors
    /// Images of another type or rank or without a pixel, settings out of range, a size that the network cannot take, or a
    /// GPU that refuses a call.
    pub fn predict(&mut self, images: &Tensor, settings: &Settings) -> Result<Vec<Answer>> {
        let ([n, height, width], bytes) = rgb_bytes(images)?;
        let batch = settings.batch_of(n)?;
        let image = |rgb: &[u8]| Image { width, height, rgb: rgb.to_vec() };
        let images: Vec<Image> = bytes.chunks_exact(height * width * 3).map(image).collect();
        let mut answers = Vec::with_capacity(n);
        for images in images.chunks(batch) {
            answers.extend(self.predict_batch(batch, &images.iter().collect::<Vec<_>>(), settings)?);
        }
        Ok(answers)
    }

    /// Answers for at most `batch` images. The rest of the batch stays blank, so that one plan serves all batches.
    fn predict_batch(&mut self, batch: usize, images: &[&Image], settings: &Settings) -> Result<Vec<Answer>> {
        if images.is_empty() {
            return Ok(Vec::new());
        }
        let card = self.card().clone();
        let sight = Sight::new(&card, settings.image_size, settings.boxes);
        let mut canvas = vec![0; batch * sight.image_bytes()];
        let places = canvas.par_chunks_exact_mut(sight.image_bytes()).zip(images);
        let geometries: Vec<_> = places.map(|(canvas, image)| sight.draw(image, canvas)).collect();
        let outputs = self.forward(sight.shape(batch), &canvas)?;
        let answer = |(row, (image, geometry)): (usize, (&&Image, _))| {
            let names = card.architecture.tasks.iter().map(|task| task.name.clone());
            let tasks = names.zip(sight.answer(&outputs, row, geometry)).collect();
            Answer { size: [image.width, image.height], tasks }
        };
        Ok(images.iter().zip(&geometries).enumerate().map(answer).collect())
    }
}

impl Settings {
    /// The batch for so many images.
    ///
    /// # Errors
    /// A setting that is out of range.
    fn batch_of(&self, images: usize) -> Result<usize> {
        if self.batch == 0 {
            return Err(Error::Usage("a batch of 0 images: expected at least 1".into()));
        }
        if let Some(size) = self.image_size {
            check_image_size(size)?;
        }
        self.boxes.check()?;
        Ok(self.batch.min(images))
    }
}
