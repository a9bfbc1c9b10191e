//! The CPU as a device: a pool of threads and the widest instruction set the machine has. Ops ask it to run closures
//! compiled for that instruction set and to spread index ranges over the threads; it knows no op.

mod ceilings;
pub mod gemm;
pub mod memory;
mod pool;
pub mod simd;

use crate::error::{Error, Result};
use pool::Pool;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Range;

/// The instruction sets kernels are compiled for. Chosen at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isa {
    Portable,
    Neon,
    Avx2,
    Avx512,
}

impl Isa {
    /// The environment variable that names one to use instead of the widest.
    pub const VARIABLE: &str = "POLYHEAD_ISA";

    const ALL: [Isa; 4] = [Isa::Portable, Isa::Neon, Isa::Avx2, Isa::Avx512];

    /// What kernels run with: the one that [`Isa::VARIABLE`] names, else the widest this machine has.
    ///
    /// # Errors
    /// A word that names none, or one this machine lacks.
    pub fn chosen() -> Result<Isa> {
        match std::env::var_os(Isa::VARIABLE).filter(|word| !word.is_empty()) {
            Some(word) => Isa::named(&word.to_string_lossy(), &Isa::available()),
            None => Ok(Isa::detect()),
        }
    }

    fn named(word: &str, available: &[Isa]) -> Result<Isa> {
        let Some(isa) = Isa::ALL.into_iter().find(|isa| isa.name() == word) else {
            let message = format!("{}={word}: expected one of {}", Isa::VARIABLE, list(&Isa::ALL));
            return Err(Error::Usage(message));
        };
        isa.among(available).map_err(|e| Error::Usage(format!("{}={word}: {e}", Isa::VARIABLE)))
    }

    /// Itself where it is one of `available`.
    fn among(self, available: &[Isa]) -> Result<Isa> {
        match available.contains(&self) {
            true => Ok(self),
            false => Err(Error::Usage(format!("this machine has no {self}; it has {}", list(available)))),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Neon => "neon",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }

    /// The widest this machine has.
    pub fn detect() -> Isa {
        Isa::available().last().copied().unwrap_or(Isa::Portable)
    }

    /// All this machine has, narrowest first; tests run every one of them.
    pub fn available() -> Vec<Isa> {
        let mut all = vec![Isa::Portable];
        #[cfg(target_arch = "aarch64")]
        all.push(Isa::Neon);
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                all.push(Isa::Avx2);
            }
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512bw")
            {
                all.push(Isa::Avx512);
            }
        }
        all
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn list(isas: &[Isa]) -> String {
    isas.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ")
}

/// Threads and instruction set. Results never depend on the number of threads: the order of every sum follows from shapes.
pub struct Cpu {
    isa: Isa,
    threads: usize,
    pool: Pool,
}

impl Cpu {
    /// With [`Isa::chosen`]. `threads` 0 means one per core of this machine.
    ///
    /// # Errors
    /// Those of [`Isa::chosen`], or the threads cannot be started.
    pub fn new(threads: usize) -> Result<Cpu> {
        Cpu::with_isa(threads, Isa::chosen()?)
    }

    /// As [`Cpu::new`], for an instruction set that the caller names (tests run all there are).
    ///
    /// # Errors
    /// The machine lacks `isa`, or the threads cannot be started.
    pub fn with_isa(threads: usize, isa: Isa) -> Result<Cpu> {
        let isa = isa.among(&Isa::available())?;
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
            n => n,
        };
        let pool =
            Pool::new(threads).map_err(|e| Error::Other(format!("cannot start {threads} compute threads: {e}")))?;
        Ok(Cpu { isa, threads, pool })
    }

    pub fn isa(&self) -> Isa {
        self.isa
    }

    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `f` compiled for this CPU's instruction set. `f` must be `#[inline(always)]` for that to mean anything:
    /// `cpu.vectorise(#[inline(always)] || …)`.
    #[inline]
    pub fn vectorise<R>(&self, f: impl FnOnce() -> R) -> R {
        simd::vectorise(self.isa, f)
    }

    /// Calls `f(i)` for every `i` of `0..tasks`, spread over the threads in no particular order, each call compiled
    /// for the instruction set. `f` must be `#[inline(always)]`.
    pub fn parallel(&self, tasks: usize, f: impl Fn(usize) + Sync) {
        if tasks <= 1 || self.threads == 1 {
            return simd::vectorise(
                self.isa,
                #[inline(always)]
                || {
                    // A plain loop: std's adaptor is a function of its own, compiled for the baseline.
                    for i in 0..tasks {
                        f(i);
                    }
                },
            );
        }
        let isa = self.isa;
        self.pool.run(tasks, &|i| {
            simd::vectorise(
                isa,
                #[inline(always)]
                || f(i),
            )
        });
    }

    /// Cuts `data` into pieces of `chunk` elements (the last may be shorter) and calls `f(piece index, piece)` on the
    /// threads. `f` must be `#[inline(always)]`.
    pub fn parallel_chunks<T: Send>(&self, data: &mut [T], chunk: usize, f: impl Fn(usize, &mut [T]) + Sync) {
        let len = data.len();
        let shared = SharedMut::new(data);
        self.parallel(
            len.div_ceil(chunk.max(1)),
            #[inline(always)]
            |i| {
                let range = i * chunk..((i + 1) * chunk).min(len);
                // SAFETY: the ranges of different `i` do not overlap, and each `i` is visited once.
                f(i, unsafe { shared.range(range) })
            },
        );
    }
}

/// A mutable slice several threads write disjoint ranges of.
pub struct SharedMut<'a, T> {
    start: *mut T,
    len: usize,
    lifetime: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: access goes through `range`, whose caller promises that ranges in use at the same time are disjoint.
unsafe impl<T: Send> Sync for SharedMut<'_, T> {}
// SAFETY: as above; the slice itself may be used from any thread when `T` may.
unsafe impl<T: Send> Send for SharedMut<'_, T> {}

impl<'a, T> SharedMut<'a, T> {
    pub fn new(data: &'a mut [T]) -> Self {
        SharedMut { start: data.as_mut_ptr(), len: data.len(), lifetime: std::marker::PhantomData }
    }

    /// Where `range` begins, for kernels that write stretches of it at a stride.
    #[inline(always)]
    pub fn pointer(&self, range: Range<usize>) -> *mut T {
        assert!(range.start <= range.end && range.end <= self.len);
        // Within the slice by the assertion.
        self.start.wrapping_add(range.start)
    }

    /// # Safety
    /// No two ranges that overlap may be alive at the same time.
    #[allow(clippy::mut_from_ref)]
    #[inline(always)]
    pub unsafe fn range(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: within the slice by the assertion; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.end - range.start) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instruction_set_goes_by_its_word_in_the_variable_and_in_files() {
        for isa in Isa::ALL {
            assert_eq!(Isa::named(isa.name(), &Isa::ALL).unwrap(), isa);
            assert_eq!(serde_json::to_value(isa).unwrap(), isa.name());
        }
        assert!(Isa::available().iter().all(|isa| Isa::ALL.contains(isa)));
    }

    #[test]
    fn a_word_that_is_none_and_a_set_the_machine_lacks_are_refused_in_one_sentence() {
        let refusal = |word, available: &[Isa]| {
            let error = Isa::named(word, available).unwrap_err();
            (error.exit_code(), error.to_string())
        };
        let unknown = "POLYHEAD_ISA=AVX: expected one of portable, neon, avx2, avx512";
        assert_eq!(refusal("AVX", &Isa::ALL), (2, unknown.to_owned()));
        let lacking = "POLYHEAD_ISA=avx512: this machine has no avx512; it has portable, avx2";
        assert_eq!(refusal("avx512", &[Isa::Portable, Isa::Avx2]), (2, lacking.to_owned()));
    }
}
