//! Plain bf16 convolutions by cuDNN, if the library is present. They serve as a reference for speed and as one more choice for a
//! layer; nothing depends on them.
//!
//! Not yet run on a GPU. On the shim a plain loop replaces cuDNN, so that tests can check the calls.

use super::cudnn_calls::Calls;
use super::{Address, Memory, libraries};
use crate::error::{Error, Result};
use cudarc::cudnn::{result::CudnnError, sys};
use cudarc::driver::sys::CUstream;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{c_int, c_void};
use std::fmt;

/// The most workspace that an algorithm may use.
const WORKSPACE_BYTES: usize = 256 << 20;
/// The first version that has the functions and the number format used here.
const OLDEST: usize = 90_000;
/// The number of algorithms to ask for; no direction has more.
const ALGORITHMS: usize = 16;

/// Which of the three operands is computed from the other two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// y from x and the weight.
    Fprop,
    /// x's gradient from y's and the weight.
    Dgrad,
    /// The weight's gradient from y's and x.
    Wgrad,
}

/// x `[N, H, W, C]`, weight `[K, R, S, C]`, y `[N, P, Q, K]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sizes {
    pub x: [usize; 4],
    pub weight: [usize; 4],
    pub y: [usize; 4],
    pub stride: usize,
    pub padding: usize,
}

/// One convolution as data. The operand that [`Direction`] names is overwritten completely.
#[derive(Clone, Debug, PartialEq)]
pub struct Convolution {
    pub direction: Direction,
    pub sizes: Sizes,
    pub x: Address,
    pub weight: Address,
    pub y: Address,
    /// Workspace of the size returned by [`Cuda::cudnn_workspace`](super::Cuda::cudnn_workspace).
    pub workspace: Address,
}

impl fmt::Display for Convolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cuDNN's {:?} of {:?}", self.direction, self.sizes)
    }
}

/// Why a convolution was not computed.
pub(super) enum Refusal {
    /// The library does not support it and reports so before it changes anything.
    NotSupported(String),
    Failed(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal::Failed(error)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        match refusal {
            Refusal::NotSupported(words) => Error::Other(words),
            Refusal::Failed(error) => error,
        }
    }
}

/// Whether the status is `CUDNN_STATUS_NOT_SUPPORTED` or one of its more specific forms. Any other status is a failure of this
/// call or of earlier work on the device.
fn is_not_supported(status: sys::cudnnStatus_t) -> bool {
    let not_supported = sys::cudnnStatus_t::CUDNN_STATUS_NOT_SUPPORTED as u32;
    (not_supported..not_supported + 1000).contains(&(status as u32))
}

/// cuDNN, opened on a context.
pub struct Cudnn {
    calls: Calls,
    handle: sys::cudnnHandle_t,
    /// `None` for convolutions for which the library has no suitable algorithm.
    plans: HashMap<(Direction, Sizes), Option<Plan>>,
}

// SAFETY: it is only called through the Driver that owns it, which prevents concurrent calls.
unsafe impl Send for Cudnn {}

/// The library's version, major · 10,000 + minor · 100 + patch; `None` if it is missing or too old.
pub fn version() -> Option<usize> {
    libraries::cudnn_version(libraries::cudnn()?).ok().filter(|&version| version >= OLDEST)
}

impl Cudnn {
    /// Opens the library on the calling thread's context, to run on `stream`; `None` if it is missing, too old or fails to start.
    pub fn open(stream: CUstream) -> Option<Cudnn> {
        version()?;
        let calls = Calls::of(libraries::cudnn()?).ok()?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: `handle` is the address the handle is written to.
        unsafe { (calls.create)(&mut handle) }.result().ok()?;
        let cudnn = Cudnn { calls, handle, plans: HashMap::new() };
        // SAFETY: the handle was just made, and the stream outlives it.
        unsafe { (calls.set_stream)(handle, stream.cast()) }.result().ok()?;
        Some(cudnn)
    }

    /// The workspace that one direction of a convolution needs, or `None` if the library has no deterministic algorithm for it.
    ///
    /// # Errors
    /// The library fails for a reason other than not supporting the convolution.
    pub fn workspace_bytes(&mut self, direction: Direction, sizes: &Sizes) -> Result<Option<usize>> {
        Ok(self.plan(direction, sizes)?.map(|plan| plan.workspace_bytes))
    }

    /// Starts the convolution on the library's stream.
    ///
    /// # Errors
    /// The library does not support it, or fails.
    pub(super) fn run(&mut self, convolution: &Convolution, blocks: &[Memory]) -> Result<(), Refusal> {
        let (calls, handle) = (self.calls, self.handle);
        let plan = self.plan(convolution.direction, &convolution.sizes)?;
        let plan = plan.ok_or_else(|| Refusal::NotSupported(format!("{convolution}: there is no algorithm")))?;
        let at = |a: Address| (blocks[a.block].address + a.offset as u64) as *mut c_void;
        let (x, weight, y) = (at(convolution.x), at(convolution.weight), at(convolution.y));
        let (workspace, bytes) = (at(convolution.workspace), plan.workspace_bytes);
        let (one, zero) = (1.0f32, 0.0f32);
        let (one, zero) = ((&raw const one).cast(), (&raw const zero).cast());
        let Plan { x: dx, weight: dw, y: dy, convolution: dc, .. } = plan;
        let (dx, dw, dy, dc) = (dx.descriptor, dw.descriptor, dy.descriptor, dc.descriptor);
        // SAFETY: the descriptors live in the plan and describe the operands. The tests check that the operands are as large as
        // the op's contract says, and the workspace has the size that was asked for.
        let done = unsafe {
            match plan.algorithm {
                Algorithm::Fprop(a) => {
                    (calls.fprop)(handle, one, dx, x, dw, weight, dc, a, workspace, bytes, zero, dy, y)
                }
                Algorithm::Dgrad(a) => {
                    (calls.dgrad)(handle, one, dw, weight, dy, y, dc, a, workspace, bytes, zero, dx, x)
                }
                Algorithm::Wgrad(a) => {
                    (calls.wgrad)(handle, one, dx, x, dy, y, dc, a, workspace, bytes, zero, dw, weight)
                }
            }
        };
        done.result().map_err(|e| {
            let words = format!("{convolution}: {e}");
            if is_not_supported(e.0) { Refusal::NotSupported(words) } else { Refusal::Failed(Error::Other(words)) }
        })
    }

    fn plan(&mut self, direction: Direction, sizes: &Sizes) -> Result<Option<&Plan>> {
        let plan = match self.plans.entry((direction, *sizes)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => match Plan::new(&self.calls, self.handle, direction, sizes) {
                Ok(plan) => place.insert(plan),
                Err(e) if is_not_supported(e.0) => place.insert(None),
                Err(e) => return Err(Error::Other(format!("cuDNN could not plan {direction:?} of {sizes:?}: {e}"))),
            },
        };
        Ok(plan.as_ref())
    }
}

impl Drop for Cudnn {
    fn drop(&mut self) {
        self.plans.clear();
        // SAFETY: made by `open` and destroyed once. A failure here cannot be handled.
        let _ = unsafe { (self.calls.destroy)(self.handle) };
    }
}

#[derive(Clone, Copy)]
enum Algorithm {
    Fprop(sys::cudnnConvolutionFwdAlgo_t),
    Dgrad(sys::cudnnConvolutionBwdDataAlgo_t),
    Wgrad(sys::cudnnConvolutionBwdFilterAlgo_t),
}

/// The algorithm and the descriptors for one direction of one convolution.
struct Plan {
    x: Tensor,
    weight: Filter,
    y: Tensor,
    convolution: Descriptor,
    algorithm: Algorithm,
    workspace_bytes: usize,
}

impl Plan {
    /// Uses the library's own first choice among the deterministic algorithms.
    fn new(calls: &Calls, handle: sys::cudnnHandle_t, direction: Direction, sizes: &Sizes) -> Made<Option<Plan>> {
        let (x, y) = (Tensor::new(calls, sizes.x)?, Tensor::new(calls, sizes.y)?);
        let weight = Filter::new(calls, sizes.weight)?;
        let convolution = Descriptor::new(calls, sizes.stride, sizes.padding)?;
        let (dx, dw, dy, dc) = (x.descriptor, weight.descriptor, y.descriptor, convolution.descriptor);
        let (most, mut found) = (ALGORITHMS as c_int, 0);
        // SAFETY: all descriptors live, and each list has room for the number of answers asked for; the library fills the first
        // `found` of them, whose fields are then valid.
        let chosen = unsafe {
            match direction {
                Direction::Fprop => {
                    let mut list = [const { std::mem::MaybeUninit::uninit() }; ALGORITHMS];
                    let first = list.as_mut_ptr().cast();
                    (calls.fprop_algorithms)(handle, dx, dw, dc, dy, most, &mut found, first).result()?;
                    first_fit(&list, found, |p: &sys::cudnnConvolutionFwdAlgoPerf_t| {
                        (p.status, p.determinism, p.memory, p.mathType, Algorithm::Fprop(p.algo))
                    })
                }
                Direction::Dgrad => {
                    let mut list = [const { std::mem::MaybeUninit::uninit() }; ALGORITHMS];
                    let first = list.as_mut_ptr().cast();
                    (calls.dgrad_algorithms)(handle, dw, dy, dc, dx, most, &mut found, first).result()?;
                    first_fit(&list, found, |p: &sys::cudnnConvolutionBwdDataAlgoPerf_t| {
                        (p.status, p.determinism, p.memory, p.mathType, Algorithm::Dgrad(p.algo))
                    })
                }
                Direction::Wgrad => {
                    let mut list = [const { std::mem::MaybeUninit::uninit() }; ALGORITHMS];
                    let first = list.as_mut_ptr().cast();
                    (calls.wgrad_algorithms)(handle, dx, dy, dc, dw, most, &mut found, first).result()?;
                    first_fit(&list, found, |p: &sys::cudnnConvolutionBwdFilterAlgoPerf_t| {
                        (p.status, p.determinism, p.memory, p.mathType, Algorithm::Wgrad(p.algo))
                    })
                }
            }
        };
        let Some((algorithm, math, workspace_bytes)) = chosen else { return Ok(None) };
        // The workspace size applies to this algorithm with this math type.
        // SAFETY: the descriptor lives.
        unsafe { (calls.set_math_type)(dc, math) }.result()?;
        Ok(Some(Plan { x, weight, y, convolution, algorithm, workspace_bytes }))
    }
}

type Made<T> = std::result::Result<T, CudnnError>;

/// The first of `found` answers that is supported, deterministic, and fits the workspace.
///
/// # Safety
/// The first `found` entries of `list` are initialised.
unsafe fn first_fit<P>(
    list: &[std::mem::MaybeUninit<P>],
    found: c_int,
    read: impl Fn(&P) -> (sys::cudnnStatus_t, sys::cudnnDeterminism_t, usize, sys::cudnnMathType_t, Algorithm),
) -> Option<(Algorithm, sys::cudnnMathType_t, usize)> {
    let found = usize::try_from(found).unwrap_or(0).min(list.len());
    // SAFETY: the caller promises it.
    let answers = list[..found].iter().map(|p| read(unsafe { p.assume_init_ref() }));
    let fits = |&(status, determinism, bytes, ..): &(_, _, usize, _, _)| {
        status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS
            && determinism == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC
            && bytes <= WORKSPACE_BYTES
    };
    answers.into_iter().find(fits).map(|(_, _, bytes, math, algorithm)| (algorithm, math, bytes))
}

const NUMBERS: sys::cudnnDataType_t = sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16;
const ORDER: sys::cudnnTensorFormat_t = sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC;

/// The library's functions take sizes in the order N, C, H, W, whatever the order in memory.
fn named([n, h, w, c]: [usize; 4]) -> [c_int; 4] {
    [n, c, h, w].map(|size| size as c_int)
}

struct Tensor {
    descriptor: sys::cudnnTensorDescriptor_t,
    destroy: unsafe extern "C" fn(sys::cudnnTensorDescriptor_t) -> sys::cudnnStatus_t,
}

impl Tensor {
    fn new(calls: &Calls, sizes: [usize; 4]) -> Made<Tensor> {
        let mut descriptor = std::ptr::null_mut();
        // SAFETY: `descriptor` is the address the descriptor is written to.
        unsafe { (calls.create_tensor)(&mut descriptor) }.result()?;
        let tensor = Tensor { descriptor, destroy: calls.destroy_tensor };
        let [n, c, h, w] = named(sizes);
        // SAFETY: the descriptor was just made.
        unsafe { (calls.set_tensor)(descriptor, ORDER, NUMBERS, n, c, h, w) }.result()?;
        Ok(tensor)
    }
}

impl Drop for Tensor {
    fn drop(&mut self) {
        // SAFETY: made by `new` and destroyed once.
        let _ = unsafe { (self.destroy)(self.descriptor) };
    }
}

struct Filter {
    descriptor: sys::cudnnFilterDescriptor_t,
    destroy: unsafe extern "C" fn(sys::cudnnFilterDescriptor_t) -> sys::cudnnStatus_t,
}

impl Filter {
    fn new(calls: &Calls, sizes: [usize; 4]) -> Made<Filter> {
        let mut descriptor = std::ptr::null_mut();
        // SAFETY: `descriptor` is the address the descriptor is written to.
        unsafe { (calls.create_filter)(&mut descriptor) }.result()?;
        let filter = Filter { descriptor, destroy: calls.destroy_filter };
        let [k, c, r, s] = named(sizes);
        // SAFETY: the descriptor was just made.
        unsafe { (calls.set_filter)(descriptor, NUMBERS, ORDER, k, c, r, s) }.result()?;
        Ok(filter)
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        // SAFETY: made by `new` and destroyed once.
        let _ = unsafe { (self.destroy)(self.descriptor) };
    }
}

struct Descriptor {
    descriptor: sys::cudnnConvolutionDescriptor_t,
    destroy: unsafe extern "C" fn(sys::cudnnConvolutionDescriptor_t) -> sys::cudnnStatus_t,
}

impl Descriptor {
    /// Cross-correlation, which is the convolution of neural networks; bf16 products on tensor cores with f32 sums.
    fn new(calls: &Calls, stride: usize, padding: usize) -> Made<Descriptor> {
        let mut convolution = std::ptr::null_mut();
        // SAFETY: `convolution` is the address the descriptor is written to.
        unsafe { (calls.create_convolution)(&mut convolution) }.result()?;
        let descriptor = Descriptor { descriptor: convolution, destroy: calls.destroy_convolution };
        let (stride, padding) = (stride as c_int, padding as c_int);
        let mode = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
        let sums = sys::cudnnDataType_t::CUDNN_DATA_FLOAT;
        // SAFETY: the descriptor was just made.
        unsafe {
            (calls.set_convolution)(convolution, padding, padding, stride, stride, 1, 1, mode, sums).result()?;
            (calls.set_math_type)(convolution, sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH).result()?;
        }
        Ok(descriptor)
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: made by `new` and destroyed once.
        let _ = unsafe { (self.destroy)(self.descriptor) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sys::cudnnStatus_t as Status;

    #[test]
    fn only_not_supported_is_no_failure() {
        let declined = [
            Status::CUDNN_STATUS_NOT_SUPPORTED,
            Status::CUDNN_STATUS_NOT_SUPPORTED_SHAPE,
            Status::CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE,
            Status::CUDNN_STATUS_NOT_SUPPORTED_ARCH_MISMATCH,
            Status::CUDNN_STATUS_NOT_SUPPORTED_INVALID_DYNAMIC_SHAPE,
        ];
        let failed = [
            Status::CUDNN_STATUS_SUCCESS,
            Status::CUDNN_STATUS_NOT_INITIALIZED,
            Status::CUDNN_STATUS_SUBLIBRARY_LOADING_FAILED,
            Status::CUDNN_STATUS_BAD_PARAM,
            Status::CUDNN_STATUS_BAD_PARAM_CUDA_GRAPH_MISMATCH,
            Status::CUDNN_STATUS_INTERNAL_ERROR,
            Status::CUDNN_STATUS_EXECUTION_FAILED,
            Status::CUDNN_STATUS_EXECUTION_FAILED_CUDA_DRIVER,
        ];
        assert!(declined.into_iter().all(is_not_supported));
        assert!(!failed.into_iter().any(is_not_supported));
    }
}
