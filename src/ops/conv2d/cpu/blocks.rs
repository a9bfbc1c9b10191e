//! What fprop and dgrad share, and wgrad's gathering: blocks of [`STATISTICS_ROWS`] pixels of the written matrix, cut into
//! register tiles, each with a table of where its pixels find their partners for every tap. No activation is copied;
//! pixels in the padding point to a row of zeros, and a tap that is padding for a whole tile is left out.

use super::STATISTICS_ROWS;
use crate::device::cpu::gemm::{AHEAD, GatherTile, Kernels};
use crate::device::cpu::{Cpu, SharedMut};
use crate::ops::conv2d::Problem;
use std::cell::RefCell;
use std::ops::Range;

/// Below this many channels a whole kernel row `[S, C]` is one tap: it is contiguous in x, and its pieces are too short.
const MERGE_BELOW: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    /// The written pixel y reads `y · stride + r − padding`.
    Forward,
    /// The written pixel h reads `(h + padding − r) / stride` where that is whole: with `r = phase + i · stride`,
    /// `⌊(h + padding) / stride⌋ − i`.
    Transposed,
}

/// One side of a convolution as a matrix product: `written [images · height · width, columns]` from the source's pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    direction: Direction,
    images: usize,
    height: usize,
    width: usize,
    source_height: usize,
    source_width: usize,
    /// Channels of the source.
    channels: usize,
    /// Columns of the written matrix.
    pub columns: usize,
    r: usize,
    s: usize,
    stride: usize,
    padding: usize,
    /// A tap is a kernel row.
    pub merged: bool,
}

impl Geometry {
    pub fn fprop(problem: &Problem) -> Geometry {
        Geometry {
            direction: Direction::Forward,
            images: problem.n,
            height: problem.p(),
            width: problem.q(),
            source_height: problem.h,
            source_width: problem.w,
            channels: problem.c,
            columns: problem.k,
            r: problem.r,
            s: problem.s,
            stride: problem.stride,
            padding: problem.padding,
            merged: problem.c < MERGE_BELOW && problem.s > 1,
        }
    }

    pub fn dgrad(problem: &Problem) -> Geometry {
        Geometry {
            direction: Direction::Transposed,
            height: problem.h,
            width: problem.w,
            source_height: problem.p(),
            source_width: problem.q(),
            channels: problem.k,
            columns: problem.c,
            merged: false,
            ..Geometry::fprop(problem)
        }
    }

    pub fn rows(&self) -> usize {
        self.images * self.height * self.width
    }

    pub fn taps(&self) -> usize {
        if self.merged { self.r } else { self.r * self.s }
    }

    /// Contiguous values a tap reads per pixel.
    pub fn depth(&self) -> usize {
        if self.merged { self.s * self.channels } else { self.channels }
    }

    /// The source position that tap 0 of a written position reads, were the stride's remainder zero.
    fn base(&self, position: usize) -> isize {
        match self.direction {
            Direction::Forward => (position * self.stride) as isize - self.padding as isize,
            Direction::Transposed => ((position + self.padding) / self.stride) as isize,
        }
    }

    /// How far from the base a tap reads.
    fn step(&self, tap: usize) -> isize {
        match self.direction {
            Direction::Forward => tap as isize,
            Direction::Transposed => -((tap / self.stride) as isize),
        }
    }

    /// Pixels of different phases have different taps, so they go to different tiles.
    fn phases(&self) -> usize {
        match self.direction {
            Direction::Forward => 1,
            Direction::Transposed => self.stride * self.stride,
        }
    }

    /// The first tap of a phase along either axis; every `stride`-th from it belongs to the phase.
    fn phase(&self, position: usize) -> usize {
        match self.direction {
            Direction::Transposed if self.stride > 1 => (position + self.padding) % self.stride,
            _ => 0,
        }
    }

    /// Along either axis: the taps of a phase.
    fn phase_taps(&self, phase: usize, taps: usize) -> impl Iterator<Item = usize> + Clone {
        let stride = match self.direction {
            Direction::Forward => 1,
            Direction::Transposed => self.stride,
        };
        (phase..taps).step_by(stride)
    }
}

/// A pixel of the written matrix.
#[derive(Clone, Copy, Default)]
struct Pixel {
    row: usize,
    /// Offset in the source of its base pixel; the base may lie outside, even before the first image.
    offset: isize,
    /// The base pixel's place in its image.
    y: isize,
    x: isize,
    phase: usize,
}

/// One register tile of a block: ranges of the plan's lists.
struct Tile {
    pixels: Range<usize>,
    taps: Range<usize>,
    pointers: Range<usize>,
}

/// The tiles of one block of pixels and their tables. Each thread keeps one and refills it.
#[derive(Default)]
pub(super) struct Plan {
    tiles: Vec<Tile>,
    pixels: Vec<Pixel>,
    /// In order of phase.
    ordered: Vec<Pixel>,
    taps: Vec<u32>,
    pointers: Vec<*const f32>,
    zeros: Vec<f32>,
    /// Kernel rows that cross the image's edge, filled up with zeros.
    runs: Vec<f32>,
}

thread_local! {
    static PLAN: RefCell<Plan> = RefCell::default();
}

impl Plan {
    /// Lends this thread's plan.
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
        if geometry.merged {
            self.runs.reserve(rows.len() * geometry.taps() * geometry.depth());
        }
        if self.zeros.len() < geometry.depth() {
            self.zeros.resize(geometry.depth(), 0.0);
        }
        self.place(geometry, rows);
        let mut start = 0;
        while start < self.ordered.len() {
            let phase = self.ordered[start].phase;
            let rest = &self.ordered[start..];
            let len = rest.iter().position(|p| p.phase != phase).unwrap_or(rest.len());
            let tiles = len.div_ceil(tile_rows);
            for tile in 0..tiles {
                let pixels = start + tile * len / tiles..start + (tile + 1) * len / tiles;
                self.push_tile(geometry, source, pixels);
            }
            start += len;
        }
        self.pointers.extend([self.zeros.as_ptr(); AHEAD]);
    }

    /// Lists the pixels of the block, by phase.
    fn place(&mut self, geometry: &Geometry, rows: Range<usize>) {
        let per_image = geometry.height * geometry.width;
        let line = (geometry.source_width * geometry.channels) as isize;
        let source_len = geometry.source_height as isize * line;
        let within = rows.start % per_image;
        let (mut h, mut w) = (within / geometry.width, within % geometry.width);
        let mut image = (rows.start / per_image) as isize * source_len;
        self.pixels.resize(rows.len(), Pixel::default());
        let mut pixels = self.pixels.iter_mut();
        let mut row = rows.start;
        while row < rows.end {
            let y = geometry.base(h);
            let start = image + y * line;
            let vertical = geometry.phase(h);
            let end = rows.end.min(row + geometry.width - w);
            for (row, pixel) in (row..end).zip(&mut pixels) {
                let x = geometry.base(w);
                let offset = start + x * geometry.channels as isize;
                let phase = vertical * geometry.stride + geometry.phase(w);
                *pixel = Pixel { row, offset, y, x, phase };
                w += 1;
            }
            row = end;
            (w, h) = (0, h + 1);
            if h == geometry.height {
                (h, image) = (0, image + source_len);
            }
        }
        if geometry.phases() > 1 {
            self.ordered.clear();
            for phase in 0..geometry.phases() {
                self.ordered.extend(self.pixels.iter().filter(|p| p.phase == phase));
            }
        } else {
            std::mem::swap(&mut self.pixels, &mut self.ordered);
        }
    }

    fn push_tile(&mut self, geometry: &Geometry, source: &[f32], pixels: Range<usize>) {
        let (taps, pointers) = (self.taps.len(), self.pointers.len());
        if geometry.merged {
            self.push_runs(geometry, source, pixels.clone());
        } else {
            self.push_taps(geometry, source, pixels.clone());
        }
        self.tiles.push(Tile { pixels, taps: taps..self.taps.len(), pointers: pointers..self.pointers.len() });
    }

    fn push_taps(&mut self, geometry: &Geometry, source: &[f32], pixels: Range<usize>) {
        let pixels = &self.ordered[pixels];
        let (height, width) = (geometry.source_height as isize, geometry.source_width as isize);
        let phase = pixels.first().map_or(0, |pixel| pixel.phase);
        for r in geometry.phase_taps(phase / geometry.stride, geometry.r) {
            let vertical = geometry.step(r);
            for s in geometry.phase_taps(phase % geometry.stride, geometry.s) {
                let horizontal = geometry.step(s);
                let step = (vertical * width + horizontal) * geometry.channels as isize;
                let start = self.pointers.len();
                let mut inside = 0;
                self.pointers.extend(pixels.iter().map(|pixel| {
                    let (y, x) = (pixel.y + vertical, pixel.x + horizontal);
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
                    self.taps.push((r * geometry.s + s) as u32);
                }
            }
        }
    }

    /// As `push_taps` where a tap is a kernel row `[S, C]`.
    fn push_runs(&mut self, geometry: &Geometry, source: &[f32], pixels: Range<usize>) {
        let (channels, width) = (geometry.channels, geometry.source_width as isize);
        let pixels = &self.ordered[pixels];
        for r in 0..geometry.r {
            let start = self.pointers.len();
            let mut inside = 0;
            for pixel in pixels {
                let y = pixel.y + r as isize;
                let left = pixel.x.clamp(0, width);
                let right = (pixel.x + geometry.s as isize).clamp(0, width);
                if y < 0 || y >= geometry.source_height as isize || left == right {
                    self.pointers.push(self.zeros.as_ptr());
                    continue;
                }
                inside += 1;
                let line = pixel.offset + (r as isize * width - pixel.x) * channels as isize;
                let first = (line + left * channels as isize) as usize;
                let run = &source[first..first + (right - left) as usize * channels];
                self.pointers.push(if run.len() == geometry.depth() {
                    run.as_ptr()
                } else {
                    // Reserved in `fill`: no growth moves the runs pushed before.
                    let begin = self.runs.len();
                    self.runs.resize(begin + (left - pixel.x) as usize * channels, 0.0);
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

    /// Rows the tile after tile `index` will read; after the last, what follows the last tile's own rows.
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

    /// The table of the only tile a plan filled with `tile_rows` no smaller than its block has: per tap that is not all
    /// padding, that tap and a pointer per row.
    pub fn table(&self) -> impl Iterator<Item = (usize, &[*const f32])> {
        let rows = self.ordered.len().max(1);
        let taps = self.taps.iter().map(|&tap| tap as usize); // ends before the pointers added at the end
        taps.zip(self.pointers.chunks_exact(rows))
    }
}

/// A finished piece of the written matrix, still in the cache.
pub(super) struct Piece<'a> {
    /// Which block of [`STATISTICS_ROWS`] rows.
    pub block: usize,
    pub rows: Range<usize>,
    pub columns: Range<usize>,
    output: &'a SharedMut<'a, f32>,
    /// Columns of the whole matrix.
    pub width: usize,
}

impl Piece<'_> {
    /// A stretch of one row.
    ///
    /// # Safety
    /// Row and columns lie in the piece; the stretch before it is no longer in use.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn row(&self, row: usize, columns: Range<usize>) -> &mut [f32] {
        let start = row * self.width;
        // SAFETY: pieces do not overlap, each belongs to one task, and the caller holds one stretch at a time.
        unsafe { self.output.range(start + columns.start..start + columns.end) }
    }
}

/// Writes the whole product and calls `finish` on each piece. `finish` must be `#[inline(always)]`.
pub(super) fn product(
    cpu: &Cpu,
    geometry: &Geometry,
    source: &[f32],
    packed: &[f32],
    output: &mut [f32],
    finish: impl Fn(&Piece) + Sync,
) {
    let kernels = Kernels::of(cpu.isa());
    let width = geometry.columns;
    let panels = width.div_ceil(kernels.columns);
    let blocks = geometry.rows().div_ceil(STATISTICS_ROWS);
    if blocks * panels == 0 {
        return;
    }
    // Whole rows where there are blocks enough for the threads: a block's pixels then stay in L2 for all panels.
    let groups = (4 * cpu.threads()).div_ceil(blocks).min(panels);
    let output = SharedMut::new(output);
    cpu.parallel(
        blocks * groups,
        #[inline(always)]
        |task| {
            let (group, block) = (task / blocks, task % blocks);
            let rows = block * STATISTICS_ROWS..geometry.rows().min((block + 1) * STATISTICS_ROWS);
            Plan::with(
                #[inline(always)]
                |plan| {
                    plan.fill(geometry, source, rows.clone(), kernels.rows);
                    for panel in group * panels / groups..(group + 1) * panels / groups {
                        let first = panel * kernels.columns;
                        let piece = Piece {
                            block,
                            rows: rows.clone(),
                            columns: first..width.min(first + kernels.columns),
                            output: &output,
                            width,
                        };
                        multiply(kernels, geometry, plan, packed, &piece);
                        finish(&piece);
                    }
                },
            );
        },
    );
}

/// All tiles of one block times one panel.
fn multiply(kernels: &Kernels, geometry: &Geometry, plan: &Plan, packed: &[f32], piece: &Piece) {
    let panel_len = geometry.taps() * geometry.depth() * kernels.columns;
    let panel = &packed[piece.columns.start / kernels.columns * panel_len..][..panel_len];
    for (index, tile) in plan.tiles.iter().enumerate() {
        let mut outputs = [std::ptr::null_mut(); AHEAD];
        let pixels = &plan.ordered[tile.pixels.clone()];
        for (to, pixel) in outputs.iter_mut().zip(pixels) {
            let start = pixel.row * piece.width;
            let stretch = start + piece.columns.start..start + piece.columns.end;
            *to = piece.output.pointer(stretch);
        }
        let (next, next_offset) = plan.next(geometry, index);
        let tile = GatherTile {
            pointers: &plan.pointers[tile.pointers.clone()],
            taps: &plan.taps[tile.taps.clone()],
            panel: panel.as_ptr(),
            depth: geometry.depth(),
            next,
            next_offset,
            outputs: &outputs,
            columns: piece.columns.len(),
        };
        // SAFETY: the kernels are those of the CPU's instruction set; every pointer was taken from a slice of `depth`
        // values or of the piece's columns, which no other task touches, and the panel holds all taps.
        unsafe { kernels.gather(pixels.len(), &tile) };
    }
}
