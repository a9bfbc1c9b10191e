//! Changes to a picture's colours within its part of the canvas; labels do not move.

use super::framing::rows_of;
use crate::data::images::resize::Target;
use image::codecs::jpeg::{JpegDecoder, JpegEncoder};
use image::{DynamicImage, ExtendedColorType, ImageEncoder};
use std::io::Cursor;

/// Shifts every pixel's hue by `turn` of the colour circle and multiplies its saturation and value.
pub fn turn_hsv(canvas: &mut [u8], size: usize, target: Target, [turn, saturation, value]: [f32; 3]) {
    for row in rows_of(size, target) {
        for pixel in canvas[row].as_chunks_mut().0 {
            let [h, s, v] = to_hsv(*pixel);
            let hue = (h + 6.0 * turn).rem_euclid(6.0);
            *pixel = from_hsv([hue, (s * saturation).clamp(0.0, 1.0), (v * value).clamp(0.0, 255.0)]);
        }
    }
}

/// Hue in sixths of the circle, saturation 0–1, value 0–255.
fn to_hsv(pixel: [u8; 3]) -> [f32; 3] {
    let [r, g, b] = pixel.map(f32::from);
    let (largest, least) = (r.max(g).max(b), r.min(g).min(b));
    let span = largest - least;
    if span == 0.0 {
        return [0.0, 0.0, largest];
    }
    let hue = match largest {
        l if l == r => (g - b) / span,
        l if l == g => (b - r) / span + 2.0,
        _ => (r - g) / span + 4.0,
    };
    [hue.rem_euclid(6.0), span / largest, largest]
}

fn from_hsv([h, s, v]: [f32; 3]) -> [u8; 3] {
    // Each channel falls from v by s·v over the far part of the hue circle.
    [5.0, 3.0, 1.0].map(|n| {
        let k = (n + h) % 6.0;
        (v - v * s * k.min(4.0 - k).clamp(0.0, 1.0) + 0.5) as u8
    })
}

/// Gaussian blur of standard deviation `sigma` in pixels; edge pixels are repeated beyond the picture.
pub fn blur(canvas: &mut [u8], size: usize, target: Target, sigma: f32) {
    let radius = (3.0 * sigma).ceil() as usize;
    let weights: Vec<f32> = (0..=2 * radius)
        .map(|k| {
            let distance = k as f32 - radius as f32;
            (-distance * distance / (2.0 * sigma * sigma)).exp()
        })
        .collect();
    let sum: f32 = weights.iter().sum();
    let weights: Vec<f32> = weights.into_iter().map(|w| w / sum).collect();
    let (width, height) = (target.width, target.height);
    let before: Vec<f32> =
        rows_of(size, target).flat_map(|row| canvas[row].iter().map(|&b| f32::from(b)).collect::<Vec<_>>()).collect();
    let clamped = |at: usize, k: usize, side: usize| (at + k).saturating_sub(radius).min(side - 1);
    let mut across = vec![0f32; before.len()];
    for (i, out) in across.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        let (x, y) = (i % width, i / width);
        for (k, weight) in weights.iter().enumerate() {
            let from = (y * width + clamped(x, k, width)) * 3;
            out.iter_mut().zip(&before[from..]).for_each(|(o, v)| *o += weight * v);
        }
    }
    for (y, row) in rows_of(size, target).enumerate() {
        let mut sums = vec![0.5f32; width * 3];
        for (k, weight) in weights.iter().enumerate() {
            let from = clamped(y, k, height) * width * 3;
            sums.iter_mut().zip(&across[from..]).for_each(|(s, v)| *s += weight * v);
        }
        canvas[row].iter_mut().zip(sums).for_each(|(byte, s)| *byte = s as u8); // saturates
    }
}

/// Adds the artefacts of JPEG compression with `quality` (1–100).
pub fn jpeg(canvas: &mut [u8], size: usize, target: Target, quality: u8) {
    let mut rgb: Vec<u8> = Vec::with_capacity(target.width * target.height * 3);
    for row in rows_of(size, target) {
        rgb.extend_from_slice(&canvas[row]);
    }
    let mut bytes = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut bytes, quality);
    let stored = encoder.write_image(&rgb, target.width as u32, target.height as u32, ExtendedColorType::Rgb8);
    let read = stored.and_then(|()| DynamicImage::from_decoder(JpegDecoder::new(Cursor::new(bytes))?));
    // The only possible failure is a side above JPEG's 65,535 pixels; such a picture is left unchanged.
    let Ok(read) = read else { return };
    let read = read.into_rgb8();
    for (row, kept) in rows_of(size, target).zip(read.chunks_exact(target.width * 3)) {
        canvas[row].copy_from_slice(kept);
    }
}
