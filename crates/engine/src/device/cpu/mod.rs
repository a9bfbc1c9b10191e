//! The CPU as a device: a pool of threads and the widest instruction set that the machine has. Ops use it to run closures
//! compiled for that instruction set and to spread index ranges over the threads. This module contains no ops.

mod ceilings;
pub mod gemm;
mod isa;
pub mod memory;
mod pool;
pub mod simd;

pub use isa::{Isa, IsaName};

use crate::error::Result;
use crate::threads::Threads;
use pool::Pool;
use std::ops::Range;

/// Threads and instruction set. Results never depend on the number of threads: shapes alone decide the order of every sum.
pub struct Cpu {
    isa: Isa,
    threads: usize,
    pool: Pool,
}

impl Cpu {
    /// A CPU with the instruction set [`Isa::chosen`]. `threads` 0 means one per core of this machine.
    ///
    /// # Errors
    /// The errors of [`Isa::chosen`], or threads that cannot be started.
    pub fn new(threads: usize) -> Result<Cpu> {
        Cpu::with_isa(threads, Isa::chosen()?)
    }

    /// Like [`Cpu::new`], with an instruction set from the caller. Tests use it to run all that the machine has.
    ///
    /// # Errors
    /// The threads cannot be started.
    pub fn with_isa(threads: usize, isa: Isa) -> Result<Cpu> {
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
            n => n,
        };
        let all = Threads { count: threads, purpose: "to compute", lower: "--threads" };
        let pool = Pool::new(threads).map_err(|e| all.refused(&e))?;
        Ok(Cpu { isa, threads, pool })
    }

    /// The instruction set that closures are compiled for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The number of threads that compute, including the caller's.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `f` compiled for this CPU's instruction set. This only has an effect if `f` is `#[inline(always)]`:
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
                    // A plain loop, because std's adaptor is a separate function that would be compiled for the baseline.
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

/// A mutable slice of which several threads write disjoint ranges.
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
    /// Borrows the slice as long as this value lives.
    pub fn new(data: &'a mut [T]) -> Self {
        SharedMut { start: data.as_mut_ptr(), len: data.len(), lifetime: std::marker::PhantomData }
    }

    /// The start of `range`, for kernels that write parts of it at a stride.
    #[inline(always)]
    pub fn pointer(&self, range: Range<usize>) -> *mut T {
        assert!(range.start <= range.end && range.end <= self.len);
        // It lies within the slice by the assertion.
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
