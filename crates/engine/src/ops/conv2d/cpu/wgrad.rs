//! The gradient with respect to the weight: `dw [K, R, S, C] += dyᵀ [K, N·P·Q] × patches [N·P·Q, R·S·C]`. The patches are never
//! built as a whole: for each block of pixels and each tap, the columns of dy are multiplied by one panel of x after another,
//! which is read where it lies.
//!
//! The sum over pixels is split into chunks that depend only on the shape. Chunk 0 adds to dw itself, the others to their own
//! copy in the workspace, and the copies are then added in order.

use super::geometry::{Geometry, Pixel};
use super::winograd::{self, Side};
use crate::device::cpu::gemm::{A_AHEAD, Kernels, OuterTile};
use crate::device::cpu::{Cpu, SharedMut};
use crate::ops::conv2d::Problem;
use std::cell::RefCell;
use std::ops::Range;

/// The number of pixels that a register tile sums before it is added to dw. On a Zen 4, 256 was 1 to 2 % faster than 128.
const BLOCK_ROWS: usize = 256;
/// The target number of tasks: enough for the threads of one machine, few enough that adding up the chunks stays cheap.
const TASKS: usize = 32;
/// The least number of rows of a chunk, so that its work outweighs adding it up.
const CHUNK_ROWS: usize = 1024;
/// The number of dw elements that one task adds to: half of a 1 MB L2.
const GROUP_LEN: usize = 128 * 1024;
/// The most elements of all copies together.
const WORKSPACE_LEN: usize = 8 * 1024 * 1024;

/// The split of the work into tasks. A unit is one panel of columns of dw: of one tap, or of the whole row if taps are merged.
struct Split {
    panels: usize,
    units: usize,
    groups: usize,
    chunks: usize,
    blocks: usize,
}

impl Split {
    fn of(kernels: &Kernels, problem: &Problem) -> Split {
        let merged = Geometry::fprop(problem).merged;
        let taps = problem.taps();
        let panels = match merged {
            true => (taps * problem.c).div_ceil(kernels.columns),
            false => problem.c.div_ceil(kernels.columns),
        };
        let units = if merged { panels } else { taps * panels };
        let groups = match merged {
            true => 1,
            false => (problem.weight_len().div_ceil(GROUP_LEN)).clamp(1, units.max(1)),
        };
        let chunks = TASKS
            .div_ceil(groups)
            .min(problem.rows() / CHUNK_ROWS)
            .min(1 + WORKSPACE_LEN / problem.weight_len().max(1));
        Split { panels, units, groups, chunks: chunks.max(1), blocks: problem.rows().div_ceil(BLOCK_ROWS) }
    }
}

/// Length of the workspace [`wgrad`] needs.
pub fn wgrad_workspace(cpu: &Cpu, problem: &Problem) -> usize {
    match Side::of(problem) {
        Some(side) => winograd::wgrad_workspace(side, problem),
        None => (Split::of(Kernels::of(cpu.isa()), problem).chunks - 1) * problem.weight_len(),
    }
}

/// `dw += dyᵀ × patches of x`.
///
/// Shapes: dy `[N, P, Q, K]`, x `[N, H, W, C]`, dw `[K, R, S, C]`.
pub fn wgrad(cpu: &Cpu, problem: &Problem, dy: &[f32], x: &[f32], dw: &mut [f32], workspace: &mut [f32]) {
    assert_eq!(x.len(), problem.input_len());
    assert_eq!(dy.len(), problem.output_len());
    assert_eq!(dw.len(), problem.weight_len());
    if dw.is_empty() || dy.is_empty() {
        return;
    }
    if let Some(side) = Side::of(problem) {
        return winograd::wgrad(cpu, side, problem, dy, x, dw, workspace);
    }
    let kernels = Kernels::of(cpu.isa());
    let split = &Split::of(kernels, problem);
    let copies = &mut workspace[..(split.chunks - 1) * dw.len()];
    let sums = Sums { len: dw.len(), dw: SharedMut::new(dw), copies: SharedMut::new(copies) };
    let task = Task { kernels, problem, geometry: &Geometry::fprop(problem), split, dy, x, sums: &sums };
    cpu.parallel(
        split.chunks * split.groups,
        #[inline(always)]
        |index| task.run(index / split.groups, index % split.groups),
    );
    add_copies(cpu, dw, copies);
}

/// The destinations of the chunks' sums.
struct Sums<'a> {
    len: usize,
    dw: SharedMut<'a, f32>,
    copies: SharedMut<'a, f32>,
}

impl Sums<'_> {
    /// The address of `range` in the dw of chunk `chunk`.
    fn pointer(&self, chunk: usize, range: Range<usize>) -> *mut f32 {
        match chunk {
            0 => self.dw.pointer(range),
            _ => {
                let start = (chunk - 1) * self.len;
                self.copies.pointer(start + range.start..start + range.end)
            }
        }
    }
}

/// Pairs of pixels to multiply: rows of dy and as many rows of x or of patches, for one panel of dw's columns.
struct Pairs<'a> {
    /// `[pairs + A_AHEAD]`
    dy: &'a [*const f32],
    /// `[pairs]`
    x: &'a [*const f32],
    /// The offset of the panel's columns in each row of x, readable for a tile's columns.
    offset: usize,
    /// The offset of the next panel's columns.
    next: usize,
    columns: Range<usize>,
}

struct Task<'a> {
    kernels: &'static Kernels,
    problem: &'a Problem,
    geometry: &'a Geometry,
    split: &'a Split,
    dy: &'a [f32],
    x: &'a [f32],
    sums: &'a Sums<'a>,
}

impl Task<'_> {
    /// Computes one chunk of the rows for one group of the units.
    #[inline(always)]
    fn run(&self, chunk: usize, group: usize) {
        let Split { units, groups, chunks, blocks, .. } = *self.split;
        let units = group * units / groups..(group + 1) * units / groups;
        if chunk > 0 {
            self.clear(chunk, units.clone());
        }
        for block in chunk * blocks / chunks..(chunk + 1) * blocks / chunks {
            let rows = block * BLOCK_ROWS..self.problem.rows().min((block + 1) * BLOCK_ROWS);
            Scratch::with(|scratch| {
                self.geometry.pixels(rows, &mut scratch.pixels);
                if self.geometry.merged {
                    self.merged_block(scratch, chunk);
                } else {
                    self.block(scratch, chunk, units.clone());
                }
            });
        }
    }

    /// The columns of a row of dw that a unit covers.
    fn columns(&self, unit: usize) -> Range<usize> {
        let (panels, width) = match self.geometry.merged {
            true => (self.split.panels, self.problem.taps() * self.problem.c),
            false => (self.split.panels, self.problem.c),
        };
        let (tap, first) = (unit / panels, unit % panels * self.kernels.columns);
        tap * width + first..tap * width + width.min(first + self.kernels.columns)
    }

    /// Sets the elements that this task will add to to zero.
    fn clear(&self, chunk: usize, units: Range<usize>) {
        let row_len = self.problem.taps() * self.problem.c;
        for unit in units {
            let columns = self.columns(unit);
            for k in 0..self.problem.k {
                let start = k * row_len;
                let range = start + columns.start..start + columns.end;
                let to = self.sums.pointer(chunk, range);
                // SAFETY: `pointer` checked the range, and these columns of this chunk belong to this task.
                unsafe { to.write_bytes(0, columns.len()) };
            }
        }
    }

    fn block(&self, scratch: &mut Scratch, chunk: usize, units: Range<usize>) {
        let (panels, c, width) = (self.split.panels, self.problem.c, self.kernels.columns);
        for (tap, down, right) in self.geometry.class_taps(0) {
            let of_tap = tap * panels..(tap + 1) * panels;
            let wanted = of_tap.start.max(units.start)..of_tap.end.min(units.end);
            if wanted.is_empty() || !scratch.pair(self, down, right) {
                continue;
            }
            for unit in wanted.clone() {
                let columns = self.columns(unit);
                let offset = columns.start - tap * c;
                // After a tap's last panel, this prefetches the pixels of the next block, which usually follow in x.
                let next = match unit + 1 < wanted.end {
                    true => offset + width,
                    false => (wanted.start - of_tap.start) * width + BLOCK_ROWS * c,
                };
                let pairs = match columns.len() == width {
                    true => Pairs { dy: &scratch.dy, x: &scratch.x, offset, next, columns },
                    false => scratch.narrow(offset, columns, width),
                };
                self.multiply(&pairs, chunk);
            }
        }
    }

    /// For few channels: builds the block's patches `[rows, R·S·C]`, then multiplies one panel of them after another.
    fn merged_block(&self, scratch: &mut Scratch, chunk: usize) {
        let stride = self.split.panels * self.kernels.columns;
        scratch.gather(self, stride);
        for unit in 0..self.split.units {
            let offset = unit * self.kernels.columns;
            let (next, columns) = (offset, self.columns(unit));
            self.multiply(&Pairs { dy: &scratch.dy, x: &scratch.copies, offset, next, columns }, chunk);
        }
    }

    /// Adds the transposed rows of dy × the rows of x to dw's columns of these pairs.
    fn multiply(&self, pairs: &Pairs, chunk: usize) {
        let row_len = self.problem.taps() * self.problem.c;
        for index in 0..self.kernels.tiles(self.problem.k) {
            let channels = self.kernels.tile(self.problem.k, index);
            let start = channels.start * row_len + pairs.columns.start;
            let end = (channels.end - 1) * row_len + pairs.columns.end;
            let tile = OuterTile {
                a: pairs.dy,
                a_offset: channels.start,
                b: pairs.x,
                b_offset: pairs.offset,
                b_next: pairs.next,
                output: self.sums.pointer(chunk, start..end),
                output_stride: row_len,
                columns: pairs.columns.len(),
            };
            // SAFETY: the kernels are those of the CPU's instruction set; rows of dy hold all channels, rows of x are
            // readable for a tile's columns, and these columns of this chunk's dw belong to this task.
            unsafe { self.kernels.outer(channels.len(), &tile) };
        }
    }
}

/// Tables and copies for one block of pixels. Each thread keeps one and reuses it.
#[derive(Default)]
struct Scratch {
    pixels: Vec<Pixel>,
    dy: Vec<*const f32>,
    x: Vec<*const f32>,
    values: Vec<f32>,
    /// The start of each row of `values`.
    copies: Vec<*const f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Scratch {
    fn with<R>(f: impl FnOnce(&mut Scratch) -> R) -> R {
        SCRATCH.with_borrow_mut(f)
    }

    /// Pairs dy's pixels with the pixels of x that a tap reads, except those in the padding. Returns whether there are any.
    fn pair(&mut self, task: &Task, down: isize, right: isize) -> bool {
        let (height, width) = (task.geometry.source_height as isize, task.geometry.source_width as isize);
        let (c, k) = (task.problem.c as isize, task.problem.k);
        let step = (down * width + right) * c;
        self.dy.resize(self.pixels.len() + A_AHEAD, std::ptr::null());
        self.x.resize(self.pixels.len(), std::ptr::null());
        let mut pairs = 0;
        for pixel in &self.pixels {
            // Always written, but counted only if inside the image: this avoids a branch.
            self.dy[pairs] = task.dy.as_ptr().wrapping_add(pixel.row * k);
            self.x[pairs] = task.x.as_ptr().wrapping_offset(pixel.offset + step);
            let (y, x) = (pixel.y + down, pixel.x + right);
            pairs += usize::from((0..height).contains(&y) & (0..width).contains(&x));
        }
        self.dy.truncate(pairs + A_AHEAD);
        self.x.truncate(pairs);
        pairs > 0
    }

    /// Copies the last, narrow panel of each row of x, because reading a whole tile's width would run past the end of x.
    fn narrow(&mut self, offset: usize, columns: Range<usize>, width: usize) -> Pairs<'_> {
        let values = aligned(&mut self.values, self.x.len() * width);
        for (row, &from) in values.chunks_exact_mut(width).zip(&self.x) {
            let (to, rest) = row.split_at_mut(columns.len());
            // SAFETY: each pointer of the table is readable for C values, of which these are the last.
            let from = unsafe { std::slice::from_raw_parts(from.add(offset), to.len()) };
            to.copy_from_slice(from);
            rest.fill(0.0);
        }
        self.copies.clear();
        self.copies.extend(values.chunks_exact(width).map(<[f32]>::as_ptr));
        Pairs { dy: &self.dy, x: &self.copies, offset: 0, next: 0, columns }
    }

    /// Copies the pixels' patches into rows `[R·S·C]` of length `stride`, and lists the rows of dy.
    fn gather(&mut self, task: &Task, stride: usize) {
        let (geometry, k) = (task.geometry, task.problem.k);
        let depth = geometry.depth();
        let values = aligned(&mut self.values, self.pixels.len() * stride);
        for (row, pixel) in values.chunks_exact_mut(stride).zip(&self.pixels) {
            let (patch, rest) = row.split_at_mut(geometry.r * depth);
            for (r, to) in patch.chunks_exact_mut(depth).enumerate() {
                match geometry.run(pixel, r, task.x) {
                    Some((_, run)) if run.len() == depth => to.copy_from_slice(run),
                    Some((skip, run)) => {
                        to.fill(0.0);
                        to[skip..skip + run.len()].copy_from_slice(run);
                    }
                    None => to.fill(0.0),
                }
            }
            rest.fill(0.0);
        }
        self.copies.clear();
        self.copies.extend(values.chunks_exact(stride).map(<[f32]>::as_ptr));
        self.dy.clear();
        self.dy.extend(self.pixels.iter().map(|pixel| task.dy.as_ptr().wrapping_add(pixel.row * k)));
        self.dy.extend([std::ptr::null(); A_AHEAD]);
    }
}

/// `len` values of `values`, which grows if necessary, starting on a cache line.
pub(super) fn aligned(values: &mut Vec<f32>, len: usize) -> &mut [f32] {
    const LINE: usize = 16; // f32
    if values.len() < len + LINE {
        values.resize(len + LINE, 0.0);
    }
    let start = values.as_ptr().align_offset(LINE * size_of::<f32>());
    &mut values[start.min(LINE)..][..len]
}

/// Adds each copy to dw, in order.
fn add_copies(cpu: &Cpu, dw: &mut [f32], copies: &[f32]) {
    const CHUNK: usize = 4096;
    if copies.is_empty() {
        return;
    }
    let len = dw.len();
    cpu.parallel_chunks(
        dw,
        CHUNK,
        #[inline(always)]
        |index, piece| {
            for copy in copies.chunks_exact(len) {
                let copy = &copy[index * CHUNK..][..piece.len()];
                for (to, from) in piece.iter_mut().zip(copy) {
                    *to += from;
                }
            }
        },
    );
}
