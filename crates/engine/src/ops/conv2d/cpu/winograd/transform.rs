//! Applies a filter's one-dimensional transforms along both axes of a tile, for any number of channels, on each instruction set.
//!
//! y = Aᵀ[(G g) ⊙ (Bᵀ d)]. G's row of a point p is `[1, p, p², …] / N(p)`, that of ∞ is `[0, …, 0, 1]`. A's column of p is
//! `[1, p, p², …]`, that of ∞ is `[0, …, 0, 1]`. Bᵀ and N are given in the file of each filter.

use super::{MAX_PLANES, STRIP, Side, four, three};
use crate::device::cpu::gemm::Finish;
use crate::device::cpu::simd::{self, Prefetch, Simd, prefetch};
use crate::device::cpu::{Isa, IsaName};

/// Transforms one tile into one value per plane.
pub(super) struct ToPlanes<'a> {
    /// The tile's values row by row, each readable for `len` channels.
    pub from: &'a [*const f32],
    /// The addresses that the next job reads, which are prefetched; any addresses are allowed.
    pub next: &'a [*const f32],
    /// The address in the first plane, and the distance between planes; writable for `len` channels in each.
    pub to: *mut f32,
    pub plane: usize,
    /// The number of channels.
    pub len: usize,
}

/// Transforms one value per plane back into a tile.
pub(super) struct FromPlanes<'a> {
    /// The address in the first plane, and the distance between planes; readable for `len` channels in each.
    pub from: *const f32,
    pub plane: usize,
    /// The address that the next job reads in the first plane, prefetched in each plane; any address is allowed.
    pub next: *const f32,
    /// The tile's values row by row, each writable for `len` channels; null for values that are not needed.
    pub to: &'a [*mut f32],
    /// The number of channels.
    pub len: usize,
    /// The steps that are applied to the values, and element 0 of the matrix that they are written to.
    pub finish: Finish,
    pub origin: *const f32,
}

/// One filter's transforms on one instruction set, with n points per axis. All are unsafe: the machine must have the instruction
/// set, and the job's pointers must be valid as documented.
pub(super) struct Transforms {
    /// Bᵀ d B: n × n values of the source to n × n.
    pub source: unsafe fn(&ToPlanes),
    /// G g Gᵀ: 3 × 3 values of the weight to n × n.
    pub weight: unsafe fn(&ToPlanes),
    /// Aᵀ m A: n × n products to a tile of outputs, with the final steps applied.
    pub output: unsafe fn(&FromPlanes),
    /// G g Gᵀ: a tile of dy to n × n.
    pub gradient: unsafe fn(&ToPlanes),
    /// Aᵀ m A: n × n products to 3 × 3, with the final steps applied.
    pub weight_gradient: unsafe fn(&FromPlanes),
}

impl Transforms {
    pub fn of(isa: Isa, side: Side) -> &'static Transforms {
        #[cfg(target_arch = "x86_64")]
        static AVX512: [Transforms; 2] = Transforms::tables::<simd::F32x16>();
        #[cfg(target_arch = "x86_64")]
        static AVX2: [Transforms; 2] = Transforms::tables::<simd::F32x8>();
        #[cfg(target_arch = "aarch64")]
        static NEON: [Transforms; 2] = Transforms::tables::<simd::F32x4>();
        static PORTABLE: [Transforms; 2] = Transforms::tables::<simd::Portable>();
        let [three, four] = match isa.name() {
            #[cfg(target_arch = "x86_64")]
            IsaName::Avx512 => &AVX512,
            #[cfg(target_arch = "x86_64")]
            IsaName::Avx2 => &AVX2,
            #[cfg(target_arch = "aarch64")]
            IsaName::Neon => &NEON,
            _ => &PORTABLE,
        };
        match side {
            Side::Three => three,
            Side::Four => four,
        }
    }

    const fn tables<S: Simd>() -> [Transforms; 2] {
        let three = Transforms {
            source: to_planes::<S, three::Source, 5, 5>,
            weight: to_planes::<S, three::Kernel, 3, 5>,
            output: from_planes::<S, three::Output, 5, 3>,
            gradient: to_planes::<S, three::Kernel, 3, 5>,
            weight_gradient: from_planes::<S, three::Output, 5, 3>,
        };
        let four = Transforms {
            source: to_planes::<S, four::Source, 6, 6>,
            weight: to_planes::<S, four::Kernel, 3, 6>,
            output: from_planes::<S, four::Output, 6, 4>,
            gradient: to_planes::<S, four::Kernel, 4, 6>,
            weight_gradient: from_planes::<S, four::Output, 6, 3>,
        };
        [three, four]
    }
}

/// A transform along one axis, from `I` values to `O`.
pub(super) trait Axis<const I: usize, const O: usize> {
    /// Reads values 0 to `I` with `load` and passes values 0 to `O` to `store`. They are closures so that one implementation
    /// serves both axes: one of them reads a tile and the other writes it.
    fn apply<S: Simd>(load: impl Fn(usize) -> S, store: impl FnMut(usize, S));
}

/// # Safety
/// The machine has the instruction set, and the job's pointers are valid as documented.
unsafe fn to_planes<S: Simd, T: Axis<I, O>, const I: usize, const O: usize>(job: &ToPlanes) {
    assert!(job.from.len() == I * I && job.next.len() == I * I);
    let whole = job.len - job.len % S::LANES;
    // SAFETY: the caller's promise.
    unsafe {
        S::vectorise(
            #[inline(always)]
            || {
                let (from, next) = (job.from.as_ptr(), job.next.as_ptr());
                let mut half = HALF;
                for start in (0..whole).step_by(S::LANES) {
                    both_axes::<S, T, I, O>(
                        &mut half,
                        #[inline(always)]
                        |i| {
                            prefetch(Prefetch::Read, (*next.add(i)).wrapping_add(start));
                            S::load((*from.add(i)).add(start))
                        },
                        #[inline(always)]
                        |i, value| value.store(job.to.add(i * job.plane + start)),
                    );
                }
            },
        );
        if whole < job.len {
            to_planes_part::<S, T, I, O>(job, whole);
        }
    }
}

/// The channels from `start` on, which are fewer than a register holds.
///
/// # Safety
/// The same as for [`to_planes`].
#[inline(never)]
unsafe fn to_planes_part<S: Simd, T: Axis<I, O>, const I: usize, const O: usize>(job: &ToPlanes, start: usize) {
    let len = job.len - start;
    let mut copies = [[0.0f32; STRIP]; MAX_PLANES];
    for (copy, from) in copies.iter_mut().zip(job.from) {
        // SAFETY: the caller promises `job.len` values.
        copy[..len].copy_from_slice(unsafe { std::slice::from_raw_parts(from.add(start), len) });
    }
    // SAFETY: a register fits a copy; the rest is the caller's promise.
    unsafe {
        S::vectorise(
            #[inline(always)]
            || {
                let mut half = HALF;
                both_axes::<S, T, I, O>(
                    &mut half,
                    #[inline(always)]
                    |i| S::load(copies[i].as_ptr()),
                    #[inline(always)]
                    |i, value| {
                        let mut copy = [0.0f32; STRIP];
                        value.store(copy.as_mut_ptr());
                        std::ptr::copy_nonoverlapping(copy.as_ptr(), job.to.add(i * job.plane + start), len);
                    },
                );
            },
        );
    }
}

/// # Safety
/// The machine has the instruction set, and the job's pointers are valid as documented.
unsafe fn from_planes<S: Simd, T: Axis<I, O>, const I: usize, const O: usize>(job: &FromPlanes) {
    assert!(job.to.len() == O * O);
    let whole = job.len - job.len % S::LANES;
    // SAFETY: the caller's promise.
    unsafe {
        S::vectorise(
            #[inline(always)]
            || {
                let to = job.to.as_ptr();
                let mut half = HALF;
                for start in (0..whole).step_by(S::LANES) {
                    both_axes::<S, T, I, O>(
                        &mut half,
                        #[inline(always)]
                        |i| {
                            let at = i * job.plane + start;
                            prefetch(Prefetch::Read, job.next.wrapping_add(at));
                            S::load(job.from.add(at))
                        },
                        #[inline(always)]
                        |i, value| {
                            let to = *to.add(i);
                            if !to.is_null() {
                                let to = to.add(start);
                                let offset = to.addr().wrapping_sub(job.origin.addr());
                                job.finish.apply(value, start, offset).store(to);
                            }
                        },
                    );
                }
            },
        );
        if whole < job.len {
            from_planes_part::<S, T, I, O>(job, whole);
        }
    }
}

/// The channels from `start` on, which are fewer than a register holds.
///
/// # Safety
/// The same as for [`from_planes`].
#[inline(never)]
unsafe fn from_planes_part<S: Simd, T: Axis<I, O>, const I: usize, const O: usize>(job: &FromPlanes, start: usize) {
    let len = job.len - start;
    // SAFETY: a register fits a copy; the rest is the caller's promise.
    unsafe {
        S::vectorise(
            #[inline(always)]
            || {
                let mut half = HALF;
                both_axes::<S, T, I, O>(
                    &mut half,
                    #[inline(always)]
                    |i| {
                        let mut copy = [0.0f32; STRIP];
                        std::ptr::copy_nonoverlapping(job.from.add(i * job.plane + start), copy.as_mut_ptr(), len);
                        S::load(copy.as_ptr())
                    },
                    #[inline(always)]
                    |i, value| {
                        if !job.to[i].is_null() {
                            let mut copy = [0.0f32; STRIP];
                            value.store(copy.as_mut_ptr());
                            let to = job.to[i].add(start);
                            let offset = to.addr().wrapping_sub(job.origin.addr());
                            job.finish.apply_part(&copy[..len], start, offset, to);
                        }
                    },
                );
            },
        );
    }
}

/// A tile that was transformed along one axis.
type Half = [[f32; STRIP]; MAX_PLANES];
const HALF: Half = [[0.0; STRIP]; MAX_PLANES];

/// Transforms one register of each value along both axes. The caller provides `half`, so that it is not cleared for every
/// register.
#[inline(always)]
fn both_axes<S: Simd, T: Axis<I, O>, const I: usize, const O: usize>(
    half: &mut Half,
    load: impl Fn(usize) -> S,
    mut store: impl FnMut(usize, S),
) {
    for j in 0..I {
        T::apply(
            #[inline(always)]
            |i| load(i * I + j),
            // SAFETY: no register is longer than a strip.
            #[inline(always)]
            |i, value: S| unsafe { value.store(half[i * I + j].as_mut_ptr()) },
        );
    }
    for i in 0..O {
        T::apply(
            // SAFETY: as above; the first axis made a value, so the machine has the instruction set.
            #[inline(always)]
            |j| unsafe { S::load(half[i * I + j].as_ptr()) },
            #[inline(always)]
            |j, value: S| store(i * O + j, value),
        );
    }
}
