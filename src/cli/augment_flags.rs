//! The flags of `polyhead train` that say which images come how often and what is done to them, and `polyhead data preview`,
//! which shows it.

use crate::config::TrainConfig;
use crate::data::Sampling;
use crate::draw;
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::train::preview;
use clap::Args;
use std::path::PathBuf;

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
        let given: [(bool, &str); 18] = [
            (self.fliplr.is_some(), "--fliplr"),
            (self.jitter.is_some(), "--jitter"),
            (self.scale.is_some(), "--scale"),
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

#[derive(Args)]
pub struct PreviewArgs {
    /// A folder of images or a data.yaml
    data: PathBuf,
    /// As the network sees them in training, with these augmentations
    #[arg(long)]
    augmented: bool,
    /// The picture to write
    #[arg(long, value_name = "PNG")]
    out: PathBuf,
    /// Images to show
    #[arg(long)]
    batch: Option<usize>,
    /// Side of the square the network sees, in pixels, a multiple of 32
    #[arg(long)]
    imgsz: Option<usize>,
    #[arg(long)]
    seed: Option<u64>,
    #[arg(long)]
    val_fraction: Option<f32>,
    #[command(flatten)]
    augment: AugmentArgs,
}

impl PreviewArgs {
    pub fn write(&self) -> Result<()> {
        if !self.augmented {
            return Err(Error::Usage("data preview shows what training sees: add --augmented".into()));
        }
        let mut config = Recipe::choose(Some(&self.data), false).config();
        config.data = Some(self.data.clone());
        config.val_fraction = self.val_fraction;
        set(&mut config.batch, self.batch);
        set(&mut config.imgsz, self.imgsz);
        set(&mut config.seed, self.seed);
        self.augment.apply(&mut config);
        config.check()?;
        // It is the first batch: a run that never has mosaics says so itself.
        config.transforms.close_mosaic = 0;
        let (picture, notes) = preview::augmented_batch(&config)?;
        for note in notes {
            eprintln!("note: {note}");
        }
        draw::write_png(&self.out, &picture)?;
        println!("wrote {}", self.out.display());
        Ok(())
    }
}

fn set<T: Copy>(field: &mut T, given: Option<T>) {
    if let Some(value) = given {
        *field = value;
    }
}
