//! Decoder for baseline JPEG, the format of nearly all photographs. It reads all of the compressed data but only
//! converts the blocks of the requested part to pixels. The numbers equal those of the general decoder (`image`), which
//! handles everything else: progressive and CMYK pictures, other samplings, and damaged files.

mod colour;
mod huffman;
mod idct;

use super::picture::{Image, Part};
use crate::device::cpu::Isa;
use crate::device::cpu::simd::vectorise;
use colour::{Chroma, Enlarged, Plane};
use huffman::{Class, Damaged, Scan, Table};
use image::metadata::Orientation;

/// The headers of a baseline JPEG.
pub struct Jpeg<'a> {
    pub width: usize,
    pub height: usize,
    pub orientation: Orientation,
    chroma: Chroma,
    components: Vec<Component>,
    quantisation: [Option<Box<[i32; 64]>>; 4],
    tables: [[Option<Box<Table>>; 4]; 2],
    /// Units between restart markers; 0 means none.
    restart: usize,
    data: &'a [u8],
}

#[derive(Clone, Copy, Default)]
struct Component {
    id: u8,
    sampling: [usize; 2],
    quantisation: usize,
    /// The indices of the DC and AC tables.
    tables: [usize; 2],
}

/// A cursor over bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<usize> {
        self.take(1).map(|b| usize::from(b[0]))
    }

    fn word(&mut self) -> Option<usize> {
        self.take(2).map(|b| usize::from(u16::from_be_bytes([b[0], b[1]])))
    }
}

impl<'a> Jpeg<'a> {
    /// Parses the headers up to the first scan; `None` if this decoder cannot handle the file.
    pub fn open(bytes: &'a [u8]) -> Option<Jpeg<'a>> {
        let mut reader = Reader(bytes.strip_prefix(&[0xFF, 0xD8])?);
        let mut jpeg = Jpeg {
            width: 0,
            height: 0,
            orientation: Orientation::NoTransforms,
            chroma: Chroma::None,
            components: Vec::new(),
            quantisation: Default::default(),
            tables: Default::default(),
            restart: 0,
            data: &[],
        };
        loop {
            let marker = reader.word()?;
            let length = reader.word()?.checked_sub(2)?;
            let mut body = Reader(reader.take(length)?);
            match marker {
                0xFFC0 | 0xFFC1 => jpeg.frame(&mut body)?,
                0xFFC4 => jpeg.huffman_tables(&mut body)?,
                0xFFDB => jpeg.quantisation_tables(&mut body)?,
                0xFFDD => jpeg.restart = body.word()?,
                // If there are several, the last one counts, as in other decoders.
                0xFFE1 if body.0.starts_with(b"Exif\0\0") => {
                    jpeg.orientation = Orientation::from_exif_chunk(&body.0[6..]).unwrap_or(Orientation::NoTransforms);
                }
                // The colours are not YCbCr.
                0xFFEE if body.0.starts_with(b"Adobe") && body.0.get(11) != Some(&1) => return None,
                0xFFDA => {
                    jpeg.scan(&mut body)?;
                    jpeg.data = reader.0;
                    return Some(jpeg);
                }
                0xFFE0..=0xFFEF | 0xFFFE => {}
                _ => return None,
            }
        }
    }

    fn frame(&mut self, body: &mut Reader) -> Option<()> {
        let eight_bits = body.byte()? == 8;
        (self.height, self.width) = (body.word()?, body.word()?);
        let count = body.byte()?;
        if !eight_bits || !self.components.is_empty() || self.width == 0 || self.height == 0 {
            return None;
        }
        for _ in 0..count {
            let (id, sampling, quantisation) = (body.byte()? as u8, body.byte()?, body.byte()?);
            let sampling = [sampling >> 4, sampling & 15];
            self.components.push(Component { id, sampling, quantisation, tables: [0; 2] });
        }
        let samplings: Vec<[usize; 2]> = self.components.iter().map(|c| c.sampling).collect();
        let in_order = |c: &[Component]| c[1].id == c[0].id + 1 && c[2].id == c[1].id + 1 && c[0].id <= 1;
        self.chroma = match samplings[..] {
            [[1, 1]] => Chroma::None,
            [luma, [1, 1], [1, 1]] if in_order(&self.components) => match luma {
                [1, 1] => Chroma::Whole,
                [2, 1] => Chroma::HalfWidth,
                [2, 2] => Chroma::HalfBoth,
                _ => return None,
            },
            _ => return None,
        };
        Some(())
    }

    fn quantisation_tables(&mut self, body: &mut Reader) -> Option<()> {
        while !body.0.is_empty() {
            let head = body.byte()?;
            let mut table = Box::new([0; 64]);
            for value in table.iter_mut() {
                *value = if head >> 4 == 0 { body.byte()? } else { body.word()? } as i32;
            }
            *self.quantisation.get_mut(head & 15)? = Some(table);
        }
        Some(())
    }

    fn huffman_tables(&mut self, body: &mut Reader) -> Option<()> {
        while !body.0.is_empty() {
            let head = body.byte()?;
            let counts: &[u8; 16] = body.take(16)?.try_into().ok()?;
            let symbols = body.take(counts.iter().map(|&c| usize::from(c)).sum())?;
            let class = if head >> 4 == 0 { Class::Dc } else { Class::Ac };
            let table = Table::new(class, counts, symbols)?;
            *self.tables.get_mut(head >> 4)?.get_mut(head & 15)? = Some(table);
        }
        Some(())
    }

    /// Accepts a single scan of all components; otherwise the general decoder must be used.
    fn scan(&mut self, body: &mut Reader) -> Option<()> {
        if self.components.is_empty() || body.byte()? != self.components.len() {
            return None;
        }
        for component in &mut self.components {
            let (id, tables) = (body.byte()? as u8, body.byte()?);
            component.tables = [tables >> 4, tables & 15];
            if id != component.id {
                return None;
            }
        }
        (body.0 == [0, 63, 0]).then_some(())
    }

    /// The part within the image.
    fn within(&self, part: &Part) -> Part {
        let (right, bottom) = (part.right.min(self.width), part.bottom.min(self.height));
        Part { left: part.left.min(right), top: part.top.min(bottom), right, bottom }
    }

    /// The bytes that [`Jpeg::decode`] takes for the samples of a part and a copy of the compressed data.
    pub fn samples(&self, part: &Part) -> usize {
        let (columns, rows) = self.units_of(&self.within(part));
        let of = |c: &Component| columns.len() * rows.len() * c.sampling[0] * c.sampling[1] * 64;
        self.components.iter().map(of).sum::<usize>() + self.data.len()
    }

    /// Decodes `part`, in pixels as stored, into `rgb`, `[height, width, 3]`; the rest of the image stays black, as `rgb` is. `None`
    /// if the data is damaged.
    pub fn decode(&self, part: &Part, rgb: Vec<u8>) -> Option<Image> {
        debug_assert_eq!(rgb.len(), self.width * self.height * 3);
        let part = &self.within(part);
        let scan = Scan::new(self.data)?;
        let mut planes = self.planes(part);
        let mut image = Image { width: self.width, height: self.height, rgb };
        let isa = Isa::of_process();
        vectorise(
            isa,
            #[inline(always)]
            || self.read(&scan, &mut planes),
        )
        .ok()?;
        vectorise(
            isa,
            #[inline(always)]
            || planes.write(self.chroma, part, &mut image),
        );
        Some(image)
    }

    /// The size of a scan unit in pixels.
    fn unit(&self) -> [usize; 2] {
        self.components[0].sampling.map(|s| s * 8)
    }

    /// The number of units of the whole scan, across and down.
    fn units(&self) -> [usize; 2] {
        let [unit_width, unit_height] = self.unit();
        [self.width.div_ceil(unit_width), self.height.div_ceil(unit_height)]
    }

    /// The columns and rows of the units that `part` touches, plus the neighbouring chroma samples.
    fn units_of(&self, part: &Part) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
        let ([unit_width, unit_height], units) = (self.unit(), self.units());
        let columns = part.left.saturating_sub(2) / unit_width..(part.right + 2).div_ceil(unit_width).min(units[0]);
        let rows = part.top.saturating_sub(2) / unit_height..(part.bottom + 2).div_ceil(unit_height).min(units[1]);
        (columns, rows)
    }

    /// Buffers for the units of a part.
    fn planes(&self, part: &Part) -> Planes {
        let ([unit_width, unit_height], units) = (self.unit(), self.units());
        let (columns, rows) = self.units_of(part);
        let plane = |c: &Component| {
            let [width, height] = [columns.len() * c.sampling[0] * 8, rows.len() * c.sampling[1] * 8];
            Plane { width, height, samples: vec![0; width * height] }
        };
        let origin = [columns.start * unit_width, rows.start * unit_height];
        Planes { planes: self.components.iter().map(plane).collect(), origin, units, columns, rows }
    }

    #[inline(always)]
    fn read(&self, scan: &Scan, planes: &mut Planes) -> Result<(), Damaged> {
        let mut sources = Vec::with_capacity(self.components.len());
        for component in &self.components {
            let [dc, ac] = component.tables;
            let dc = self.tables[0].get(dc).and_then(Option::as_deref).ok_or(Damaged)?;
            let ac = self.tables[1].get(ac).and_then(Option::as_deref).ok_or(Damaged)?;
            let table = self.quantisation.get(component.quantisation).and_then(Option::as_deref);
            sources.push(([dc, ac], table.ok_or(Damaged)?, component.sampling));
        }
        let [across, down] = planes.units;
        let restart = if self.restart == 0 { across * down } else { self.restart };
        if scan.intervals() != (across * down).div_ceil(restart) {
            return Err(Damaged);
        }
        let mut bits = scan.interval(0);
        let mut previous = [0i32; 3];
        let mut coefficients = [0i32; 64];
        for unit in 0..across * down {
            if unit > 0 && unit % restart == 0 {
                if !bits.is_within() {
                    return Err(Damaged);
                }
                bits = scan.interval(unit / restart);
                previous = [0; 3];
            }
            let (x, y) = (unit % across, unit / across);
            let wanted = planes.columns.contains(&x) && planes.rows.contains(&y);
            for ((index, &(tables, quantisation, [h, v])), previous) in sources.iter().enumerate().zip(&mut previous) {
                for block in 0..h * v {
                    if !wanted {
                        bits.skip(tables, previous)?;
                        continue;
                    }
                    let filled = bits.block(tables, previous, quantisation, &mut coefficients)?;
                    let plane = &mut planes.planes[index];
                    let column = (x - planes.columns.start) * h + block % h;
                    let row = (y - planes.rows.start) * v + block / h;
                    let at = row * 8 * plane.width + column * 8;
                    if filled == 1 {
                        idct::flat(coefficients[0], &mut plane.samples, at, plane.width);
                    } else {
                        idct::block(&coefficients, &mut plane.samples, at, plane.width);
                        coefficients = [0; 64];
                    }
                }
            }
        }
        if bits.is_within() { Ok(()) } else { Err(Damaged) }
    }
}

/// The decoded units of the requested part.
struct Planes {
    planes: Vec<Plane>,
    /// The image pixel at which the planes begin.
    origin: [usize; 2],
    /// The number of units of the whole scan, across and down.
    units: [usize; 2],
    columns: std::ops::Range<usize>,
    rows: std::ops::Range<usize>,
}

impl Planes {
    #[inline(always)]
    fn write(&self, chroma: Chroma, part: &Part, image: &mut Image) {
        let luma = &self.planes[0];
        let [left, top] = self.origin;
        let columns = part.left - left..part.right - left;
        let mut enlarged = Enlarged::new(luma.width);
        for y in part.top..part.bottom {
            let start = (y * image.width + part.left) * 3;
            let rgb = &mut image.rgb[start..start + columns.len() * 3];
            let row = &luma.samples[(y - top) * luma.width..][columns.clone()];
            match &self.planes[1..] {
                [cb, cr] => {
                    let [cb, cr] = enlarged.row(chroma, [cb, cr], y - top);
                    colour::convert(row, [&cb[columns.clone()], &cr[columns.clone()]], rgb);
                }
                _ => {
                    for (pixel, &grey) in rgb.chunks_exact_mut(3).zip(row) {
                        pixel.fill(grey);
                    }
                }
            }
        }
    }
}
