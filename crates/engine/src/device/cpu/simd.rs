//! Vector registers: one trait, one type per instruction set, and the dispatch that compiles a closure for each.

use super::{Isa, IsaName};

/// Runs `f` compiled for `isa`.
#[inline]
pub fn vectorise<R>(isa: Isa, f: impl FnOnce() -> R) -> R {
    match isa.name() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` is only created if the machine has it.
        IsaName::Avx512 => unsafe { x86::F32x16::vectorise(f) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        IsaName::Avx2 => unsafe { x86::F32x8::vectorise(f) },
        _ => f(),
    }
}

/// The use of a prefetched cache line, and the cache level to load it into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefetch {
    /// It will be read soon.
    Read,
    /// It will be written soon.
    Write,
    /// It will be read later, so it is loaded into L2 only.
    ReadFromL2,
}

/// Prefetches the cache line of any address. It is a hint: without such an instruction nothing happens.
#[inline(always)]
pub fn prefetch(how: Prefetch, address: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 has SSE, machines without the write hint ignore it, and a prefetch faults at no address.
    unsafe {
        use std::arch::x86_64::*;
        match how {
            Prefetch::Read => _mm_prefetch::<_MM_HINT_T0>(address.cast()),
            Prefetch::Write => _mm_prefetch::<_MM_HINT_ET0>(address.cast()),
            Prefetch::ReadFromL2 => _mm_prefetch::<_MM_HINT_T1>(address.cast()),
        }
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a prefetch touches neither registers nor flags and faults at no address.
    unsafe {
        use std::arch::asm;
        match how {
            Prefetch::Read => asm!("prfm pldl1keep, [{0}]", in(reg) address, options(nostack, readonly)),
            Prefetch::Write => asm!("prfm pstl1keep, [{0}]", in(reg) address, options(nostack, readonly)),
            Prefetch::ReadFromL2 => asm!("prfm pldl2keep, [{0}]", in(reg) address, options(nostack, readonly)),
        }
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = (how, address);
}

/// A register of `LANES` f32. A value exists only if the machine has its instruction set (the callers of the unsafe
/// constructors promise that), so arithmetic on values is safe.
pub trait Simd: Copy {
    /// The number of f32 per register.
    const LANES: usize;
    /// The number of rows of a matrix tile two registers wide whose accumulators, with two operands, fill the register file.
    const TILE_ROWS: usize;

    /// Runs `f` compiled for this instruction set.
    ///
    /// # Safety
    /// The machine has the instruction set.
    unsafe fn vectorise<R>(f: impl FnOnce() -> R) -> R;

    /// # Safety
    /// The machine has the instruction set.
    unsafe fn splat(value: f32) -> Self;

    /// `value` in every lane; `self` proves that the machine has the instruction set.
    #[inline(always)]
    fn like(self, value: f32) -> Self {
        // SAFETY: `self` exists, so the machine has the instruction set.
        unsafe { Self::splat(value) }
    }

    /// # Safety
    /// The machine has the instruction set; `from` is readable for `LANES` f32.
    unsafe fn load(from: *const f32) -> Self;

    /// # Safety
    /// `to` is writable for `LANES` f32.
    unsafe fn store(self, to: *mut f32);

    /// `self * b + c`, with a single rounding if the instruction set has such an operation.
    fn fma(self, b: Self, c: Self) -> Self;

    /// The sum, lane by lane.
    fn add(self, other: Self) -> Self;

    /// The difference, lane by lane.
    fn sub(self, other: Self) -> Self;

    /// The product, lane by lane.
    fn mul(self, other: Self) -> Self;

    /// The larger of the two, lane by lane; NaN if `self` is NaN.
    fn or_at_least(self, floor: Self) -> Self;
}

/// Four lanes as an array, for any machine; the compiler may turn it into vector instructions.
#[derive(Clone, Copy)]
pub struct Portable([f32; 4]);

impl Simd for Portable {
    const LANES: usize = 4;
    const TILE_ROWS: usize = 4;

    #[inline(always)]
    unsafe fn vectorise<R>(f: impl FnOnce() -> R) -> R {
        f()
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Portable([value; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: readable by the caller's promise; an array of f32 is aligned as f32.
        Portable(unsafe { from.cast::<[f32; 4]>().read() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: writable by the caller's promise; an array of f32 is aligned as f32.
        unsafe { to.cast::<[f32; 4]>().write(self.0) }
    }

    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        Portable(std::array::from_fn(|i| self.0[i] * b.0[i] + c.0[i]))
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Portable(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Portable(std::array::from_fn(|i| self.0[i] - other.0[i]))
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Portable(std::array::from_fn(|i| self.0[i] * other.0[i]))
    }

    #[inline(always)]
    fn or_at_least(self, floor: Self) -> Self {
        Portable(std::array::from_fn(|i| if self.0[i] < floor.0[i] { floor.0[i] } else { self.0[i] }))
    }
}

#[cfg(target_arch = "x86_64")]
pub use x86::{F32x8, F32x16};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Simd;
    use std::arch::x86_64::*;

    /// AVX-512.
    #[derive(Clone, Copy)]
    pub struct F32x16(__m512);

    impl Simd for F32x16 {
        const LANES: usize = 16;
        const TILE_ROWS: usize = 14;

        #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,fma,avx2,bmi2")]
        unsafe fn vectorise<R>(f: impl FnOnce() -> R) -> R {
            f()
        }

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: the caller promises AVX-512.
            F32x16(unsafe { _mm512_set1_ps(value) })
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller promises AVX-512 and 16 readable f32.
            F32x16(unsafe { _mm512_loadu_ps(from) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the value proves AVX-512; the caller promises 16 writable f32.
            unsafe { _mm512_storeu_ps(to, self.0) }
        }

        #[inline(always)]
        fn fma(self, b: Self, c: Self) -> Self {
            // SAFETY: the value proves AVX-512.
            F32x16(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
        }

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            // SAFETY: the value proves AVX-512.
            F32x16(unsafe { _mm512_add_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn sub(self, other: Self) -> Self {
            // SAFETY: the value proves AVX-512.
            F32x16(unsafe { _mm512_sub_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            // SAFETY: the value proves AVX-512.
            F32x16(unsafe { _mm512_mul_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn or_at_least(self, floor: Self) -> Self {
            // SAFETY: the value proves AVX-512. If either operand is NaN, the instruction returns the second.
            F32x16(unsafe { _mm512_max_ps(floor.0, self.0) })
        }
    }

    /// AVX2 with FMA.
    #[derive(Clone, Copy)]
    pub struct F32x8(__m256);

    impl Simd for F32x8 {
        const LANES: usize = 8;
        const TILE_ROWS: usize = 6;

        #[target_feature(enable = "avx2,fma,bmi2")]
        unsafe fn vectorise<R>(f: impl FnOnce() -> R) -> R {
            f()
        }

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: the caller promises AVX2.
            F32x8(unsafe { _mm256_set1_ps(value) })
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller promises AVX2 and 8 readable f32.
            F32x8(unsafe { _mm256_loadu_ps(from) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the value proves AVX2; the caller promises 8 writable f32.
            unsafe { _mm256_storeu_ps(to, self.0) }
        }

        #[inline(always)]
        fn fma(self, b: Self, c: Self) -> Self {
            // SAFETY: the value proves AVX2 with FMA.
            F32x8(unsafe { _mm256_fmadd_ps(self.0, b.0, c.0) })
        }

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            // SAFETY: the value proves AVX2.
            F32x8(unsafe { _mm256_add_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn sub(self, other: Self) -> Self {
            // SAFETY: the value proves AVX2.
            F32x8(unsafe { _mm256_sub_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            // SAFETY: the value proves AVX2.
            F32x8(unsafe { _mm256_mul_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn or_at_least(self, floor: Self) -> Self {
            // SAFETY: the value proves AVX2. If either operand is NaN, the instruction returns the second.
            F32x8(unsafe { _mm256_max_ps(floor.0, self.0) })
        }
    }
}

#[cfg(target_arch = "aarch64")]
pub use neon::F32x4;

#[cfg(target_arch = "aarch64")]
mod neon {
    use super::Simd;
    use std::arch::aarch64::*;

    /// NEON, which every aarch64 has.
    #[derive(Clone, Copy)]
    pub struct F32x4(float32x4_t);

    impl Simd for F32x4 {
        const LANES: usize = 4;
        const TILE_ROWS: usize = 12;

        #[inline(always)]
        unsafe fn vectorise<R>(f: impl FnOnce() -> R) -> R {
            f()
        }

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: every aarch64 has NEON.
            F32x4(unsafe { vdupq_n_f32(value) })
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller promises 4 readable f32.
            F32x4(unsafe { vld1q_f32(from) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller promises 4 writable f32.
            unsafe { vst1q_f32(to, self.0) }
        }

        #[inline(always)]
        fn fma(self, b: Self, c: Self) -> Self {
            // SAFETY: every aarch64 has NEON.
            F32x4(unsafe { vfmaq_f32(c.0, self.0, b.0) })
        }

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            // SAFETY: every aarch64 has NEON.
            F32x4(unsafe { vaddq_f32(self.0, other.0) })
        }

        #[inline(always)]
        fn sub(self, other: Self) -> Self {
            // SAFETY: every aarch64 has NEON.
            F32x4(unsafe { vsubq_f32(self.0, other.0) })
        }

        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            // SAFETY: every aarch64 has NEON.
            F32x4(unsafe { vmulq_f32(self.0, other.0) })
        }

        #[inline(always)]
        fn or_at_least(self, floor: Self) -> Self {
            // SAFETY: every aarch64 has NEON. If either operand is NaN, the result is NaN.
            F32x4(unsafe { vmaxq_f32(self.0, floor.0) })
        }
    }
}
