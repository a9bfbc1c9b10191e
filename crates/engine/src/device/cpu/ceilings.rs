//! The highest rates this machine reaches, for benches: a loop of multiply-adds in registers, and a copy larger than its caches.

use super::simd::{self, Simd};
use super::{Cpu, IsaName};
use std::time::Instant;

/// The number of independent accumulators: more than the latency of a multiply-add times how many start per cycle.
const CHAINS: usize = 12;
const STEPS: usize = 1 << 18;
const COPY_FLOATS: usize = 1 << 25;
const REPEATS: usize = 5;

impl Cpu {
    /// Multiply-adds per second of all threads, each counted as two operations; the best of a few runs.
    pub fn multiply_ceiling(&self) -> f64 {
        let lanes = match self.isa().name() {
            #[cfg(target_arch = "x86_64")]
            IsaName::Avx512 => simd::F32x16::LANES,
            #[cfg(target_arch = "x86_64")]
            IsaName::Avx2 => simd::F32x8::LANES,
            #[cfg(target_arch = "aarch64")]
            IsaName::Neon => simd::F32x4::LANES,
            _ => simd::Portable::LANES,
        };
        let operations = (2 * lanes * CHAINS * STEPS * self.threads()) as f64;
        let seconds = (0..REPEATS).map(|_| self.time(|cpu| cpu.multiply_once())).fold(f64::INFINITY, f64::min);
        operations / seconds
    }

    fn multiply_once(&self) {
        let isa = self.isa();
        // One task per thread; the loop is long enough that no thread takes a second one.
        self.parallel(self.threads(), |_| {
            // SAFETY: the machine has the instruction set of its Cpu.
            let sum = unsafe {
                match isa.name() {
                    #[cfg(target_arch = "x86_64")]
                    IsaName::Avx512 => multiply::<simd::F32x16>(),
                    #[cfg(target_arch = "x86_64")]
                    IsaName::Avx2 => multiply::<simd::F32x8>(),
                    #[cfg(target_arch = "aarch64")]
                    IsaName::Neon => multiply::<simd::F32x4>(),
                    _ => multiply::<simd::Portable>(),
                }
            };
            std::hint::black_box(sum);
        });
    }

    /// Bytes per second of a copy by all threads, counting both reads and writes; the best of a few runs.
    pub fn copy_ceiling(&self) -> f64 {
        let from = vec![1.0f32; COPY_FLOATS];
        let mut to = vec![0.0f32; COPY_FLOATS];
        let chunk = COPY_FLOATS.div_ceil(self.threads());
        let mut copy = |cpu: &Cpu| {
            cpu.parallel_chunks(&mut to, chunk, |i, to| to.copy_from_slice(&from[i * chunk..][..to.len()]));
        };
        let seconds = (0..REPEATS).map(|_| self.time(&mut copy)).fold(f64::INFINITY, f64::min);
        (2 * 4 * COPY_FLOATS) as f64 / seconds
    }

    fn time(&self, work: impl FnOnce(&Cpu)) -> f64 {
        let start = Instant::now();
        work(self);
        start.elapsed().as_secs_f64()
    }
}

/// # Safety
/// The machine has the instruction set.
unsafe fn multiply<S: Simd>() -> f32 {
    // SAFETY: the caller promises the instruction set; `out` is as long as a register.
    unsafe {
        S::vectorise(
            #[inline(always)]
            || {
                // Values that the compiler does not know; otherwise it would compute the sum itself.
                let [a, b, start] = std::hint::black_box([0.999, 1e-3, 1.0]).map(|v| S::splat(v));
                let mut sums = [start; CHAINS];
                for _ in 0..STEPS {
                    for sum in &mut sums {
                        *sum = a.fma(*sum, b);
                    }
                }
                let mut out = [0.0f32; 16];
                let total = sums[1..].iter().fold(sums[0], |total, &sum| total.add(sum));
                total.store(out.as_mut_ptr());
                out[0]
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceilings_are_plausible() {
        let cpu = Cpu::new(1).unwrap();
        // Wide enough for slow and fast cores, narrow enough to notice a wrong unit.
        let multiply = cpu.multiply_ceiling();
        assert!((1e9..1e12).contains(&multiply), "{multiply:e}");
        let copy = cpu.copy_ceiling();
        assert!((1e8..1e12).contains(&copy), "{copy:e}");
    }
}
