//! Every image decoded, in parallel: what cannot be read, how large the rest is, and a hash of its pixels.

use crate::data::dataset::Sample;
use crate::data::declaration::Split;
use crate::data::images::decode;
use crate::data::progress::Progress;
use image::metadata::Orientation;
use image::{ImageDecoder, ImageReader};
use rayon::prelude::*;
use std::hash::{DefaultHasher, Hasher};
use std::path::Path;

/// A picture that can be read, upright.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    pub width: u32,
    pub height: u32,
    /// Of the decoded pixels, so that a copy saved again without loss, or without its metadata, is known for the same. Two
    /// different pictures of a million share one with a chance of three in a hundred million.
    pub content: u64,
}

/// In the order of `samples`; an error is a sentence without the file.
pub fn look(samples: &[(Split, &Sample)], progress: &Progress) -> Vec<Result<Seen, String>> {
    progress.begin("decoding images", samples.len());
    let look = |(_, sample): &(Split, &Sample)| {
        let image = decode::decode(&sample.image).map_err(|error| error.reason());
        progress.count(1);
        let image = image?;
        let mut content = DefaultHasher::new();
        content.write_usize(image.width);
        content.write(&image.rgb);
        Ok(Seen { width: image.width as u32, height: image.height as u32, content: content.finish() })
    };
    samples.par_iter().map(look).collect()
}

/// Whether EXIF turns the picture by a quarter, so that width and height change places.
pub fn is_turned(image: &Path) -> bool {
    let reader = ImageReader::open(image).and_then(ImageReader::with_guessed_format);
    let orientation = reader.ok().and_then(|r| r.into_decoder().ok()).and_then(|mut d| d.orientation().ok());
    matches!(
        orientation,
        Some(Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH)
    )
}
