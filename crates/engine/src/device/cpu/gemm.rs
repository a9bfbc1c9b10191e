//! Matrix micro-kernels: one register tile of `rows × columns` accumulators, for each instruction set and each number
//! of rows. They work on pointers; the ops decide what the tiles are parts of.
//!
//! A tile has `TILE_ROWS` rows of two registers (14 × 32 on AVX-512, 6 × 16 on AVX2, 12 × 8 on NEON). Each step of the
//! reduction needs two register loads and `rows` broadcasts for `2 · rows` fused multiply-adds, so arithmetic is the limit.

use super::simd::{self, Prefetch, Simd, prefetch};
use super::{Isa, IsaName};

/// The most rows that a tile has on any instruction set.
pub const MAX_ROWS: usize = 14;
/// The most columns that a tile has on any instruction set.
pub const MAX_COLUMNS: usize = 32;

/// The number of rows for which a tile prefetches cache lines: a power of two not below any tile's height, so that a step
/// of the reduction finds its row by masking.
pub const AHEAD: usize = 16;

/// The number of steps ahead for which an outer tile prefetches its rows of `a`: about 200 cycles, longer than an L3 access.
pub const A_AHEAD: usize = 8;

/// f32 in a cache line.
const LINE: usize = 16;

/// `output[i][j] = finish(Σ over taps t, depth d: pointers[t][i][d] · panel[taps[t]][d][j])`.
pub struct GatherTile<'a> {
    /// `[taps, rows]`: the address of row i's `depth` values for a tap.
    pub pointers: &'a [*const f32],
    /// The tap of the panel that each row of `pointers` belongs to.
    pub taps: &'a [u32],
    /// `[all taps, depth, tile columns]`.
    pub panel: *const f32,
    /// The number of terms of the sum per tap.
    pub depth: usize,
    /// The address of each row of the result; entries after the last row may hold any address.
    pub outputs: &'a [*mut f32; AHEAD],
    /// The rows that will be read next, prefetched from `next_offset` on; any addresses.
    pub next: &'a [*const f32; AHEAD],
    /// The offset in `next` at which prefetching starts, in elements.
    pub next_offset: usize,
    /// The number of columns to write, at most the tile's.
    pub columns: usize,
    /// The next panel: each step of the reduction prefetches from here, `ahead_step` further each time. Any address.
    pub ahead: *const f32,
    /// Elements from one prefetched address to the next.
    pub ahead_step: usize,
    /// Element 0 of the matrix that the outputs lie in.
    pub origin: *const f32,
    /// The epilogue: operations on each sum before it is written.
    pub finish: Finish,
}

/// The steps that are applied to a sum before it is stored: `act(sum · scale + shift + addend)`.
#[derive(Clone, Copy)]
pub struct Finish {
    /// `[columns]`, or null for 1.
    pub scale: *const f32,
    /// `[columns]`, or null for 0.
    pub shift: *const f32,
    /// Element 0 of a matrix of the outputs' shape, or null for 0.
    pub addend: *const f32,
    /// Whether a ReLU comes last.
    pub relu: bool,
}

impl Finish {
    /// Stores the sum itself.
    pub const NOTHING: Finish =
        Finish { scale: std::ptr::null(), shift: std::ptr::null(), addend: std::ptr::null(), relu: false };

    /// Applies the steps to the sums of one register, from column `column` on, which are stored `offset` bytes into the matrix.
    ///
    /// # Safety
    /// The pointers that are not null are readable for one register from there.
    #[inline(always)]
    pub unsafe fn apply<S: Simd>(&self, sum: S, column: usize, offset: usize) -> S {
        // SAFETY: the caller's promise.
        unsafe {
            let value = match (self.scale.is_null(), self.shift.is_null()) {
                (true, true) => sum,
                (true, false) => sum.add(S::load(self.shift.add(column))),
                (false, true) => sum.mul(S::load(self.scale.add(column))),
                (false, false) => sum.fma(S::load(self.scale.add(column)), S::load(self.shift.add(column))),
            };
            let value =
                if self.addend.is_null() { value } else { value.add(S::load(self.addend.wrapping_byte_add(offset))) };
            if self.relu { value.or_at_least(value.like(0.0)) } else { value }
        }
    }

    /// Applies the steps to fewer sums than fill a register. It is a separate function so that full registers are not spilled.
    ///
    /// # Safety
    /// The pointers that are not null are readable, and `to` writable, for the length of `sums`.
    #[inline(never)]
    pub unsafe fn apply_part(&self, sums: &[f32], column: usize, offset: usize, to: *mut f32) {
        let addend = if self.addend.is_null() { self.addend } else { self.addend.wrapping_byte_add(offset) };
        let or = |values: *const f32, column: usize, other: f32| match values.is_null() {
            true => other,
            // SAFETY: the caller's promise.
            false => unsafe { *values.wrapping_add(column) },
        };
        for (i, sum) in sums.iter().enumerate() {
            let value = sum * or(self.scale, column + i, 1.0) + or(self.shift, column + i, 0.0) + or(addend, i, 0.0);
            // SAFETY: the caller's promise.
            unsafe { *to.add(i) = if self.relu && value < 0.0 { 0.0 } else { value } };
        }
    }
}

/// `output[i][j] += Σ over depth d: a[d][a_offset + i] · b[d][b_offset + j]`.
pub struct OuterTile<'a> {
    /// `[depth + A_AHEAD]`; the last `A_AHEAD` are only prefetched and may be any addresses.
    pub a: &'a [*const f32],
    /// Offset into each row of `a`, in elements.
    pub a_offset: usize,
    /// `[depth]`
    pub b: &'a [*const f32],
    /// Offset into each row of `b`, in elements.
    pub b_offset: usize,
    /// The offset that will be used after `b_offset`, prefetched; any number.
    pub b_next: usize,
    /// Element `[0][0]` of the result.
    pub output: *mut f32,
    /// Elements from one row to the next.
    pub output_stride: usize,
    /// The number of columns to write, at most the tile's.
    pub columns: usize,
}

/// The micro-kernels of one instruction set.
pub struct Kernels {
    /// The most rows that a tile has.
    pub rows: usize,
    /// The number of columns of a tile, and the width of a packed panel.
    pub columns: usize,
    gather: [unsafe fn(&GatherTile); MAX_ROWS],
    outer: [unsafe fn(&OuterTile); MAX_ROWS],
}

impl Kernels {
    /// The kernels for an instruction set that this machine has.
    pub fn of(isa: Isa) -> &'static Kernels {
        #[cfg(target_arch = "x86_64")]
        static AVX512: Kernels = Kernels::table::<simd::F32x16>();
        #[cfg(target_arch = "x86_64")]
        static AVX2: Kernels = Kernels::table::<simd::F32x8>();
        #[cfg(target_arch = "aarch64")]
        static NEON: Kernels = Kernels::table::<simd::F32x4>();
        static PORTABLE: Kernels = Kernels::table::<simd::Portable>();
        match isa.name() {
            #[cfg(target_arch = "x86_64")]
            IsaName::Avx512 => &AVX512,
            #[cfg(target_arch = "x86_64")]
            IsaName::Avx2 => &AVX2,
            #[cfg(target_arch = "aarch64")]
            IsaName::Neon => &NEON,
            _ => &PORTABLE,
        }
    }

    /// The number of tiles of nearly equal height that `rows` are split into. See [`Kernels::tile`].
    pub fn tiles(&self, rows: usize) -> usize {
        rows.div_ceil(self.rows)
    }

    /// The rows of tile `index` of [`Kernels::tiles`]`(rows)`.
    pub fn tile(&self, rows: usize, index: usize) -> std::ops::Range<usize> {
        let tiles = self.tiles(rows);
        index * rows / tiles..(index + 1) * rows / tiles
    }

    /// # Safety
    /// The machine has the instruction set; `rows` is between 1 and the tile's; `pointers` holds `rows` addresses for each of
    /// `taps`, each readable for `depth` elements; the panel holds every tap in `taps`; `rows` outputs are writable for `columns`
    /// elements, and the pointers in `finish` are readable for as many.
    #[inline]
    pub unsafe fn gather(&self, rows: usize, tile: &GatherTile) {
        debug_assert_eq!(tile.pointers.len(), tile.taps.len() * rows);
        // SAFETY: the caller's promise is the same.
        unsafe { self.gather[rows - 1](tile) }
    }

    /// # Safety
    /// The machine has the instruction set; `rows` is between 1 and the tile's; `a` holds `b.len() + A_AHEAD` pointers, all but
    /// the last `A_AHEAD` readable for `rows` elements after the offset, and each pointer in `b` is readable for the tile's
    /// columns after its offset; the output is writable for `columns` elements in each of `rows` rows.
    #[inline]
    pub unsafe fn outer(&self, rows: usize, tile: &OuterTile) {
        // SAFETY: the caller's promise is the same.
        unsafe { self.outer[rows - 1](tile) }
    }

    const fn table<S: Simd>() -> Kernels {
        assert!(S::TILE_ROWS <= MAX_ROWS && 2 * S::LANES <= MAX_COLUMNS);
        Kernels {
            rows: S::TILE_ROWS,
            columns: 2 * S::LANES,
            gather: [
                gather::<S, 1>,
                gather::<S, 2>,
                gather::<S, 3>,
                gather::<S, 4>,
                gather::<S, 5>,
                gather::<S, 6>,
                gather::<S, 7>,
                gather::<S, 8>,
                gather::<S, 9>,
                gather::<S, 10>,
                gather::<S, 11>,
                gather::<S, 12>,
                gather::<S, 13>,
                gather::<S, 14>,
            ],
            outer: [
                outer::<S, 1>,
                outer::<S, 2>,
                outer::<S, 3>,
                outer::<S, 4>,
                outer::<S, 5>,
                outer::<S, 6>,
                outer::<S, 7>,
                outer::<S, 8>,
                outer::<S, 9>,
                outer::<S, 10>,
                outer::<S, 11>,
                outer::<S, 12>,
                outer::<S, 13>,
                outer::<S, 14>,
            ],
        }
    }
}

unsafe fn gather<S: Simd, const ROWS: usize>(tile: &GatherTile) {
    // A tile with more rows than the registers hold is never requested, so it is not compiled.
    if ROWS <= S::TILE_ROWS {
        // SAFETY: the caller promises the instruction set and the conditions of `gather_tile`.
        unsafe {
            S::vectorise(
                #[inline(always)]
                || gather_tile::<S, ROWS>(tile),
            )
        }
    }
}

/// # Safety
/// The conditions of [`Kernels::gather`] with `rows == ROWS`.
#[inline(always)]
unsafe fn gather_tile<S: Simd, const ROWS: usize>(tile: &GatherTile) {
    // SAFETY: the caller promises all pointers and lengths.
    unsafe {
        let mut sums = [[S::splat(0.0); 2]; ROWS]; // [rows, 2 registers]
        let mut pointers = tile.pointers.as_ptr();
        let mut ahead = tile.ahead;
        for &tap in tile.taps {
            let a: [*const f32; ROWS] = std::array::from_fn(|i| *pointers.add(i));
            pointers = pointers.add(ROWS);
            let mut b = tile.panel.add(tap as usize * tile.depth * 2 * S::LANES);
            for d in 0..tile.depth {
                let (left, right) = (S::load(b), S::load(b.add(S::LANES)));
                prefetch_rows::<S>(tile, d);
                prefetch(Prefetch::ReadFromL2, ahead);
                ahead = ahead.wrapping_add(tile.ahead_step);
                b = b.add(2 * S::LANES);
                for i in 0..ROWS {
                    let value = S::splat(*a[i].add(d));
                    sums[i][0] = value.fma(left, sums[i][0]);
                    sums[i][1] = value.fma(right, sums[i][1]);
                }
            }
        }
        for (i, row) in sums.iter().enumerate() {
            finish_row(tile, row, tile.outputs[i]);
        }
    }
}

/// # Safety
/// `to` is writable for the tile's columns, at most two registers, and the pointers in `finish` are readable for as many.
#[inline(always)]
unsafe fn finish_row<S: Simd>(tile: &GatherTile, row: &[S; 2], to: *mut f32) {
    // SAFETY: whole registers are used only where the caller promises that many columns; the row on the stack is MAX_COLUMNS
    // wide.
    unsafe {
        if tile.columns == 2 * S::LANES {
            let offset = to.addr().wrapping_sub(tile.origin.addr());
            tile.finish.apply(row[0], 0, offset).store(to);
            let to = to.add(S::LANES);
            tile.finish.apply(row[1], S::LANES, offset.wrapping_add(4 * S::LANES)).store(to);
        } else {
            let mut values = [0.0f32; MAX_COLUMNS];
            row[0].store(values.as_mut_ptr());
            row[1].store(values.as_mut_ptr().add(S::LANES));
            let offset = to.addr().wrapping_sub(tile.origin.addr());
            tile.finish.apply_part(&values[..tile.columns], 0, offset, to);
        }
    }
}

/// In step d of the reduction, prefetches one line of the rows to be read next and one of the outputs about to be written. On a
/// Zen 4, with tensors larger than L2, this raised the 1×1 layers of ResNet-50 from 85 to 105 GFLOP/s per core (of 117), five
/// runs.
#[inline(always)]
fn prefetch_rows<S: Simd>(tile: &GatherTile, d: usize) {
    let (row, line) = (d % AHEAD, d - d % AHEAD);
    prefetch(Prefetch::Read, tile.next[row].wrapping_add(tile.next_offset + line));
    let line = if 2 * S::LANES > LINE { line % (2 * S::LANES) } else { 0 };
    prefetch(Prefetch::Write, tile.outputs[row].wrapping_add(line));
}

unsafe fn outer<S: Simd, const ROWS: usize>(tile: &OuterTile) {
    if ROWS <= S::TILE_ROWS {
        // SAFETY: the caller promises the instruction set and the conditions of `outer_tile`.
        unsafe {
            S::vectorise(
                #[inline(always)]
                || outer_tile::<S, ROWS>(tile),
            )
        }
    }
}

/// # Safety
/// The conditions of [`Kernels::outer`] with `rows == ROWS`.
#[inline(always)]
unsafe fn outer_tile<S: Simd, const ROWS: usize>(tile: &OuterTile) {
    // SAFETY: the caller promises all pointers and lengths.
    unsafe {
        let mut sums = [[S::splat(0.0); 2]; ROWS]; // [rows, 2 registers]
        let mut rows = tile.a.as_ptr();
        for &row in tile.b {
            let a = (*rows).add(tile.a_offset);
            let b = row.add(tile.b_offset);
            let (left, right) = (S::load(b), S::load(b.add(S::LANES)));
            let ahead = (*rows.add(A_AHEAD)).wrapping_add(tile.a_offset);
            rows = rows.add(1);
            prefetch(Prefetch::Read, ahead);
            if ROWS > LINE / 2 {
                prefetch(Prefetch::Read, ahead.wrapping_add(ROWS - 1));
            }
            let next = row.wrapping_add(tile.b_next);
            prefetch(Prefetch::ReadFromL2, next);
            if 2 * S::LANES > LINE {
                prefetch(Prefetch::ReadFromL2, next.wrapping_add(LINE));
            }
            for (i, row) in sums.iter_mut().enumerate() {
                let value = S::splat(*a.add(i));
                row[0] = value.fma(left, row[0]);
                row[1] = value.fma(right, row[1]);
            }
        }
        for (i, row) in sums.iter().enumerate() {
            let output = tile.output.add(i * tile.output_stride);
            accumulate_row(row, output, tile.columns);
        }
    }
}

/// # Safety
/// `to` is writable for `columns` elements, at most two registers.
#[inline(always)]
unsafe fn accumulate_row<S: Simd>(row: &[S; 2], to: *mut f32, columns: usize) {
    // SAFETY: whole registers are used only where the caller promises that many columns; the row on the stack is MAX_COLUMNS
    // wide.
    unsafe {
        if columns == 2 * S::LANES {
            let [left, right] = *row;
            left.add(S::load(to)).store(to);
            right.add(S::load(to.add(S::LANES))).store(to.add(S::LANES));
        } else {
            let mut values = [0.0f32; MAX_COLUMNS];
            row[0].store(values.as_mut_ptr());
            row[1].store(values.as_mut_ptr().add(S::LANES));
            for (j, value) in values[..columns].iter().enumerate() {
                *to.add(j) += *value;
            }
        }
    }
}
