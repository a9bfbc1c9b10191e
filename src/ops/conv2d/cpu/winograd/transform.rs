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
use crate::device::cpu::simd::{self, Simd};

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
    /// Channels, in whole registers.
    pub len: usize,
}

/// The transforms of one instruction set. All are unsafe: the machine has the instruction set, and the job's pointers keep
/// its promises.
pub(super) struct Transforms {
    /// Bᵀ d B: 6 × 6 of the source to 6 × 6.
    pub source: unsafe fn(&Job),
    /// G g Gᵀ: 3 × 3 of the weight to 6 × 6.
    pub weight: unsafe fn(&Job),
    /// Aᵀ m A: 6 × 6 products to 4 × 4 outputs.
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

/// A transform along one axis, from `I` values to `O`.
trait Axis<const I: usize, const O: usize> {
    /// Whether results are added to what is there.
    const ACCUMULATE: bool = false;

    fn apply<S: Simd>(values: [S; I]) -> [S; O];
}

struct Source;

impl Axis<POINTS, POINTS> for Source {
    #[inline(always)]
    fn apply<S: Simd>([d0, d1, d2, d3, d4, d5]: [S; POINTS]) -> [S; POINTS] {
        let (product, sum) = (d0.like(PRODUCT), d0.like(-SUM));
        let (minus_a2, minus_b2) = (d0.like(-A2), d0.like(-B2));
        let (even_a, odd_a) = (minus_b2.fma(d2, d4), d0.like(A).mul(minus_b2.fma(d1, d3)));
        let (even_b, odd_b) = (minus_a2.fma(d2, d4), d0.like(2.0 * A).mul(minus_a2.fma(d1, d3)));
        [
            product.fma(d0, sum.fma(d2, d4)),
            even_a.add(odd_a),
            even_a.sub(odd_a),
            even_b.add(odd_b),
            even_b.sub(odd_b),
            product.fma(d1, sum.fma(d3, d5)),
        ]
    }
}

struct Weight;

impl Axis<KERNEL, POINTS> for Weight {
    #[inline(always)]
    fn apply<S: Simd>([g0, g1, g2]: [S; KERNEL]) -> [S; POINTS] {
        let (even_a, odd_a) = (g0.like(A2).fma(g2, g0), g0.like(A).mul(g1));
        let (even_b, odd_b) = (g0.like(B2).fma(g2, g0), g0.like(2.0 * A).mul(g1));
        at_points(g0, [even_a, odd_a, even_b, odd_b], g2)
    }
}

impl Axis<SIDE, POINTS> for Weight {
    #[inline(always)]
    fn apply<S: Simd>([g0, g1, g2, g3]: [S; SIDE]) -> [S; POINTS] {
        let (even_a, odd_a) = (g0.like(A2).fma(g2, g0), g0.like(A).mul(g0.like(A2).fma(g3, g1)));
        let (even_b, odd_b) = (g0.like(B2).fma(g2, g0), g0.like(2.0 * A).mul(g0.like(B2).fma(g3, g1)));
        at_points(g0, [even_a, odd_a, even_b, odd_b], g3)
    }
}

/// A polynomial's values at the points over N, from its first coefficient, its even and odd halves at a and b, and its last.
#[inline(always)]
fn at_points<S: Simd>(first: S, halves: [S; 4], last: S) -> [S; POINTS] {
    let [even_a, odd_a, even_b, odd_b] = halves;
    let (over_a, over_b) = (first.like(1.0 / (2.0 * A2 * (A2 - B2))), first.like(1.0 / (2.0 * B2 * (B2 - A2))));
    [
        first.like(1.0 / PRODUCT).mul(first),
        over_a.mul(even_a.add(odd_a)),
        over_a.mul(even_a.sub(odd_a)),
        over_b.mul(even_b.add(odd_b)),
        over_b.mul(even_b.sub(odd_b)),
        last,
    ]
}

struct Output;

impl Axis<POINTS, SIDE> for Output {
    #[inline(always)]
    fn apply<S: Simd>([m0, m1, m2, m3, m4, m5]: [S; POINTS]) -> [S; SIDE] {
        let (even_a, odd_a, even_b, odd_b) = (m1.add(m2), m1.sub(m2), m3.add(m4), m3.sub(m4));
        [
            m0.add(even_a.add(even_b)),
            m0.like(A).mul(m0.like(2.0).fma(odd_b, odd_a)),
            m0.like(A2).mul(m0.like(4.0).fma(even_b, even_a)),
            m0.like(A * A2).fma(m0.like(8.0).fma(odd_b, odd_a), m5),
        ]
    }
}

struct WeightGradient;

impl Axis<POINTS, KERNEL> for WeightGradient {
    const ACCUMULATE: bool = true;

    #[inline(always)]
    fn apply<S: Simd>([m0, m1, m2, m3, m4, m5]: [S; POINTS]) -> [S; KERNEL] {
        let (even_a, odd_a, even_b, odd_b) = (m1.add(m2), m1.sub(m2), m3.add(m4), m3.sub(m4));
        [
            m0.add(even_a.add(even_b)),
            m0.like(A).mul(m0.like(2.0).fma(odd_b, odd_a)),
            m0.like(A2).fma(m0.like(4.0).fma(even_b, even_a), m5),
        ]
    }
}

/// # Safety
/// The machine has the instruction set, and the job's pointers keep its promises.
unsafe fn both_axes<S: Simd, T: Axis<I, O>, const I: usize, const O: usize>(job: &Job) {
    debug_assert!(job.len.is_multiple_of(S::LANES));
    let (from, to) = (&job.from[..I * I], &job.to[..O * O]);
    // SAFETY: the caller promises the instruction set and pointers that hold `len` values.
    unsafe {
        S::vectorise(
            #[inline(always)]
            || {
                for start in (0..job.len).step_by(S::LANES) {
                    let mut half = [[S::splat(0.0); I]; O];
                    for j in 0..I {
                        let column: [S; I] = std::array::from_fn(|i| S::load(from[i * I + j].add(start)));
                        let column = T::apply(column);
                        for i in 0..O {
                            half[i][j] = column[i];
                        }
                    }
                    for (i, row) in half.into_iter().enumerate() {
                        for (value, &to) in T::apply(row).into_iter().zip(&to[i * O..]) {
                            if to.is_null() {
                                continue;
                            }
                            let to = to.add(start);
                            let value = if T::ACCUMULATE { value.add(S::load(to)) } else { value };
                            value.store(to);
                        }
                    }
                }
            },
        )
    }
}
