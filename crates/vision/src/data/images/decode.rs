//! Decodes image files to upright RGB bytes (EXIF orientation applied) and reads their size from the header. An image
//! that cannot be read completely is an error that names the file, because a partly grey picture would be bad training
//! data. Images that would need too much memory are refused before it is allocated.

use super::jpeg::Jpeg;
use super::picture::{Image, Part};
use crate::archives::{self, Opened};
use crate::error::{Error, Result, one_line};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits};
use std::io::{BufRead, BufReader, Cursor, ErrorKind, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Supported file name extensions, in lower case.
pub const EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "bmp", "webp", "tif", "tiff", "gif"];

/// The largest number of pixels that is read, 256 Mi. A larger size in a header is not trusted.
pub const MAX_PIXELS: u64 = 256 << 20;
/// The largest file that is read, and the largest unpacked picture in its format's own pixel type: 1 GiB.
pub const MAX_BYTES: u64 = 1 << 30;

/// Whether the file name has a supported extension.
pub fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str());
    extension.is_some_and(|e| EXTENSIONS.contains(&e.to_ascii_lowercase().as_str()))
}

/// Reads an image file; if the file holds several pictures, the first. The format is detected from the content, not
/// from the name. Grey and CMYK are converted to RGB and 16 bits rounded to 8. Alpha is dropped, so colours are as
/// stored, without blending.
///
/// Errors: `Io` if the file cannot be read; `Data` if it is not an image, truncated, damaged, or larger than
/// [`MAX_PIXELS`] or [`MAX_BYTES`].
pub fn decode(path: &Path) -> Result<Image> {
    decode_part(path, Part::whole)
}

/// Decodes only the part that will be used: `part` gets the image's size and returns the part. Pixels outside may be
/// left black if that saves time. Pixels inside, and errors, are the same as from [`decode`].
pub fn decode_part(path: &Path, part: impl FnOnce([usize; 2]) -> Part) -> Result<Image> {
    decode_read(path, &read(path)?, part)
}

/// Like [`decode_part`], for the bytes returned by [`read`]; `path` is used in errors.
pub fn decode_read(path: &Path, bytes: &[u8], part: impl FnOnce([usize; 2]) -> Part) -> Result<Image> {
    // If the decoder panics, the image is broken; other images are not affected.
    let decoded = catch_unwind(AssertUnwindSafe(|| decode_bytes(bytes, part)));
    let decoded = decoded.unwrap_or_else(|_| Err("cannot decode this image: the decoder panicked".into()));
    decoded.map_err(|reason| Error::data(path, None, one_line(&reason)))
}

/// Reads the bytes of an image file.
///
/// Errors: those of [`decode`] that can be found without looking at the content.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let (file, length) = open(path)?;
    let mut bytes = Vec::with_capacity(length as usize);
    // The file may grow while it is read.
    file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    Ok(bytes)
}

/// Opens a file that is small enough to be read.
fn open(path: &Path) -> Result<(Opened, u64)> {
    let file = archives::open(path).map_err(|e| match e.kind() {
        ErrorKind::InvalidInput | ErrorKind::InvalidData => Error::data(path, None, e.to_string()),
        _ => Error::io("read", path)(e),
    })?;
    let length = file.length().map_err(Error::io("read", path))?;
    if length > MAX_BYTES {
        let message = format!("the file has {length} bytes; at most {MAX_BYTES} are read");
        return Err(Error::data(path, None, message));
    }
    Ok((file, length))
}

fn decode_bytes(bytes: &[u8], part: impl FnOnce([usize; 2]) -> Part) -> Result<Image, String> {
    if bytes.is_empty() {
        return Err("the file is empty".into());
    }
    if is_truncated_jpeg(bytes) {
        return Err("truncated JPEG: it ends before its end-of-image marker".into());
    }
    if let Some(jpeg) = Jpeg::open(bytes) {
        check_size(jpeg.width as u64, jpeg.height as u64, 3 * jpeg.width as u64 * jpeg.height as u64)?;
        check_coded(bytes, jpeg.width as u64, jpeg.height as u64)?;
        let wanted = part(upright_size(jpeg.width, jpeg.height, jpeg.orientation));
        let turned = jpeg.orientation != Orientation::NoTransforms;
        let stored = if turned { Part::whole([jpeg.width, jpeg.height]) } else { wanted };
        return match jpeg.decode(&stored) {
            Some(image) if turned => upright(image, jpeg.orientation),
            Some(image) => Ok(image),
            None => decode_any(bytes, |_| ()),
        };
    }
    decode_any(bytes, |size| {
        part(size);
    })
}

/// Decodes with the general decoder; `on_size` gets the size before pixels are allocated.
fn decode_any(bytes: &[u8], on_size: impl FnOnce([usize; 2])) -> Result<Image, String> {
    let mut cursor = Cursor::new(bytes);
    check_chunks(&mut cursor)?;
    let mut decoder = decoder(cursor)?;
    let (width, height) = decoder.dimensions();
    check_size(width.into(), height.into(), decoder.total_bytes())?;
    check_deflated(bytes)?;
    check_coded(bytes, width.into(), height.into())?;
    let orientation = decoder.orientation().map_err(unreadable)?;
    on_size(upright_size(width as usize, height as usize, orientation));
    let mut picture = DynamicImage::from_decoder(decoder).map_err(unreadable)?;
    picture.apply_orientation(orientation);
    Ok(rgb(picture))
}

fn unreadable(error: impl std::fmt::Display) -> String {
    format!("cannot decode this image: {error}")
}

fn decoder<'a>(reader: impl BufRead + Seek + 'a) -> Result<impl ImageDecoder + 'a, String> {
    let mut reader = ImageReader::new(reader).with_guessed_format().map_err(unreadable)?;
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    reader.into_decoder().map_err(unreadable)
}

fn rgb(picture: DynamicImage) -> Image {
    let picture = picture.into_rgb8();
    Image { width: picture.width() as usize, height: picture.height() as usize, rgb: picture.into_raw() }
}

fn upright(image: Image, orientation: Orientation) -> Result<Image, String> {
    let picture = image::RgbImage::from_raw(image.width as u32, image.height as u32, image.rgb);
    let mut picture = DynamicImage::from(picture.ok_or_else(|| unreadable("its bytes are not its pixels"))?);
    picture.apply_orientation(orientation);
    Ok(rgb(picture))
}

/// `unpacked` is the number of bytes that the picture takes in its own pixel type.
fn check_size(width: u64, height: u64, unpacked: u64) -> Result<(), String> {
    if width.saturating_mul(height) > MAX_PIXELS {
        return Err(format!("its header says {width} × {height} pixels; at most {MAX_PIXELS} are read"));
    }
    match unpacked > MAX_BYTES {
        true => Err(format!("its {width} × {height} pixels take {unpacked} bytes; at most {MAX_BYTES} are read")),
        false => Ok(()),
    }
}

/// Deflate compresses at most 1032 bytes into one, so a PNG whose header claims more pixels than its size allows is
/// broken.
fn check_deflated(bytes: &[u8]) -> Result<(), String> {
    let Some(header) = bytes.strip_prefix(b"\x89PNG\r\n\x1a\n").and_then(|rest| rest.get(8..18)) else {
        return Ok(());
    };
    let side = |at: usize| u64::from(u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]));
    let channels = [1, 0, 3, 1, 2, 0, 4].get(usize::from(header[9])).copied().unwrap_or(0);
    let packed = side(0) * side(4) * channels * u64::from(header[8]) / 8;
    if packed > 1032 * bytes.len() as u64 {
        let [width, height] = [side(0), side(4)];
        return Err(format!(
            "its header says {width} × {height} pixels, which {} bytes of PNG cannot hold",
            bytes.len()
        ));
    }
    Ok(())
}

/// A JPEG has at least one bit for every block of 8 × 8 pixels, so one whose header claims more is broken. The general decoder
/// would fill it with grey and report success: a file of 1 KB took 1.5 GiB.
fn check_coded(bytes: &[u8], width: u64, height: u64) -> Result<(), String> {
    if bytes.starts_with(&[0xFF, 0xD8]) && width.div_ceil(8) * height.div_ceil(8) > 8 * bytes.len() as u64 {
        let length = bytes.len();
        return Err(format!("its header says {width} × {height} pixels, which {length} bytes of JPEG cannot hold"));
    }
    Ok(())
}

/// Checks that the chunks of a WebP end within the file, because the decoder allocates the sizes they claim.
fn check_chunks(reader: &mut (impl Read + Seek)) -> Result<(), String> {
    let io = |e: std::io::Error| format!("cannot read: {e}");
    let end = reader.seek(SeekFrom::End(0)).map_err(io)?;
    reader.seek(SeekFrom::Start(0)).map_err(io)?;
    let mut head = [0u8; 12];
    let webp = end >= 12 && reader.read_exact(&mut head).is_ok() && &head[..4] == b"RIFF" && &head[8..] == b"WEBP";
    let mut at = 12;
    while webp && at + 8 <= end {
        reader.seek(SeekFrom::Start(at)).map_err(io)?;
        let mut chunk = [0u8; 8];
        reader.read_exact(&mut chunk).map_err(io)?;
        let length = u64::from(u32::from_le_bytes([chunk[4], chunk[5], chunk[6], chunk[7]]));
        if length > end - at - 8 {
            return Err(format!("truncated WebP: a chunk of {length} bytes begins {} before its end", end - at - 8));
        }
        at += 8 + length.next_multiple_of(2);
    }
    reader.seek(SeekFrom::Start(0)).map_err(io).map(|_| ())
}

/// The decoder fills a JPEG that ends early with grey and reports success. `FF D9` cannot occur within compressed data,
/// so a complete file contains it after the start of its first scan.
fn is_truncated_jpeg(bytes: &[u8]) -> bool {
    if !bytes.starts_with(&[0xFF, 0xD8]) {
        return false;
    }
    let Some(scan) = first_scan(bytes) else {
        return true;
    };
    !bytes[scan..].windows(2).rev().any(|pair| pair == [0xFF, 0xD9])
}

/// The position of the first start-of-scan marker. It walks the segments to skip an embedded thumbnail.
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

/// Width and height as `decode` would return them, from the first bytes of the file.
pub fn dimensions(path: &Path) -> Result<[usize; 2]> {
    // The usual reader loads a whole JPEG to find its size, which is too slow for a hundred thousand files.
    let mut file = BufReader::with_capacity(4096, open(path)?.0);
    if let Some(size) = jpeg_dimensions(&mut file) {
        return Ok(size);
    }
    file.seek(SeekFrom::Start(0)).map_err(Error::io("read", path))?;
    let read = || {
        check_chunks(&mut file)?;
        let mut decoder = decoder(file)?;
        let (width, height) = decoder.dimensions();
        let orientation = decoder.orientation().map_err(unreadable)?;
        Ok(upright_size(width as usize, height as usize, orientation))
    };
    let read = catch_unwind(AssertUnwindSafe(read));
    let read = read.unwrap_or_else(|_| Err("cannot decode this image: the decoder panicked".into()));
    read.map_err(|reason: String| Error::data(path, None, one_line(&reason)))
}
fn jpeg_dimensions(file: &mut BufReader<Opened>) -> Option<[usize; 2]> {
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
            // Start-of-frame markers of all kinds; C4, C8 and CC are not frames.
            (0xFF, 0xC0..=0xCF) if !matches!(head[1], 0xC4 | 0xC8 | 0xCC) => {
                let mut body = [0u8; 5];
                file.read_exact(&mut body).ok()?;
                let height = usize::from(u16::from_be_bytes([body[1], body[2]]));
                let width = usize::from(u16::from_be_bytes([body[3], body[4]]));
                return (width > 0 && height > 0).then(|| upright_size(width, height, orientation));
            }
            (0xFF, 0xDA | 0xD9) | (0xFF, 0xFF) => return None,
            (0xFF, _) => file.seek_relative(length as i64).ok()?,
            _ => return None,
        }
    }
}

fn upright_size(width: usize, height: usize, orientation: Orientation) -> [usize; 2] {
    match orientation {
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH => {
            [height, width]
        }
        _ => [width, height],
    }
}
