//! Image files to RGB bytes, upright (EXIF orientation applied), and their sizes from the header alone. What cannot be
//! read whole is an error that names the file: half a picture teaches grey.

use crate::error::{Error, Result};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader};
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

/// File name endings that are read, lower case.
pub const EXTENSIONS: [&str; 5] = ["jpg", "jpeg", "png", "bmp", "webp"];

/// An upright RGB picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    pub width: usize,
    pub height: usize,
    /// `[height, width, 3]`
    pub rgb: Vec<u8>,
}

/// Whether the name ends like an image that can be read.
pub fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str());
    extension.is_some_and(|e| EXTENSIONS.contains(&e.to_ascii_lowercase().as_str()))
}

/// Reads an image file whole. Grey, alpha and 16-bit become 8-bit RGB; the format is known by content, not by name.
///
/// Errors: `Io` where the file cannot be read, `Data` where it is no image, truncated or damaged.
pub fn decode(path: &Path) -> Result<Image> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    decode_bytes(&bytes).map_err(|reason| Error::data(path, None, reason))
}

fn decode_bytes(bytes: &[u8]) -> Result<Image, String> {
    if bytes.is_empty() {
        return Err("the file is empty".into());
    }
    if is_truncated_jpeg(bytes) {
        return Err("truncated JPEG: it ends before its end-of-image marker".into());
    }
    let unreadable = |e: image::ImageError| format!("cannot decode this image: {e}");
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let reader = reader.map_err(|e| format!("cannot decode this image: {e}"))?;
    let mut decoder = reader.into_decoder().map_err(unreadable)?;
    let orientation = decoder.orientation().map_err(unreadable)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(unreadable)?;
    picture.apply_orientation(orientation);
    let picture = picture.into_rgb8();
    Ok(Image { width: picture.width() as usize, height: picture.height() as usize, rgb: picture.into_raw() })
}

/// The decoder fills a JPEG that stops early with grey and calls it well. Within the compressed data `FF D9` cannot occur,
/// so a whole file has one after its first scan begins.
fn is_truncated_jpeg(bytes: &[u8]) -> bool {
    if !bytes.starts_with(&[0xFF, 0xD8]) {
        return false;
    }
    let Some(scan) = first_scan(bytes) else {
        return true;
    };
    !bytes[scan..].windows(2).rev().any(|pair| pair == [0xFF, 0xD9])
}

/// Where the first start-of-scan marker stands, walking the segments so that an embedded thumbnail is stepped over.
fn first_scan(bytes: &[u8]) -> Option<usize> {
    let mut at = 2;
    loop {
        let (marker, length) = (bytes.get(at..at + 2)?, bytes.get(at + 2..at + 4)?);
        match marker {
            [0xFF, 0xDA] => return Some(at),
            [0xFF, 0xFF] => at += 1,
            [0xFF, _] => at += 2 + usize::from(u16::from_be_bytes([length[0], length[1]])),
            _ => return None,
        }
    }
}

/// Width and height as `decode` would give them, from the file's first bytes.
pub fn dimensions(path: &Path) -> Result<[usize; 2]> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    // The usual reader takes a whole JPEG into memory to tell its size, too slow over a hundred thousand files.
    let mut file = BufReader::with_capacity(4096, file);
    if let Some(size) = jpeg_dimensions(&mut file) {
        return Ok(size);
    }
    file.seek(SeekFrom::Start(0)).map_err(Error::io("read", path))?;
    let unreadable = |e: image::ImageError| Error::data(path, None, format!("cannot decode this image: {e}"));
    let reader = ImageReader::new(file).with_guessed_format();
    let mut decoder = reader.map_err(Error::io("read", path))?.into_decoder().map_err(unreadable)?;
    let (width, height) = decoder.dimensions();
    let orientation = decoder.orientation().map_err(unreadable)?;
    Ok(upright(width as usize, height as usize, orientation))
}

fn jpeg_dimensions(file: &mut BufReader<File>) -> Option<[usize; 2]> {
    let mut start = [0u8; 2];
    file.read_exact(&mut start).ok()?;
    if start != [0xFF, 0xD8] {
        return None;
    }
    let mut orientation = Orientation::NoTransforms;
    loop {
        let mut head = [0u8; 4];
        file.read_exact(&mut head).ok()?;
        let length = usize::from(u16::from_be_bytes([head[2], head[3]])).checked_sub(2)?;
        match (head[0], head[1]) {
            (0xFF, 0xE1) => {
                let mut body = vec![0; length];
                file.read_exact(&mut body).ok()?;
                if let Some(found) = body.strip_prefix(b"Exif\0\0").and_then(Orientation::from_exif_chunk) {
                    orientation = found;
                }
            }
            // Start of frame, all kinds; C4, C8 and CC are tables.
            (0xFF, 0xC0..=0xCF) if !matches!(head[1], 0xC4 | 0xC8 | 0xCC) => {
                let mut body = [0u8; 5];
                file.read_exact(&mut body).ok()?;
                let height = usize::from(u16::from_be_bytes([body[1], body[2]]));
                let width = usize::from(u16::from_be_bytes([body[3], body[4]]));
                return (width > 0 && height > 0).then(|| upright(width, height, orientation));
            }
            (0xFF, 0xDA | 0xD9) | (0xFF, 0xFF) => return None,
            (0xFF, _) => file.seek_relative(length as i64).ok()?,
            _ => return None,
        }
    }
}

fn upright(width: usize, height: usize, orientation: Orientation) -> [usize; 2] {
    match orientation {
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH => {
            [height, width]
        }
        _ => [width, height],
    }
}
