//! The inverse discrete cosine transform in integers (stb_image's, 12 bits). The numbers equal those of the general
//! decoder.

use std::num::Wrapping;

/// Transforms `coefficients` (natural order, dequantised) and writes the block at index `at` of a plane with rows of
/// length `stride`.
#[inline(always)]
pub fn block(coefficients: &[i32; 64], plane: &mut [u8], at: usize, stride: usize) {
    let mut values = [0i32; 64];
    pass::<10>(coefficients, &mut values, 512);
    let values = transposed(&values);
    let mut columns = [0i32; 64];
    pass::<17>(&values, &mut columns, 512 + 65536 + (128 << 17));
    let mut samples = [0u8; 64];
    for (sample, value) in samples.iter_mut().zip(&columns) {
        *sample = (*value).clamp(0, 255) as u8;
    }
    let samples = transposed(&samples);
    for (row, eight) in plane[at..at + 7 * stride + 8].chunks_mut(stride).zip(samples.chunks_exact(8)) {
        row[..8].copy_from_slice(eight);
    }
}

/// Writes a block that consists of its mean only.
#[inline(always)]
pub fn flat(dc: i32, plane: &mut [u8], at: usize, stride: usize) {
    let value = (dc.wrapping_add(4 + 1024) >> 3).clamp(0, 255) as u8;
    for row in plane[at..at + 7 * stride + 8].chunks_mut(stride) {
        row[..8].fill(value);
    }
}

/// Transposes the block. Each of three rounds interleaves the first half with the second, which compilers turn into
/// shuffles.
#[inline(always)]
fn transposed<T: Copy + Default>(from: &[T; 64]) -> [T; 64] {
    interleaved(&interleaved(&interleaved(from)))
}

#[inline(always)]
fn interleaved<T: Copy + Default>(from: &[T; 64]) -> [T; 64] {
    let mut to = [T::default(); 64];
    for n in 0..32 {
        to[2 * n] = from[n];
        to[2 * n + 1] = from[n + 32];
    }
    to
}

/// Eight one-dimensional transforms in parallel; each reads and writes one column. Overflow wraps and only occurs with
/// damaged data.
#[inline(always)]
fn pass<const SHIFT: usize>(from: &[i32; 64], to: &mut [i32; 64], rounding: i32) {
    const fn w(value: i32) -> Wrapping<i32> {
        Wrapping(value)
    }
    for c in 0..8 {
        let at = |row: usize| w(from[row * 8 + c]);
        let p1 = (at(2) + at(6)) * w(2217);
        let (t2, t3) = (p1 + at(6) * w(-7567), p1 + at(2) * w(3135));
        let (t0, t1) = ((at(0) + at(4)) << 12, (at(0) - at(4)) << 12);
        let (x0, x3) = (t0 + t3 + w(rounding), t0 - t3 + w(rounding));
        let (x1, x2) = (t1 + t2 + w(rounding), t1 - t2 + w(rounding));
        let (p3, p4) = (at(7) + at(3), at(5) + at(1));
        let (p1, p2) = (at(7) + at(1), at(5) + at(3));
        let p5 = (p3 + p4) * w(4816);
        let (p1, p2) = (p5 + p1 * w(-3685), p5 + p2 * w(-10497));
        let (p3, p4) = (p3 * w(-8034), p4 * w(-1597));
        let t3 = at(1) * w(6149) + p1 + p4;
        let t2 = at(3) * w(12586) + p2 + p3;
        let t1 = at(5) * w(8410) + p2 + p4;
        let t0 = at(7) * w(1223) + p1 + p3;
        let rows = [x0 + t3, x1 + t2, x2 + t1, x3 + t0, x3 - t0, x2 - t1, x1 - t2, x0 - t3];
        for (row, value) in rows.into_iter().enumerate() {
            to[row * 8 + c] = (value >> SHIFT).0;
        }
    }
}
