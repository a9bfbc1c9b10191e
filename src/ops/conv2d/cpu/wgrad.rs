//! The gradient with respect to the weight: `dw [K, R, S, C] += dyᵀ [K, N·P·Q] × patches [N·P·Q, R·S·C]`, never making the
//! patches as a whole: per block of pixels and tap the columns of dy are multiplied by one panel of x after the other, read where it lies.
//!
//! The sum over pixels is cut into chunks by shape alone; chunk 0 adds to dw itself, the others to their own copy in the
//! workspace, and the copies are added in order.

use super::blocks::{Geometry, Plan};
use crate::device::cpu::gemm::{Kernels, OuterTile};
use crate::device::cpu::{Cpu, SharedMut};
use crate::ops::conv2d::Problem;
use std::cell::RefCell;
use std::ops::Range;

/// Pixels a register tile is summed over before it is added to dw. 256 was 1 to 2 % faster than 128 on a Zen 4.
const BLOCK_ROWS: usize = 256;
/// Tasks wanted: enough for the threads of one machine, few enough that adding up the chunks stays cheap.
const TASKS: usize = 32;
/// Rows of a chunk at least, so that the work on a chunk outweighs adding it up.
const CHUNK_ROWS: usize = 1024;
/// dw elements one task adds to: half of a 1 MB L2.
const GROUP_LEN: usize = 128 * 1024;
/// All copies together at most.
const WORKSPACE_LEN: usize = 8 * 1024 * 1024;

/// How the work is cut. A unit is one panel of columns of dw: of one tap, or of the whole row where taps are merged.
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
    (Split::of(Kernels::of(cpu.isa()), problem).chunks - 1) * problem.weight_len()
}

/// `dw += dyᵀ × patches of x`.
///
/// Shapes: dy `[N, P, Q, K]`, x `[N, H, W, C]`, dw `[K, R, S, C]`.
pub fn wgrad(cpu: &Cpu, problem: &Problem, dy: &[f32], x: &[f32], dw: &mut [f32], workspace: &mut [f32]) {
    debug_assert_eq!(x.len(), problem.input_len());
    debug_assert_eq!(dy.len(), problem.output_len());
    debug_assert_eq!(dw.len(), problem.weight_len());
    if dw.is_empty() || dy.is_empty() {
        return;
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

/// Where the chunks' sums go.
struct Sums<'a> {
    len: usize,
    dw: SharedMut<'a, f32>,
    copies: SharedMut<'a, f32>,
}

impl Sums<'_> {
    /// Where `range` of chunk `chunk`'s dw begins.
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

/// A panel of patches and where its columns lie in a row of dw.
struct Patches<'a> {
    /// `[rows of the block]`
    rows: &'a [*const f32],
    /// Where the panel's columns begin in each of the rows, readable for a tile's columns.
    offset: usize,
    /// Where those of the panel after it do.
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
    /// One chunk of the rows for one group of the units.
    #[inline(always)]
    fn run(&self, chunk: usize, group: usize) {
        let Split { units, groups, chunks, blocks, .. } = *self.split;
        let units = group * units / groups..(group + 1) * units / groups;
        if chunk > 0 {
            self.clear(chunk, units.clone());
        }
        for block in chunk * blocks / chunks..(chunk + 1) * blocks / chunks {
            let rows = block * BLOCK_ROWS..self.problem.rows().min((block + 1) * BLOCK_ROWS);
            Plan::with(|plan| {
                plan.fill(self.geometry, self.x, rows.clone(), BLOCK_ROWS);
                Panel::with(|panel| {
                    if self.geometry.merged {
                        self.merged_block(plan, panel, chunk, rows);
                    } else {
                        self.block(plan, panel, chunk, rows, units.clone());
                    }
                });
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

    /// Zeros where this task will add.
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

    fn block(&self, plan: &Plan, panel: &mut Panel, chunk: usize, rows: Range<usize>, units: Range<usize>) {
        let (panels, c, width) = (self.split.panels, self.problem.c, self.kernels.columns);
        for (tap, pointers) in plan.table() {
            let of_tap = tap * panels..(tap + 1) * panels;
            let wanted = of_tap.start.max(units.start)..of_tap.end.min(units.end);
            for unit in wanted.clone() {
                let columns = self.columns(unit);
                let offset = columns.start - tap * c;
                // After a tap's last panel this asks for the pixels of the next block, which mostly follow in x.
                let next = match unit + 1 < wanted.end {
                    true => offset + width,
                    false => (wanted.start - of_tap.start) * width + BLOCK_ROWS * c,
                };
                let patches = match columns.len() == width {
                    true => Patches { rows: pointers, offset, next, columns },
                    false => panel.copy(pointers, offset, columns, width),
                };
                self.multiply(&patches, chunk, rows.clone());
            }
        }
    }

    /// Few channels: the block's patches `[rows, R·S·C]` side by side, then one panel of them after the other.
    fn merged_block(&self, plan: &Plan, panel: &mut Panel, chunk: usize, rows: Range<usize>) {
        let depth = self.geometry.depth();
        let stride = self.split.panels * self.kernels.columns;
        let values = panel.rows(rows.len(), stride);
        for (tap, pointers) in plan.table() {
            for (row, &from) in values.chunks_exact_mut(stride).zip(pointers) {
                let to = &mut row[tap * depth..(tap + 1) * depth];
                // SAFETY: each pointer of the table is readable for `depth` values.
                to.copy_from_slice(unsafe { std::slice::from_raw_parts(from, depth) });
            }
        }
        for unit in 0..self.split.units {
            let patches = Patches {
                rows: &panel.pointers,
                offset: unit * self.kernels.columns,
                next: (unit + 1) * self.kernels.columns,
                columns: self.columns(unit),
            };
            self.multiply(&patches, chunk, rows.clone());
        }
    }

    /// dw's columns of these patches += dy's rowsᵀ × patches.
    fn multiply(&self, patches: &Patches<'_>, chunk: usize, rows: Range<usize>) {
        let k = self.problem.k;
        let row_len = self.problem.taps() * self.problem.c;
        let dy = &self.dy[rows.start * k..rows.end * k];
        for index in 0..self.kernels.tiles(k) {
            let channels = self.kernels.tile(k, index);
            let start = channels.start * row_len + patches.columns.start;
            let end = (channels.end - 1) * row_len + patches.columns.end;
            let tile = OuterTile {
                a: dy[channels.start..].as_ptr(),
                a_stride: k,
                b: patches.rows,
                b_offset: patches.offset,
                b_next: patches.next,
                output: self.sums.pointer(chunk, start..end),
                output_stride: row_len,
                columns: patches.columns.len(),
            };
            // SAFETY: the kernels are those of the CPU's instruction set; dy holds all of the rows' channels, the
            // patches as many rows of a tile's columns, and these columns of this chunk's dw belong to this task.
            unsafe { self.kernels.outer(channels.len(), &tile) };
        }
    }
}

/// Copied patches where x itself cannot be read a whole tile's width at a time. Each thread keeps one.
#[derive(Default)]
struct Panel {
    values: Vec<f32>,
    /// Where each row of the values begins.
    pointers: Vec<*const f32>,
}

thread_local! {
    static PANEL: RefCell<Panel> = RefCell::default();
}

impl Panel {
    fn with<R>(f: impl FnOnce(&mut Panel) -> R) -> R {
        PANEL.with_borrow_mut(f)
    }

    /// Zeros `[rows, stride]`, beginning on a cache line, and pointers to them.
    fn rows(&mut self, rows: usize, stride: usize) -> &mut [f32] {
        const LINE: usize = 16; // f32
        if self.values.len() < rows * stride + LINE {
            self.values.resize(rows * stride + LINE, 0.0);
        }
        let start = self.values.as_ptr().align_offset(LINE * size_of::<f32>());
        let values = &mut self.values[start.min(LINE)..][..rows * stride];
        values.fill(0.0);
        self.pointers.clear();
        self.pointers.extend(values.chunks_exact(stride).map(<[f32]>::as_ptr));
        values
    }

    /// The last, narrow panel of a row of x.
    fn copy(&mut self, from: &[*const f32], offset: usize, columns: Range<usize>, width: usize) -> Patches<'_> {
        let values = self.rows(from.len(), width);
        for (row, &from) in values.chunks_exact_mut(width).zip(from) {
            let to = &mut row[..columns.len()];
            // SAFETY: each pointer of the table is readable for C values, of which these are the last.
            let from = unsafe { std::slice::from_raw_parts(from.add(offset), to.len()) };
            to.copy_from_slice(from);
        }
        Patches { rows: &self.pointers, offset: 0, next: 0, columns }
    }
}

/// dw += each copy, in order.
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
