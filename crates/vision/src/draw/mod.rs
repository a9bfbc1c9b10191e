//! Drawing: a plain RGB canvas, boxes with labels, captions, contact sheets, plots, JPEG and PNG files. The caller decides what
//! to draw and what the labels say.

mod annotate;
mod chart;
mod font;
mod mark;
mod plot;
mod strips;

pub use annotate::{LabelledFrame, caption, caption_sized, class_colour, frame, frames};
pub use chart::{Line, lines, matrix};
pub use mark::is_own_picture;
pub use plot::{confusion, scatter};
pub use strips::{Strip, strips};

use crate::error::{Error, Result};
use crate::files;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder, ImageError, RgbImage, imageops};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// The licence of DejaVu Sans. It must accompany each copy of the font, and the program contains one.
pub const FONT_LICENCE: &str = include_str!("DejaVu-LICENSE.txt");

/// Red, green and blue.
pub type Rgb = [u8; 3];

/// Boxes and labels are drawn on an enlarged copy if the picture's shorter side is below this, in pixels.
pub const READABLE_SIDE: usize = 384;

/// [`Canvas::enlarged`] stops at this side, so that a picture one pixel high does not fill the memory.
const LONGEST_ENLARGED_SIDE: usize = 4096;

/// The pixels around each picture of a [`grid`].
pub const GRID_GAP: usize = 8;
const GRID_GROUND: Rgb = [64; 3];

/// A picture to draw on.
#[derive(Clone, Debug, PartialEq)]
pub struct Canvas {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `[height, width, 3]`
    pub rgb: Vec<u8>,
}

impl Canvas {
    /// Creates a canvas from a picture's pixels.
    ///
    /// Errors: `Shape` if the length of `rgb` is not `height · width · 3`.
    pub fn new(width: usize, height: usize, rgb: Vec<u8>) -> Result<Self> {
        if rgb.len() != width * height * 3 {
            return Err(Error::shape("canvas", [height, width, 3], rgb.len()));
        }
        Ok(Canvas { width, height, rgb })
    }

    /// A canvas of one colour.
    pub fn filled(width: usize, height: usize, colour: Rgb) -> Self {
        Canvas { width, height, rgb: colour.repeat(width * height) }
    }

    /// A copy enlarged to a shorter side of at least `min_side`, and the scale factor, by which box coordinates must be
    /// multiplied. The factor is a whole number and the interpolation bilinear. The factor is 1 if the picture is large
    /// enough, and is kept small for a very long picture.
    pub fn enlarged(&self, min_side: usize) -> (Canvas, f32) {
        let (shorter, longer) = (self.width.min(self.height), self.width.max(self.height));
        if shorter == 0 {
            return (self.clone(), 1.0);
        }
        let factor = min_side.div_ceil(shorter).min(LONGEST_ENLARGED_SIDE / longer).max(1);
        let small = RgbImage::from_raw(self.width as u32, self.height as u32, self.rgb.clone());
        let Some(small) = small.filter(|_| factor > 1) else {
            return (self.clone(), 1.0);
        };
        let (width, height) = (self.width * factor, self.height * factor);
        let large = imageops::resize(&small, width as u32, height as u32, imageops::FilterType::Triangle);
        (Canvas { width, height, rgb: large.into_raw() }, factor as f32)
    }

    /// A copy whose longer side is at most `side`, each pixel the mean of the pixels it covers, and the scale factor of
    /// its coordinates. A picture that fits is not changed.
    pub fn shrunk(&self, side: usize) -> (Canvas, f32) {
        let longer = self.width.max(self.height);
        let source = RgbImage::from_raw(self.width as u32, self.height as u32, self.rgb.clone());
        let Some(source) = source.filter(|_| longer > side) else {
            return (self.clone(), 1.0);
        };
        let factor = side as f32 / longer as f32;
        let [width, height] = [self.width, self.height].map(|v| ((v as f32 * factor).round() as u32).max(1));
        let small = imageops::resize(&source, width, height, imageops::FilterType::Triangle);
        (Canvas { width: width as usize, height: height as usize, rgb: small.into_raw() }, factor)
    }

    /// A copy scaled so that its longer side is `side`, and the scale factor of its coordinates.
    pub fn fitted(&self, side: usize) -> (Canvas, f32) {
        let longer = self.width.max(self.height);
        let source = RgbImage::from_raw(self.width as u32, self.height as u32, self.rgb.clone());
        let Some(source) = source.filter(|_| longer > 0 && longer != side) else {
            return (self.clone(), 1.0);
        };
        let factor = side as f32 / longer as f32;
        let [width, height] = [self.width, self.height].map(|v| ((v as f32 * factor).round() as u32).max(1));
        let scaled = imageops::resize(&source, width, height, imageops::FilterType::Triangle);
        (Canvas { width: width as usize, height: height as usize, rgb: scaled.into_raw() }, factor)
    }

    /// The colour at column `x` and row `y`, both from 0.
    ///
    /// # Panics
    /// The position is outside the picture.
    pub fn pixel(&self, x: usize, y: usize) -> Rgb {
        let at = (y * self.width + x) * 3;
        [self.rgb[at], self.rgb[at + 1], self.rgb[at + 2]]
    }

    /// Fills the half-open rectangle `[x1, y1, x2, y2]`, clipped to the canvas.
    fn fill(&mut self, [x1, y1, x2, y2]: [i64; 4], colour: Rgb) {
        let clamped = |v: i64, side: usize| v.clamp(0, side as i64) as usize;
        let (x1, x2) = (clamped(x1, self.width), clamped(x2, self.width));
        for y in clamped(y1, self.height)..clamped(y2, self.height) {
            let start = (y * self.width + x1) * 3;
            let end = (y * self.width + x2.max(x1)) * 3;
            self.rgb[start..end].as_chunks_mut().0.fill(colour);
        }
    }

    /// Blends `share` of the colour, from 0 to 1, into the pixel at `(x, y)` if it is on the canvas.
    fn blend(&mut self, [x, y]: [i64; 2], colour: Rgb, share: f32) {
        if (0..self.width as i64).contains(&x) && (0..self.height as i64).contains(&y) {
            let ground = self.pixel(x as usize, y as usize);
            self.fill([x, y, x + 1, y + 1], mix(ground, colour, share));
        }
    }

    fn extend_below(&mut self, rows: usize, colour: Rgb) {
        self.rgb.extend(colour.repeat(self.width * rows));
        self.height += rows;
    }

    /// Copies `other` to `(left, top)`; it must fit.
    pub fn paste(&mut self, other: &Canvas, left: usize, top: usize) {
        debug_assert!(left + other.width <= self.width && top + other.height <= self.height);
        for y in 0..other.height {
            let (to, from) = (((top + y) * self.width + left) * 3, y * other.width * 3);
            self.rgb[to..to + other.width * 3].copy_from_slice(&other.rgb[from..from + other.width * 3]);
        }
    }
}

fn mix(from: Rgb, to: Rgb, share: f32) -> Rgb {
    std::array::from_fn(|i| (f32::from(from[i]) + (f32::from(to[i]) - f32::from(from[i])) * share).round() as u8)
}

/// A contact sheet: `images` row by row with `columns` per row, each centred in a cell as wide as the widest image and as high as the
/// highest of its row.
pub fn grid(images: &[Canvas], columns: usize) -> Canvas {
    let columns = columns.min(images.len()).max(1);
    let cell_width = images.iter().map(|i| i.width).max().unwrap_or(0) + GRID_GAP;
    let heights = images.chunks(columns).map(|row| row.iter().map(|i| i.height).max().unwrap_or(0) + GRID_GAP);
    let heights: Vec<usize> = heights.collect();
    let whole = heights.iter().sum::<usize>() + GRID_GAP;
    let mut sheet = Canvas::filled(columns * cell_width + GRID_GAP, whole, GRID_GROUND);
    let mut row_top = 0;
    for (row, cell_height) in images.chunks(columns).zip(heights) {
        for (column, image) in row.iter().enumerate() {
            let left = column * cell_width + (cell_width + GRID_GAP - image.width) / 2;
            let top = row_top + (cell_height + GRID_GAP - image.height) / 2;
            sheet.paste(image, left, top);
        }
        row_top += cell_height;
    }
    sheet
}

/// Writes a PNG. The file is not synced to disk, because a picture lost in a power cut can be drawn again.
///
/// Errors: `Io` if the file system refuses or the canvas has no pixels; no partial file is left.
pub fn write_png(path: &Path, canvas: &Canvas) -> Result<()> {
    write_picture(path, canvas, PictureFormat::Png)
}

/// The format of a picture's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PictureFormat {
    /// JPEG of quality 90, without chroma subsampling, which would blur coloured frames. Photographs take much less space than in
    /// PNG.
    Jpeg,
    /// PNG, which keeps every pixel. Plots are drawings with few colours, for which it is small as well.
    Png,
}

impl PictureFormat {
    /// All formats.
    pub const ALL: [PictureFormat; 2] = [PictureFormat::Jpeg, PictureFormat::Png];

    /// The format that a file's ending names: `.jpg`, `.jpeg` or `.png`, in upper or lower case.
    pub fn of(path: &Path) -> Option<PictureFormat> {
        match path.extension()?.to_ascii_lowercase().to_str()? {
            "jpg" | "jpeg" => Some(PictureFormat::Jpeg),
            "png" => Some(PictureFormat::Png),
            _ => None,
        }
    }

    /// The ending of the file's name.
    pub fn ending(self) -> &'static str {
        match self {
            PictureFormat::Jpeg => "jpg",
            PictureFormat::Png => "png",
        }
    }

    /// Whether the format can store a picture of this size.
    pub fn fits(self, canvas: &Canvas) -> bool {
        match self {
            PictureFormat::Jpeg => canvas.width.max(canvas.height) <= usize::from(u16::MAX),
            PictureFormat::Png => true,
        }
    }
}

/// The quality of JPEG pictures, from 1 to 100.
const JPEG_QUALITY: u8 = 90;

/// Writes a picture in the given format, as [`write_png`] does.
///
/// # Errors
/// The file system refuses, the canvas has no pixels, or the format cannot store its size ([`PictureFormat::fits`]).
pub fn write_picture(path: &Path, canvas: &Canvas, format: PictureFormat) -> Result<()> {
    files::write(path, |file| encode(file, canvas, format))
}

fn encode(file: &mut File, canvas: &Canvas, format: PictureFormat) -> io::Result<()> {
    if canvas.rgb.is_empty() || canvas.rgb.len() != canvas.width * canvas.height * 3 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the canvas is empty, or its pixels do not match its size",
        ));
    }
    let mut encoded = Vec::new();
    let (rgb, width, height) = (&canvas.rgb, canvas.width as u32, canvas.height as u32);
    let done = match format {
        PictureFormat::Jpeg => {
            let encoder = JpegEncoder::new_with_quality(&mut encoded, JPEG_QUALITY);
            encoder.write_image(rgb, width, height, ExtendedColorType::Rgb8)
        }
        PictureFormat::Png => {
            let encoder = PngEncoder::new_with_quality(&mut encoded, CompressionType::Fast, FilterType::Adaptive);
            encoder.write_image(rgb, width, height, ExtendedColorType::Rgb8)
        }
    };
    done.map_err(|e| match e {
        ImageError::IoError(e) => e,
        other => io::Error::other(other),
    })?;
    mark::marked(&encoded, format).iter().try_for_each(|part| file.write_all(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enlarging_takes_the_least_whole_factor_and_stays_within_bounds() {
        let cases = [
            ((96, 96), 4.0),
            ((100, 300), 4.0),
            ((383, 500), 2.0),
            ((384, 384), 1.0),
            ((640, 480), 1.0),
            ((1, 2000), 2.0),
            ((1, 9000), 1.0),
            ((0, 7), 1.0),
        ];
        for ((width, height), factor) in cases {
            let (large, scale) = Canvas::filled(width, height, [9, 8, 7]).enlarged(READABLE_SIDE);
            assert_eq!(scale, factor, "{width}×{height}");
            assert_eq!(large, Canvas::filled(width * factor as usize, height * factor as usize, [9, 8, 7]));
        }
    }

    #[test]
    fn a_grid_holds_every_image_whole() {
        for (count, columns, (across, down)) in
            [(1, 1, (1, 1)), (5, 3, (3, 2)), (3, 9, (3, 1)), (2, 0, (1, 2)), (0, 4, (1, 0))]
        {
            let images: Vec<Canvas> = (0..count).map(|i| Canvas::filled(3 + i, 10 - i, [200 + i as u8; 3])).collect();
            let sheet = grid(&images, columns);
            let widest = if count == 0 { 0 } else { 2 + count };
            assert_eq!(sheet.width, across * (widest + GRID_GAP) + GRID_GAP, "{count} in {columns}");
            // The first image of a row is its highest.
            let heights: usize = (0..down).map(|row| 10 - row * across + GRID_GAP).sum();
            assert_eq!(sheet.height, heights + GRID_GAP, "{count} in {columns}");
            for image in &images {
                let seen = sheet.rgb.chunks(3).filter(|p| *p == image.pixel(0, 0)).count();
                assert_eq!(seen, image.width * image.height);
            }
        }
    }

    #[test]
    fn a_png_comes_back_as_it_was_and_leaves_nothing_aside() {
        let folder = std::env::temp_dir().join(format!("polyhead-draw-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("picture.png");
        let canvas = Canvas::new(5, 3, (0..45).map(|v| v * 5).collect()).unwrap();
        for _ in 0..2 {
            write_png(&path, &canvas).unwrap();
        }
        assert_eq!(image::open(&path).unwrap().into_rgb8().into_raw(), canvas.rgb);
        // Only pictures of our own are marked.
        assert!(is_own_picture(&path));
        let other = folder.join("other.png");
        image::open(&path).unwrap().save(&other).unwrap();
        assert!(!is_own_picture(&other) && !is_own_picture(&folder) && !is_own_picture(&folder.join("absent")));
        std::fs::remove_file(&other).unwrap();
        let refused = [folder.join("absent/picture.png"), folder.clone()];
        for path in refused {
            assert!(matches!(write_png(&path, &canvas), Err(Error::Io { .. })));
        }
        assert!(matches!(write_png(&path, &Canvas::filled(0, 3, [0; 3])), Err(Error::Io { .. })));
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    /// One red pixel between blue ones keeps its colour, which chroma subsampling would spread over its neighbours.
    #[test]
    fn a_jpeg_keeps_thin_coloured_lines() {
        let path = std::env::temp_dir().join(format!("polyhead-draw-{}.jpg", std::process::id()));
        let mut canvas = Canvas::filled(32, 32, [0, 0, 255]);
        canvas.fill([10, 0, 11, 32], [255, 0, 0]);
        write_picture(&path, &canvas, PictureFormat::Jpeg).unwrap();
        assert!(std::fs::read(&path).unwrap().starts_with(b"\xff\xd8\xff\xe0") && is_own_picture(&path));
        let back = image::open(&path).unwrap().into_rgb8();
        for (x, colour) in [(9, [0, 0, 255]), (10, [255, 0, 0]), (11, [0, 0, 255])] {
            let off = back.get_pixel(x, 16).0.iter().zip(colour).map(|(a, b)| a.abs_diff(b)).max();
            assert!(off < Some(60), "column {x}: {:?}", back.get_pixel(x, 16));
        }
        std::fs::remove_file(&path).unwrap();
        let wide = Canvas::filled(65_536, 1, [0; 3]);
        assert_eq!(PictureFormat::ALL.map(|format| format.fits(&wide)), [false, true]);
        assert!(matches!(write_picture(&path, &wide, PictureFormat::Jpeg), Err(Error::Io { .. })));
        let of = |name: &str| PictureFormat::of(Path::new(name));
        assert_eq!([of("a.JPEG"), of("a.b.jpg")], [Some(PictureFormat::Jpeg); 2]);
        assert_eq!([of("a.png"), of("a.gif"), of("png")], [Some(PictureFormat::Png), None, None]);
    }

    #[test]
    fn a_canvas_of_the_wrong_length_is_refused() {
        assert!(matches!(Canvas::new(2, 2, vec![0; 11]), Err(Error::Shape { .. })));
    }
}
