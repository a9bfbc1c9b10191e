//! Maps from the pixels of an image to the network's square canvas: a placement that can be inverted ([`Geometry`]) and
//! a projective map of the canvas onto itself ([`Warp`]). Labels use both through [`PixelMap`].

use crate::boxes::{self, Xyxy};

/// A box with less than this share of its area visible is ignored by the loss.
pub const LEAST_VISIBLE: f32 = 0.1;

/// A map of pixels, applied to boxes.
pub trait PixelMap {
    /// The mapped box, including the part that is not visible.
    fn whole(&self, xyxy: &Xyxy) -> Xyxy;

    /// The visible part of the mapped box; its area is zero if nothing is visible.
    fn visible(&self, xyxy: &Xyxy) -> Xyxy;
}

/// The map from pixels of the original image (EXIF orientation applied) to pixels of the network's input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Geometry {
    /// Width and height of the original image.
    pub source: [usize; 2],
    /// Side of the square canvas.
    pub size: usize,
    /// Network pixels per original pixel, in x and y.
    pub scale: [f32; 2],
    /// Position of the original's top-left corner on the canvas, before the flip; negative if it is cropped.
    pub offset: [f32; 2],
    /// Mirrored left to right after scale and offset.
    pub flip: bool,
}

impl Geometry {
    /// The part of the canvas that shows the image, xyxy in network pixels; the rest is padding.
    pub fn window(&self) -> Xyxy {
        let whole = [0.0, 0.0, self.source[0] as f32, self.source[1] as f32];
        boxes::clip(&self.map(&whole), self.size as f32, self.size as f32)
    }

    /// A box in original pixels to network pixels, clipped to what is visible.
    pub fn apply_box(&self, xyxy: &Xyxy) -> Xyxy {
        let [x1, y1, x2, y2] = self.map(xyxy);
        let [left, top, right, bottom] = self.window();
        [x1.clamp(left, right), y1.clamp(top, bottom), x2.clamp(left, right), y2.clamp(top, bottom)]
    }

    /// A box in network pixels to original pixels, clipped to the original image.
    pub fn invert_box(&self, xyxy: &Xyxy) -> Xyxy {
        let [x1, y1, x2, y2] = self.mirror(xyxy);
        let original = [
            (x1 - self.offset[0]) / self.scale[0],
            (y1 - self.offset[1]) / self.scale[1],
            (x2 - self.offset[0]) / self.scale[0],
            (y2 - self.offset[1]) / self.scale[1],
        ];
        boxes::clip(&original, self.source[0] as f32, self.source[1] as f32)
    }

    fn map(&self, [x1, y1, x2, y2]: &Xyxy) -> Xyxy {
        self.mirror(&[
            x1 * self.scale[0] + self.offset[0],
            y1 * self.scale[1] + self.offset[1],
            x2 * self.scale[0] + self.offset[0],
            y2 * self.scale[1] + self.offset[1],
        ])
    }

    fn mirror(&self, &[x1, y1, x2, y2]: &Xyxy) -> Xyxy {
        let size = self.size as f32;
        if self.flip { [size - x2, y1, size - x1, y2] } else { [x1, y1, x2, y2] }
    }
}

impl PixelMap for Geometry {
    fn whole(&self, xyxy: &Xyxy) -> Xyxy {
        self.map(xyxy)
    }

    fn visible(&self, xyxy: &Xyxy) -> Xyxy {
        self.apply_box(xyxy)
    }
}

/// A projective map of the plane, stored as the rows of its matrix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Homography(pub [[f64; 3]; 3]);

impl Homography {
    /// The map that applies `first` and then this one.
    pub fn after(&self, first: &Homography) -> Homography {
        let entry = |r: usize, c: usize| (0..3).map(|k| self.0[r][k] * first.0[k][c]).sum();
        Homography([0, 1, 2].map(|r| [0, 1, 2].map(|c| entry(r, c))))
    }

    /// The image of a point; not finite if the map sends the point to infinity.
    pub fn apply(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        let [u, v, w] = self.0.map(|[a, b, c]| a * x + b * y + c);
        [u / w, v / w]
    }

    /// Computed from cofactors. A projective map does not change when its matrix is scaled, so the division by the
    /// determinant is left out.
    pub fn inverse(&self) -> Homography {
        let m = &self.0;
        let cofactor = |r: usize, c: usize| {
            let [r1, r2, c1, c2] = [(r + 1) % 3, (r + 2) % 3, (c + 1) % 3, (c + 2) % 3];
            m[r1][c1] * m[r2][c2] - m[r1][c2] * m[r2][c1]
        };
        Homography([0, 1, 2].map(|r| [0, 1, 2].map(|c| cofactor(c, r))))
    }

    /// The bounding box of the four mapped corners.
    pub fn bounds(&self, &[x1, y1, x2, y2]: &Xyxy) -> Xyxy {
        let corners = [[x1, y1], [x2, y1], [x1, y2], [x2, y2]].map(|corner| self.apply(corner.map(f64::from)));
        let least = |axis: usize| corners.iter().map(|c| c[axis]).fold(f64::INFINITY, f64::min) as f32;
        let most = |axis: usize| corners.iter().map(|c| c[axis]).fold(f64::NEG_INFINITY, f64::max) as f32;
        [least(0), least(1), most(0), most(1)]
    }
}

/// A projective map of the canvas onto itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Warp {
    /// Maps a pixel of the old canvas to the new one.
    pub map: Homography,
    /// Side of the square canvas.
    pub size: usize,
}

impl PixelMap for Warp {
    fn whole(&self, xyxy: &Xyxy) -> Xyxy {
        self.map.bounds(xyxy)
    }

    fn visible(&self, xyxy: &Xyxy) -> Xyxy {
        boxes::clip(&self.whole(xyxy), self.size as f32, self.size as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(flip: bool) -> Geometry {
        Geometry { source: [200, 100], size: 64, scale: [0.32, 0.32], offset: [0.0, 16.0], flip }
    }

    #[test]
    fn boxes_return_where_they_came_from() {
        for flip in [false, true] {
            let there = geometry(flip).apply_box(&[10.0, 20.0, 150.0, 90.0]);
            let back = geometry(flip).invert_box(&there);
            for (got, expected) in back.iter().zip([10.0, 20.0, 150.0, 90.0]) {
                assert!((got - expected).abs() < 1e-3, "{back:?}");
            }
        }
    }

    #[test]
    fn flip_mirrors_about_the_canvas() {
        let flipped = geometry(true).apply_box(&[0.0, 0.0, 50.0, 100.0]);
        assert_eq!(flipped, [48.0, 16.0, 64.0, 48.0]);
        assert_eq!(geometry(true).window(), [0.0, 16.0, 64.0, 48.0]);
    }
}
