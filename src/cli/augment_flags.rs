//! The flags of `polyhead data preview --augmented`, which draws a training batch with the augmentation flags of a run.

use super::run_flags::{Augmentation, Typed};
use crate::data::OpenOptions;
use crate::data::ranges::batch;
use crate::draw::Canvas;
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::train::preview;
use clap::Args;
use std::path::Path;

/// Draws a training batch instead of the unchanged images.
#[derive(Args)]
pub struct AugmentedArgs {
    /// A batch as the network sees it in training, with these augmentations
    #[arg(long)]
    augmented: bool,
    /// Images in the batch
    #[arg(long, value_parser = batch)]
    batch: Option<usize>,
    /// Side of the square the network sees, in pixels, a multiple of 32
    #[arg(long)]
    imgsz: Option<usize>,
    #[command(flatten)]
    augment: Typed<Augmentation>,
}

impl AugmentedArgs {
    /// Whether `--augmented` was given.
    ///
    /// Errors: `Usage` for an augmentation without `--augmented`.
    pub fn is_asked(&self) -> Result<bool> {
        let own = [(self.batch.is_some(), "--batch"), (self.imgsz.is_some(), "--imgsz")];
        let own = own.into_iter().filter(|(given, _)| *given).map(|(_, flag)| flag.to_owned());
        match own.chain(self.augment.choices.flags()).next().filter(|_| !self.augmented) {
            Some(flag) => {
                Err(Error::Usage(format!("{flag} only works with --augmented: add that, or leave {flag} out")))
            }
            None => Ok(self.augmented),
        }
    }

    /// The picture, and notes about it.
    pub fn draw(&self, data: &Path, options: &OpenOptions) -> Result<(Canvas, Vec<String>)> {
        let mut config = Recipe::choose(Some(data), false).config();
        config.data = Some(data.to_path_buf());
        config.val_fraction = options.val_fraction;
        config.seed = options.seed;
        config.batch = self.batch.unwrap_or(config.batch);
        config.imgsz = self.imgsz.unwrap_or(config.imgsz);
        self.augment.choices.apply(&mut config)?;
        config.check()?;
        // The last epochs of a run have no mosaics, but this is the first batch.
        config.transforms.close_mosaic = 0;
        preview::augmented_batch(&config)
    }
}
