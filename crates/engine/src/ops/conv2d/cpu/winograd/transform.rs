//! The machine that applies a filter's one-dimensional transforms along both axes of a tile, for as many channels as are asked for,
//! on each instruction set.
//!
//! y = Aᵀ[(G g) ⊙ (Bᵀ d)]. G's row of a point p is `[1, p, p², …] / N(p)`, that of ∞ is `[0, …, 0, 1]`; A's column of p is
//! `[1, p, p², …]`, that of ∞ `[0, …, 0, 1]`. Bᵀ and N are with each filter's points.

use super::{MAX_PLANES, STRIP, Side, four, three};
use crate::device::cpu::gemm::Finish;
use crate::device::cpu::simd::{self, Prefetch, Simd, prefetch};
use crate::device::cpu::{Isa, IsaName};

/// One tile on its way to a value in each plane.
pub(super) struct Forth<'a> {
    /// Row by row, each readable for `len`.
    pub from: &'a [*const f32],
    /// The addresses that the next job reads, prefetched meanwhile; any are allowed.
    pub next: &'a [*const f32],
    /// In the first plane, and how far the planes are apart; writable for `len` in each.
    pub to: *mut f32,
    pub plane: usize,
    /// Channels.
    pub len: usize,
}

/// A value in each plane on its way back to a tile.
pub(super) struct Back<'a> {
    /// In the first plane, and how far the planes are apart; readable for `len` in each.
    pub from: *const f32,
    pub plane: usize,
    /// The address that the next job reads in the first plane, prefetched in each plane meanwhile; any is allowed.
    pub next: *const f32,
    /// Row by row, each writable for `len`; null where nobody wants the value.
    pub to: &'a [*mut f32],
    /// Channels.
    pub len: usize,
    /// The steps that are applied to the values, and element 0 of the matrix they are written to.
    pub finish: Finish,
    pub origin: *const f32,
}

/// One filter's transforms on one instruction set, n points a side. All are unsafe: the machine has the instruction set, and
/// the job's pointers keep its promises.
pub(super) struct Transforms {
    /// Bᵀ d B: n × n of the source to n × n.
    pub source: unsafe fn(&Forth),
    /// G g Gᵀ: 3 × 3 of the weight to n × n.
    pub weight: unsafe fn(&Forth),
    /// Aᵀ m A: n × n products to a tile of outputs, finished.
    pub output: unsafe fn(&Back),
    /// G g Gᵀ: a tile of dy to n × n.
    pub gradient: unsafe fn(&Forth),
    /// Aᵀ m A: n × n products to 3 × 3, finished.
    pub weight_gradient: unsafe fn(&Back),
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
            source: forth::<S, three::Source, 5, 5>,
            weight: forth::<S, three::Kernel, 3, 5>,
            output: back::<S, three::Output, 5, 3>,
            gradient: forth::<S, three::Kernel, 3, 5>,
            weight_gradient: back::<S, three::Output, 5, 3>,
        };
        let four = Transforms {
            source: forth::<S, four::Source, 6, 6>,
            weight: forth::<S, four::Kernel, 3, 6>,
            output: back::<S, four::Output, 6, 4>,
            gradient: forth::<S, four::Kernel, 4, 6>,
            weight_gradient: back::<S, four::Output, 6, 3>,
        };
        [three, four]
    }
}

/// A transform along one axis, from `I` values to `O`.
pub(super) trait Axis<const I: usize, const O: usize> {
    /// Reads values 0 to `I` by `load`, gives 0 to `O` to `store`. Closures, so that one rule serves both axes, of which one reads
    /// and the other writes a tile.
    fn apply<S: Simd>(load: impl Fn(usize) -> S, store: impl FnMut(usize, S));
}

/// # Safety
/// The machine has the instruction set, and the job's pointers keep its promises.
unsafe fn forth<S: Simd, T: Axis<I, O>, const I: usize, const O: usize>(job: &Forth) {
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
            forth_part::<S, T, I, O>(job, whole);
        }
    }
}

/// The channels from `start` on, less than a register.
///
/// # Safety
/// See [`forth`].
#[inline(never)]
unsafe fn forth_part<S: Simd, T: Axis<I, O>, const I: usize, const O: usize>(job: &Forth, start: usize) {
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
/// The machine has the instruction set, and the job's pointers keep its promises.
unsafe fn back<S: Simd, T: Axis<I, O>, const I: usize, const O: usize>(job: &Back) {
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
            back_part::<S, T, I, O>(job, whole);
        }
    }
}

/// The channels from `start` on, less than a register.
///
/// # Safety
/// See [`back`].
#[inline(never)]
unsafe fn back_part<S: Simd, T: Axis<I, O>, const I: usize, const O: usize>(job: &Back, start: usize) {
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

/// A tile after one axis.
type Half = [[f32; STRIP]; MAX_PLANES];
const HALF: Half = [[0.0; STRIP]; MAX_PLANES];

/// One register of each value, along both axes. `half` comes from outside, so that it is not cleared for every register.
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
            // SAFETY: as above; the value's instruction set is there, as the first axis made one.
            #[inline(always)]
            |j| unsafe { S::load(half[i * I + j].as_ptr()) },
            #[inline(always)]
            |j, value: S| store(i * O + j, value),
        );
    }
}
