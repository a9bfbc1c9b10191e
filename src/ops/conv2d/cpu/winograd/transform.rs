//! The machine that applies a filter's one-dimensional transforms along both axes of a tile, for as many channels as are asked for,
//! on each instruction set.
//!
//! y = Aᵀ[(G g) ⊙ (Bᵀ d)]. G's row of a point p is `[1, p, p², …] / N(p)`, that of ∞ is `[0, …, 0, 1]`; A's column of p is
//! `[1, p, p², …]`, that of ∞ `[0, …, 0, 1]`. Bᵀ and N are with each filter's points.

use super::{MAX_PLANES, STRIP, Side, four, three};
use crate::device::cpu::Isa;
use crate::device::cpu::gemm::Finish;
use crate::device::cpu::simd::{self, Prefetch, Simd, prefetch};

/// One tile: where its values are read and where the transformed ones go.
pub(super) struct Job<'a> {
    /// Row by row, each readable for `len`.
    pub from: &'a [*const f32],
    /// Row by row, each writable for `len`; null where nobody wants the value.
    pub to: &'a [*mut f32],
    /// What the next job reads, asked for meanwhile; any addresses.
    pub next: &'a [*const f32],
    /// Channels.
    pub len: usize,
    /// What becomes of the values written, and element 0 of the matrix they are written to.
    pub finish: Finish,
    pub origin: *const f32,
}

impl<'a> Job<'a> {
    /// That finishes nothing.
    pub fn plain(from: &'a [*const f32], to: &'a [*mut f32], next: &'a [*const f32], len: usize) -> Job<'a> {
        Job { from, to, next, len, finish: Finish::NOTHING, origin: std::ptr::null() }
    }
}

/// One filter's transforms on one instruction set, n points a side. All are unsafe: the machine has the instruction set, and
/// the job's pointers keep its promises.
pub(super) struct Transforms {
    /// Bᵀ d B: n × n of the source to n × n.
    pub source: unsafe fn(&Job),
    /// G g Gᵀ: 3 × 3 of the weight to n × n.
    pub weight: unsafe fn(&Job),
    /// Aᵀ m A: n × n products to a tile of outputs, finished.
    pub output: unsafe fn(&Job),
    /// G g Gᵀ: a tile of dy to n × n.
    pub gradient: unsafe fn(&Job),
    /// Aᵀ m A: n × n products to 3 × 3, finished.
    pub weight_gradient: unsafe fn(&Job),
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
        let [three, four] = match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => &AVX512,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &AVX2,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => &NEON,
            _ => &PORTABLE,
        };
        match side {
            Side::Three => three,
            Side::Four => four,
        }
    }

    const fn tables<S: Simd>() -> [Transforms; 2] {
        let three = Transforms {
            source: both_axes::<S, three::Source, 5, 5, false>,
            weight: both_axes::<S, three::Kernel, 3, 5, false>,
            output: both_axes::<S, three::Output, 5, 3, true>,
            gradient: both_axes::<S, three::Kernel, 3, 5, false>,
            weight_gradient: both_axes::<S, three::Output, 5, 3, true>,
        };
        let four = Transforms {
            source: both_axes::<S, four::Source, 6, 6, false>,
            weight: both_axes::<S, four::Kernel, 3, 6, false>,
            output: both_axes::<S, four::Output, 6, 4, true>,
            gradient: both_axes::<S, four::Kernel, 4, 6, false>,
            weight_gradient: both_axes::<S, four::Output, 6, 3, true>,
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
unsafe fn both_axes<S: Simd, T: Axis<I, O>, const I: usize, const O: usize, const FINISHED: bool>(job: &Job) {
    assert!(job.from.len() == I * I && job.to.len() == O * O && job.next.len() == I * I);
    let whole = job.len - job.len % S::LANES;
    // SAFETY: the caller's promise.
    unsafe {
        S::vectorise(
            #[inline(always)]
            || strips::<S, T, I, O, FINISHED>(job, whole),
        );
        if whole < job.len {
            part::<S, T, I, O, FINISHED>(job, whole);
        }
    }
}

/// The first `whole` channels.
///
/// # Safety
/// As [`both_axes`].
#[inline(always)]
unsafe fn strips<S: Simd, T: Axis<I, O>, const I: usize, const O: usize, const FINISHED: bool>(
    job: &Job,
    whole: usize,
) {
    let (from, to, next) = (job.from.as_ptr(), job.to.as_ptr(), job.next.as_ptr());
    // `[O, I]` registers.
    let mut half = [0.0f32; MAX_PLANES * STRIP];
    let half = half.as_mut_ptr();
    let mut start = 0;
    // SAFETY: the caller's promise; `half` has room for the registers of a strip.
    unsafe {
        while start < whole {
            for j in 0..I {
                T::apply(
                    #[inline(always)]
                    |i| {
                        prefetch(Prefetch::Read, (*next.add(i * I + j)).wrapping_add(start));
                        S::load((*from.add(i * I + j)).add(start))
                    },
                    #[inline(always)]
                    |i, value: S| value.store(half.add((i * I + j) * S::LANES)),
                );
            }
            for i in 0..O {
                T::apply(
                    #[inline(always)]
                    |j| S::load(half.add((i * I + j) * S::LANES)),
                    #[inline(always)]
                    |j, value: S| {
                        let to = *to.add(i * O + j);
                        if !to.is_null() {
                            let to = to.add(start);
                            let value = match FINISHED {
                                true => job.finish.apply(value, start, to.addr().wrapping_sub(job.origin.addr())),
                                false => value,
                            };
                            value.store(to);
                        }
                    },
                );
            }
            start += S::LANES;
        }
    }
}

/// The channels from `start` on, less than a register: in copies filled up with zeros.
///
/// # Safety
/// As [`both_axes`].
#[inline(never)]
unsafe fn part<S: Simd, T: Axis<I, O>, const I: usize, const O: usize, const FINISHED: bool>(job: &Job, start: usize) {
    let len = job.len - start;
    let (mut read, mut written) = ([[0.0f32; STRIP]; MAX_PLANES], [[0.0f32; STRIP]; MAX_PLANES]);
    for (copy, from) in read.iter_mut().zip(job.from) {
        // SAFETY: the caller promises `job.len` values.
        copy[..len].copy_from_slice(unsafe { std::slice::from_raw_parts(from.add(start), len) });
    }
    let from = read.each_ref().map(|values| values.as_ptr());
    let to = written.each_mut().map(|values| values.as_mut_ptr());
    // SAFETY: the copies hold a register; the rest is the caller's promise.
    unsafe {
        both_axes::<S, T, I, O, false>(&Job::plain(&from[..I * I], &to[..O * O], &from[..I * I], S::LANES));
        for (values, to) in written.iter().zip(job.to).filter(|(_, to)| !to.is_null()) {
            let to = to.add(start);
            match FINISHED {
                true => {
                    let offset = to.addr().wrapping_sub(job.origin.addr());
                    job.finish.apply_part(&values[..len], start, offset, to);
                }
                false => std::ptr::copy_nonoverlapping(values.as_ptr(), to, len),
            }
        }
    }
}
