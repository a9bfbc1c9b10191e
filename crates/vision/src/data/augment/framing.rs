//! Places a picture on the network's square canvas with random framing, flip and colours. Boxes are moved by the
//! geometry that is returned.

use crate::data::images::resize::{Mirror, Target, resize_into};
use crate::data::images::{Image, Part};
use crate::data::random::Random;
use crate::geometry::Geometry;

/// The grey of the padding, as is customary for detectors.
pub const PADDING: u8 = 114;

/// The placement of the picture on the canvas.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Framing {
    /// Whole, aspect kept, centred, padded with grey.
    Letterbox,
    /// Whole and padded, shrunk by a random factor between `least_scale` and 1 and placed at random. Nothing is cut
    /// off, so counts stay correct.
    Scatter {
        /// The smallest factor, 0–1, relative to the largest size that fits.
        least_scale: f32,
    },
    /// A random part with an area between `least_area` and the whole picture and an aspect ratio between 3/4 and 4/3,
    /// stretched to the canvas (Szegedy 2015; torchvision's `RandomResizedCrop`). The rest of the picture is cut off.
    Crop {
        /// The smallest share of the picture's area, 0–1.
        least_area: f32,
    },
    /// Resizes the shorter side to `resize`, then cuts out the centre; torchvision's evaluation preset uses 256 for a
    /// canvas of 224.
    CentreCrop {
        /// The length of the shorter side before the cut, in pixels.
        resize: usize,
    },
}

/// The changes to a picture between the file and the network. Probabilities and strengths of 0 leave it unchanged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Augment {
    /// The placement on the canvas.
    pub framing: Framing,
    /// Probability of a left-right flip.
    pub flip: f32,
    /// The strength for brightness: factors are drawn from `1 ± strength`, as in torchvision's `ColorJitter`.
    pub brightness: f32,
    /// The strength for contrast, as for brightness.
    pub contrast: f32,
    /// The strength for saturation, as for brightness.
    pub saturation: f32,
}

impl Augment {
    /// For evaluation and prediction: letterboxed, nothing random.
    pub const NONE: Augment = Augment::still(Framing::Letterbox);

    /// Torchvision's evaluation preset for classifiers: the canvas is 7/8 of the resized shorter side.
    pub fn centre_crop(size: usize) -> Augment {
        Augment::still(Framing::CentreCrop { resize: size * 8 / 7 })
    }

    /// The default for training: random crops if all tasks allow them, otherwise scattered letterboxes.
    pub fn training(crop_safe: bool, flip_safe: bool) -> Augment {
        let framing = match crop_safe {
            true => Framing::Crop { least_area: 0.35 },
            false => Framing::Scatter { least_scale: 0.75 },
        };
        Augment { framing, flip: if flip_safe { 0.5 } else { 0.0 }, brightness: 0.2, contrast: 0.2, saturation: 0.2 }
    }

    const fn still(framing: Framing) -> Augment {
        Augment { framing, flip: 0.0, brightness: 0.0, contrast: 0.0, saturation: 0.0 }
    }

    /// Draws the picture onto `canvas`.
    ///
    /// Shapes: `canvas` is `[size, size, 3]`, overwritten whole.
    pub fn draw(&self, image: &Image, size: usize, random: &mut Random, canvas: &mut [u8]) -> Geometry {
        debug_assert_eq!(canvas.len(), size * size * 3);
        let geometry = self.frame([image.width, image.height], size, random);
        let target = covered(&geometry);
        if target.width < size || target.height < size {
            canvas.fill(PADDING);
        }
        self.paint(image, &geometry, random, canvas);
        geometry
    }

    /// Draws the picture as given by `geometry` and jitters its colours; the rest of the canvas is not changed.
    pub(super) fn paint(&self, image: &Image, geometry: &Geometry, random: &mut Random, canvas: &mut [u8]) {
        let (size, target) = (geometry.size, covered(geometry));
        let mirror = if geometry.flip { Mirror::Yes } else { Mirror::No };
        let source = geometry.invert_box(&[0.0, 0.0, size as f32, size as f32]);
        resize_into(image, source, mirror, canvas, size, target);
        self.jitter_colours(random, canvas, size, target);
    }

    /// The pixels that [`Augment::draw`] uses with the same `random`, for a picture of `source` pixels; only these need
    /// to be decoded. If there are transforms, use `Composer::reach`.
    pub fn reach(&self, source: [usize; 2], size: usize, random: &mut Random) -> Part {
        let geometry = self.frame(source, size, random);
        let [left, top, right, bottom] = geometry.invert_box(&[0.0, 0.0, size as f32, size as f32]);
        // The filter extends by one step on either side, and by one more pixel when it enlarges.
        let [x, y] = geometry.scale.map(|scale| (1.0 / scale).max(1.0) + 2.0);
        let [width, height] = source;
        Part {
            left: (left - x).max(0.0) as usize,
            top: (top - y).max(0.0) as usize,
            right: ((right + x).ceil() as usize).min(width),
            bottom: ((bottom + y).ceil() as usize).min(height),
        }
    }

    fn frame(&self, source: [usize; 2], size: usize, random: &mut Random) -> Geometry {
        let (scale, offset) = match self.framing {
            Framing::Letterbox => letterbox(source, size, 1.0, [0.5, 0.5]),
            Framing::Scatter { least_scale } => {
                let shrink = random.between(least_scale, 1.0);
                letterbox(source, size, shrink, [random.unit(), random.unit()])
            }
            Framing::Crop { least_area } => random_crop(source, size, least_area, random),
            Framing::CentreCrop { resize } => centre_crop(source, size, resize),
        };
        Geometry { source, size, scale, offset, flip: self.flip > 0.0 && random.unit() < self.flip }
    }

    /// Brightness, contrast (about the mean grey) and saturation are linear, so their product is applied in one pass.
    fn jitter_colours(&self, random: &mut Random, canvas: &mut [u8], size: usize, target: Target) {
        let mut factor = |strength: f32| match strength > 0.0 {
            true => random.between((1.0 - strength).max(0.0), 1.0 + strength),
            false => 1.0,
        };
        let [brightness, contrast, saturation] = [self.brightness, self.contrast, self.saturation].map(&mut factor);
        if [brightness, contrast, saturation] == [1.0; 3] {
            return;
        }
        let mean = if contrast == 1.0 { 0.0 } else { mean_grey(canvas, size, target) };
        let gain = brightness * contrast;
        let colour = gain * saturation;
        let grey_part = gain * (1.0 - saturation);
        let lift = (1.0 - contrast) * brightness * mean + 0.5;
        for row in rows_of(size, target) {
            for pixel in canvas[row].chunks_exact_mut(3) {
                let level = grey_part * grey(pixel) + lift;
                for byte in pixel {
                    *byte = (colour * f32::from(*byte) + level) as u8; // saturates
                }
            }
        }
    }
}

/// The part of the canvas covered by the picture, in whole pixels.
pub(super) fn covered(geometry: &Geometry) -> Target {
    let [left, top, right, bottom] = geometry.window().map(|edge| edge.round() as usize);
    Target { left, top, width: right - left, height: bottom - top }
}

fn grey(pixel: &[u8]) -> f32 {
    0.299 * f32::from(pixel[0]) + 0.587 * f32::from(pixel[1]) + 0.114 * f32::from(pixel[2])
}

fn mean_grey(canvas: &[u8], size: usize, target: Target) -> f32 {
    let mut sums = [0u64; 3];
    for row in rows_of(size, target) {
        for pixel in canvas[row].chunks_exact(3) {
            for (sum, &byte) in sums.iter_mut().zip(pixel) {
                *sum += u64::from(byte);
            }
        }
    }
    let count = (target.width * target.height).max(1) as f32;
    let [r, g, b] = sums.map(|sum| sum as f32 / count);
    0.299 * r + 0.587 * g + 0.114 * b
}

/// The byte range of each row of a part of the canvas.
pub(super) fn rows_of(size: usize, target: Target) -> impl Iterator<Item = std::ops::Range<usize>> {
    (target.top..target.top + target.height).map(move |y| {
        let start = (y * size + target.left) * 3;
        start..start + target.width * 3
    })
}

/// Scale and offset that show the whole picture at `shrink` times the largest size that fits; `place` divides the free
/// room.
fn letterbox(source: [usize; 2], size: usize, shrink: f32, place: [f32; 2]) -> ([f32; 2], [f32; 2]) {
    let longest = source[0].max(source[1]) as f32;
    let scale = size as f32 / longest * shrink;
    // Rounds to whole pixels, so that the picture's edge falls on a pixel edge; the scale is adjusted to match.
    let side = |length: usize| ((length as f32 * scale).round() as usize).clamp(1, size);
    let [width, height] = source.map(side);
    let offset = |side: usize, place: f32| ((size - side) as f32 * place).floor();
    (
        [width as f32 / source[0] as f32, height as f32 / source[1] as f32],
        [offset(width, place[0]), offset(height, place[1])],
    )
}

fn random_crop(source: [usize; 2], size: usize, least_area: f32, random: &mut Random) -> ([f32; 2], [f32; 2]) {
    let [width, height] = source.map(|side| side as f32);
    for _ in 0..10 {
        let area = width * height * random.between(least_area, 1.0);
        let log_aspect = (4.0f32 / 3.0).ln();
        let aspect = random.between(-log_aspect, log_aspect).exp();
        let (w, h) = ((area * aspect).sqrt().round(), (area / aspect).sqrt().round());
        if (1.0..=width).contains(&w) && (1.0..=height).contains(&h) {
            let left = random.below((width - w) as usize + 1) as f32;
            let top = random.below((height - h) as usize + 1) as f32;
            return stretch(size, [left, top, w, h]);
        }
    }
    // Fallback as in torchvision, for pictures far from square: the central part within the aspect ratio bounds.
    let (w, h) = (width.min(height * 4.0 / 3.0), height.min(width * 4.0 / 3.0));
    stretch(size, [((width - w) / 2.0).floor(), ((height - h) / 2.0).floor(), w, h])
}

fn stretch(size: usize, [left, top, width, height]: [f32; 4]) -> ([f32; 2], [f32; 2]) {
    let scale = [size as f32 / width, size as f32 / height];
    (scale, [-left * scale[0], -top * scale[1]])
}

fn centre_crop(source: [usize; 2], size: usize, resize: usize) -> ([f32; 2], [f32; 2]) {
    let shorter = source[0].min(source[1]);
    // Like torchvision, truncates the longer side and rounds the crop's corner half to even.
    let side = |length: usize| (resize.max(size) * length) / shorter;
    let offset = |side: usize| -((side - size) as f32 / 2.0).round_ties_even();
    let [width, height] = source.map(side);
    ([width as f32 / source[0] as f32, height as f32 / source[1] as f32], [offset(width), offset(height)])
}
