//! Decoding, and boxes that move with the pixels through every augmentation.

use super::Folder;
use crate::boxes::Xyxy;
use crate::data::augment::{Augment, Framing};
use crate::data::images::{Image, decode};
use crate::data::random::Random;
use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};
use std::fs;

/// A grey picture with a green rectangle.
fn picture(width: usize, height: usize, [x1, y1, x2, y2]: [usize; 4]) -> Image {
    let pixel = |i: usize| {
        let (x, y) = (i % width, i / width);
        let inside = (x1..x2).contains(&x) && (y1..y2).contains(&y);
        if inside { [20u8, 220, 20] } else { [128, 128, 128] }
    };
    let rgb = (0..width * height).flat_map(pixel).collect();
    Image { width, height, rgb }
}

/// The bounds of the pixels that are more green than grey, with subpixel precision: an edge pixel counts by its
/// coverage.
fn green_bounds(canvas: &[u8], size: usize) -> Option<Xyxy> {
    let greenness = |x: usize, y: usize| {
        let p = &canvas[(y * size + x) * 3..][..3];
        let grey = (f32::from(p[0]) + f32::from(p[2])) / 2.0;
        (f32::from(p[1]) - grey).max(0.0)
    };
    let columns: Vec<f32> = (0..size).map(|x| (0..size).map(|y| greenness(x, y)).fold(0.0, f32::max)).collect();
    let rows: Vec<f32> = (0..size).map(|y| (0..size).map(|x| greenness(x, y)).fold(0.0, f32::max)).collect();
    let span = |line: &[f32]| {
        let most = line.iter().copied().fold(0.0, f32::max);
        let first = line.iter().position(|v| *v > most / 2.0)?;
        let last = line.iter().rposition(|v| *v > most / 2.0)?;
        (most > 40.0).then_some((first as f32, last as f32 + 1.0))
    };
    let ((x1, x2), (y1, y2)) = (span(&columns)?, span(&rows)?);
    Some([x1, y1, x2, y2])
}

#[test]
fn boxes_follow_the_pixels() {
    let framings = [
        Framing::Letterbox,
        Framing::Scatter { least_scale: 0.5 },
        Framing::Crop { least_area: 0.2 },
        Framing::CentreCrop { resize: 110 },
    ];
    let mut seen = 0;
    for framing in framings {
        for (flip, jitter) in [(0.0, 0.0), (1.0, 0.0), (0.5, 0.3)] {
            let augment = Augment { framing, flip, brightness: jitter, contrast: jitter, saturation: jitter };
            for (i, (width, height)) in [(200, 120), (90, 170), (64, 64), (301, 97)].into_iter().enumerate() {
                for draw in 0..8 {
                    let place = [width / 4, height / 5, width / 4 + width / 3, height / 5 + height / 2];
                    let image = picture(width, height, place);
                    let size = 96;
                    let mut canvas = vec![0; size * size * 3];
                    let mut random = Random::new(&[i as u64, draw]);
                    let geometry = augment.draw(&image, size, &mut random, &mut canvas);
                    let moved = geometry.apply_box(&place.map(|v| v as f32));
                    let Some(found) = green_bounds(&canvas, size) else {
                        assert!(crate::boxes::area(&moved) < 300.0, "{framing:?} lost {moved:?}");
                        continue;
                    };
                    seen += 1;
                    for (a, b) in moved.iter().zip(found) {
                        assert!(
                            (a - b).abs() < 1.5,
                            "{framing:?} flip {flip} {width}x{height}: box {moved:?}, pixels {found:?}"
                        );
                    }
                    let back = geometry.invert_box(&moved);
                    let again = geometry.apply_box(&back);
                    assert!(moved.iter().zip(again).all(|(a, b)| (a - b).abs() < 0.01));
                }
            }
        }
    }
    assert!(seen > 300, "{seen}");
}

#[test]
fn a_letterbox_is_centred_on_grey() {
    let image = picture(100, 50, [0, 0, 100, 50]);
    let mut canvas = vec![0; 64 * 64 * 3];
    let geometry = Augment::NONE.draw(&image, 64, &mut Random::new(&[0]), &mut canvas);
    assert_eq!(geometry.window(), [0.0, 16.0, 64.0, 48.0]);
    assert_eq!(canvas[..16 * 64 * 3], vec![114; 16 * 64 * 3]);
    assert_eq!(canvas[16 * 64 * 3..16 * 64 * 3 + 3], [20, 220, 20]);
    assert_eq!(canvas[48 * 64 * 3..], vec![114; 16 * 64 * 3]);
}

#[test]
fn the_centre_crop_is_torchvisions_preset() {
    // resize(256) of 500 × 375 gives 341 × 256; the crop of 224 starts at round(117 / 2) = 58 and 16.
    let image = picture(500, 375, [0, 0, 1, 1]);
    let mut canvas = vec![0; 224 * 224 * 3];
    let geometry = Augment::centre_crop(224).draw(&image, 224, &mut Random::new(&[0]), &mut canvas);
    assert_eq!(geometry.offset, [-58.0, -16.0]);
    assert_eq!(geometry.scale, [341.0 / 500.0, 256.0 / 375.0]);
}

#[test]
fn jitter_changes_colours_but_not_padding() {
    let image = picture(100, 50, [10, 10, 50, 40]);
    let augment = Augment { brightness: 0.4, contrast: 0.4, saturation: 0.4, ..Augment::NONE };
    let mut canvases = [vec![0; 64 * 64 * 3], vec![0; 64 * 64 * 3]];
    augment.draw(&image, 64, &mut Random::new(&[1]), &mut canvases[0]);
    Augment::NONE.draw(&image, 64, &mut Random::new(&[1]), &mut canvases[1]);
    assert_ne!(canvases[0], canvases[1]);
    assert_eq!(canvases[0][..16 * 64 * 3], canvases[1][..16 * 64 * 3]);
}

/// A JPEG of `image` with an EXIF orientation.
pub fn jpeg(image: &Image, orientation: Option<u8>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
    encoder.write_image(&image.rgb, image.width as u32, image.height as u32, ExtendedColorType::Rgb8).unwrap();
    if let Some(orientation) = orientation {
        let mut exif = b"\xFF\xE1\x00\x22Exif\0\0MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
        exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
        let rest = bytes.split_off(2);
        bytes.extend(exif);
        bytes.extend(rest);
    }
    bytes
}

#[test]
fn pictures_stand_upright() {
    let folder = Folder::new();
    let image = picture(60, 40, [0, 0, 20, 10]);
    let plain = folder.path().join("plain.jpg");
    let turned = folder.path().join("turned.jpg");
    fs::write(&plain, jpeg(&image, None)).unwrap();
    fs::write(&turned, jpeg(&image, Some(6))).unwrap();
    assert_eq!(decode::dimensions(&plain).unwrap(), [60, 40]);
    assert_eq!(decode::dimensions(&turned).unwrap(), [40, 60]);
    let upright = decode::decode(&turned).unwrap();
    assert_eq!((upright.width, upright.height), (40, 60));
    // After a clockwise quarter turn, the top-left corner is at the top right.
    let green = |x: usize, y: usize| upright.rgb[(y * 40 + x) * 3 + 1] > 180;
    assert!(green(36, 4) && !green(4, 4) && !green(4, 56) && !green(36, 56));
}

#[test]
fn every_kind_of_pixel_becomes_rgb() {
    let folder = Folder::new();
    let save = |name: &str, image: image::DynamicImage| {
        let file = folder.path().join(name);
        image.save(&file).unwrap();
        assert_eq!(decode::dimensions(&file).unwrap(), [3, 2]);
        decode::decode(&file).unwrap().rgb[..3].to_vec()
    };
    assert_eq!(save("grey.png", image::GrayImage::from_pixel(3, 2, image::Luma([7])).into()), [7, 7, 7]);
    assert_eq!(save("alpha.png", image::RgbaImage::from_pixel(3, 2, image::Rgba([1, 2, 3, 200])).into()), [1, 2, 3]);
    let deep = image::ImageBuffer::from_pixel(3, 2, image::Rgb([0x1234u16, 0x8000, 0xFFFF]));
    assert_eq!(save("deep.png", deep.into()), [0x12, 0x80, 0xFF]);
    assert_eq!(save("plain.bmp", image::RgbImage::from_pixel(3, 2, image::Rgb([9, 8, 7])).into()), [9, 8, 7]);
}

#[test]
fn what_is_not_whole_is_an_error_that_names_the_file() {
    let folder = Folder::new();
    let whole = jpeg(&picture(200, 150, [20, 30, 90, 100]), Some(1));
    let cases: [(&str, &[u8], &str); 5] = [
        ("half.jpg", &whole[..whole.len() / 2], "truncated JPEG"),
        ("nearly.jpg", &whole[..whole.len() - 2], "truncated JPEG"),
        ("head.jpg", &whole[..30], "truncated JPEG"),
        ("empty.png", b"", "the file is empty"),
        ("text.png", b"no image at all", "cannot decode this image"),
    ];
    for (name, bytes, expected) in cases {
        let file = folder.path().join(name);
        fs::write(&file, bytes).unwrap();
        let error = decode::decode(&file).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(expected), "{error}");
    }
    let file = folder.path().join("half.png");
    picture_png(&file);
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    assert!(decode::decode(&file).is_err());
    assert!(decode::decode(&folder.path().join("absent.png")).is_err());
}

#[test]
fn a_jpeg_that_cannot_hold_its_pixels_is_refused() {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/images");
    let folder = Folder::new();
    for (name, frame) in [("baseline-420.jpg", [0xFF, 0xC0]), ("progressive.jpg", [0xFF, 0xC2])] {
        let mut bytes = fs::read(golden.join(name)).unwrap();
        let sides = bytes.windows(2).position(|pair| pair == frame).unwrap() + 5;
        bytes[sides..sides + 4].copy_from_slice(&[0x3E, 0x80, 0x3E, 0x80]);
        let file = folder.path().join(name);
        fs::write(&file, &bytes).unwrap();
        let error = decode::decode(&file).unwrap_err().to_string();
        let expected = format!("its header says 16000 × 16000 pixels, which {} bytes of JPEG cannot hold", bytes.len());
        assert!(error.contains(name) && error.contains(&expected), "{error}");
    }
}

fn picture_png(file: &std::path::Path) {
    let image = picture(200, 150, [20, 30, 90, 100]);
    image::RgbImage::from_raw(200, 150, image.rgb).unwrap().save(file).unwrap();
}
