//! The samples of a picture in its format's own type, and their conversion to RGB bytes: grey is repeated, alpha dropped, and 16
//! bits are rounded to 8.

use super::decode::Fault;
use image::ColorType;

/// A decoded picture in its format's own type.
pub(super) struct Samples {
    pub color: ColorType,
    /// Samples of more than 8 bits are in this machine's byte order.
    pub bytes: Vec<u8>,
}

impl Samples {
    /// The picture as `[height, width, 3]`. `zeroed` allocates it, if it takes other memory than the samples.
    ///
    /// Errors: `zeroed`'s, or a type of samples that is not known.
    pub fn into_rgb(self, zeroed: impl FnOnce() -> Result<Vec<u8>, Fault>) -> Result<Vec<u8>, Fault> {
        let Samples { color, bytes } = self;
        if color == ColorType::Rgb8 {
            return Ok(bytes);
        }
        let channels = usize::from(color.channel_count());
        let mut rgb = zeroed()?;
        match color {
            ColorType::L8 | ColorType::La8 | ColorType::Rgba8 => {
                fill(&mut rgb, &bytes, channels, |[byte]: [u8; 1]| byte)
            }
            ColorType::L16 | ColorType::La16 | ColorType::Rgb16 | ColorType::Rgba16 => {
                fill(&mut rgb, &bytes, channels, |word| to_byte(u16::from_ne_bytes(word)));
            }
            ColorType::Rgb32F | ColorType::Rgba32F => {
                check_shares(bytes.as_chunks::<4>().0.iter().map(|word| f64::from(f32::from_ne_bytes(*word))))?;
                fill(&mut rgb, &bytes, channels, |word| share_to_byte(f32::from_ne_bytes(word)));
            }
            other => return Err(format!("cannot decode this image: its pixels are {other:?}").into()),
        }
        Ok(rgb)
    }
}

/// Converts all pixels. Of a picture with one or two channels, the first is grey; of others, the first three are the colours.
fn fill<const BYTES: usize>(rgb: &mut [u8], samples: &[u8], channels: usize, convert: impl Fn([u8; BYTES]) -> u8) {
    let colours = if channels < 3 { 1 } else { 3 };
    for (to, from) in rgb.chunks_exact_mut(3).zip(samples.chunks_exact(channels * BYTES)) {
        let (from, _) = from.as_chunks::<BYTES>();
        for (place, to) in to.iter_mut().enumerate() {
            *to = convert(from[place.min(colours - 1)]);
        }
    }
}

/// The nearest of 256 levels.
fn to_byte(sample: u16) -> u8 {
    let white = u32::from(u16::MAX);
    ((u32::from(sample) * 255 + white / 2) / white) as u8
}

/// A share of white as the nearest byte.
pub(super) fn share_to_byte(share: f32) -> u8 {
    (share * 255.0).round() as u8
}

/// Decimal numbers are read if they are shares of white. Others may be anything, such as heights or temperatures, and a range of its
/// own for each picture would change their brightness from one to the next.
pub(super) fn check_shares(samples: impl Iterator<Item = f64>) -> Result<(), Fault> {
    let (mut least, mut most, mut is_number) = (f64::INFINITY, f64::NEG_INFINITY, true);
    for sample in samples {
        (least, most, is_number) = (least.min(sample), most.max(sample), is_number && sample.is_finite());
    }
    let reason = match (is_number, least >= 0.0 && most <= 1.0) {
        (true, true) => return Ok(()),
        (true, false) => format!("its pixels are decimal numbers from {least} to {most}"),
        (false, _) => "some of its pixels are not numbers".to_owned(),
    };
    Err(format!("{reason}, and only 0 (black) to 1 (white) are read: scale them to that range, or save the picture with 8 or 16 bits").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{DynamicImage, GenericImageView, ImageBuffer};

    /// Every type of samples, converted by `image` and here.
    #[test]
    fn every_type_of_samples_is_converted_as_by_image() {
        let bytes: Vec<u8> = (0..6 * 5 * 16u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let words: Vec<u16> = bytes.as_chunks::<2>().0.iter().map(|word| u16::from_ne_bytes(*word)).collect();
        let shares: Vec<f32> = words.iter().map(|word| f32::from(*word) / 65_535.0).collect();
        let (w, h) = (6, 5);
        let of = |channels: usize| w as usize * h as usize * channels;
        macro_rules! picture {
            ($kind:ident, $samples:expr, $channels:expr) => {
                DynamicImage::$kind(ImageBuffer::from_raw(w, h, $samples[..of($channels)].to_vec()).unwrap())
            };
        }
        let pictures = [
            picture!(ImageLuma8, bytes, 1),
            picture!(ImageLumaA8, bytes, 2),
            picture!(ImageRgb8, bytes, 3),
            picture!(ImageRgba8, bytes, 4),
            picture!(ImageLuma16, words, 1),
            picture!(ImageLumaA16, words, 2),
            picture!(ImageRgb16, words, 3),
            picture!(ImageRgba16, words, 4),
            picture!(ImageRgb32F, shares, 3),
            picture!(ImageRgba32F, shares, 4),
        ];
        for picture in pictures {
            let samples = Samples { color: picture.color(), bytes: picture.as_bytes().to_vec() };
            let rgb = samples.into_rgb(|| Ok(vec![0; of(3)])).unwrap();
            assert_eq!(picture.dimensions(), (w, h));
            assert!(rgb == picture.to_rgb8().into_raw(), "{:?}", picture.color());
        }
    }
}
