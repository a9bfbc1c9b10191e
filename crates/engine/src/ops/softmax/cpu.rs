//! The exponentials shared by the losses' softmax and by prediction.

/// Writes exp(x − maximum) to y; returns the maximum and the sum.
#[inline(always)]
pub(crate) fn exponentials(x: &[f32], y: &mut [f32]) -> (f32, f64) {
    const LANES: usize = 16;
    let mut maxima = [f32::NEG_INFINITY; LANES];
    let (lanes, rest) = x.as_chunks::<LANES>();
    let rest = rest.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for x in lanes {
        for lane in 0..LANES {
            maxima[lane] = if x[lane] > maxima[lane] { x[lane] } else { maxima[lane] };
        }
    }
    let maximum = maxima.into_iter().fold(rest, f32::max);
    for (y, x) in y.iter_mut().zip(x) {
        *y = exp_nonpositive(x - maximum);
    }
    let mut sums = [0.0f64; LANES];
    let (lanes, rest) = y.as_chunks::<LANES>();
    let rest: f64 = rest.iter().map(|&y| f64::from(y)).sum();
    for y in lanes {
        for lane in 0..LANES {
            sums[lane] += f64::from(y[lane]);
        }
    }
    (maximum, rest + sums.iter().sum::<f64>())
}

/// exp(x) for x ≤ 0, accurate to two units in the last place; 0 below the smallest normal number. It has no branch and no call,
/// so that loops around it vectorise. NaN stays NaN.
///
/// Source: Cephes' expf: x = k·ln 2 + r, a polynomial in r, and k is added to the exponent.
#[inline(always)]
pub(crate) fn exp_nonpositive(x: f32) -> f32 {
    // Adding 1.5·2²³ rounds to an integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let k = rounded - ROUND;
    let r = (x - k * LN2_HIGH) - k * LN2_LOW;
    let p = 1.987_569_2e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let p = p * (r * r) + r + 1.0;
    let power = f32::from_bits(rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23);
    if x < -87.0 { 0.0 } else { p * power }
}
