//! Image files, and the files in which decoded images are kept.

use super::folder::{folder, refused, write};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader};
use polyhead::data::images::cache::Cache;
use polyhead::data::images::decode::{decode, decode_read, dimensions};
use polyhead::data::images::{Image, Part};
use polyhead::error::Result;
use polyhead::files;
use std::io::Cursor;
use std::path::Path;

/// Larger pictures would only take longer. The program's own limits are far higher.
const MOST_PIXELS: usize = 1 << 20;

/// Any image file: read from disk, in whole, with the size that its header says.
pub fn image(bytes: &[u8]) {
    let file = write(&folder("image", |_| ()), "picture", bytes);
    let size = match dimensions(&file) {
        Ok(size) => Some(size),
        Err(error) => {
            refused(&error);
            None
        }
    };
    if size.is_some_and(|[width, height]| width.saturating_mul(height) > MOST_PIXELS) {
        return;
    }
    match decode(&file) {
        Ok(image) => {
            assert_eq!(image.rgb.len(), image.width * image.height * 3);
            assert_eq!(size, Some([image.width, image.height]));
            assert!(decode(&file).is_ok_and(|again| again == image));
        }
        Err(error) => refused(&error),
    }
}

/// A JPEG: the baseline decoder must give the pixels of the `image` crate, and a part of the picture those of the whole.
pub fn jpeg(bytes: &[u8]) {
    let file = Path::new("picture.jpg");
    let mut size = [0; 2];
    let mut is_large = false;
    let whole = decode_read(file, bytes, |found| {
        size = found;
        is_large = found[0] * found[1] > MOST_PIXELS;
        Part { left: 0, top: 0, right: if is_large { 1 } else { found[0] }, bottom: found[1] }
    });
    if let Err(error) = &whole {
        refused(error);
    }
    if is_large {
        return;
    }
    // Of other formats, some are read in another way on purpose: a PNM file states its white.
    if let Ok(ours) = &whole
        && bytes.starts_with(&[0xFF, 0xD8])
        && let Some(theirs) = general(bytes)
    {
        assert!(*ours == theirs, "the decoders differ");
    }
    let part = Part { left: size[0] / 3, top: size[1] / 4, right: size[0] * 2 / 3 + 1, bottom: size[1] / 2 + 1 };
    let partly = decode_read(file, bytes, |_| part);
    match (whole, partly) {
        (Ok(whole), Ok(partly)) => assert!(pixels(&whole, &part) == pixels(&partly, &part), "the part differs"),
        (whole, partly) => assert_eq!(said(whole), said(partly)),
    }
}

fn said(read: Result<Image>) -> String {
    read.map_or_else(|error| error.to_string(), |_| "read".to_owned())
}

/// The rows of a part.
fn pixels<'a>(image: &'a Image, part: &Part) -> Vec<&'a [u8]> {
    let row =
        |y: usize| &image.rgb[(y * image.width + part.left) * 3..(y * image.width + part.right.min(image.width)) * 3];
    (part.top..part.bottom.min(image.height)).map(row).collect()
}

/// The picture by the `image` crate alone.
fn general(bytes: &[u8]) -> Option<Image> {
    let mut decoder = ImageReader::new(Cursor::new(bytes)).with_guessed_format().ok()?.into_decoder().ok()?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).ok()?;
    picture.apply_orientation(orientation);
    let picture = picture.into_rgb8();
    Some(Image { width: picture.width() as usize, height: picture.height() as usize, rgb: picture.into_raw() })
}

/// A file of the cache, once as it is and once with the checksum of its content.
pub fn cache(bytes: &[u8]) {
    const SIZES: usize = 16;
    const HEAD: usize = 32;
    let place = folder("cache", |place| {
        let picture = write(place, "1.png", "");
        image::RgbImage::from_fn(3, 2, |x, y| image::Rgb([x as u8, y as u8, 7])).save(picture).unwrap();
    });
    let kept = place.join("kept");
    let read = || Cache::in_folder(&kept, 1 << 20).unwrap().decode(&place.join("1.png"), Part::whole).unwrap();
    let picture = decode(&place.join("1.png")).unwrap();
    assert!(*read() == picture || kept.exists());
    let entry = std::fs::read_dir(&kept).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&entry, bytes).unwrap();
    assert!(*read() == picture, "a damaged file is used");
    if bytes.len() >= HEAD {
        let (head, rgb) = bytes.split_at(HEAD);
        let name = entry.file_name().unwrap().as_encoded_bytes();
        let checksum = files::checksum(&[name, &head[..SIZES], rgb]).to_le_bytes();
        std::fs::write(&entry, [&head[..SIZES], &checksum, rgb].concat()).unwrap();
        let image = read();
        assert_eq!(image.rgb.len(), image.width * image.height * 3);
    }
    std::fs::remove_file(entry).unwrap();
}
