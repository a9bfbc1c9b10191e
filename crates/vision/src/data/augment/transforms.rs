//! The training transformations other than framing, mirroring and jitter: mosaic, rotation, shear, blur, erasing,
//! mix-up. Each is a function that moves the labels with the pixels; this file holds their settings and their order.

use super::{colour, perspective};
use crate::data::images::resize::Target;
use crate::data::random::Random;
use crate::data::ranges::{up_to, whole};
use crate::geometry::Homography;
use clap::Args;
use serde::{Deserialize, Serialize};

/// Probabilities and strengths of the transformations; 0 leaves a picture unchanged. Each field is a flag of
/// `polyhead train`, and its comment is the flag's help text.
#[derive(Clone, Copy, Debug, PartialEq, Args, Serialize, Deserialize)]
#[serde(default)]
pub struct Transforms {
    /// Probability that four images are joined into one
    #[arg(long, value_name = "P", value_parser = up_to(1.0), default_value_t = Transforms::NONE.mosaic)]
    pub mosaic: f32,
    /// Epochs at the end of a run without mosaics
    #[arg(long, value_name = "EPOCHS", value_parser = whole::<u64>, default_value_t = Transforms::NONE.close_mosaic)]
    pub close_mosaic: u64,
    /// Probability that two images and their classes are blended
    #[arg(long, value_name = "P", value_parser = up_to(1.0), default_value_t = Transforms::NONE.mixup)]
    pub mixup: f32,
    /// Turn images by up to this many degrees either way
    #[arg(long, value_parser = up_to(180.0), default_value_t = Transforms::NONE.degrees)]
    pub degrees: f32,
    /// Shift images by up to this share of the canvas in x and y
    #[arg(long, value_name = "SHARE", value_parser = up_to(1.0), default_value_t = Transforms::NONE.translate)]
    pub translate: f32,
    /// Shear images by up to this many degrees in x and y
    #[arg(long, value_name = "DEGREES", value_parser = up_to(45.0), default_value_t = Transforms::NONE.shear)]
    pub shear: f32,
    /// Tilt images by up to this much, 0 to 0.001, per pixel of a canvas of 640; scaled to look the same at other sizes
    #[arg(long, value_name = "TILT", value_parser = up_to(0.001), default_value_t = Transforms::NONE.perspective)]
    pub perspective: f32,
    /// Turn the hue by up to this share of the circle
    #[arg(long, value_name = "SHARE", value_parser = up_to(0.5), default_value_t = Transforms::NONE.hsv_h)]
    pub hsv_h: f32,
    /// Multiply the saturation by between 1 - S and 1 + S
    #[arg(long, value_name = "S", value_parser = up_to(1.0), default_value_t = Transforms::NONE.hsv_s)]
    pub hsv_s: f32,
    /// Multiply the value (brightness) by between 1 - V and 1 + V
    #[arg(long, value_name = "V", value_parser = up_to(1.0), default_value_t = Transforms::NONE.hsv_v)]
    pub hsv_v: f32,
    /// Probability that a rectangle is made grey
    #[arg(long, value_name = "P", value_parser = up_to(1.0), default_value_t = Transforms::NONE.erasing)]
    pub erasing: f32,
    /// Probability of a Gaussian blur
    #[arg(long, value_name = "P", value_parser = up_to(1.0), default_value_t = Transforms::NONE.blur)]
    pub blur: f32,
    /// Probability of JPEG artefacts
    #[arg(long, value_name = "P", value_parser = up_to(1.0), default_value_t = Transforms::NONE.jpeg)]
    pub jpeg: f32,
}

impl Default for Transforms {
    fn default() -> Transforms {
        Transforms::NONE
    }
}

impl Transforms {
    /// No transformations: images are only framed, mirrored and jittered.
    pub const NONE: Transforms = Transforms {
        mosaic: 0.0,
        close_mosaic: 10,
        mixup: 0.0,
        degrees: 0.0,
        translate: 0.0,
        shear: 0.0,
        perspective: 0.0,
        hsv_h: 0.0,
        hsv_s: 0.0,
        hsv_v: 0.0,
        erasing: 0.0,
        blur: 0.0,
        jpeg: 0.0,
    };

    /// Changes the colours of a picture in place: hue, saturation and value, blur, JPEG.
    pub fn recolour(&self, random: &mut Random, canvas: &mut [u8], size: usize, target: Target) {
        if self.hsv_h > 0.0 || self.hsv_s > 0.0 || self.hsv_v > 0.0 {
            let [h, s, v] = [self.hsv_h, self.hsv_s, self.hsv_v].map(|strength| random.between(-strength, strength));
            colour::turn_hsv(canvas, size, target, [h, 1.0 + s, 1.0 + v]);
        }
        if hit(self.blur, random) {
            colour::blur(canvas, size, target, random.between(0.1, 2.0));
        }
        if hit(self.jpeg, random) {
            colour::jpeg(canvas, size, target, 20 + random.below(51) as u8);
        }
    }

    /// The random map of the canvas onto itself, if there is one. If `reshapes` is false, it only rotates and shifts.
    pub fn movement(&self, reshapes: bool, size: usize, random: &mut Random) -> Option<Homography> {
        let [degrees, translate, shear, tilt] = self.moves(reshapes)?;
        Some(perspective::random(degrees, translate, shear, tilt, size, random))
    }

    /// The strengths of rotation, shift, shear and tilt, unless all are 0.
    pub fn moves(&self, reshapes: bool) -> Option<[f32; 4]> {
        let (shear, tilt) = if reshapes { (self.shear, self.perspective) } else { (0.0, 0.0) };
        let strengths = [self.degrees, self.translate, shear, tilt];
        (strengths != [0.0; 4]).then_some(strengths)
    }
}

/// Whether an event with this probability happens. No random number is drawn if the probability is 0.
pub fn hit(probability: f32, random: &mut Random) -> bool {
    probability > 0.0 && random.unit() < probability
}
