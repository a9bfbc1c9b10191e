//! TIFF files that the general decoder leaves out: palettes, grey of 2 or 4 bits, and grey as decimal numbers. BigTIFF has the same
//! kinds.

use super::decode::{Fault, MAX_BYTES, Pixels, unreadable};
use super::samples::{check_shares, share_to_byte};
use image::metadata::Orientation;
use std::io::{Cursor, Read, Seek};
use tiff::decoder::{Decoder, Limits};
use tiff::tags::Tag;

/// A picture of such a kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tiff {
    /// Width and height as stored.
    pub size: [usize; 2],
    pub orientation: Orientation,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Every sample of so many bits is a place in a table of colours.
    Palette(u16),
    /// Grey of so many bits.
    Grey(u16),
    /// Grey as decimal numbers of so many bits.
    Decimal(u16),
}

/// Photometric interpretations.
const WHITE_IS_ZERO: u16 = 0;
const BLACK_IS_ZERO: u16 = 1;
const PALETTE: u16 = 3;
/// Formats of samples.
const WHOLE: u16 = 1;
const DECIMAL: u16 = 3;

impl Tiff {
    /// The kind of the first picture; `None` for other files and for TIFF files that the general decoder reads.
    pub fn open(mut file: impl Read + Seek) -> Option<Tiff> {
        let mut start = [0; 4];
        file.read_exact(&mut start).ok()?;
        if !is_tiff(&start) {
            return None;
        }
        file.rewind().ok()?;
        let mut decoder = Decoder::new(file).ok()?.with_limits(limits());
        let (width, height) = decoder.dimensions().ok()?;
        let mut first = |tag| decoder.find_tag_unsigned_vec::<u16>(tag).ok().flatten()?.first().copied();
        let photometric = first(Tag::PhotometricInterpretation)?;
        let (bits, samples) = (first(Tag::BitsPerSample).unwrap_or(1), first(Tag::SamplesPerPixel).unwrap_or(1));
        let format = first(Tag::SampleFormat).unwrap_or(WHOLE);
        let orientation = first(Tag::Orientation).and_then(|exif| Orientation::from_exif(exif.min(255) as u8));
        let kind = match (photometric, samples, format, bits) {
            (PALETTE, 1, WHOLE, 1 | 2 | 4 | 8) => Kind::Palette(bits),
            (WHITE_IS_ZERO | BLACK_IS_ZERO, 1, WHOLE, 2 | 4) => Kind::Grey(bits),
            (WHITE_IS_ZERO | BLACK_IS_ZERO, 1, DECIMAL, 32 | 64) => Kind::Decimal(bits),
            _ => return None,
        };
        let orientation = orientation.unwrap_or(Orientation::NoTransforms);
        Some(Tiff { size: [width as usize, height as usize], orientation, kind })
    }

    /// The bytes that its samples take, in whole rows of bytes.
    pub fn sample_bytes(&self) -> u64 {
        let (Kind::Palette(bits) | Kind::Grey(bits) | Kind::Decimal(bits)) = self.kind;
        (self.size[0] as u64 * u64::from(bits)).div_ceil(8) * self.size[1] as u64
    }

    /// The picture as `[height, width, 3]`, not yet upright.
    ///
    /// Errors: the file is damaged, its decimal numbers are not shares of white, or there is too little memory.
    pub fn decode(&self, bytes: &[u8], pixels: &Pixels) -> Result<Vec<u8>, Fault> {
        // The decoder refuses palettes, but reads the same samples as grey.
        let as_grey = match self.kind {
            Kind::Palette(_) => Some(with_photometric(bytes, BLACK_IS_ZERO).ok_or_else(|| damaged("no palette"))?),
            Kind::Grey(_) | Kind::Decimal(_) => None,
        };
        let mut decoder = Decoder::new(Cursor::new(as_grey.as_deref().unwrap_or(bytes))).map_err(unreadable)?;
        decoder = decoder.with_limits(limits());
        let length = decoder.image_buffer_layout().map_err(unreadable)?.complete_len;
        if length as u64 != self.sample_bytes() {
            return Err(damaged("another number of samples than pixels"));
        }
        let mut samples = pixels.bytes(length)?;
        decoder.read_image_bytes(&mut samples).map_err(unreadable)?;
        let mut rgb = pixels.zeroed(3)?;
        match self.kind {
            Kind::Palette(bits) => {
                let table = decoder.get_tag_u16_vec(Tag::ColorMap).map_err(unreadable)?;
                let colours = colours(&table, bits).ok_or_else(|| damaged("a palette of another length"))?;
                self.fill(&mut rgb, &samples, bits, |sample| colours[usize::from(sample)]);
            }
            Kind::Grey(bits) => {
                let white = (1u16 << bits) - 1;
                self.fill(&mut rgb, &samples, bits, |sample| [(u16::from(sample) * 255 / white) as u8; 3]);
            }
            Kind::Decimal(32) => {
                shares(&mut rgb, samples.as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_ne_bytes(*bytes))))?;
            }
            Kind::Decimal(_) => {
                shares(&mut rgb, samples.as_chunks::<8>().0.iter().map(|bytes| f64::from_ne_bytes(*bytes)))?;
            }
        }
        Ok(rgb)
    }

    /// Converts samples of a few bits, whose rows begin at whole bytes.
    fn fill(&self, rgb: &mut [u8], samples: &[u8], bits: u16, colour: impl Fn(u8) -> [u8; 3]) {
        let [width, height] = self.size;
        if width == 0 || height == 0 {
            return;
        }
        let row_bytes = samples.len() / height;
        let per_byte = usize::from(8 / bits);
        let mask = (0xFFu16 >> (8 - bits)) as u8;
        for (to, from) in rgb.chunks_exact_mut(width * 3).zip(samples.chunks_exact(row_bytes)) {
            for (x, pixel) in to.as_chunks_mut::<3>().0.iter_mut().enumerate() {
                let shift = 8 - bits * (x % per_byte + 1) as u16;
                *pixel = colour((from[x / per_byte] >> shift) & mask);
            }
        }
    }
}

/// Whether a file begins like a TIFF or BigTIFF in either byte order.
fn is_tiff(start: &[u8; 4]) -> bool {
    [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"].contains(&start)
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.decoding_buffer_size = MAX_BYTES as usize;
    limits.intermediate_buffer_size = MAX_BYTES as usize;
    limits
}

fn damaged(what: &str) -> Fault {
    Fault::Broken(format!("cannot decode this image: it has {what}"))
}

/// The colours of a palette, which lists all red shares, then green, then blue. Some programs write bytes instead of 16 bits.
fn colours(table: &[u16], bits: u16) -> Option<Vec<[u8; 3]>> {
    let count = 1 << bits;
    let shift = if table.iter().any(|share| *share > 255) { 8 } else { 0 };
    let colour = |i: usize| [0, 1, 2].map(|channel| (table[channel * count + i] >> shift) as u8);
    (table.len() == 3 * count).then(|| (0..count).map(colour).collect())
}

fn shares(rgb: &mut [u8], samples: impl Iterator<Item = f64> + Clone) -> Result<(), Fault> {
    check_shares(samples.clone())?;
    for (pixel, share) in rgb.as_chunks_mut::<3>().0.iter_mut().zip(samples) {
        *pixel = [share_to_byte(share as f32); 3];
    }
    Ok(())
}

/// A copy of the file whose first picture has this photometric interpretation; `None` if its directory states none.
fn with_photometric(bytes: &[u8], value: u16) -> Option<Vec<u8>> {
    let little = bytes.starts_with(b"II");
    let number = |at: usize, length: usize| -> Option<usize> {
        let bytes = bytes.get(at..at.checked_add(length)?)?;
        let join = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        let number = if little { bytes.iter().rev().fold(0, join) } else { bytes.iter().fold(0, join) };
        usize::try_from(number).ok()
    };
    let is_big = number(2, 2)? == 43;
    let (directory, count_length, entry_length) = if is_big { (number(8, 8)?, 8, 20) } else { (number(4, 4)?, 2, 12) };
    let entries = directory.checked_add(count_length)?;
    let tag = usize::from(Tag::PhotometricInterpretation.to_u16());
    for entry in 0..number(directory, count_length)? {
        let at = entries.checked_add(entry.checked_mul(entry_length)?)?;
        if number(at, 2)? == tag {
            // The value of an entry of 16 bits stands at the start of its last field.
            let place = at + if is_big { 12 } else { 8 };
            let mut copy = bytes.to_vec();
            copy.get_mut(place..place + 2)?.copy_from_slice(&if little {
                value.to_le_bytes()
            } else {
                value.to_be_bytes()
            });
            return Some(copy);
        }
    }
    None
}
