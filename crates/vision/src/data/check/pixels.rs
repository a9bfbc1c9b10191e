//! Decodes every image in parallel: finds unreadable ones, and records the size and a pixel hash of the others.

use crate::archives;
use crate::data::dataset::Sample;
use crate::data::declaration::Split;
use crate::data::images::decode;
use crate::data::progress::Progress;
use image::metadata::Orientation;
use image::{ImageDecoder, ImageReader};
use rayon::prelude::*;
use std::io::BufReader;
use std::path::Path;
use xxhash_rust::xxh3::xxh3_128;

/// The largest byte of a picture of 12 bits that is stored in 16: 4095 of 65535.
const FAINT: u8 = 16;

/// A readable picture, upright.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    pub width: u32,
    pub height: u32,
    /// A hash of the decoded pixels. It is the same for copies saved again without loss or without metadata.
    pub content: u128,
    /// Whether it has 16 bits per sample and uses so few of them that it is nearly black in 8.
    pub is_faint: bool,
}

/// One entry per sample, in order; an error is a message without the file name.
pub fn look(samples: &[(Split, &Sample)], progress: &Progress) -> Vec<Result<Seen, String>> {
    progress.begin("decoding images", samples.len());
    let look = |(_, sample): &(Split, &Sample)| {
        let image = decode::decode(&sample.image).map_err(|error| error.reason());
        progress.count(1);
        let image = image?;
        let (width, height) = (image.width as u32, image.height as u32);
        let most = image.rgb.iter().max().copied().unwrap_or(0);
        let is_faint = (1..=FAINT).contains(&most) && decode::has_sixteen_bits(&sample.image);
        Ok(Seen { width, height, content: xxh3_128(&image.rgb), is_faint })
    };
    samples.par_iter().map(look).collect()
}

/// Whether EXIF rotates the picture by a quarter turn, which swaps width and height.
pub fn is_turned(image: &Path) -> bool {
    let reader =
        archives::open(image).map(BufReader::new).map(ImageReader::new).and_then(ImageReader::with_guessed_format);
    let orientation = reader.ok().and_then(|r| r.into_decoder().ok()).and_then(|mut d| d.orientation().ok());
    matches!(
        orientation,
        Some(Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH)
    )
}
