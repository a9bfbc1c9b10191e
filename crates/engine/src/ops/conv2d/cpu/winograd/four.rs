//! F(4, 3) and F(3, 4) at the points 0, ±3/4, ±3/2 and ∞. With a = 3/4, b = 3/2 = 2a (all powers of these are exact in f32):
//!
//! | Bᵀ | d₀ | d₁ | d₂ | d₃ | d₄ | d₅ |
//! |---|---|---|---|---|---|---|
//! | 0 | a²b² | | −(a²+b²) | | 1 | |
//! | ±a | | ∓ab² | −b² | ±a | 1 | |
//! | ±b | | ∓a²b | −a² | ±b | 1 | |
//! | ∞ | | a²b² | | −(a²+b²) | | 1 |
//!
//! N(0) = a²b², N(±a) = 2a²(a²−b²), N(±b) = 2b²(b²−a²).

use super::transform::Axis;
use crate::device::cpu::simd::Simd;

const POINTS: usize = 6;
/// The number of outputs of F(4, 3), and of kernel values in F(3, 4).
const FOUR: usize = 4;
const THREE: usize = 3;

const A: f32 = 0.75;
const A2: f32 = A * A;
const B2: f32 = 4.0 * A2;
const PRODUCT: f32 = A2 * B2;
const SUM: f32 = A2 + B2;

pub(super) struct Source;

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

/// The transform of a kernel: three values in F(4, 3), four in F(3, 4).
pub(super) struct Kernel;

impl Axis<THREE, POINTS> for Kernel {
    #[inline(always)]
    fn apply<S: Simd>(load: impl Fn(usize) -> S, store: impl FnMut(usize, S)) {
        let (g0, g1, g2) = (load(0), load(1), load(2));
        let (even_a, odd_a) = (g0.like(A2).fma(g2, g0), g0.like(A).mul(g1));
        let (even_b, odd_b) = (g0.like(B2).fma(g2, g0), g0.like(2.0 * A).mul(g1));
        at_points(g0, (even_a, odd_a), (even_b, odd_b), g2, store)
    }
}

impl Axis<FOUR, POINTS> for Kernel {
    #[inline(always)]
    fn apply<S: Simd>(load: impl Fn(usize) -> S, store: impl FnMut(usize, S)) {
        let (g0, g1, g2, g3) = (load(0), load(1), load(2), load(3));
        let (even_a, odd_a) = (g0.like(A2).fma(g2, g0), g0.like(A).mul(g0.like(A2).fma(g3, g1)));
        let (even_b, odd_b) = (g0.like(B2).fma(g2, g0), g0.like(2.0 * A).mul(g0.like(B2).fma(g3, g1)));
        at_points(g0, (even_a, odd_a), (even_b, odd_b), g3, store)
    }
}

/// A polynomial's values at the points divided by N, from its first coefficient, its even and odd halves at a and b, and its
/// last.
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

/// The transform back: to four values in F(4, 3), three in F(3, 4).
pub(super) struct Output;

impl Axis<POINTS, FOUR> for Output {
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

impl Axis<POINTS, THREE> for Output {
    #[inline(always)]
    fn apply<S: Simd>(load: impl Fn(usize) -> S, mut store: impl FnMut(usize, S)) {
        let (m0, m1, m2, m3, m4, m5) = (load(0), load(1), load(2), load(3), load(4), load(5));
        let (even_a, odd_a, even_b, odd_b) = (m1.add(m2), m1.sub(m2), m3.add(m4), m3.sub(m4));
        store(0, m0.add(even_a.add(even_b)));
        store(1, m0.like(A).mul(m0.like(2.0).fma(odd_b, odd_a)));
        store(2, m0.like(A2).fma(m0.like(4.0).fma(even_b, even_a), m5));
    }
}
