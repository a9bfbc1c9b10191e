//! Winograd's minimal filtering for 3×3 kernels with stride 1 and padding 1: F(4×4, 3×3) for fprop and dgrad and F(3×3, 4×4) for
//! wgrad, or F(3×3, 3×3) for all of them if that wastes less work past the edges of the maps. A tile of 4 × 4 outputs takes 36
//! products per pair of channels instead of 144, one of 3 × 3 takes 25 instead of 81. Every product is part of one of 36 or 25
//! plain matrix products `[tiles, C] × [C, K]`, which the register tiles of `device::cpu::gemm` compute.
//!
//! **Error.** To first order the result is off by at most `(C + 30) · u · |Aᵀ|(|G||g||Gᵀ| ⊙ |Bᵀ||d||B|)|A|` summed over channels,
//! u = 2⁻²⁴ (tests check every element against that). On random images behind a ReLU the points 0, ±3/4, ±3/2, ∞ gave 2.1 to 2.4
//! times the error of plain sums in f32 at 64 and 256 channels (6.4e-7 and 1.1e-6 of the norm); the usual points 0, ±1, ±2, ∞
//! gave 4.5 times. Tiles of 3 × 3 gave 1.3 times with ±3/8, ±5/4, ∞.
//!
//! **Memory.** Tiles are processed in batches whose transformed source and products fit in cache together; both are in the
//! workspace. A weight that is not packed in advance is transformed there as well, some panels at a time if one batch has all
//! tiles. In fprop and dgrad the batch size depends on the number of threads, because every element has its own sum. In wgrad,
//! where batches are added up, it depends only on the shape.

mod four;
mod three;
mod tiles;
mod transform;
mod weight;
mod wgrad;

pub(super) use weight::{pack, packed_len};
pub(super) use wgrad::{wgrad, wgrad_workspace};

use super::blocks::{Finishing, Piece, Product, ahead};
use super::geometry::Geometry;
use super::{STATISTICS_ROWS, Weight};
use crate::device::cpu::gemm::{AHEAD, Finish, GatherTile, Kernels};
use crate::device::cpu::{Cpu, SharedMut};
use crate::ops::conv2d::Problem;
use std::ops::Range;
use tiles::{Corner, Planes, Tiling, batch_tiles};
use transform::{FromPlanes, ToPlanes, Transforms};

/// Kernel width.
const KERNEL: usize = 3;
/// The number of values processed at a time: the longest register of any instruction set.
const STRIP: usize = 16;
/// The most values of a transformed tile.
const MAX_PLANES: usize = Side::Four.planes();

/// The size in f32 of the workspace per thread for the transformed source and the products of a batch of tiles. The 4 MB of each
/// of two threads fit well in a desktop's or a server's L3.
const BATCH_LEN: usize = 1024 * 1024;
/// The number of f32 per thread of a weight transformed at a time, so that it is multiplied while it is still in cache.
const WEIGHT_LEN: usize = 1024 * 1024;
/// The workspace is sized for at least this many threads, so that batches do not get small on few threads.
const BATCH_THREADS: usize = 2;
/// The number of tiles that one task transforms.
const TASK_TILES: usize = 4;
/// f32 in a cache line.
const LINE: usize = 16;

/// The number of outputs of a tile along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    Three,
    Four,
}

impl Side {
    const fn outputs(self) -> usize {
        match self {
            Side::Three => 3,
            Side::Four => 4,
        }
    }

    /// The number of values along one axis of a transformed tile.
    const fn points(self) -> usize {
        self.outputs() + KERNEL - 1
    }

    /// The number of values of a transformed tile.
    const fn planes(self) -> usize {
        self.points() * self.points()
    }

    /// The cheapest side for a convolution in all its directions; `None` if a plain convolution is cheaper.
    ///
    /// The cost is counted in products. Minimal filtering needs one per plane, tile and pair of channels, a quarter more for the
    /// transforms, and 16 further tiles for reading the larger weight, with channels rounded up to whole strips. A plain
    /// convolution leaves out the taps that fall in the padding.
    pub fn of(problem: &Problem) -> Option<Side> {
        let Problem { n, h, w, c, k, r, s, stride, padding } = *problem;
        let shape = (r, s, stride, padding) == (KERNEL, KERNEL, 1, 1);
        if !shape || c < 2 * STRIP || k < 2 * STRIP || n * h * w == 0 {
            return None;
        }
        let filled = c.next_multiple_of(STRIP) * k.next_multiple_of(STRIP);
        let filtered = |side: Side| side.planes() * (Tiling::of(side, [n, h, w]).tiles() * 5 / 4 + 16) * filled;
        let taps_inside = n * (KERNEL * h - 2) * (KERNEL * w - 2);
        let plain = (taps_inside + 16 * KERNEL * KERNEL) * c * k;
        let side = if filtered(Side::Three) < filtered(Side::Four) { Side::Three } else { Side::Four };
        (filtered(side) * 10 < plain * 9).then_some(side)
    }
}

/// The sizes of one product.
struct Sizes {
    tiling: Tiling,
    /// The number of tiles of a batch.
    batch: usize,
    source: Planes,
    product: Planes,
    /// The number of panels of the weight, and how many of them are transformed at a time if it is not packed in advance: all of
    /// them if the weight serves several batches.
    panels: usize,
    group: usize,
}

impl Sizes {
    fn of(cpu: &Cpu, side: Side, geometry: &Geometry) -> Sizes {
        let (channels, columns) = (geometry.channels, geometry.columns);
        let tiling = Tiling::of(side, geometry.images());
        let threads = cpu.threads().max(BATCH_THREADS);
        let batch = batch_tiles(tiling.tiles(), side.planes() * (channels + columns), BATCH_LEN * threads);
        let width = Kernels::of(cpu.isa()).columns;
        let panels = columns.div_ceil(width);
        let group = match batch < tiling.tiles() {
            true => panels,
            false => panels.min((WEIGHT_LEN * threads / packed_len(side, channels, width)).max(1)),
        };
        let (source, product) = (Planes::of(side, batch, channels), Planes::of(side, batch, columns));
        Sizes { tiling, batch, source, product, panels, group }
    }
}

/// The length of the workspace of a product: transformed source, products, a row of zeros for the padding, and with a `plain`
/// weight also the transformed weight.
pub(super) fn workspace(cpu: &Cpu, side: Side, geometry: &Geometry, plain: bool) -> usize {
    let sizes = Sizes::of(cpu, side, geometry);
    let weight = packed_len(side, geometry.channels, sizes.group * Kernels::of(cpu.isa()).columns);
    sizes.source.len() + sizes.product.len() + geometry.channels.next_multiple_of(LINE) + if plain { weight } else { 0 }
}

/// Computes a product by minimal filtering.
pub(super) fn product<F: Fn(&Piece) + Sync>(side: Side, product: Product, finishing: Finishing<F>) {
    let Product { cpu, geometry, source, weight, output, workspace } = product;
    let (channels, columns) = (geometry.channels, geometry.columns);
    let sizes = Sizes::of(cpu, side, geometry);
    let (transformed, rest) = workspace.split_at_mut(sizes.source.len());
    let (products, rest) = rest.split_at_mut(sizes.product.len());
    let (zeros, packed) = rest.split_at_mut(channels.next_multiple_of(LINE));
    let zeros = &mut zeros[..channels];
    zeros.fill(0.0);
    let step = Step {
        cpu,
        kernels: Kernels::of(cpu.isa()),
        transforms: Transforms::of(cpu.isa(), side),
        sizes: &sizes,
        channels,
        columns,
        transformed: SharedMut::new(transformed),
        products: SharedMut::new(products),
    };
    let output = SharedMut::new(output);
    let (tiles, rows) = (sizes.tiling.tiles(), geometry.rows());
    let mut finished = 0;
    for start in (0..tiles).step_by(sizes.batch) {
        let batch = start..tiles.min(start + sizes.batch);
        step.transform(source, zeros, batch.clone());
        match weight {
            Weight::Packed(packed) => step.multiply(packed, 0..sizes.panels, batch.len()),
            Weight::Plain(weight) => {
                for first in (0..sizes.panels).step_by(sizes.group) {
                    let panels = first..sizes.panels.min(first + sizes.group);
                    if start == 0 {
                        pack(cpu, side, geometry, weight, panels.clone(), packed);
                    }
                    step.multiply(packed, panels, batch.len());
                }
            }
        }
        step.write(&output, batch.clone(), &finishing);
        let Finishing::Pieces { finish, .. } = &finishing else { continue };
        // Finishes the blocks of statistics that this batch completed, while they are still in cache.
        let written = if batch.end == tiles { rows } else { sizes.tiling.rows_before(batch.end) };
        let blocks = finished..if written == rows { rows.div_ceil(STATISTICS_ROWS) } else { written / STATISTICS_ROWS };
        finished = blocks.end;
        finish_blocks(cpu, blocks, geometry, &output, finish);
    }
}

/// Calls `finish` on every panel of these blocks of rows.
fn finish_blocks(
    cpu: &Cpu,
    blocks: Range<usize>,
    geometry: &Geometry,
    output: &SharedMut<f32>,
    finish: &(impl Fn(&Piece) + Sync),
) {
    let width = Kernels::of(cpu.isa()).columns;
    let panels = geometry.columns.div_ceil(width);
    cpu.parallel(
        blocks.len(),
        #[inline(always)]
        |index| {
            let block = blocks.start + index;
            let rows = block * STATISTICS_ROWS..geometry.rows().min((block + 1) * STATISTICS_ROWS);
            for panel in 0..panels {
                let columns = panel * width..geometry.columns.min((panel + 1) * width);
                finish(&Piece::new(block, rows.clone(), columns, output, geometry.columns));
            }
        },
    );
}

/// The data that the three stages of a batch share.
struct Step<'a> {
    cpu: &'a Cpu,
    kernels: &'static Kernels,
    transforms: &'static Transforms,
    sizes: &'a Sizes,
    channels: usize,
    columns: usize,
    transformed: SharedMut<'a, f32>,
    products: SharedMut<'a, f32>,
}

impl Step<'_> {
    /// Computes Bᵀ d B of every tile's pixels.
    fn transform(&self, source: &[f32], zeros: &[f32], tiles: Range<usize>) {
        transform_source(self.cpu, &self.sizes.tiling, source, zeros, tiles, self.sizes.source, &self.transformed);
    }

    /// For each point, multiplies the transformed source by these panels of the transformed weight, with which `packed` begins.
    fn multiply(&self, packed: &[f32], panels: Range<usize>, tiles: usize) {
        let planes = self.sizes.source.count;
        let groups = (4 * self.cpu.threads()).div_ceil(planes).min(panels.len());
        let panel_len = self.channels * self.kernels.columns;
        self.cpu.parallel(
            planes * groups,
            #[inline(always)]
            |task| {
                let (point, group) = (task / groups, task % groups);
                for index in group * panels.len() / groups..(group + 1) * panels.len() / groups {
                    let weight = &packed[(point * panels.len() + index) * panel_len..][..panel_len];
                    self.panel(weight, tiles, point, panels.start + index);
                }
            },
        );
    }

    fn panel(&self, weight: &[f32], tiles: usize, point: usize, panel: usize) {
        let (kernels, from, to) = (self.kernels, self.sizes.source, self.sizes.product);
        let count = kernels.tiles(tiles);
        let first = panel * kernels.columns;
        let columns = kernels.columns.min(self.columns - first);
        // The range is checked as a whole; rows after the last are only prefetched.
        let start = point * from.plane;
        let rows_from = self.transformed.pointer(start..start + (tiles - 1) * from.pitch + self.channels).cast_const();
        let start = point * to.plane + first;
        let rows_to = self.products.pointer(start..start + (tiles - 1) * to.pitch + columns);
        for index in 0..count {
            let (ahead, ahead_step) = ahead(weight, kernels.columns, index, count);
            let rows = kernels.tile(tiles, index);
            let pointers: [*const f32; 2 * AHEAD] =
                std::array::from_fn(|i| rows_from.wrapping_add((rows.start + i) * from.pitch));
            let next = pointers[rows.len()..].first_chunk();
            let outputs: [*mut f32; AHEAD] = std::array::from_fn(|i| rows_to.wrapping_add((rows.start + i) * to.pitch));
            let tile = GatherTile {
                pointers: &pointers[..rows.len()],
                taps: &[0],
                panel: weight.as_ptr(),
                depth: self.channels,
                outputs: &outputs,
                next: next.unwrap_or_else(|| unreachable!("a tile has at most AHEAD rows")),
                next_offset: 0,
                columns,
                ahead,
                ahead_step,
                origin: rows_to,
                finish: Finish::NOTHING,
            };
            // SAFETY: the kernels are those of the CPU's instruction set; every pointer was taken from a range of `channels`
            // values or of the panel's columns, which no other task touches.
            unsafe { kernels.gather(rows.len(), &tile) };
        }
    }

    /// Computes Aᵀ m A of every tile's products, applies `finish`, and writes the pixels that exist.
    fn write<F: Sync>(&self, output: &SharedMut<f32>, tiles: Range<usize>, finishing: &Finishing<F>) {
        let tiling = &self.sizes.tiling;
        let outputs = tiling.side.outputs();
        self.cpu.parallel(
            tiles.len().div_ceil(TASK_TILES),
            #[inline(always)]
            |task| {
                let first = tiles.start + task * TASK_TILES;
                let last = tiles.end.min(first + TASK_TILES) - 1;
                let product = &self.sizes.product;
                let row = |tile: usize| product.row(&self.products, tile - tiles.start).cast_const();
                let (finish, origin) = (finishing.in_registers(0), output.pointer(0..0).cast_const());
                let mut from = row(first);
                for tile in first..=last {
                    let next = row(last.min(tile + 1));
                    let Corner { image, y, x } = tiling.corner(tile);
                    let place = [image as isize, y as isize, x as isize];
                    let at = |start: usize| output.pointer(start..start + self.columns);
                    let to = tiling.pixels(place, outputs, self.columns, std::ptr::null_mut(), at);
                    let job = FromPlanes {
                        from,
                        plane: product.plane,
                        next,
                        to: &to[..outputs * outputs],
                        len: self.columns,
                        finish,
                        origin,
                    };
                    // SAFETY: the transforms are those of the CPU's instruction set; pixels of a tile belong to this task.
                    unsafe { (self.transforms.output)(&job) };
                    from = next;
                }
            },
        );
    }
}

/// Writes Bᵀ d B of the pixels around every tile to row `tile − tiles.start` of each plane.
fn transform_source(
    cpu: &Cpu,
    tiling: &Tiling,
    source: &[f32],
    zeros: &[f32],
    tiles: Range<usize>,
    planes: Planes,
    transformed: &SharedMut<f32>,
) {
    let (points, count) = (tiling.side.points(), tiling.side.planes());
    let (transforms, channels) = (Transforms::of(cpu.isa(), tiling.side), zeros.len());
    cpu.parallel(
        tiles.len().div_ceil(TASK_TILES),
        #[inline(always)]
        |task| {
            let first = tiles.start + task * TASK_TILES;
            let last = tiles.end.min(first + TASK_TILES) - 1;
            let pixels = |tile: usize| {
                let Corner { image, y, x } = tiling.corner(tile);
                let place = [image as isize, y as isize - 1, x as isize - 1];
                let at = |start: usize| source[start..start + channels].as_ptr();
                tiling.pixels(place, points, channels, zeros.as_ptr(), at)
            };
            let mut from = pixels(first);
            for tile in first..=last {
                // The next task starts with the tile after this one's last.
                let next = pixels((tiles.end - 1).min(tile + 1));
                let to = planes.row(transformed, tile - tiles.start);
                let job =
                    ToPlanes { from: &from[..count], next: &next[..count], to, plane: planes.plane, len: channels };
                // SAFETY: the transforms are those of the CPU's instruction set; every pixel, and the zeros, hold all
                // channels, and a tile's rows of the planes belong to this task.
                unsafe { (transforms.source)(&job) };
                from = next;
            }
        },
    );
}
