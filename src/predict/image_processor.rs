//! Turns an image into the network's input, and the outputs into predictions in the image's own pixels. The command and the
//! library share it.

use crate::data::random::Random;
use crate::data::{Augment, Geometry, Image};
use crate::model::Card;
use crate::model::card::Framing;
use crate::tasks::{DecodeOptions, HeadOutput, Prediction};

/// A card with the side of the canvas and the selection of boxes.
pub struct ImageProcessor<'a> {
    pub card: &'a Card,
    framing: Augment,
    /// Side of the canvas in pixels.
    size: usize,
    boxes: DecodeOptions,
}

impl<'a> ImageProcessor<'a> {
    /// Draws on canvases of `size`² pixels; the default is the training size.
    pub fn new(card: &'a Card, size: Option<usize>, boxes: DecodeOptions) -> ImageProcessor<'a> {
        let size = size.unwrap_or(card.image_size);
        let framing = match card.framing {
            Framing::Letterbox => Augment::NONE,
            Framing::ResizeCenterCrop => Augment::centre_crop(size),
        };
        ImageProcessor { card, framing, size, boxes }
    }

    /// `[N, H, W]` of a batch.
    pub fn shape(&self, batch: usize) -> [usize; 3] {
        [batch, self.size, self.size]
    }

    /// Bytes of one canvas, `[H, W, 3]`.
    pub fn image_bytes(&self) -> usize {
        self.size * self.size * 3
    }

    /// Draws an image onto its canvas.
    pub fn draw(&self, image: &Image, canvas: &mut [u8]) -> Geometry {
        // The framing is deterministic, so the seed does not matter.
        self.framing.draw(image, self.size, &mut Random::new(&[0]), canvas)
    }

    /// Every task's prediction for image `row` of a batch, with boxes in pixels of the image.
    pub fn answer(&self, outputs: &[HeadOutput], row: usize, geometry: &Geometry) -> Vec<Box<dyn Prediction>> {
        self.card.interpret(outputs, row, geometry, &self.boxes)
    }

    /// The same with at most one box for each task, that of the highest score, however low it is.
    pub fn answer_above_zero(
        &self,
        outputs: &[HeadOutput],
        row: usize,
        geometry: &Geometry,
    ) -> Vec<Box<dyn Prediction>> {
        let highest = DecodeOptions { score_threshold: 0.0, max_per_level: 100, max_detections: 1, ..self.boxes };
        self.card.interpret(outputs, row, geometry, &highest)
    }
}
