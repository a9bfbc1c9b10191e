//! A random rotation, shift, shear and tilt of the whole canvas.

use super::framing::PADDING;
use crate::data::random::Random;
use crate::geometry::{Homography, Warp};
use crate::tasks::Label;

/// The side of the canvas to which the values of `--perspective` refer.
const TILT_SIDE: f64 = 640.0;

/// Tilts, rotates and shears about the canvas's centre, then shifts. Angles are in degrees, the shift is relative to
/// the canvas; each value is drawn from ± its argument.
pub fn random(degrees: f32, translate: f32, shear: f32, tilt: f32, size: usize, random: &mut Random) -> Homography {
    let mut draw = |strength: f32| f64::from(random.between(-strength, strength));
    let side = size as f64;
    let tilts = [draw(tilt), draw(tilt)].map(|t| t * TILT_SIDE / side);
    let turn = draw(degrees).to_radians();
    let shears = [draw(shear), draw(shear)].map(|s| s.to_radians().tan());
    let shifts = [draw(translate), draw(translate)].map(|t| t * side);
    let middle = side / 2.0;
    let centred = Homography([[1.0, 0.0, -middle], [0.0, 1.0, -middle], [0.0, 0.0, 1.0]]);
    let tilted = Homography([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [tilts[0], tilts[1], 1.0]]);
    let (sin, cos) = turn.sin_cos();
    let turned = Homography([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]]);
    let sheared = Homography([[1.0, shears[0], 0.0], [shears[1], 1.0, 0.0], [0.0, 0.0, 1.0]]);
    let back = Homography([[1.0, 0.0, middle + shifts[0]], [0.0, 1.0, middle + shifts[1]], [0.0, 0.0, 1.0]]);
    back.after(&sheared).after(&turned).after(&tilted).after(&centred)
}

/// Draws the picture `before` moved by `map` onto `canvas`, with bilinear sampling; areas from outside are filled with
/// padding.
///
/// Shapes: both `[size, size, 3]`.
pub fn warp(map: &Homography, before: &[u8], size: usize, canvas: &mut [u8]) {
    let inverse = map.inverse();
    let pixel = |x: i64, y: i64| -> [f32; 3] {
        let inside = (0..size as i64).contains(&x) && (0..size as i64).contains(&y);
        let at = (y as usize).wrapping_mul(size).wrapping_add(x as usize).wrapping_mul(3);
        if inside { [before[at], before[at + 1], before[at + 2]].map(f32::from) } else { [f32::from(PADDING); 3] }
    };
    for (i, out) in canvas.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        // Pixel centres have half-integer coordinates.
        let [x, y] = inverse.apply([(i % size) as f64 + 0.5, (i / size) as f64 + 0.5]).map(|v| v - 0.5);
        let outside = |v: f64| !(-1.0..size as f64).contains(&v);
        if outside(x) || outside(y) {
            out.fill(PADDING);
            continue;
        }
        let (left, top) = (x.floor(), y.floor());
        let (right_part, lower_part) = ((x - left) as f32, (y - top) as f32);
        let (left, top) = (left as i64, top as i64);
        let [a, b, c, d] = [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(dx, dy)| pixel(left + dx, top + dy));
        for channel in 0..3 {
            let upper = a[channel] + right_part * (b[channel] - a[channel]);
            let lower = c[channel] + right_part * (d[channel] - c[channel]);
            out[channel] = (upper + lower_part * (lower - upper) + 0.5) as u8;
        }
    }
}

/// Moves every label of an image with its canvas.
pub fn move_labels(map: &Homography, size: usize, labels: &mut [Label]) {
    let warp = Warp { map: *map, size };
    labels.iter_mut().for_each(|label| *label = label.moved(&warp));
}
