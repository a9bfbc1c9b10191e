//! A convolution and its gradients by definition, for selected elements of the result. All numbers are −1, 0 or 1, so that 64
//! products are a few bit operations, and every sum is exact.

use super::board::{Board, Buffer};
use polyhead::ops::conv2d::Problem;
use std::ops::Range;

/// Rows of numbers −1, 0 or 1, as one bit for non-zero and another for negative.
struct Planes {
    words: usize,
    used: Vec<u64>,
    negative: Vec<u64>,
}

impl Planes {
    /// All zero.
    fn new(rows: usize, columns: usize) -> Planes {
        let words = columns.div_ceil(64);
        Planes { words, used: vec![0; rows * words], negative: vec![0; rows * words] }
    }

    fn set(&mut self, row: usize, column: usize, value: f32) {
        let (word, bit) = (row * self.words + column / 64, 1 << (column % 64));
        if value != 0.0 {
            assert!(value.abs() == 1.0, "inputs are −1, 0 or 1, not {value}");
            self.used[word] |= bit;
        }
        if value < 0.0 {
            self.negative[word] |= bit;
        }
    }

    fn row(&self, row: usize) -> (&[u64], &[u64]) {
        let words = row * self.words..(row + 1) * self.words;
        (&self.used[words.clone()], &self.negative[words])
    }
}

/// Inner products of every row of `a` with every row of `b`.
fn products(a: &Planes, a_rows: usize, b: &Planes, b_rows: usize) -> Vec<i32> {
    let mut sums = Vec::with_capacity(a_rows * b_rows);
    for i in 0..a_rows {
        let (a_used, a_negative) = a.row(i);
        for j in 0..b_rows {
            let (b_used, b_negative) = b.row(j);
            let (mut used, mut negative) = (0, 0);
            for word in 0..a.words {
                let both = a_used[word] & b_used[word];
                used += both.count_ones() as i32;
                negative += (both & (a_negative[word] ^ b_negative[word])).count_ones() as i32;
            }
            sums.push(used - 2 * negative);
        }
    }
    sums
}

/// The row of x that output row `row` reads at a tap, unless it is padding.
fn source(p: &Problem, row: usize, tap: usize) -> Option<usize> {
    let (n, y, x) = (row / p.q() / p.p(), row / p.q() % p.p(), row % p.q());
    let h = (y * p.stride + tap / p.s).checked_sub(p.padding).filter(|&h| h < p.h)?;
    let w = (x * p.stride + tap % p.s).checked_sub(p.padding).filter(|&w| w < p.w)?;
    Some((n * p.h + h) * p.w + w)
}

/// The row of dy whose output reads pixel `[n, h, w]` at a tap, if there is one.
fn target(p: &Problem, [n, h, w]: [usize; 3], tap: usize) -> Option<usize> {
    let along = |at: usize, tap: usize, count: usize| {
        let up = (at + p.padding).checked_sub(tap)?;
        (up.is_multiple_of(p.stride) && up / p.stride < count).then_some(up / p.stride)
    };
    Some((n * p.p() + along(h, tap / p.s, p.p())?) * p.q() + along(w, tap % p.s, p.q())?)
}

/// y `[rows, columns]`.
pub fn fprop_sums(
    board: &Board,
    p: &Problem,
    [x, weight]: [Buffer; 2],
    rows: &[usize],
    columns: Range<usize>,
) -> Vec<i32> {
    let depth = p.taps() * p.c;
    let (mut patches, mut weights) = (Planes::new(rows.len(), depth), Planes::new(columns.len(), depth));
    for (i, &row) in rows.iter().enumerate() {
        for tap in 0..p.taps() {
            let Some(source) = source(p, row, tap) else { continue };
            for (c, value) in board.read(x, source * p.c, p.c).into_iter().enumerate() {
                patches.set(i, tap * p.c + c, value);
            }
        }
    }
    for (i, k) in columns.clone().enumerate() {
        for (at, value) in board.read(weight, k * depth, depth).into_iter().enumerate() {
            weights.set(i, at, value);
        }
    }
    products(&patches, rows.len(), &weights, columns.len())
}

/// dx `[pixels, columns]`.
pub fn dgrad_sums(
    board: &Board,
    p: &Problem,
    [dy, weight]: [Buffer; 2],
    pixels: &[[usize; 3]],
    columns: Range<usize>,
) -> Vec<i32> {
    let depth = p.taps() * p.k;
    let (mut met, mut weights) = (Planes::new(pixels.len(), depth), Planes::new(columns.len(), depth));
    for (i, &pixel) in pixels.iter().enumerate() {
        for tap in 0..p.taps() {
            let Some(target) = target(p, pixel, tap) else { continue };
            for (k, value) in board.read(dy, target * p.k, p.k).into_iter().enumerate() {
                met.set(i, tap * p.k + k, value);
            }
        }
    }
    for (k, tap) in (0..p.k).flat_map(|k| (0..p.taps()).map(move |tap| (k, tap))) {
        let line = board.read(weight, (k * p.taps() + tap) * p.c + columns.start, columns.len());
        for (i, value) in line.into_iter().enumerate() {
            weights.set(i, tap * p.k + k, value);
        }
    }
    products(&met, pixels.len(), &weights, columns.len())
}

/// The contribution of `rows` of the output to the weight gradient `[ks, columns]`, where columns count taps and
/// channels.
pub fn wgrad_sums(
    board: &Board,
    p: &Problem,
    [dy, x]: [Buffer; 2],
    rows: Range<usize>,
    ks: Range<usize>,
    columns: Range<usize>,
) -> Vec<i32> {
    let (mut outputs, mut patches) = (Planes::new(ks.len(), rows.len()), Planes::new(columns.len(), rows.len()));
    for (at, row) in rows.clone().enumerate() {
        for (i, value) in board.read(dy, row * p.k + ks.start, ks.len()).into_iter().enumerate() {
            outputs.set(i, at, value);
        }
        for tap in columns.start / p.c..columns.end.div_ceil(p.c) {
            let Some(source) = source(p, row, tap) else { continue };
            let (first, end) = (columns.start.max(tap * p.c), columns.end.min((tap + 1) * p.c));
            let line = board.read(x, source * p.c + first - tap * p.c, end - first);
            for (i, value) in line.into_iter().enumerate() {
                patches.set(first - columns.start + i, at, value);
            }
        }
    }
    products(&outputs, ks.len(), &patches, columns.len())
}
