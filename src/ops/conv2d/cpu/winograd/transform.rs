//! The one-dimensional transforms of F(4, 3) and F(3, 4) at the points 0, ±3/4, ±3/2 and ∞, and the machine that applies one
//! along both axes of a tile, for as many channels as are asked for, on each instruction set.
//!
//! With a = 3/4, b = 3/2 = 2a (all powers of these are exact in f32), y = Aᵀ[(G g) ⊙ (Bᵀ d)]:
//!
//! | Bᵀ | d₀ | d₁ | d₂ | d₃ | d₄ | d₅ |
//! |---|---|---|---|---|---|---|
//! | 0 | a²b² | | −(a²+b²) | | 1 | |
//! | ±a | | ∓ab² | −b² | ±a | 1 | |
//! | ±b | | ∓a²b | −a² | ±b | 1 | |
//! | ∞ | | a²b² | | −(a²+b²) | | 1 |
//!
//! G's row of a point p is `[1, p, p², …] / N(p)`, N(0) = a²b², N(±a) = 2a²(a²−b²), N(±b) = 2b²(b²−a²); that of ∞ is
//! `[0, …, 0, 1]`. A's column of p is `[1, p, p², …]`, that of ∞ `[0, …, 0, 1]`.

use crate::device::cpu::Isa;
use crate::device::cpu::gemm::Finish;
use crate::device::cpu::simd::{self, Prefetch, Simd, prefetch};

/// Values along one axis of a transformed tile.
pub(super) const POINTS: usize = 6;
/// Values of a transformed tile.
pub(super) const PLANES: usize = POINTS * POINTS;
/// Along one axis: outputs of a tile in fprop and dgrad, values of dy in wgrad.
pub(super) const SIDE: usize = 4;
/// Kernel width.
pub(super) const KERNEL: usize = 3;
/// Channels come in multiples of this: no instruction set has longer registers.
pub(super) const STRIP: usize = 16;

const A: f32 = 0.75;
const A2: f32 = A * A;
const B2: f32 = 4.0 * A2;
const PRODUCT: f32 = A2 * B2;
const SUM: f32 = A2 + B2;

/// One tile: where its values are read and where the transformed ones go.
pub(super) struct Job<'a> {
    /// Row by row, each readable for `len`.
    pub from: &'a [*const f32],
    /// Row by row, each writable for `len`; null where nobody wants the value.
    pub to: &'a [*mut f32],
    /// What the next job reads, asked for meanwhile; any addresses.
    pub next: &'a [*const f32],
    /// Channels, in whole registers.
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

/// The transforms of one instruction set. All are unsafe: the machine has the instruction set, and the job's pointers keep
/// its promises.
pub(super) struct Transforms {
    /// Bᵀ d B: 6 × 6 of the source to 6 × 6.
    pub source: unsafe fn(&Job),
    /// G g Gᵀ: 3 × 3 of the weight to 6 × 6.
    pub weight: unsafe fn(&Job),
    /// Aᵀ m A: 6 × 6 products to 4 × 4 outputs, finished.
    pub output: unsafe fn(&Job),
    /// G g Gᵀ of F(3, 4): 4 × 4 of dy to 6 × 6.
    pub gradient: unsafe fn(&Job),
    /// Aᵀ m A of F(3, 4): 6 × 6 products to 3 × 3, added to what is there.
    pub weight_gradient: unsafe fn(&Job),
}

impl Transforms {
    pub fn of(isa: Isa) -> &'static Transforms {
        #[cfg(target_arch = "x86_64")]
        static AVX512: Transforms = Transforms::table::<simd::F32x16>();
        #[cfg(target_arch = "x86_64")]
        static AVX2: Transforms = Transforms::table::<simd::F32x8>();
        #[cfg(target_arch = "aarch64")]
        static NEON: Transforms = Transforms::table::<simd::F32x4>();
        static PORTABLE: Transforms = Transforms::table::<simd::Portable>();
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => &AVX512,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &AVX2,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => &NEON,
            _ => &PORTABLE,
        }
    }

    const fn table<S: Simd>() -> Transforms {
        Transforms {
            source: both_axes::<S, Source, POINTS, POINTS>,
            weight: both_axes::<S, Weight, KERNEL, POINTS>,
            output: both_axes::<S, Output, POINTS, SIDE>,
            gradient: both_axes::<S, Weight, SIDE, POINTS>,
            weight_gradient: both_axes::<S, WeightGradient, POINTS, KERNEL>,
        }
    }
}

/// What becomes of a transformed value.
enum After {
    Nothing,
    /// It is added to what is there.
    Sum,
    /// The job's `finish`.
    Finish,
}

/// A transform along one axis, from `I` values to `O`.
trait Axis<const I: usize, const O: usize> {
    const AFTER: After = After::Nothing;

    /// Reads values 0 to `I` by `load`, gives 0 to `O` to `store`. Closures, so that one rule serves both axes, of which one reads
    /// and the other writes a tile.
    fn apply<S: Simd>(load: impl Fn(usize) -> S, store: impl FnMut(usize, S));
}

struct Source;

impl Axis<POINTS, POINTS> for Source {
    #[inline(always)]
    fn apply<S: Simd>(load: impl Fn(usize) -> S, mut store: impl FnMut(usize, S)) {
        let (d0, d1, d2, d3, d4, d5) = (load(0), load(1), load(2), load(3), load(4), load(5));
        let (product, sum) = (d0.like(PRODUCT), d0.like(-SUM));
        let (minus_a2, minus_b2) = (d0.like(-A2), d0.like(-B2));
        let (even_a, odd_a) = (minus_b2.fma(d2, d4), d0.like(A).mul(minus_b2.fma(d1, d3)));
        let (even_b, odd_b) = (minus_a2.fma(d2, d4), d0.like(2.0 * A).mul(minus_a2.fma(d1, d3)));
        store(0, product.fma(d0, sum.fma(d2, d4)));
        store(1, even_a.add(odd_a));
        store(2, even_a.sub(odd_a));
        store(3, even_b.add(odd_b));
        store(4, even_b.sub(odd_b));
        store(5, product.fma(d1, sum.fma(d3, d5)));
    }
}

struct Weight;

impl Axis<KERNEL, POINTS> for Weight {
    #[inline(always)]
    fn apply<S: Simd>(load: impl Fn(usize) -> S, store: impl FnMut(usize, S)) {
        let (g0, g1, g2) = (load(0), load(1), load(2));
        let (even_a, odd_a) = (g0.like(A2).fma(g2, g0), g0.like(A).mul(g1));
        let (even_b, odd_b) = (g0.like(B2).fma(g2, g0), g0.like(2.0 * A).mul(g1));
        at_points(g0, (even_a, odd_a), (even_b, odd_b), g2, store)
    }
}

impl Axis<SIDE, POINTS> for Weight {
    #[inline(always)]
    fn apply<S: Simd>(load: impl Fn(usize) -> S, store: impl FnMut(usize, S)) {
        let (g0, g1, g2, g3) = (load(0), load(1), load(2), load(3));
        let (even_a, odd_a) = (g0.like(A2).fma(g2, g0), g0.like(A).mul(g0.like(A2).fma(g3, g1)));
        let (even_b, odd_b) = (g0.like(B2).fma(g2, g0), g0.like(2.0 * A).mul(g0.like(B2).fma(g3, g1)));
        at_points(g0, (even_a, odd_a), (even_b, odd_b), g3, store)
    }
}

/// A polynomial's values at the points over N, from its first coefficient, its even and odd halves at a and b, and its last.
#[inline(always)]
fn at_points<S: Simd>(
    first: S,
    (even_a, odd_a): (S, S),
    (even_b, odd_b): (S, S),
    last: S,
    mut store: impl FnMut(usize, S),
) {
    let (over_a, over_b) = (1.0 / (2.0 * A2 * (A2 - B2)), 1.0 / (2.0 * B2 * (B2 - A2)));
    store(0, first.like(1.0 / PRODUCT).mul(first));
    store(1, first.like(over_a).mul(even_a.add(odd_a)));
    store(2, first.like(over_a).mul(even_a.sub(odd_a)));
    store(3, first.like(over_b).mul(even_b.add(odd_b)));
    store(4, first.like(over_b).mul(even_b.sub(odd_b)));
    store(5, last);
}

struct Output;

impl Axis<POINTS, SIDE> for Output {
    const AFTER: After = After::Finish;

    #[inline(always)]
    fn apply<S: Simd>(load: impl Fn(usize) -> S, mut store: impl FnMut(usize, S)) {
        let (m0, m1, m2, m3, m4, m5) = (load(0), load(1), load(2), load(3), load(4), load(5));
        let (even_a, odd_a, even_b, odd_b) = (m1.add(m2), m1.sub(m2), m3.add(m4), m3.sub(m4));
        store(0, m0.add(even_a.add(even_b)));
        store(1, m0.like(A).mul(m0.like(2.0).fma(odd_b, odd_a)));
        store(2, m0.like(A2).mul(m0.like(4.0).fma(even_b, even_a)));
        store(3, m0.like(A * A2).fma(m0.like(8.0).fma(odd_b, odd_a), m5));
    }
}

struct WeightGradient;

impl Axis<POINTS, KERNEL> for WeightGradient {
    const AFTER: After = After::Sum;

    #[inline(always)]
    fn apply<S: Simd>(load: impl Fn(usize) -> S, mut store: impl FnMut(usize, S)) {
        let (m0, m1, m2, m3, m4, m5) = (load(0), load(1), load(2), load(3), load(4), load(5));
        let (even_a, odd_a, even_b, odd_b) = (m1.add(m2), m1.sub(m2), m3.add(m4), m3.sub(m4));
        store(0, m0.add(even_a.add(even_b)));
        store(1, m0.like(A).mul(m0.like(2.0).fma(odd_b, odd_a)));
        store(2, m0.like(A2).fma(m0.like(4.0).fma(even_b, even_a), m5));
    }
}

/// # Safety
/// The machine has the instruction set, and the job's pointers keep its promises.
unsafe fn both_axes<S: Simd, T: Axis<I, O>, const I: usize, const O: usize>(job: &Job) {
    debug_assert!(job.len.is_multiple_of(S::LANES));
    assert!(job.from.len() == I * I && job.to.len() == O * O && job.next.len() == I * I);
    let (from, to, next) = (job.from.as_ptr(), job.to.as_ptr(), job.next.as_ptr());
    // SAFETY: the caller promises the instruction set and pointers that hold `len` values.
    unsafe {
        S::vectorise(
            #[inline(always)]
            || {
                // `[O, I]` registers.
                let mut half = [0.0f32; POINTS * POINTS * STRIP];
                let half = half.as_mut_ptr();
                let mut start = 0;
                while start < job.len {
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
                                    let offset = to.addr().wrapping_sub(job.origin.addr());
                                    let value = match T::AFTER {
                                        After::Nothing => value,
                                        After::Sum => value.add(S::load(to)),
                                        After::Finish => job.finish.apply(value, start, offset),
                                    };
                                    value.store(to);
                                }
                            },
                        );
                    }
                    start += S::LANES;
                }
            },
        )
    }
}
