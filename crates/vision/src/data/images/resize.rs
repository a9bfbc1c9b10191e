//! Separable resampling of RGB bytes: bilinear for enlarging; for shrinking, a triangle filter as wide as the step, so
//! that pixels are averaged and none are skipped. The filter and its edge handling match Pillow's `BILINEAR`.

use super::picture::Image;
use crate::boxes::Xyxy;
use crate::device::cpu::Isa;
use crate::device::cpu::simd::vectorise;

/// Whether to mirror left to right.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mirror {
    /// Keep the order of columns.
    No,
    /// Reverse the order of columns.
    Yes,
}

/// The rectangle of a larger RGB canvas to write: `width × height` at `(left, top)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// Its first column on the canvas.
    pub left: usize,
    /// Its first row on the canvas.
    pub top: usize,
    /// Columns to write.
    pub width: usize,
    /// Rows to write.
    pub height: usize,
}

/// Resamples `source` (xyxy in pixels of `image`) into `target` of `canvas`, whose rows hold `canvas_width` pixels. It
/// works on one output row at a time: first it mixes input rows, then columns, so that the intermediate result is one
/// row and stays in the cache.
pub fn resize_into(
    image: &Image,
    source: Xyxy,
    mirror: Mirror,
    canvas: &mut [u8],
    canvas_width: usize,
    target: Target,
) {
    debug_assert!(target.left + target.width <= canvas_width);
    let mut columns = Taps::new(image.width, source[0], source[2], target.width);
    let rows = Taps::new(image.height, source[1], source[3], target.height);
    if mirror == Mirror::Yes {
        columns.reverse();
    }
    vectorise(
        Isa::of_process(),
        #[inline(always)]
        || mix(image, &rows, &columns, canvas, canvas_width, target),
    );
}

#[inline(always)]
fn mix(image: &Image, rows: &Taps, columns: &Taps, canvas: &mut [u8], canvas_width: usize, target: Target) {
    let (low, high) = columns.range();
    let used = (high - low) * 3;
    // Zeros after the last pixel serve taps with zero weight; one more value lets a pixel be read as four lanes.
    let mut mixed = vec![0f32; used + columns.widest * 3 + 1];
    let mut sums = vec![0f32; target.width * 3 + 1];
    let stride = image.width * 3;
    for y in 0..target.height {
        let (first, weights) = rows.of(y);
        let part = &image.rgb[first * stride + low * 3..];
        mix_rows(&mut mixed[..used], part, stride, weights);
        match columns.widest {
            3 => mix_columns::<3>(&mixed, low, columns, &mut sums),
            4 => mix_columns::<4>(&mixed, low, columns, &mut sums),
            5 => mix_columns::<5>(&mixed, low, columns, &mut sums),
            _ => mix_many_columns(&mixed, low, columns, &mut sums),
        }
        let start = ((target.top + y) * canvas_width + target.left) * 3;
        for (byte, sum) in canvas[start..start + target.width * 3].iter_mut().zip(&sums) {
            *byte = whole_part(*sum);
        }
    }
}

/// `value as u8` for positive values, in operations that compilers can vectorise. After adding 2²³, the last bits of a
/// float are the nearest integer, which is the truncated value or one more.
#[inline(always)]
fn whole_part(value: f32) -> u8 {
    const WHOLE: f32 = (1 << 23) as f32;
    let value = value.min(255.0);
    let nearest = value + WHOLE;
    (nearest.to_bits() - u32::from(nearest - WHOLE > value)) as u8
}

/// The weighted sum of `weights.len()` rows, added from the top; `part` starts at the first row.
#[inline(always)]
fn mix_rows(mixed: &mut [f32], part: &[u8], stride: usize, weights: &[f32]) {
    match *weights {
        [a, b] => mix_few_rows(mixed, part, stride, [a, b]),
        [a, b, c] => mix_few_rows(mixed, part, stride, [a, b, c]),
        [a, b, c, d] => mix_few_rows(mixed, part, stride, [a, b, c, d]),
        _ => {
            mix_few_rows(mixed, part, stride, [weights[0]]);
            for (k, &weight) in weights.iter().enumerate().skip(1) {
                for (m, &value) in mixed.iter_mut().zip(&part[k * stride..]) {
                    *m += weight * f32::from(value);
                }
            }
        }
    }
}

#[inline(always)]
fn mix_few_rows<const N: usize>(mixed: &mut [f32], part: &[u8], stride: usize, weights: [f32; N]) {
    let length = mixed.len();
    let rows: [&[u8]; N] = std::array::from_fn(|k| &part[k * stride..][..length]);
    for (i, m) in mixed.iter_mut().enumerate() {
        let mut sum = weights[0] * f32::from(rows[0][i]);
        for k in 1..N {
            sum += weights[k] * f32::from(rows[k][i]);
        }
        *m = sum;
    }
}

/// Mixes columns with exactly `N` weights per output pixel; unused weights are zero.
#[inline(always)]
fn mix_columns<const N: usize>(mixed: &[f32], low: usize, columns: &Taps, sums: &mut [f32]) {
    for (x, (&first, weights)) in columns.first.iter().zip(columns.weights.chunks_exact(N)).enumerate() {
        let start = (first - low) * 3;
        let taps = &mixed[start..start + (N - 1) * 3 + 4];
        // The fourth lane is overwritten by the next pixel. Four lanes make each tap one vector multiply and add.
        let mut sum = [0.5f32; 4];
        for k in 0..N {
            for lane in 0..4 {
                sum[lane] += weights[k] * taps[k * 3 + lane];
            }
        }
        sums[x * 3..x * 3 + 4].copy_from_slice(&sum);
    }
}

#[inline(always)]
fn mix_many_columns(mixed: &[f32], low: usize, columns: &Taps, sums: &mut [f32]) {
    for x in 0..columns.first.len() {
        let (first, weights) = columns.of(x);
        let mut sum = [0.5f32; 4];
        for (lanes, &weight) in mixed[(first - low) * 3..].windows(4).step_by(3).zip(weights) {
            for (s, &value) in sum.iter_mut().zip(lanes) {
                *s += weight * value;
            }
        }
        sums[x * 3..x * 3 + 4].copy_from_slice(&sum);
    }
}

/// For every output position, the input positions that contribute and their weights.
struct Taps {
    first: Vec<usize>,
    count: Vec<usize>,
    weights: Vec<f32>,
    widest: usize,
}

impl Taps {
    fn new(length: usize, start: f32, end: f32, outputs: usize) -> Self {
        let step = f64::from(end - start) / outputs as f64;
        let width = step.max(1.0);
        let widest = (2.0 * width).ceil() as usize + 1;
        let mut taps = Taps {
            first: Vec::with_capacity(outputs),
            count: Vec::with_capacity(outputs),
            weights: vec![0.0; outputs * widest],
            widest,
        };
        for i in 0..outputs {
            let centre = f64::from(start) + (i as f64 + 0.5) * step;
            let first = ((centre - width + 0.5).max(0.0) as usize).min(length - 1);
            let last = ((centre + width + 0.5).max(0.0) as usize).min(length);
            let count = last.saturating_sub(first).clamp(1, widest);
            let weight = |k: usize| (1.0 - (((first + k) as f64 - centre + 0.5) / width).abs()).max(0.0);
            let sum: f64 = (0..count).map(weight).sum();
            for k in 0..count {
                let normalised = if sum > 0.0 { weight(k) / sum } else { 1.0 / count as f64 };
                taps.weights[i * widest + k] = normalised as f32;
            }
            taps.first.push(first);
            taps.count.push(count);
        }
        taps
    }

    fn of(&self, i: usize) -> (usize, &[f32]) {
        let start = i * self.widest;
        (self.first[i], &self.weights[start..start + self.count[i]])
    }

    /// The range of all input positions used.
    fn range(&self) -> (usize, usize) {
        let low = self.first.iter().min().copied().unwrap_or(0);
        let ends = self.first.iter().zip(&self.count).map(|(f, c)| f + c);
        (low, ends.max().unwrap_or(1))
    }

    fn reverse(&mut self) {
        self.first.reverse();
        self.count.reverse();
        let outputs = self.first.len();
        for i in 0..outputs / 2 {
            for k in 0..self.widest {
                self.weights.swap(i * self.widest + k, (outputs - 1 - i) * self.widest + k);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resized(image: &Image, source: Xyxy, mirror: Mirror, width: usize, height: usize) -> Vec<u8> {
        let mut out = vec![0; width * height * 3];
        let target = Target { left: 0, top: 0, width, height };
        resize_into(image, source, mirror, &mut out, width, target);
        out
    }

    fn ramp(width: usize, height: usize) -> Image {
        let rgb = (0..width * height).flat_map(|i| [(i % width) as u8 * 5, (i / width) as u8 * 7, 100]).collect();
        Image { width, height, rgb }
    }

    #[test]
    fn same_size_is_the_same_picture() {
        let image = ramp(13, 7);
        assert_eq!(resized(&image, [0.0, 0.0, 13.0, 7.0], Mirror::No, 13, 7), image.rgb);
    }

    #[test]
    fn mirrored_is_the_reverse_of_each_row() {
        let image = ramp(13, 7);
        let mirrored = resized(&image, [0.0, 0.0, 13.0, 7.0], Mirror::Yes, 13, 7);
        for y in 0..7 {
            for x in 0..13 {
                let (a, b) = ((y * 13 + x) * 3, (y * 13 + 12 - x) * 3);
                assert_eq!(mirrored[a..a + 3], image.rgb[b..b + 3]);
            }
        }
    }

    #[test]
    fn pillow_agrees() {
        // Expected red channel from PIL.Image.resize(BILINEAR), Pillow 13.0.0, for this 4×1 picture resized to 2×1, 3×1
        // and 7×1.
        let rgb = [0u8, 200, 40, 250].into_iter().flat_map(|v| [v, 0, 0]).collect();
        let image = Image { width: 4, height: 1, rgb };
        let red = |width| -> Vec<u8> {
            let out = resized(&image, [0.0, 0.0, 4.0, 1.0], Mirror::No, width, 1);
            out.chunks(3).map(|p| p[0]).collect()
        };
        for (width, expected) in PILLOW {
            let got = red(*width);
            let worst = got.iter().zip(*expected).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(worst.unwrap_or(0) <= 1, "{width}: {got:?} against {expected:?}");
        }
    }

    const PILLOW: &[(usize, &[u8])] = &[(2, &[91, 153]), (3, &[60, 120, 187]), (7, &[0, 71, 186, 120, 55, 175, 250])];

    /// Compares with the same sums in plain loops: the result is bitwise equal for every instruction set and number of
    /// weights.
    #[test]
    fn pixels_are_the_plain_sums() {
        use crate::data::random::Random;
        let mut random = Random::new(&[4]);
        let rgb = (0..71 * 53 * 3).map(|_| random.next_u64() as u8).collect();
        let image = Image { width: 71, height: 53, rgb };
        for _ in 0..200 {
            let [x, y] = [random.between(0.0, 60.0), random.between(0.0, 45.0)];
            let source = [x, y, random.between(x + 1.0, 71.0), random.between(y + 1.0, 53.0)];
            let [width, height] = [1 + random.below(90), 1 + random.below(40)];
            let (columns, rows) =
                (Taps::new(71, source[0], source[2], width), Taps::new(53, source[1], source[3], height));
            let pixel = |i: usize| {
                let (x, y, colour) = (i / 3 % width, i / 3 / width, i % 3);
                let ((left, across), (top, down)) = (columns.of(x), rows.of(y));
                let mixed = |column: usize| {
                    let value = |k: usize| f32::from(image.rgb[((top + k) * 71 + column) * 3 + colour]);
                    (1..down.len()).fold(down[0] * value(0), |sum, k| sum + down[k] * value(k))
                };
                across.iter().enumerate().fold(0.5, |sum, (k, weight)| sum + weight * mixed(left + k)) as u8
            };
            let expected: Vec<u8> = (0..width * height * 3).map(pixel).collect();
            assert!(resized(&image, source, Mirror::No, width, height) == expected, "{source:?} to {width} × {height}");
        }
    }

    #[test]
    fn shrinking_keeps_the_mean() {
        let image = ramp(48, 32);
        let mean = |bytes: &[u8]| bytes.iter().map(|&b| f64::from(b)).sum::<f64>() / bytes.len() as f64;
        let small = resized(&image, [0.0, 0.0, 48.0, 32.0], Mirror::No, 6, 4);
        assert!((mean(&small) - mean(&image.rgb)).abs() < 1.0);
    }
}
