//! Images cut into tiles, and matrices of one value a tile.

use super::{LINE, MAX_PLANES, STRIP, Side, TASK_TILES};
use crate::device::cpu::SharedMut;

/// Images cut into tiles; the last of a row or column may hang over.
#[derive(Clone, Copy)]
pub(super) struct Tiling {
    pub side: Side,
    images: usize,
    height: usize,
    width: usize,
    down: usize,
    across: usize,
}

/// A tile's place.
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

    /// Rows of the written matrix `[images · height · width, …]` that are whole once the first `tiles` tiles are.
    pub fn rows_before(&self, tiles: usize) -> usize {
        let Corner { image, y, .. } = self.corner(tiles);
        (image * self.height + y.min(self.height)) * self.width
    }

    /// The first `n × n` are the pixels from `(y, x)` of an image by their offsets in a matrix of `columns`, outside it `outside`.
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

/// `[planes, rows, pitch]`: one matrix per point, laid out so that neither rows nor planes meet in one set of L1.
#[derive(Clone, Copy)]
pub(super) struct Planes {
    pub count: usize,
    pub pitch: usize,
    pub plane: usize,
}

impl Planes {
    /// Whole strips of columns, so that rows begin on a line.
    pub fn of(side: Side, rows: usize, columns: usize) -> Planes {
        let pitch = columns.next_multiple_of(STRIP) + LINE;
        Planes { count: side.planes(), pitch, plane: ((rows * pitch).div_ceil(LINE) | 1) * LINE }
    }

    pub fn len(&self) -> usize {
        self.count * self.plane
    }

    /// Where a row of the first plane begins; that of the last was checked to lie inside as well.
    pub fn row(&self, values: &SharedMut<f32>, row: usize) -> *mut f32 {
        let start = row * self.pitch;
        values.pointer(start..start + (self.count - 1) * self.plane + self.pitch - LINE)
    }
}

/// The number of tiles in a batch, where a tile takes `tile_len` f32.
pub(super) fn batch_tiles(tiles: usize, tile_len: usize, budget: usize) -> usize {
    let most = (budget / tile_len.max(1)).max(4 * TASK_TILES);
    tiles.div_ceil(tiles.div_ceil(most).max(1))
}
