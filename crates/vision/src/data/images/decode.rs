//! Decodes image files to upright RGB bytes (EXIF orientation applied) and reads their size from the header. An image
//! that cannot be read completely is an error that names the file, because a partly grey picture would be bad training
//! data. Images that would need too much memory are refused before it is allocated.

use super::jpeg::Jpeg;
use super::magic;
use super::picture::{Image, Part};
use super::samples::Samples;
use super::tiff::Tiff;
use crate::archives::{self, Opened};
use crate::device::cpu::memory::{check_available, reserve, zeroed_bytes};
use crate::error::{Error, Result, one_line, shown};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use std::io::{BufRead, BufReader, Cursor, ErrorKind, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Supported file name extensions, in lower case.
pub const EXTENSIONS: [&str; 13] =
    ["jpg", "jpeg", "jfif", "png", "bmp", "webp", "tif", "tiff", "gif", "ppm", "pgm", "pbm", "pnm"];

/// The largest number of pixels that is read, 256 Mi. A larger size in a header is not trusted.
pub const MAX_PIXELS: u64 = 256 << 20;
/// The largest file that is read, and the largest unpacked picture in its format's own pixel type: 1 GiB.
pub const MAX_BYTES: u64 = 1 << 30;

/// Whether the file name has a supported extension.
pub fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str());
    extension.is_some_and(|e| EXTENSIONS.contains(&e.to_ascii_lowercase().as_str()))
}

/// Whether a file is an image by its name, or if the name has no ending that says what it is, by its first bytes. Such names are those
/// without an ending, with a number for one, or with one that continues an image's, such as `jpg_large`.
pub fn is_image_file(path: &Path) -> bool {
    if is_image(path) {
        return true;
    }
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
    let says_nothing = ending.is_none_or(|ending| {
        ending.bytes().all(|byte| byte.is_ascii_digit()) || EXTENSIONS.iter().any(|known| ending.starts_with(known))
    });
    says_nothing && begins_like_image(path)
}

fn begins_like_image(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = archives::open(path).and_then(|file| file.take(magic::LENGTH as u64).read_to_end(&mut start));
    read.is_ok() && magic::is_read(&start)
}

/// Whether an image file holds samples of 16 bits.
pub fn has_sixteen_bits(path: &Path) -> bool {
    let depth = || -> Option<bool> {
        let color = decoder(BufReader::new(open(path).ok()?.0)).ok()?.color_type();
        Some(color.bytes_per_pixel() == 2 * color.channel_count())
    };
    catch_unwind(AssertUnwindSafe(depth)).ok().flatten().unwrap_or(false)
}

/// The way out if there is too little memory for a picture.
const ADVICE: &str = "make the picture smaller, lower --workers or --batch, or raise the limit on memory (ulimit -v)";

/// The reason why a picture cannot be read.
#[derive(Debug)]
pub(super) enum Fault {
    /// The file is not a picture, or broken.
    Broken(String),
    /// The system refuses the memory, which says nothing about the file.
    Refused(Error),
}

impl From<String> for Fault {
    fn from(reason: String) -> Fault {
        Fault::Broken(reason)
    }
}

/// Reads an image file; if the file holds several pictures, the first. The format is detected from the content, not
/// from the name. Grey and CMYK are converted to RGB and 16 bits rounded to 8. Decimal numbers are read if they are shares of
/// white. Alpha is dropped, so colours are as stored, without blending.
///
/// Errors: `Io` if the file cannot be read; `Data` if it is not an image, truncated, damaged, or larger than
/// [`MAX_PIXELS`] or [`MAX_BYTES`]; `Memory` if the system refuses the memory for its pixels.
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
    let decoded = catch_unwind(AssertUnwindSafe(|| decode_bytes(path, bytes, part)));
    let panicked = || Fault::Broken("cannot decode this image: the decoder panicked".into());
    decoded.unwrap_or_else(|_| Err(panicked())).map_err(|fault| match fault {
        Fault::Broken(reason) => Error::data(path, None, one_line(&reason)),
        Fault::Refused(error) => error,
    })
}

/// Reads the bytes of an image file.
///
/// Errors: those of [`decode`] that can be found without looking at the content.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let (file, length) = open(path)?;
    let mut bytes = Vec::new();
    reserve(&mut bytes, length as usize, &shown(path), ADVICE)?;
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

fn decode_bytes(path: &Path, bytes: &[u8], part: impl FnOnce([usize; 2]) -> Part) -> Result<Image, Fault> {
    if bytes.is_empty() {
        return Err("the file is empty".to_owned().into());
    }
    if let Some(format) = magic::not_read(bytes) {
        return Err(not_read(format).into());
    }
    if is_truncated_jpeg(bytes) {
        return Err("truncated JPEG: it ends before its end-of-image marker".to_owned().into());
    }
    if let Some(jpeg) = Jpeg::open(bytes) {
        check_size(jpeg.width as u64, jpeg.height as u64, 3 * jpeg.width as u64 * jpeg.height as u64)?;
        check_coded(bytes, jpeg.width as u64, jpeg.height as u64)?;
        let wanted = part(upright_size(jpeg.width, jpeg.height, jpeg.orientation));
        let turned = jpeg.orientation != Orientation::NoTransforms;
        let stored = if turned { Part::whole([jpeg.width, jpeg.height]) } else { wanted };
        let pixels = Pixels { path, size: [jpeg.width, jpeg.height] };
        let rgb = pixels.zeroed(3)?;
        pixels.check(jpeg.samples(&stored))?;
        return match jpeg.decode(&stored, rgb) {
            Some(image) => upright(path, image, jpeg.orientation),
            None => decode_any(path, bytes, |_| ()),
        };
    }
    decode_any(path, bytes, |size| {
        part(size);
    })
}

/// Decodes with the general decoder; `on_size` gets the size before pixels are allocated.
fn decode_any(path: &Path, bytes: &[u8], on_size: impl FnOnce([usize; 2])) -> Result<Image, Fault> {
    let mut cursor = Cursor::new(bytes);
    check_chunks(&mut cursor)?;
    if let Some(tiff) = Tiff::open(Cursor::new(bytes)) {
        let [width, height] = tiff.size;
        check_size(width as u64, height as u64, tiff.sample_bytes())?;
        on_size(upright_size(width, height, tiff.orientation));
        let rgb = tiff.decode(bytes, &Pixels { path, size: tiff.size })?;
        return upright(path, Image { width, height, rgb }, tiff.orientation);
    }
    let mut decoder = decoder(cursor)?;
    let (width, height) = decoder.dimensions();
    check_size(width.into(), height.into(), decoder.total_bytes())?;
    check_deflated(bytes)?;
    check_coded(bytes, width.into(), height.into())?;
    let orientation = decoder.orientation().map_err(unreadable)?;
    on_size(upright_size(width as usize, height as usize, orientation));
    let size = [width as usize, height as usize];
    let (pixels, color) = (Pixels { path, size }, decoder.color_type());
    let mut samples = pixels.zeroed(usize::from(color.bytes_per_pixel()))?;
    // These decoders fill a buffer of their own first.
    if matches!(image::guess_format(bytes), Ok(ImageFormat::Tiff | ImageFormat::WebP)) {
        pixels.check(samples.len())?;
    }
    decoder.read_image(&mut samples).map_err(unreadable)?;
    let rgb = Samples { color, bytes: samples }.into_rgb(|| pixels.zeroed(3))?;
    upright(path, Image { width: size[0], height: size[1], rgb }, orientation)
}

/// The pixels of a picture that memory is needed for.
pub(super) struct Pixels<'a> {
    pub path: &'a Path,
    /// Width and height as stored.
    pub size: [usize; 2],
}

impl Pixels<'_> {
    /// Memory for them, at so many bytes each.
    pub fn zeroed(&self, bytes_per_pixel: usize) -> Result<Vec<u8>, Fault> {
        self.bytes(self.size[0].saturating_mul(self.size[1]).saturating_mul(bytes_per_pixel))
    }

    /// So many bytes of memory for them.
    pub fn bytes(&self, bytes: usize) -> Result<Vec<u8>, Fault> {
        zeroed_bytes(bytes, &self.purpose(), ADVICE).map_err(Fault::Refused)
    }

    /// Whether a decoder would get this much memory for its own buffers.
    fn check(&self, bytes: usize) -> Result<(), Fault> {
        check_available(bytes, &self.purpose(), ADVICE).map_err(Fault::Refused)
    }

    fn purpose(&self) -> String {
        let [width, height] = self.size;
        format!("the {width} × {height} pixels of {}", shown(self.path))
    }
}

pub(super) fn unreadable(error: impl std::fmt::Display) -> String {
    format!("cannot decode this image: {error}")
}

fn not_read(format: &str) -> String {
    format!("this is a picture in the format {format}, which is not read: convert it to JPEG or PNG")
}

fn decoder<'a>(mut reader: impl BufRead + Seek + 'a) -> Result<impl ImageDecoder + 'a, String> {
    let is_big_tiff = is_big_tiff(&mut reader)?;
    let mut reader = ImageReader::new(reader);
    match is_big_tiff {
        true => reader.set_format(ImageFormat::Tiff),
        false => reader = reader.with_guessed_format().map_err(unreadable)?,
    }
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    reader.into_decoder().map_err(unreadable)
}

/// Whether this is a BigTIFF file, which the general decoder reads but does not recognise.
fn is_big_tiff(reader: &mut (impl BufRead + Seek)) -> Result<bool, String> {
    let mut start = [0; 4];
    reader.rewind().map_err(unreadable)?;
    let is_whole = reader.read_exact(&mut start).is_ok();
    reader.rewind().map_err(unreadable)?;
    Ok(is_whole && (start == *b"II+\0" || start == *b"MM\0+"))
}

fn upright(path: &Path, image: Image, orientation: Orientation) -> Result<Image, Fault> {
    if orientation == Orientation::NoTransforms {
        return Ok(image);
    }
    Pixels { path, size: [image.width, image.height] }.check(image.rgb.len())?;
    let picture = image::RgbImage::from_raw(image.width as u32, image.height as u32, image.rgb);
    let mut picture = DynamicImage::from(picture.ok_or_else(|| unreadable("its bytes are not its pixels"))?);
    picture.apply_orientation(orientation);
    let picture = picture.into_rgb8();
    Ok(Image { width: picture.width() as usize, height: picture.height() as usize, rgb: picture.into_raw() })
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
    let mut start = Vec::new();
    (&mut file).take(magic::LENGTH as u64).read_to_end(&mut start).map_err(Error::io("read", path))?;
    if let Some(format) = magic::not_read(&start) {
        return Err(Error::data(path, None, not_read(format)));
    }
    let read = || {
        file.rewind().map_err(unreadable)?;
        if let Some(tiff) = Tiff::open(&mut file) {
            return Ok(upright_size(tiff.size[0], tiff.size[1], tiff.orientation));
        }
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
