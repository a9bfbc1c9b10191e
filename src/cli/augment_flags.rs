//! The flags of `polyhead train` that say which images come how often and what is done to them, and `polyhead data preview`,
//! which shows it.

use crate::config::TrainConfig;
use crate::data::{OpenOptions, Sampling};
use crate::draw::Canvas;
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::train::preview;
use clap::Args;
use std::path::Path;

#[derive(Args)]
pub struct AugmentArgs {
    /// Probability of a mirror image
    #[arg(long)]
    fliplr: Option<f32>,
    /// Strength of brightness, contrast and saturation jitter
    #[arg(long)]
    jitter: Option<f32>,
    /// Smallest share of the canvas an image is scaled to
    #[arg(long)]
    scale: Option<f32>,
    /// Each training batch at a side between 1 - F and 1 + F times --imgsz, a multiple of 32 [default: 0, always --imgsz]
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    multi_scale: Option<f32>,
    /// Probability that four images are joined into one
    #[arg(long, value_name = "P")]
    mosaic: Option<f32>,
    /// Epochs at the end without mosaics [default: 10]
    #[arg(long, value_name = "EPOCHS")]
    close_mosaic: Option<u64>,
    /// Probability that two images and their classes are blended
    #[arg(long, value_name = "P")]
    mixup: Option<f32>,
    /// Turn by up to so many degrees
    #[arg(long)]
    degrees: Option<f32>,
    /// Shift by up to this share of the canvas
    #[arg(long)]
    translate: Option<f32>,
    /// Shear by up to so many degrees
    #[arg(long)]
    shear: Option<f32>,
    /// Tilt by up to this much, 0 to 0.001
    #[arg(long)]
    perspective: Option<f32>,
    /// Turn the hue by up to this share of the circle
    #[arg(long)]
    hsv_h: Option<f32>,
    /// Strength of saturation jitter
    #[arg(long)]
    hsv_s: Option<f32>,
    /// Strength of value jitter
    #[arg(long)]
    hsv_v: Option<f32>,
    /// Probability that a rectangle is made grey
    #[arg(long, value_name = "P")]
    erasing: Option<f32>,
    /// Probability of a blur
    #[arg(long, value_name = "P")]
    blur: Option<f32>,
    /// Probability of JPEG artefacts
    #[arg(long, value_name = "P")]
    jpeg: Option<f32>,
    /// Which images come how often
    #[arg(long, value_enum)]
    sampling: Option<Sampling>,
    /// Repeat images of classes that are in less than this share of them, as LVIS does
    #[arg(long, value_name = "SHARE")]
    repeat_factor: Option<f32>,
}

impl AugmentArgs {
    pub fn apply(&self, config: &mut TrainConfig) {
        set(&mut config.fliplr, self.fliplr);
        set(&mut config.jitter, self.jitter);
        set(&mut config.scale, self.scale);
        set(&mut config.multi_scale, self.multi_scale);
        let transforms = &mut config.transforms;
        set(&mut transforms.mosaic, self.mosaic);
        set(&mut transforms.close_mosaic, self.close_mosaic);
        set(&mut transforms.mixup, self.mixup);
        set(&mut transforms.degrees, self.degrees);
        set(&mut transforms.translate, self.translate);
        set(&mut transforms.shear, self.shear);
        set(&mut transforms.perspective, self.perspective);
        set(&mut transforms.hsv_h, self.hsv_h);
        set(&mut transforms.hsv_s, self.hsv_s);
        set(&mut transforms.hsv_v, self.hsv_v);
        set(&mut transforms.erasing, self.erasing);
        set(&mut transforms.blur, self.blur);
        set(&mut transforms.jpeg, self.jpeg);
        set(&mut config.sampling, self.sampling);
        set(&mut config.repeat_factor, self.repeat_factor);
    }

    /// Those given, none of which a resumed run heeds.
    pub fn ignored(&self) -> impl Iterator<Item = &'static str> {
        let given: [(bool, &str); 19] = [
            (self.fliplr.is_some(), "--fliplr"),
            (self.jitter.is_some(), "--jitter"),
            (self.scale.is_some(), "--scale"),
            (self.multi_scale.is_some(), "--multi-scale"),
            (self.mosaic.is_some(), "--mosaic"),
            (self.close_mosaic.is_some(), "--close-mosaic"),
            (self.mixup.is_some(), "--mixup"),
            (self.degrees.is_some(), "--degrees"),
            (self.translate.is_some(), "--translate"),
            (self.shear.is_some(), "--shear"),
            (self.perspective.is_some(), "--perspective"),
            (self.hsv_h.is_some(), "--hsv-h"),
            (self.hsv_s.is_some(), "--hsv-s"),
            (self.hsv_v.is_some(), "--hsv-v"),
            (self.erasing.is_some(), "--erasing"),
            (self.blur.is_some(), "--blur"),
            (self.jpeg.is_some(), "--jpeg"),
            (self.sampling.is_some(), "--sampling"),
            (self.repeat_factor.is_some(), "--repeat-factor"),
        ];
        given.into_iter().filter(|g| g.0).map(|g| g.1)
    }
}

/// A batch as training sees it, in place of the images as they are.
#[derive(Args)]
pub struct AugmentedArgs {
    /// A batch as the network sees it in training, with these augmentations
    #[arg(long)]
    augmented: bool,
    /// Images of it
    #[arg(long)]
    batch: Option<usize>,
    /// Side of the square the network sees, in pixels, a multiple of 32
    #[arg(long)]
    imgsz: Option<usize>,
    #[command(flatten)]
    augment: AugmentArgs,
}

impl AugmentedArgs {
    /// Whether it is asked for.
    ///
    /// Errors: `Usage` for an augmentation without `--augmented`.
    pub fn is_asked(&self) -> Result<bool> {
        let own = [(self.batch.is_some(), "--batch"), (self.imgsz.is_some(), "--imgsz")];
        let own = own.into_iter().filter(|(given, _)| *given).map(|(_, flag)| flag);
        match own.chain(self.augment.ignored()).next().filter(|_| !self.augmented) {
            Some(flag) => Err(Error::Usage(format!("{flag} shows only in what training sees: add --augmented"))),
            None => Ok(self.augmented),
        }
    }

    /// The picture, and what there is to say of it.
    pub fn draw(&self, data: &Path, options: &OpenOptions) -> Result<(Canvas, Vec<String>)> {
        let mut config = Recipe::choose(Some(data), false).config();
        config.data = Some(data.to_path_buf());
        config.val_fraction = options.val_fraction;
        config.seed = options.seed;
        set(&mut config.batch, self.batch);
        set(&mut config.imgsz, self.imgsz);
        self.augment.apply(&mut config);
        config.check()?;
        // It is the first batch: a run that never has mosaics says so itself.
        config.transforms.close_mosaic = 0;
        preview::augmented_batch(&config)
    }
}

fn set<T: Copy>(field: &mut T, given: Option<T>) {
    if let Some(value) = given {
        *field = value;
    }
}
