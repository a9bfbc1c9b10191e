//! The highest rates a GPU reaches, for benches: a copy within its memory, and a large matrix product by cuBLAS if that is
//! installed.

use super::Memory;
use super::driver::{Driver, failed};
use super::events::Event;
use super::libraries::{self, Shared};
use crate::error::{Error, Result};
use cudarc::cublas::sys as blas;
use cudarc::driver::{result, sys};
use std::ffi::{c_int, c_void};

/// The number of times each rate is measured; the best counts.
const REPEATS: usize = 10;
const COPY_BYTES: usize = 1 << 30;
/// Rows, columns and depth of the product: large enough that launching it costs nothing in comparison. Each matrix has 128 MiB.
const SIDE: usize = 8192;

impl Driver {
    /// See [`super::Cuda::copy_ceiling`].
    pub fn copy_ceiling(&mut self) -> Result<f64> {
        let (from, to) = (self.allocate(COPY_BYTES)?, self.allocate(COPY_BYTES)?);
        let stream = self.stream;
        let seconds = self.best_seconds(|| {
            // SAFETY: both blocks were just made with this size.
            unsafe { result::memcpy_dtod_async(to.address, from.address, COPY_BYTES, stream) }
                .map_err(failed("cuMemcpyDtoDAsync"))
        })?;
        self.free(from)?;
        self.free(to)?;
        Ok(2.0 * COPY_BYTES as f64 / seconds)
    }

    /// See [`super::Cuda::multiply_ceiling`].
    pub fn multiply_ceiling(&mut self) -> Result<Option<f64>> {
        let Some(library) = libraries::cublas() else { return Ok(None) };
        self.bind()?;
        // A cuBLAS that does not start (made for another driver) is treated as missing, so that the earlier timings are not lost.
        let Ok(handle) = Handle::new(library, self.stream) else { return Ok(None) };
        let numbers = numbers(SIDE * SIDE);
        let [a, b, c] = [self.allocate(numbers.len())?, self.allocate(numbers.len())?, self.allocate(numbers.len())?];
        self.upload(a.address, &numbers)?;
        self.upload(b.address, &numbers)?;
        let seconds = self.best_seconds(|| handle.multiply(a, b, c))?;
        for memory in [a, b, c] {
            self.free(memory)?;
        }
        Ok(Some(2.0 * (SIDE as f64).powi(3) / seconds))
    }

    /// The shortest of some runs of the work that `start` puts on the stream, after one warm-up run.
    fn best_seconds(&self, mut start: impl FnMut() -> Result<()>) -> Result<f64> {
        start()?;
        let events: Vec<Event> = (0..=REPEATS).map(|_| Event::new()).collect::<Result<_>>()?;
        events[0].record(self.stream)?;
        for event in &events[1..] {
            start()?;
            event.record(self.stream)?;
        }
        self.synchronize()?;
        let times: Vec<f64> = events.windows(2).map(|pair| pair[0].until(&pair[1])).collect::<Result<_>>()?;
        Ok(times.into_iter().fold(f64::INFINITY, f64::min) / 1e3)
    }
}

/// A cuBLAS handle on the current context.
struct Handle {
    handle: blas::cublasHandle_t,
    gemm: GemmEx,
    destroy: unsafe extern "C" fn(blas::cublasHandle_t) -> Status,
}

/// 0 for success.
type Status = c_int;
/// The declaration in cuBLAS's manual: two operations, three sizes, and each matrix with its type and leading dimension.
type GemmEx = unsafe extern "C" fn(
    blas::cublasHandle_t,
    blas::cublasOperation_t,
    blas::cublasOperation_t,
    c_int,
    c_int,
    c_int,
    *const c_void,
    *const c_void,
    blas::cudaDataType,
    c_int,
    *const c_void,
    blas::cudaDataType,
    c_int,
    *const c_void,
    *mut c_void,
    blas::cudaDataType,
    c_int,
    blas::cublasComputeType_t,
    blas::cublasGemmAlgo_t,
) -> Status;

impl Handle {
    fn new(library: &Shared, stream: sys::CUstream) -> Result<Handle> {
        type Create = unsafe extern "C" fn(*mut blas::cublasHandle_t) -> Status;
        type SetStream = unsafe extern "C" fn(blas::cublasHandle_t, blas::cudaStream_t) -> Status;
        let mut handle = std::ptr::null_mut();
        // SAFETY: the types are the manual's, and `handle` is the address the handle is written to.
        unsafe {
            let (gemm, destroy) = (library.function("cublasGemmEx")?, library.function("cublasDestroy_v2")?);
            check("cublasCreate", library.function::<Create>("cublasCreate_v2")?(&mut handle))?;
            let handle = Handle { handle, gemm, destroy };
            // The driver's and cuBLAS's stream types are the same C type under two names.
            let set_stream = library.function::<SetStream>("cublasSetStream_v2")?;
            check("cublasSetStream", set_stream(handle.handle, stream.cast()))?;
            Ok(handle)
        }
    }

    /// C = Aᵀ·B in bf16 with sums in f32. Both factors are read along their depth, as a 1×1 convolution's maps and weights are.
    fn multiply(&self, a: Memory, b: Memory, c: Memory) -> Result<()> {
        let (one, zero) = (1.0f32, 0.0f32);
        let side = SIDE as c_int;
        let bf16 = blas::cudaDataType::CUDA_R_16BF;
        // SAFETY: three matrices of SIDE² bf16 numbers; the two factors are read from the host before the call returns.
        let done = unsafe {
            (self.gemm)(
                self.handle,
                blas::cublasOperation_t::CUBLAS_OP_T,
                blas::cublasOperation_t::CUBLAS_OP_N,
                side,
                side,
                side,
                (&raw const one).cast(),
                a.address as *const _,
                bf16,
                side,
                b.address as *const _,
                bf16,
                side,
                (&raw const zero).cast(),
                c.address as *mut _,
                bf16,
                side,
                blas::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                blas::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        };
        check("cublasGemmEx", done)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: made by `new` and destroyed once. A failure here cannot be handled.
        let _ = unsafe { (self.destroy)(self.handle) };
    }
}

fn check(call: &str, status: Status) -> Result<()> {
    if status == 0 { Ok(()) } else { Err(Error::Other(format!("cuBLAS refused {call}: status {status}"))) }
}

/// bf16 numbers between −1 and 1. Zeros would draw less power, so that the clocks would stay higher than in a network's
/// convolutions.
fn numbers(len: usize) -> Vec<u8> {
    let number = |i: u64| {
        let bits = (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32;
        let number = bits / (1 << 23) as f32 - 1.0;
        ((number.to_bits() >> 16) as u16).to_ne_bytes()
    };
    (0..len as u64).flat_map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factors_vary() {
        let bytes = numbers(1 << 20);
        assert_eq!(bytes.len(), 2 << 20);
        let number = |pair: &[u8]| f64::from(f32::from_bits(u32::from(u16::from_ne_bytes([pair[0], pair[1]])) << 16));
        let values: Vec<f64> = bytes.chunks_exact(2).map(number).collect();
        assert!(values.iter().all(|v| (-1.0..=1.0).contains(v)));
        let mean = |of: &dyn Fn(f64) -> f64| values.iter().map(|&v| of(v)).sum::<f64>() / values.len() as f64;
        // Uniform numbers have mean 0 and mean square ⅓; truncation removes at most 2⁻⁷ of each.
        assert!(mean(&|v| v).abs() < 1e-2 && (mean(&|v| v * v) - 1.0 / 3.0).abs() < 1e-2);
    }
}
