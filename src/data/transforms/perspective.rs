//! A random turn, shift, shear and tilt of the whole canvas, boxes included.

use crate::boxes::{self, Xyxy};
use crate::data::augment::PADDING;
use crate::data::geometry::LEAST_VISIBLE;
use crate::data::random::Random;
use crate::task::{Label, LabelledBox, PartialRegion};

/// The canvas side that `--perspective` is written for.
const TILT_SIDE: f64 = 640.0;

/// A projective map of the plane, rows of its matrix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Homography(pub [[f64; 3]; 3]);

impl Homography {
    fn after(&self, first: &Homography) -> Homography {
        let entry = |r: usize, c: usize| (0..3).map(|k| self.0[r][k] * first.0[k][c]).sum();
        Homography([0, 1, 2].map(|r| [0, 1, 2].map(|c| entry(r, c))))
    }

    fn apply(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        let [u, v, w] = self.0.map(|[a, b, c]| a * x + b * y + c);
        [u / w, v / w]
    }

    /// By cofactors; a factor of the whole matrix changes nothing, so the determinant is left out.
    fn inverse(&self) -> Homography {
        let m = &self.0;
        let cofactor = |r: usize, c: usize| {
            let [r1, r2, c1, c2] = [(r + 1) % 3, (r + 2) % 3, (c + 1) % 3, (c + 2) % 3];
            m[r1][c1] * m[r2][c2] - m[r1][c2] * m[r2][c1]
        };
        Homography([0, 1, 2].map(|r| [0, 1, 2].map(|c| cofactor(c, r))))
    }
}

/// Tilt, then turn, then shear about the canvas's middle, then shift. Angles in degrees, the shift in canvases; each is
/// drawn from ± what is given.
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

/// The picture `before` moved by `map` onto `canvas`, bilinear; what comes from outside is padding.
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
        // Pixel centres lie at half numbers.
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

/// Every box becomes the bounds of its moved corners. One that leaves the canvas is removed; one of which less than a tenth
/// stays becomes `ignore`.
pub fn move_labels(map: &Homography, size: usize, labels: &mut [Label]) {
    for label in labels {
        let Label::Boxes(all) = label else { continue };
        all.list = all.iter().filter_map(|b| move_box(map, size, b)).collect();
        // Bounds, too: where two regions come to overlap, what either leaves out is left out.
        let moved = all.partial.iter().map(|region| {
            let xyxy = boxes::clip(&bounds(map, &region.xyxy), size as f32, size as f32);
            PartialRegion { xyxy, looked_for: region.looked_for.clone() }
        });
        all.partial = moved.filter(|region| boxes::area(&region.xyxy) > 0.0).collect();
    }
}

fn move_box(map: &Homography, size: usize, labelled: &LabelledBox) -> Option<LabelledBox> {
    let whole = bounds(map, &labelled.xyxy);
    let xyxy = boxes::clip(&whole, size as f32, size as f32);
    let visible = boxes::area(&xyxy);
    (visible > 0.0).then_some(LabelledBox {
        class: labelled.class,
        xyxy,
        ignore: labelled.ignore || visible < LEAST_VISIBLE * boxes::area(&whole),
    })
}

pub fn bounds(map: &Homography, &[x1, y1, x2, y2]: &Xyxy) -> Xyxy {
    let corners = [[x1, y1], [x2, y1], [x1, y2], [x2, y2]].map(|corner| map.apply(corner.map(f64::from)));
    let least = |axis: usize| corners.iter().map(|c| c[axis]).fold(f64::INFINITY, f64::min) as f32;
    let most = |axis: usize| corners.iter().map(|c| c[axis]).fold(f64::NEG_INFINITY, f64::max) as f32;
    [least(0), least(1), most(0), most(1)]
}
