//! F(3, 3) at the points ±3/8, ±5/4 and ∞. With a = 3/8, b = 5/4 (all powers of these are exact in f32):
//!
//! | Bᵀ | d₀ | d₁ | d₂ | d₃ | d₄ |
//! |---|---|---|---|---|---|
//! | ±a | ∓ab² | −b² | ±a | 1 | |
//! | ±b | ∓a²b | −a² | ±b | 1 | |
//! | ∞ | a²b² | | −(a²+b²) | | 1 |
//!
//! N(±a) = ±2a(a²−b²), N(±b) = ±2b(b²−a²).

use super::transform::Axis;
use crate::device::cpu::simd::Simd;

const POINTS: usize = 5;
const SIDE: usize = 3;

const A: f32 = 0.375;
const B: f32 = 1.25;
const A2: f32 = A * A;
const B2: f32 = B * B;

pub(super) struct Source;

impl Axis<POINTS, POINTS> for Source {
    #[inline(always)]
    fn apply<S: Simd>(load: impl Fn(usize) -> S, mut store: impl FnMut(usize, S)) {
        let (d0, d1, d2, d3, d4) = (load(0), load(1), load(2), load(3), load(4));
        let (minus_a2, minus_b2) = (d0.like(-A2), d0.like(-B2));
        let (even_a, odd_a) = (d0.like(A).mul(minus_b2.fma(d0, d2)), minus_b2.fma(d1, d3));
        let (even_b, odd_b) = (d0.like(B).mul(minus_a2.fma(d0, d2)), minus_a2.fma(d1, d3));
        store(0, odd_a.add(even_a));
        store(1, odd_a.sub(even_a));
        store(2, odd_b.add(even_b));
        store(3, odd_b.sub(even_b));
        store(4, d0.like(A2 * B2).fma(d0, d0.like(-(A2 + B2)).fma(d2, d4)));
    }
}

/// The transform of the weight, and of dy for the weight gradient: both have three values.
pub(super) struct Kernel;

impl Axis<SIDE, POINTS> for Kernel {
    #[inline(always)]
    fn apply<S: Simd>(load: impl Fn(usize) -> S, mut store: impl FnMut(usize, S)) {
        let (g0, g1, g2) = (load(0), load(1), load(2));
        let (over_a, over_b) = (g0.like(1.0 / (2.0 * A * (A2 - B2))), g0.like(1.0 / (2.0 * B * (B2 - A2))));
        let (even_a, odd_a) = (g0.like(A2).fma(g2, g0), g0.like(A).mul(g1));
        let (even_b, odd_b) = (g0.like(B2).fma(g2, g0), g0.like(B).mul(g1));
        store(0, over_a.mul(odd_a.add(even_a)));
        store(1, over_a.mul(odd_a.sub(even_a)));
        store(2, over_b.mul(odd_b.add(even_b)));
        store(3, over_b.mul(odd_b.sub(even_b)));
        store(4, g2);
    }
}

/// The transform back to pixels, and to the weight gradient: both have three values.
pub(super) struct Output;

impl Axis<POINTS, SIDE> for Output {
    #[inline(always)]
    fn apply<S: Simd>(load: impl Fn(usize) -> S, mut store: impl FnMut(usize, S)) {
        let (m0, m1, m2, m3, m4) = (load(0), load(1), load(2), load(3), load(4));
        let (even_a, odd_a, even_b, odd_b) = (m0.add(m1), m0.sub(m1), m2.add(m3), m2.sub(m3));
        store(0, even_a.add(even_b));
        store(1, m0.like(A).fma(odd_a, m0.like(B).mul(odd_b)));
        store(2, m0.like(A2).fma(even_a, m0.like(B2).fma(even_b, m4)));
    }
}
