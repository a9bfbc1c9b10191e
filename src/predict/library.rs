//! Prediction for programs: takes image files or arrays and returns typed predictions. The numbers are those of `polyhead
//! predict` with the same batch size, bit for bit.

use super::image_processor::ImageProcessor;
use crate::config::check_image_size;
use crate::data::Image;
use crate::data::images::decode::decode;
use crate::device::cpu::memory::zeroed_bytes;
use crate::error::{Error, Result};
use crate::model::{Model, rgb_bytes};
use crate::tasks::{DecodeOptions, Prediction};
use crate::threads::start_shared_pool;
use candle_core::Tensor;
use rayon::prelude::*;
use serde_json::Value;
use std::any::Any;
use std::path::Path;

/// The settings of a prediction. The default matches `polyhead predict` without flags.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Batch size; smaller if there are fewer images.
    pub batch: usize,
    /// Side of the network's input in pixels; `None` for the training size.
    pub image_size: Option<usize>,
    /// Selects the boxes that are kept.
    pub boxes: DecodeOptions,
}

impl Settings {
    /// Default batch size.
    pub const BATCH: usize = 8;
    /// Default minimum score of a box, higher than the one for evaluation.
    pub const SCORE: f32 = 0.25;
}

impl Default for Settings {
    fn default() -> Settings {
        let boxes = DecodeOptions { score_threshold: Settings::SCORE, ..DecodeOptions::default() };
        Settings { batch: Settings::BATCH, image_size: None, boxes }
    }
}

/// A model's predictions for one image.
#[derive(Debug)]
pub struct Answer {
    /// Width and height of the image in pixels, the unit of boxes.
    pub size: [usize; 2],
    /// Each task's name and prediction, in the order of the card.
    pub tasks: Vec<(String, Box<dyn Prediction>)>,
}

impl Answer {
    /// The prediction of the task of this name, as the type of its kind: `Probabilities` for classification,
    /// `LabelProbabilities` for multi-label classification, `FoundBoxes` for detection, `Amounts` for regression; all are
    /// under [`crate::tasks`]. `None` if no task has this name, or if it is of another kind.
    pub fn get<T: Any>(&self, task: &str) -> Option<&T> {
        self.tasks.iter().find(|(name, _)| name == task).and_then(|(_, answer)| answer.get())
    }

    /// The value that `predictions.jsonl` has under `tasks`.
    pub fn to_json(&self) -> Value {
        self.tasks.iter().map(|(name, answer)| (name.clone(), answer.to_json())).collect()
    }
}

/// Prediction for images of any size.
impl Model {
    /// Predicts for image files, with one result per file in their order. A file that cannot be read gives an error in its
    /// place and does not affect other results.
    ///
    /// Units: boxes are `[x1, y1, x2, y2]` in pixels of the image after its EXIF orientation is applied; values are in the
    /// task's unit.
    ///
    /// Files are decoded on all cores, one batch at a time; `polyhead predict` also decodes while the network computes.
    ///
    /// # Errors
    /// Settings are out of range, the network does not support the size, or a GPU call fails.
    pub fn predict_files(
        &mut self,
        files: &[impl AsRef<Path> + Sync],
        settings: &Settings,
    ) -> Result<Vec<Result<Answer>>> {
        let batch = settings.batch_of(files.len())?;
        start_shared_pool()?;
        let mut answers = Vec::with_capacity(files.len());
        // The command fills its batches differently, but predictions do not depend on the other images of a batch.
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

    /// Predicts for images as arrays, with one result each.
    ///
    /// Shapes: u8 `[N, H, W, 3]`, RGB, of any height and width; each image is scaled and framed like a file.
    ///
    /// Units: see [`Model::predict_files`].
    ///
    /// # Errors
    /// The images have another type or rank or no pixels, settings are out of range, the network does not support the
    /// size, or a GPU call fails.
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

    /// Predicts for at most `batch` images. The rest of the batch stays blank, so that one plan serves all batches.
    fn predict_batch(&mut self, batch: usize, images: &[&Image], settings: &Settings) -> Result<Vec<Answer>> {
        if images.is_empty() {
            return Ok(Vec::new());
        }
        start_shared_pool()?;
        let card = self.card().clone();
        let processor = ImageProcessor::new(&card, settings.image_size, settings.boxes);
        let all = batch.saturating_mul(processor.image_bytes());
        let mut canvas = zeroed_bytes(all, "the images of a batch", "use a smaller batch or image size")?;
        let places = canvas.par_chunks_exact_mut(processor.image_bytes()).zip(images);
        let geometries: Vec<_> = places.map(|(canvas, image)| processor.draw(image, canvas)).collect();
        let outputs = self.forward(processor.shape(batch), &canvas)?;
        let answer = |(row, (image, geometry)): (usize, (&&Image, _))| {
            let names = card.architecture.tasks.iter().map(|task| task.name.clone());
            let tasks = names.zip(processor.answer(&outputs, row, geometry)).collect();
            Answer { size: [image.width, image.height], tasks }
        };
        Ok(images.iter().zip(&geometries).enumerate().map(answer).collect())
    }
}

impl Settings {
    /// The batch size for this many images.
    ///
    /// # Errors
    /// A setting is out of range.
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
