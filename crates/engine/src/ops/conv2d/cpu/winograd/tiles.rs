//! Images split into tiles, and matrices with one row per tile.

use super::{LINE, MAX_PLANES, STRIP, Side, TASK_TILES};
use crate::device::cpu::SharedMut;

/// The split of images into tiles; the last tile of a row or column may extend past the edge.
#[derive(Clone, Copy)]
pub(super) struct Tiling {
    pub side: Side,
    images: usize,
    height: usize,
    width: usize,
    down: usize,
    across: usize,
}

/// The position of a tile.
#[derive(Clone, Copy)]
pub(super) struct Corner {
    pub image: usize,
    pub y: usize,
    pub x: usize,
}

impl Tiling {
    pub fn of(side: Side, [images, height, width]: [usize; 3]) -> Tiling {
        let across = |pixels: usize| pixels.div_ceil(side.outputs());
        Tiling { side, images, height, width, down: across(height), across: across(width) }
    }

    pub fn tiles(&self) -> usize {
        self.images * self.down * self.across
    }

    pub fn corner(&self, tile: usize) -> Corner {
        let (image, within) = (tile / (self.down * self.across), tile % (self.down * self.across));
        let outputs = self.side.outputs();
        Corner { image, y: within / self.across * outputs, x: within % self.across * outputs }
    }

    /// The number of rows of the written matrix `[images · height · width, …]` that are complete after the first `tiles` tiles.
    pub fn rows_before(&self, tiles: usize) -> usize {
        let Corner { image, y, .. } = self.corner(tiles);
        (image * self.height + y.min(self.height)) * self.width
    }

    /// The first `n × n` entries are the pixels from `(y, x)` of an image, given their offsets in a matrix with `columns`
    /// columns; pixels outside the image are `outside`.
    pub fn pixels<T: Copy>(
        &self,
        [image, y, x]: [isize; 3],
        n: usize,
        columns: usize,
        outside: T,
        at: impl Fn(usize) -> T,
    ) -> [T; MAX_PLANES] {
        let mut pixels = [outside; MAX_PLANES];
        let image = image * self.height as isize;
        for (y, row) in (y..).zip(pixels.chunks_exact_mut(n).take(n)) {
            if !(0..self.height as isize).contains(&y) {
                continue;
            }
            for (x, pixel) in (x..).zip(row) {
                if (0..self.width as isize).contains(&x) {
                    *pixel = at(((image + y) * self.width as isize + x) as usize * columns);
                }
            }
        }
        pixels
    }
}

/// `[planes, rows, pitch]`: one matrix per point. The layout keeps rows and planes from falling into the same set of L1.
#[derive(Clone, Copy)]
pub(super) struct Planes {
    pub count: usize,
    pub pitch: usize,
    pub plane: usize,
}

impl Planes {
    /// Rounds columns up to whole strips, so that rows begin on a cache line.
    pub fn of(side: Side, rows: usize, columns: usize) -> Planes {
        let pitch = columns.next_multiple_of(STRIP) + LINE;
        Planes { count: side.planes(), pitch, plane: ((rows * pitch).div_ceil(LINE) | 1) * LINE }
    }

    pub fn len(&self) -> usize {
        self.count * self.plane
    }

    /// The start of a row of the first plane; the row is also checked to lie inside the last plane.
    pub fn row(&self, values: &SharedMut<f32>, row: usize) -> *mut f32 {
        let start = row * self.pitch;
        values.pointer(start..start + (self.count - 1) * self.plane + self.pitch - LINE)
    }
}

/// The number of tiles in a batch, if a tile needs `tile_len` f32.
pub(super) fn batch_tiles(tiles: usize, tile_len: usize, budget: usize) -> usize {
    let most = (budget / tile_len.max(1)).max(4 * TASK_TILES);
    tiles.div_ceil(tiles.div_ceil(most).max(1))
}
