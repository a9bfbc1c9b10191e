//! Generates the scenes of the built-in set from a seed: sheets of paper with handwritten digits.

use crate::boxes::{self, Xyxy};
use crate::data::random::Random;
use crate::error::{Error, Result};
use flate2::read::GzDecoder;
use std::io::Read;

/// UCI's optical digits: 1,797 records of 8 × 8 grey values (0 to 16) and a label (datasets/digits/README.md).
const RECORDS: &[u8] = include_bytes!("../../../../../datasets/digits/optdigits.bin.gz");
const RECORD_BYTES: usize = 65;
pub const COUNT: usize = 1797;
/// The side of a digit in the records.
const SIDE: usize = 8;

pub const PAPERS: [&str; 4] = ["plain", "ruled", "squared", "speckled"];

/// A scene and its ground truth.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// `[size, size, 3]`
    pub rgb: Vec<u8>,
    /// Each digit and the tight bounds of its ink, in pixels.
    pub digits: Vec<(usize, Xyxy)>,
    /// Index into `PAPERS`.
    pub paper: usize,
    /// The records that were drawn.
    pub records: Vec<usize>,
}

impl Scene {
    pub fn sum(&self) -> usize {
        self.digits.iter().map(|(digit, _)| digit).sum()
    }
}

/// The handwritten digits, unpacked.
pub struct Records {
    bytes: Vec<u8>,
}

impl Records {
    pub fn load() -> Result<Records> {
        let mut bytes = Vec::new();
        let read = GzDecoder::new(RECORDS).read_to_end(&mut bytes);
        if read.is_err() || bytes.len() != COUNT * RECORD_BYTES {
            return Err(Error::Other("the digits in this binary are damaged: build it again".into()));
        }
        Ok(Records { bytes })
    }

    fn of(&self, record: usize) -> (&[u8], usize) {
        let bytes = &self.bytes[record * RECORD_BYTES..(record + 1) * RECORD_BYTES];
        (&bytes[..SIDE * SIDE], usize::from(bytes[SIDE * SIDE]))
    }
}

/// The scene for `key`, using the records in `pool`.
pub fn draw(records: &Records, pool: &[usize], size: usize, key: &[u64]) -> Scene {
    let mut random = Random::new(&[key, &[0]].concat());
    let paper = random.below(PAPERS.len());
    let mut page = draw_paper(paper, size, &mut random);
    let ink: [f32; 3] = dark_colour(&mut random);
    let mut scene = Scene { rgb: Vec::new(), digits: Vec::new(), paper, records: Vec::new() };
    // Three sheets in a hundred are left empty; they are labelled as empty.
    let wanted = if random.unit() < 0.03 { 0 } else { 1 + random.below(4) };
    for _ in 0..wanted {
        let record = pool[random.below(pool.len())];
        let (grey, digit) = records.of(record);
        let stamp = Stamp::draw(grey, size, &mut random);
        if let Some(at) = stamp.place(size, &scene.digits, &mut random) {
            stamp.blend(&mut page, size, at, ink);
            scene.digits.push((digit, stamp.bounds_at(at)));
            scene.records.push(record);
        }
    }
    let grain = random.between(1.0, 5.0);
    scene.rgb = page.iter().map(|value| (value + random.between(-grain, grain) + 0.5) as u8).collect();
    scene
}

fn dark_colour(random: &mut Random) -> [f32; 3] {
    let level = random.between(10.0, 70.0);
    let mut colour = [level; 3];
    colour[random.below(3)] += random.between(0.0, 70.0);
    colour
}

/// A sheet as `[size, size, 3]`: a light colour that brightens slightly to one side, with its pattern.
fn draw_paper(paper: usize, size: usize, random: &mut Random) -> Vec<f32> {
    let light = random.between(205.0, 245.0);
    let colour = [0; 3].map(|_| (light + random.between(-12.0, 12.0)).min(250.0));
    let slope = [random.between(-15.0, 15.0), random.between(-15.0, 15.0)].map(|s| s / size as f32);
    let half = size as f32 / 2.0;
    let mut page = Vec::with_capacity(size * size * 3);
    for y in 0..size {
        for x in 0..size {
            let shade = slope[0] * (x as f32 - half) + slope[1] * (y as f32 - half);
            page.extend(colour.map(|c| c + shade));
        }
    }
    let line = [random.between(90.0, 150.0), random.between(110.0, 170.0), random.between(150.0, 215.0)];
    match paper {
        1 => draw_lines(&mut page, size, line, Lines::Rows, random),
        2 => draw_lines(&mut page, size, line, Lines::RowsAndColumns, random),
        3 => draw_speckles(&mut page, size, random),
        _ => {}
    }
    page
}

#[derive(PartialEq)]
enum Lines {
    Rows,
    RowsAndColumns,
}

fn draw_lines(page: &mut [f32], size: usize, colour: [f32; 3], lines: Lines, random: &mut Random) {
    let spacing = size as f32 * random.between(0.09, 0.14);
    let start = [random.unit() * spacing, random.unit() * spacing];
    let strength = random.between(0.45, 0.8);
    // The share of a pixel covered by the nearest line; a line is slightly wider than one pixel.
    let cover = |at: usize, start: f32| {
        let from_line = (at as f32 + 0.5 - start).rem_euclid(spacing);
        (1.1 - from_line.min(spacing - from_line)).clamp(0.0, 1.0)
    };
    for y in 0..size {
        for x in 0..size {
            let across = if lines == Lines::RowsAndColumns { cover(x, start[0]) } else { 0.0 };
            let alpha = cover(y, start[1]).max(across) * strength;
            blend(&mut page[(y * size + x) * 3..][..3], colour, alpha);
        }
    }
}

fn draw_speckles(page: &mut [f32], size: usize, random: &mut Random) {
    let colour = [0; 3].map(|_| random.between(90.0, 160.0));
    let count = (size * size) as f32 * random.between(0.012, 0.024);
    for _ in 0..count as usize {
        let (cx, cy) = (random.unit() * size as f32, random.unit() * size as f32);
        let radius = random.between(0.6, 1.2);
        let near = |c: f32| (c - 2.0).max(0.0) as usize..((c + 3.0) as usize).min(size);
        for y in near(cy) {
            for x in near(cx) {
                let distance = (x as f32 + 0.5 - cx).hypot(y as f32 + 0.5 - cy);
                let alpha = (radius + 0.5 - distance).clamp(0.0, 1.0) * 0.8;
                blend(&mut page[(y * size + x) * 3..][..3], colour, alpha);
            }
        }
    }
}

fn blend(pixel: &mut [f32], colour: [f32; 3], alpha: f32) {
    for (value, c) in pixel.iter_mut().zip(colour) {
        *value += alpha * (c - *value);
    }
}

/// One digit, enlarged, rotated and sheared, as the amount of ink on each pixel of a square.
struct Stamp {
    side: usize,
    ink: Vec<f32>,
    /// Tight bounds of the ink within the square.
    bounds: Xyxy,
}

/// Ink above this value counts towards the digit's box.
const VISIBLE_INK: f32 = 0.3;

impl Stamp {
    fn draw(grey: &[u8], size: usize, random: &mut Random) -> Stamp {
        let height = size as f32 * random.between(0.22, 0.42);
        let scale = [height / SIDE as f32 * random.between(0.85, 1.1), height / SIDE as f32];
        let angle = random.between(-0.2, 0.2);
        let shear = random.between(-0.15, 0.15);
        let side = (height * 1.5).ceil() as usize + 2;
        let (sin, cos) = angle.sin_cos();
        let mut ink = vec![0.0; side * side];
        let mut bounds = [f32::MAX, f32::MAX, 0.0, 0.0];
        for y in 0..side {
            for x in 0..side {
                // Maps the page back to the record: rotated, sheared and scaled about the centre.
                let (dx, dy) = (x as f32 + 0.5 - side as f32 / 2.0, y as f32 + 0.5 - side as f32 / 2.0);
                let (u, v) = (cos * dx + sin * dy, cos * dy - sin * dx);
                let u = (u + shear * v) / scale[0] + SIDE as f32 / 2.0;
                let v = v / scale[1] + SIDE as f32 / 2.0;
                let value = smooth_step((cubic(grey, u - 0.5, v - 0.5) - 0.3) / 0.5);
                ink[y * side + x] = value;
                if value > VISIBLE_INK {
                    let (x, y) = (x as f32, y as f32);
                    bounds = [bounds[0].min(x), bounds[1].min(y), bounds[2].max(x + 1.0), bounds[3].max(y + 1.0)];
                }
            }
        }
        Stamp { side, ink, bounds }
    }

    /// The position of the square's corner such that the digit is on the page and overlaps no other, if a few tries
    /// find one.
    fn place(&self, size: usize, others: &[(usize, Xyxy)], random: &mut Random) -> Option<[i32; 2]> {
        let [x1, y1, x2, y2] = self.bounds.map(|edge| edge as i32);
        let room = [size as i32 - (x2 - x1), size as i32 - (y2 - y1)];
        if room[0] < 1 || room[1] < 1 {
            return None;
        }
        (0..60).find_map(|_| {
            let corner = room.map(|room| random.below(room as usize + 1) as i32);
            let at = [corner[0] - x1, corner[1] - y1];
            let here = self.bounds_at(at);
            let clear = others.iter().all(|(_, other)| boxes::iou(&here, other) < 0.03);
            clear.then_some(at)
        })
    }

    fn bounds_at(&self, at: [i32; 2]) -> Xyxy {
        let [x, y] = at.map(|c| c as f32);
        [self.bounds[0] + x, self.bounds[1] + y, self.bounds[2] + x, self.bounds[3] + y]
    }

    fn blend(&self, page: &mut [f32], size: usize, at: [i32; 2], ink: [f32; 3]) {
        for y in 0..self.side {
            for x in 0..self.side {
                let (px, py) = (x as i32 + at[0], y as i32 + at[1]);
                if (0..size as i32).contains(&px) && (0..size as i32).contains(&py) {
                    let pixel = (py as usize * size + px as usize) * 3;
                    blend(&mut page[pixel..pixel + 3], ink, self.ink[y * self.side + x] * 0.95);
                }
            }
        }
    }
}

fn smooth_step(t: f32) -> f32 {
    let t = t.clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// A record's grey at `(x, y)`, from 0 to 1, interpolated by the Catmull-Rom cubic; paper beyond its edge.
fn cubic(grey: &[u8], x: f32, y: f32) -> f32 {
    let (x0, y0) = (x.floor(), y.floor());
    let (wx, wy) = (cubic_weights(x - x0), cubic_weights(y - y0));
    let mut sum = 0.0;
    for (j, wy) in wy.iter().enumerate() {
        for (i, wx) in wx.iter().enumerate() {
            let (column, row) = (x0 as i32 + i as i32 - 1, y0 as i32 + j as i32 - 1);
            if (0..SIDE as i32).contains(&column) && (0..SIDE as i32).contains(&row) {
                sum += wx * wy * f32::from(grey[row as usize * SIDE + column as usize]);
            }
        }
    }
    sum / 16.0
}

fn cubic_weights(t: f32) -> [f32; 4] {
    let (t2, t3) = (t * t, t * t * t);
    [(-t3 + 2.0 * t2 - t) / 2.0, (3.0 * t3 - 5.0 * t2 + 2.0) / 2.0, (-3.0 * t3 + 4.0 * t2 + t) / 2.0, (t3 - t2) / 2.0]
}
