//! The product that fprop and dgrad share. The written matrix is split into blocks of at most [`STATISTICS_ROWS`] pixels, and
//! these into register tiles, each with a table of the source pixels that its pixels read for every tap. Almost no activation is
//! copied: pixels in the padding point to a row of zeros, and a tap that is padding for a whole tile is left out.

use super::geometry::{Geometry, Pixel};
use super::pack::{pack, packed_len};
use super::{STATISTICS_ROWS, Weight, winograd};
use crate::device::cpu::gemm::{AHEAD, Finish, GatherTile, Kernels};
use crate::device::cpu::simd::{Prefetch, prefetch};
use crate::device::cpu::{Cpu, SharedMut};
use std::cell::RefCell;
use std::ops::Range;

/// f32 in a cache line.
const LINE: usize = 16;
/// The gap between copied rows.
const COPY_GAP: usize = 16;

/// One register tile of a block, as ranges of the plan's lists.
struct Tile {
    pixels: Range<usize>,
    taps: Range<usize>,
    pointers: Range<usize>,
}

/// The tiles of one block of pixels and their tables. Each thread keeps one and reuses it.
#[derive(Default)]
pub(super) struct Plan {
    tiles: Vec<Tile>,
    pixels: Vec<Pixel>,
    /// The block's pixels ordered by class.
    ordered: Vec<Pixel>,
    taps: Vec<u32>,
    pointers: Vec<*const f32>,
    zeros: Vec<f32>,
    /// Copied values: kernel rows that cross the image's edge, padded with zeros, and pixels that would all fall into one set of
    /// L1.
    runs: Vec<f32>,
}

thread_local! {
    static PLAN: RefCell<Plan> = RefCell::default();
}

impl Plan {
    /// Calls `f` with this thread's plan.
    #[inline(always)]
    pub fn with<R>(f: impl FnOnce(&mut Plan) -> R) -> R {
        PLAN.with_borrow_mut(f)
    }

    /// Fills the plan for the pixels `rows` of the written matrix, with tiles of at most `tile_rows`.
    pub fn fill(&mut self, geometry: &Geometry, source: &[f32], rows: Range<usize>, tile_rows: usize) {
        self.tiles.clear();
        self.taps.clear();
        self.pointers.clear();
        self.runs.clear();
        // Reserves room for all possible copies, because growth would invalidate pointers into `runs`.
        self.runs.reserve(match geometry.taps() {
            taps if geometry.copies() => rows.len() * taps * (geometry.channels + COPY_GAP),
            taps if geometry.merged => rows.len() * taps * geometry.depth(),
            _ => 0,
        });
        if self.zeros.len() < geometry.depth() {
            self.zeros.resize(geometry.depth(), 0.0);
        }
        self.place(geometry, rows);
        let mut start = 0;
        while start < self.ordered.len() {
            let class = self.ordered[start].class;
            let rest = &self.ordered[start..];
            let len = rest.iter().position(|p| p.class != class).unwrap_or(rest.len());
            let tiles = len.div_ceil(tile_rows);
            for tile in 0..tiles {
                let pixels = start + tile * len / tiles..start + (tile + 1) * len / tiles;
                self.push_tile(geometry, source, pixels);
            }
            start += len;
        }
        self.pointers.extend([self.zeros.as_ptr(); AHEAD]);
    }

    /// Lists the pixels of the block, by class.
    fn place(&mut self, geometry: &Geometry, rows: Range<usize>) {
        geometry.pixels(rows, &mut self.pixels);
        geometry.merge_classes(&mut self.pixels);
        self.ordered.clear();
        let first = self.pixels.first().map_or(0, |pixel| pixel.class);
        if self.pixels.iter().all(|pixel| pixel.class == first) {
            return self.ordered.extend_from_slice(&self.pixels);
        }
        for class in 0..geometry.classes() {
            self.ordered.extend(self.pixels.iter().filter(|pixel| pixel.class == class));
        }
    }

    fn push_tile(&mut self, geometry: &Geometry, source: &[f32], pixels: Range<usize>) {
        let (taps, pointers) = (self.taps.len(), self.pointers.len());
        if geometry.merged {
            self.push_runs(geometry, source, pixels.clone());
        } else {
            self.push_taps(geometry, source, pixels.clone());
        }
        if geometry.copies() {
            self.copy_rows(geometry.channels, pointers);
        }
        self.tiles.push(Tile { pixels, taps: taps..self.taps.len(), pointers: pointers..self.pointers.len() });
    }

    fn push_taps(&mut self, geometry: &Geometry, source: &[f32], pixels: Range<usize>) {
        let pixels = &self.ordered[pixels];
        let (height, width) = (geometry.source_height as isize, geometry.source_width as isize);
        let class = pixels.first().map_or(0, |pixel| pixel.class);
        for (tap, down, right) in geometry.class_taps(class) {
            let step = (down * width + right) * geometry.channels as isize;
            let start = self.pointers.len();
            let mut inside = 0;
            self.pointers.extend(pixels.iter().map(|pixel| {
                let (y, x) = (pixel.y + down, pixel.x + right);
                let within = (0..height).contains(&y) & (0..width).contains(&x);
                inside += usize::from(within);
                match within {
                    true => source.as_ptr().wrapping_offset(pixel.offset + step),
                    false => self.zeros.as_ptr(),
                }
            }));
            if inside == 0 {
                self.pointers.truncate(start);
            } else {
                self.taps.push(tap as u32);
            }
        }
    }

    /// Replaces the rows of the table from `start` on by contiguous copies.
    fn copy_rows(&mut self, channels: usize, start: usize) {
        for pointer in &mut self.pointers[start..] {
            // SAFETY: each pointer of a table is readable for a pixel's channels.
            let row = unsafe { std::slice::from_raw_parts(*pointer, channels) };
            let begin = self.runs.len();
            self.runs.extend_from_slice(row);
            self.runs.extend_from_slice(&[0.0; COPY_GAP]);
            *pointer = self.runs[begin..].as_ptr();
        }
    }

    /// Does what `push_taps` does if a tap is a kernel row `[S, C]`.
    fn push_runs(&mut self, geometry: &Geometry, source: &[f32], pixels: Range<usize>) {
        let inner = self.ordered[pixels.clone()].iter().all(|pixel| geometry.is_inner(pixel));
        for r in 0..geometry.r {
            let start = self.pointers.len();
            let mut inside = 0;
            if inner {
                let line = r * geometry.source_width * geometry.channels;
                let inner = self.ordered[pixels.clone()].iter();
                self.pointers.extend(inner.map(|pixel| source[pixel.offset as usize + line..].as_ptr()));
                self.taps.push(r as u32);
                continue;
            }
            for pixel in &self.ordered[pixels.clone()] {
                let Some((skip, run)) = geometry.run(pixel, r, source) else {
                    self.pointers.push(self.zeros.as_ptr());
                    continue;
                };
                inside += 1;
                self.pointers.push(if run.len() == geometry.depth() {
                    run.as_ptr()
                } else {
                    let begin = self.runs.len();
                    self.runs.resize(begin + skip, 0.0);
                    self.runs.extend_from_slice(run);
                    self.runs.resize(begin + geometry.depth(), 0.0);
                    self.runs[begin..].as_ptr()
                });
            }
            if inside == 0 {
                self.pointers.truncate(start);
            } else {
                self.taps.push(r as u32);
            }
        }
    }

    /// The rows that the tile after tile `index` will read. For the last tile: the values after its own rows.
    fn next(&self, geometry: &Geometry, index: usize) -> (&[*const f32; AHEAD], usize) {
        let tile = &self.tiles[index];
        let (start, offset) = if index + 1 < self.tiles.len() {
            (tile.pointers.end, 0)
        } else {
            (tile.pointers.start, tile.pixels.len() * geometry.depth())
        };
        let next = self.pointers[start..].first_chunk();
        (next.expect("`fill` ends the pointers with AHEAD more"), offset)
    }
}

/// A finished piece of the written matrix, still in the cache.
pub(super) struct Piece<'a> {
    /// The index of the block of [`STATISTICS_ROWS`] rows, for epilogues that sum over blocks.
    pub block: usize,
    pub rows: Range<usize>,
    pub columns: Range<usize>,
    output: &'a SharedMut<'a, f32>,
    /// The number of columns of the whole matrix.
    pub width: usize,
}

impl<'a> Piece<'a> {
    pub fn new(
        block: usize,
        rows: Range<usize>,
        columns: Range<usize>,
        output: &'a SharedMut<'a, f32>,
        width: usize,
    ) -> Piece<'a> {
        Piece { block, rows, columns, output, width }
    }

    /// A range of columns of one row.
    ///
    /// # Safety
    /// Row and columns lie in the piece, and the slice returned before is no longer in use.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn row(&self, row: usize, columns: Range<usize>) -> &mut [f32] {
        let start = row * self.width;
        // SAFETY: pieces do not overlap, each belongs to one task, and the caller holds one slice at a time.
        unsafe { self.output.range(start + columns.start..start + columns.end) }
    }
}

/// `act(value · scale + shift + addend)`.
#[derive(Clone, Copy, Default)]
pub(super) struct Elementwise<'a> {
    /// `[columns]`
    pub scale: Option<&'a [f32]>,
    /// `[columns]`
    pub shift: Option<&'a [f32]>,
    /// An addend with the length of the written matrix.
    pub addend: Option<&'a [f32]>,
    pub relu: bool,
}

/// The final steps on the written matrix.
pub(super) enum Finishing<'a, F> {
    /// In registers, before it is stored.
    Elementwise(Elementwise<'a>),
    /// Piece by piece in cache, by a closure that reads the piece's part of the matrices `reads`, of which some may be empty.
    Pieces { reads: &'a [&'a [f32]], finish: F },
}

impl<F> Finishing<'_, F> {
    /// The steps to apply in registers to columns from `column` on.
    pub fn in_registers(&self, column: usize) -> Finish {
        let Finishing::Elementwise(each) = self else { return Finish::NOTHING };
        let start = |values: Option<&[f32]>, at: usize| values.map_or(std::ptr::null(), |v| v[at..].as_ptr());
        Finish {
            scale: start(each.scale, column),
            shift: start(each.shift, column),
            addend: start(each.addend, 0),
            relu: each.relu,
        }
    }

    /// The matrices that are read at the place where the product is written.
    fn reads(&self) -> &[&[f32]] {
        match self {
            Finishing::Elementwise(each) => each.addend.as_slice(),
            Finishing::Pieces { reads, .. } => reads,
        }
    }
}

/// A whole product to compute.
pub(super) struct Product<'a> {
    pub cpu: &'a Cpu,
    pub geometry: &'a Geometry,
    pub source: &'a [f32],
    pub weight: Weight<'a>,
    pub output: &'a mut [f32],
    pub workspace: &'a mut [f32],
}

impl Product<'_> {
    /// Length of the workspace of a product with a plain weight, or with a packed one.
    pub fn workspace(cpu: &Cpu, geometry: &Geometry, plain: bool) -> usize {
        match (geometry.filtered, plain) {
            (Some(side), _) => winograd::workspace(cpu, side, geometry, plain),
            (None, true) => packed_len(cpu.isa(), geometry),
            (None, false) => 0,
        }
    }

    pub fn elementwise(self, each: Elementwise) {
        let (len, columns) = (self.output.len(), self.geometry.columns);
        assert!([each.scale, each.shift].into_iter().flatten().all(|values| values.len() == columns));
        assert!(each.addend.is_none_or(|addend| addend.len() == len));
        self.run(Finishing::<fn(&Piece)>::Elementwise(each));
    }

    /// `finish` must be `#[inline(always)]`. The values that it reads are prefetched tile by tile: the reducing dgrad of 56² ×
    /// 256 columns in a batch of 8 took 10.8 ms instead of 14.0 on one core of a Zen 4 (least of five).
    pub fn by_pieces(self, reads: &[&[f32]], finish: impl Fn(&Piece) + Sync) {
        self.run(Finishing::Pieces { reads, finish });
    }

    fn run<F: Fn(&Piece) + Sync>(self, finishing: Finishing<F>) {
        if let Some(side) = self.geometry.filtered {
            return winograd::product(side, self, finishing);
        }
        let Product { cpu, geometry, source, weight, output, workspace } = self;
        let packed = match weight {
            Weight::Packed(packed) => packed,
            Weight::Plain(weight) => {
                pack(cpu, geometry, weight, workspace);
                workspace
            }
        };
        let kernels = Kernels::of(cpu.isa());
        let width = geometry.columns;
        let panels = width.div_ceil(kernels.columns);
        if geometry.rows() * panels == 0 {
            return;
        }
        let block_rows = match finishing {
            Finishing::Pieces { .. } => STATISTICS_ROWS,
            Finishing::Elementwise(_) => even_rows(geometry.rows(), cpu.threads(), kernels.rows),
        };
        let blocks = geometry.rows().div_ceil(block_rows);
        let groups = groups(cpu, geometry, block_rows).min(panels);
        let output = SharedMut::new(output);
        cpu.parallel(
            blocks * groups,
            #[inline(always)]
            |task| {
                let (group, block) = (task / blocks, task % blocks);
                let rows = block * block_rows..geometry.rows().min((block + 1) * block_rows);
                Plan::with(
                    #[inline(always)]
                    |plan| {
                        plan.fill(geometry, source, rows.clone(), kernels.rows);
                        for panel in group * panels / groups..(group + 1) * panels / groups {
                            let first = panel * kernels.columns;
                            let columns = first..width.min(first + kernels.columns);
                            let piece = Piece { block, rows: rows.clone(), columns, output: &output, width };
                            let finish = finishing.in_registers(first);
                            multiply(kernels, geometry, plan, packed, finishing.reads(), finish, &piece);
                            if let Finishing::Pieces { finish, .. } = &finishing {
                                finish(&piece);
                            }
                        }
                    },
                );
            },
        );
    }
}

/// The number of rows of a block if no sums are taken over blocks: at most [`STATISTICS_ROWS`], in whole register tiles, and so
/// that every thread gets the same number of blocks. If all rows fit in one block, it stays whole and is split by its panels. 14²
/// × 1024 → 256 of one image took .62 ms in blocks of 128 and 68 rows; in two blocks of 98 it takes .49.
fn even_rows(rows: usize, threads: usize, tile_rows: usize) -> usize {
    let blocks = rows.div_ceil(STATISTICS_ROWS);
    if blocks == 1 {
        return STATISTICS_ROWS;
    }
    rows.div_ceil(blocks.next_multiple_of(threads)).next_multiple_of(tile_rows).min(STATISTICS_ROWS)
}

/// The number of groups of panels that the work on a block is split into. It is one if there are enough blocks for the threads: a
/// block's pixels then stay in L2 for all panels. If pixels are copied, each group copies them again, so only as many groups are
/// made as keep all threads busy: three and a bit blocks of 7² × 2048 → 512 left one of two threads idle for a quarter of 5.0 ms;
/// in two groups they take 3.9.
fn groups(cpu: &Cpu, geometry: &Geometry, block_rows: usize) -> usize {
    let (rows, threads) = (geometry.rows(), cpu.threads());
    let most = (4 * threads).div_ceil(rows.div_ceil(block_rows));
    let whole = ((rows + block_rows / 2) / block_rows).max(1);
    let busy = |groups: &usize| (whole * groups).next_multiple_of(threads) * 10 <= whole * groups * 11;
    if geometry.copies() { (1..most).find(busy).unwrap_or(most) } else { most }
}

/// Multiplies all tiles of one block by one panel.
fn multiply(
    kernels: &Kernels,
    geometry: &Geometry,
    plan: &Plan,
    packed: &[f32],
    reads: &[&[f32]],
    finish: Finish,
    piece: &Piece,
) {
    let panel_len = geometry.taps() * geometry.depth() * kernels.columns;
    let panel = &packed[piece.columns.start / kernels.columns * panel_len..][..panel_len];
    for (index, tile) in plan.tiles.iter().enumerate() {
        let mut outputs = [std::ptr::null_mut(); AHEAD];
        let pixels = &plan.ordered[tile.pixels.clone()];
        for (to, pixel) in outputs.iter_mut().zip(pixels) {
            let start = pixel.row * piece.width;
            let stretch = start + piece.columns.start..start + piece.columns.end;
            *to = piece.output.pointer(stretch.clone());
            for read in reads {
                for line in read.get(stretch.clone()).unwrap_or_default().chunks(LINE) {
                    prefetch(Prefetch::ReadFromL2, line.as_ptr());
                }
            }
        }
        let (next, next_offset) = plan.next(geometry, index);
        let (ahead, ahead_step) = ahead(panel, kernels.columns, index, plan.tiles.len());
        let tile = GatherTile {
            pointers: &plan.pointers[tile.pointers.clone()],
            taps: &plan.taps[tile.taps.clone()],
            panel: panel.as_ptr(),
            depth: geometry.depth(),
            next,
            next_offset,
            outputs: &outputs,
            columns: piece.columns.len(),
            ahead,
            ahead_step,
            origin: piece.output.pointer(0..0),
            finish,
        };
        // SAFETY: the kernels are those of the CPU's instruction set; every pointer was taken from a slice of `depth`
        // values or of the piece's columns, which no other task touches, and the panel holds all taps. The slices in
        // `finish` were checked to be as long as the columns and the matrix.
        unsafe { kernels.gather(pixels.len(), &tile) };
    }
}

/// The part of the panel after `panel` that tile `index` of `tiles` prefetches: all of the panel once the last tile has run.
/// Without it, every panel's first tile waits for memory if a network's weights do not fit in cache.
pub(super) fn ahead(panel: &[f32], columns: usize, index: usize, tiles: usize) -> (*const f32, usize) {
    (panel.as_ptr().wrapping_add(panel.len() + panel.len() * index / tiles), columns / tiles.min(columns))
}
