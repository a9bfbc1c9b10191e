//! Converts the planes of a JPEG to RGB: subsampled chroma is enlarged with weights 3 and 1, then BT.601 is applied.
//! The numbers equal those of the general decoder.

/// A plane of 8-bit samples.
pub struct Plane {
    pub width: usize,
    pub height: usize,
    pub samples: Vec<u8>,
}

impl Plane {
    fn row(&self, y: usize) -> &[u8] {
        &self.samples[y * self.width..][..self.width]
    }
}

/// The chroma subsampling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Chroma {
    None,
    Whole,
    HalfWidth,
    HalfBoth,
}

/// Buffers for enlarged chroma rows.
pub struct Enlarged {
    mixed: Vec<i16>,
    wide: [Vec<i16>; 2],
}

impl Enlarged {
    /// Buffers for luma rows of `width` samples.
    pub fn new(width: usize) -> Enlarged {
        Enlarged { mixed: vec![0; width + 2], wide: [vec![0; width], vec![0; width]] }
    }

    /// Row `y` of the enlarged planes.
    #[inline(always)]
    pub fn row(&mut self, chroma: Chroma, planes: [&Plane; 2], y: usize) -> [&[i16]; 2] {
        for (plane, wide) in planes.into_iter().zip(&mut self.wide) {
            match chroma {
                Chroma::None | Chroma::Whole => {
                    for (w, &sample) in wide.iter_mut().zip(plane.row(y)) {
                        *w = i16::from(sample);
                    }
                }
                Chroma::HalfWidth => {
                    let mixed = &mut self.mixed[..plane.width + 2];
                    for (m, &sample) in mixed[1..].iter_mut().zip(plane.row(y)) {
                        *m = i16::from(sample);
                    }
                    widen(mixed, wide);
                }
                Chroma::HalfBoth => {
                    let mixed = &mut self.mixed[..plane.width + 2];
                    let near = y / 2;
                    let far =
                        if y.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(plane.height - 1) };
                    for ((m, &near), &far) in mixed[1..].iter_mut().zip(plane.row(near)).zip(plane.row(far)) {
                        *m = (3 * i16::from(near) + 2 + i16::from(far)) >> 2;
                    }
                    widen(mixed, wide);
                }
            }
        }
        [&self.wide[0], &self.wide[1]]
    }
}

/// Doubles the width: each output is three parts of the nearest input and one part of the next. `narrow` has a spare
/// element at either end, which is filled here.
#[inline(always)]
fn widen(narrow: &mut [i16], wide: &mut [i16]) {
    let last = narrow.len() - 1;
    narrow[0] = narrow[1];
    narrow[last] = narrow[last - 1];
    let count = last - 1;
    let (before, here, after) = (&narrow[..count], &narrow[1..=count], &narrow[2..]);
    for (((pair, &b), &h), &a) in wide.chunks_exact_mut(2).zip(before).zip(here).zip(after) {
        let sample = 3 * h + 2;
        pair[0] = (sample + b) >> 2;
        pair[1] = (sample + a) >> 2;
    }
}

/// Rounding term for fixed-point numbers with 14 fractional bits.
const HALF: i32 = (1 << 13) - 1;

/// The number of pixels converted at once: first the arithmetic of each colour, then the interleaving of bytes.
const TOGETHER: usize = 32;

/// Converts one row of pixels.
#[inline(always)]
pub fn convert(luma: &[u8], [cb, cr]: [&[i16]; 2], rgb: &mut [u8]) {
    let mut colours = [[0u8; TOGETHER]; 3];
    let pieces = luma.chunks(TOGETHER).zip(cb.chunks(TOGETHER)).zip(cr.chunks(TOGETHER));
    for (((luma, cb), cr), rgb) in pieces.zip(rgb.chunks_mut(3 * TOGETHER)) {
        let [red, green, blue] = &mut colours;
        for i in 0..luma.len().min(cb.len()).min(cr.len()).min(TOGETHER) {
            let (y, cb, cr) = ((i32::from(luma[i]) << 14) + HALF, i32::from(cb[i]) - 128, i32::from(cr[i]) - 128);
            red[i] = ((y + cr * 22970) >> 14).clamp(0, 255) as u8;
            green[i] = ((y - cr * 11700 - cb * 5638) >> 14).clamp(0, 255) as u8;
            blue[i] = ((y + cb * 29032) >> 14).clamp(0, 255) as u8;
        }
        for (((pixel, &r), &g), &b) in rgb.chunks_exact_mut(3).zip(red.iter()).zip(green.iter()).zip(blue.iter()) {
            (pixel[0], pixel[1], pixel[2]) = (r, g, b);
        }
    }
}
