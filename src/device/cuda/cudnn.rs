//! Plain bf16 convolutions by cuDNN, where the library is there: a measuring stick, and one more way to compute a layer.
//! Nothing needs it.
//!
//! Not yet run on a GPU. On the shim a plain loop stands in its place, so that tests see what is asked of it.

use super::{Address, Memory};
use crate::error::{Error, Result};
use cudarc::cudnn::{result, sys};
use cudarc::driver::sys::CUstream;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{c_int, c_void};
use std::fmt;

/// Scratch an algorithm may ask for.
const WORKSPACE_BYTES: usize = 256 << 20;
/// The first version with the functions and the number format that are used.
const OLDEST: usize = 90_000;
/// Algorithms there are to ask about; no direction has more.
const ALGORITHMS: usize = 16;

/// Which of the three results is computed from the other two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    Fprop,
    Dgrad,
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

/// One convolution as data: the operand that [`Direction`] names is written, all of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Convolution {
    pub direction: Direction,
    pub sizes: Sizes,
    pub x: Address,
    pub weight: Address,
    pub y: Address,
    /// As large as [`Cuda::cudnn_workspace`](super::Cuda::cudnn_workspace) says.
    pub workspace: Address,
}

impl fmt::Display for Convolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cuDNN's {:?} of {:?}", self.direction, self.sizes)
    }
}

/// Why work was not done.
pub(super) enum Refusal {
    /// The library does not support it, and says so before it touches anything.
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

/// `CUDNN_STATUS_NOT_SUPPORTED` and the reasons there are for it. Whatever else a call returns is a failure, of this call or of
/// something that was started before it.
fn is_not_supported(status: sys::cudnnStatus_t) -> bool {
    let not_supported = sys::cudnnStatus_t::CUDNN_STATUS_NOT_SUPPORTED as u32;
    (not_supported..not_supported + 1000).contains(&(status as u32))
}

/// The library, opened on a context.
pub struct Cudnn {
    handle: sys::cudnnHandle_t,
    /// `None` where the library has no algorithm.
    plans: HashMap<(Direction, Sizes), Option<Plan>>,
}

// SAFETY: called through the Driver that owns it only, which keeps calls apart.
unsafe impl Send for Cudnn {}

/// The library's version, major · 10,000 + minor · 100 + patch; `None` where it is missing or too old.
pub fn version() -> Option<usize> {
    // SAFETY: the call only looks for the library.
    let present = unsafe { sys::is_culib_present() };
    present.then(result::get_version).filter(|&version| version >= OLDEST)
}

impl Cudnn {
    /// Opens the library on the calling thread's context, to run on `stream`; `None` where it is missing, too old or does not start.
    pub fn open(stream: CUstream) -> Option<Cudnn> {
        version()?;
        let handle = result::create_handle().ok()?;
        let cudnn = Cudnn { handle, plans: HashMap::new() };
        // SAFETY: the handle was just made, and the stream outlives it.
        unsafe { result::set_stream(handle, stream.cast()) }.ok()?;
        Some(cudnn)
    }

    /// Scratch one direction of a convolution needs, or `None` where the library does not compute it the same way twice.
    ///
    /// # Errors
    /// A library that fails, which is something else than not supporting a convolution.
    pub fn workspace_bytes(&mut self, direction: Direction, sizes: &Sizes) -> Result<Option<usize>> {
        Ok(self.plan(direction, sizes)?.map(|plan| plan.workspace_bytes))
    }

    /// Starts the convolution on the library's stream.
    ///
    /// # Errors
    /// The library does not support it, or fails.
    pub(super) fn run(&mut self, convolution: &Convolution, blocks: &[Memory]) -> Result<(), Refusal> {
        let handle = self.handle;
        let plan = self.plan(convolution.direction, &convolution.sizes)?;
        let plan = plan.ok_or_else(|| Refusal::NotSupported(format!("{convolution}: there is no algorithm")))?;
        let at = |a: Address| (blocks[a.block].address + a.offset as u64) as *mut c_void;
        let (x, weight, y) = (at(convolution.x), at(convolution.weight), at(convolution.y));
        let (workspace, bytes) = (at(convolution.workspace), plan.workspace_bytes);
        let (one, zero) = (1.0f32, 0.0f32);
        let (one, zero) = ((&raw const one).cast(), (&raw const zero).cast());
        let Plan { x: dx, weight: dw, y: dy, convolution: dc, .. } = plan;
        let (dx, dw, dy, dc) = (dx.0, dw.0, dy.0, dc.0);
        // SAFETY: the descriptors live in the plan and say how the operands lie; that these hold so much is held against
        // the op's contract by the tests, and the workspace is as large as was asked for.
        let done = unsafe {
            match plan.algorithm {
                Algorithm::Fprop(a) => {
                    result::convolution_forward(handle, one, dx, x, dw, weight, dc, a, workspace, bytes, zero, dy, y)
                }
                Algorithm::Dgrad(a) => result::convolution_backward_data(
                    handle, one, dw, weight, dy, y, dc, a, workspace, bytes, zero, dx, x,
                ),
                Algorithm::Wgrad(a) => result::convolution_backward_filter(
                    handle, one, dx, x, dy, y, dc, a, workspace, bytes, zero, dw, weight,
                ),
            }
        };
        done.map_err(|e| {
            let words = format!("{convolution}: {e}");
            if is_not_supported(e.0) { Refusal::NotSupported(words) } else { Refusal::Failed(Error::Other(words)) }
        })
    }

    fn plan(&mut self, direction: Direction, sizes: &Sizes) -> Result<Option<&Plan>> {
        let plan = match self.plans.entry((direction, *sizes)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => match Plan::new(self.handle, direction, sizes) {
                Ok(plan) => place.insert(plan),
                Err(e) if is_not_supported(e.0) => place.insert(None),
                Err(e) => return Err(Error::Other(format!("cuDNN did not plan {direction:?} of {sizes:?}: {e}"))),
            },
        };
        Ok(plan.as_ref())
    }
}

impl Drop for Cudnn {
    fn drop(&mut self) {
        self.plans.clear();
        // SAFETY: made by `open` and destroyed once; there is nothing to do about a failure.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

#[derive(Clone, Copy)]
enum Algorithm {
    Fprop(sys::cudnnConvolutionFwdAlgo_t),
    Dgrad(sys::cudnnConvolutionBwdDataAlgo_t),
    Wgrad(sys::cudnnConvolutionBwdFilterAlgo_t),
}

/// How one direction of one convolution is computed.
struct Plan {
    x: Tensor,
    weight: Filter,
    y: Tensor,
    convolution: Descriptor,
    algorithm: Algorithm,
    workspace_bytes: usize,
}

impl Plan {
    /// With the library's own first choice among what gives the same bits twice.
    fn new(handle: sys::cudnnHandle_t, direction: Direction, sizes: &Sizes) -> Made<Option<Plan>> {
        let (x, weight, y) = (Tensor::new(sizes.x)?, Filter::new(sizes.weight)?, Tensor::new(sizes.y)?);
        let convolution = Descriptor::new(sizes.stride, sizes.padding)?;
        let (dx, dw, dy, dc) = (x.0, weight.0, y.0, convolution.0);
        let (most, mut found) = (ALGORITHMS as c_int, 0);
        // SAFETY: all descriptors live, and each list has room for as many answers as are asked for; what the library has
        // filled of it is `found`, whose fields are then valid.
        let chosen = unsafe {
            match direction {
                Direction::Fprop => {
                    let mut list = [const { std::mem::MaybeUninit::uninit() }; ALGORITHMS];
                    let first = list.as_mut_ptr().cast();
                    result::get_convolution_forward_algorithm(handle, dx, dw, dc, dy, most, &mut found, first)?;
                    first_fit(&list, found, |p: &sys::cudnnConvolutionFwdAlgoPerf_t| {
                        (p.status, p.determinism, p.memory, p.mathType, Algorithm::Fprop(p.algo))
                    })
                }
                Direction::Dgrad => {
                    let mut list = [const { std::mem::MaybeUninit::uninit() }; ALGORITHMS];
                    let first = list.as_mut_ptr().cast();
                    result::get_convolution_backward_data_algorithm(handle, dw, dy, dc, dx, most, &mut found, first)?;
                    first_fit(&list, found, |p: &sys::cudnnConvolutionBwdDataAlgoPerf_t| {
                        (p.status, p.determinism, p.memory, p.mathType, Algorithm::Dgrad(p.algo))
                    })
                }
                Direction::Wgrad => {
                    let mut list = [const { std::mem::MaybeUninit::uninit() }; ALGORITHMS];
                    let first = list.as_mut_ptr().cast();
                    result::get_convolution_backward_filter_algorithm(handle, dx, dy, dc, dw, most, &mut found, first)?;
                    first_fit(&list, found, |p: &sys::cudnnConvolutionBwdFilterAlgoPerf_t| {
                        (p.status, p.determinism, p.memory, p.mathType, Algorithm::Wgrad(p.algo))
                    })
                }
            }
        };
        let Some((algorithm, math, workspace_bytes)) = chosen else { return Ok(None) };
        // The scratch was named for this algorithm with this arithmetic.
        // SAFETY: the descriptor lives.
        unsafe { result::set_convolution_math_type(dc, math) }?;
        Ok(Some(Plan { x, weight, y, convolution, algorithm, workspace_bytes }))
    }
}

type Made<T> = std::result::Result<T, result::CudnnError>;

/// The first of `found` answers that works, repeats itself to the bit, and keeps to its workspace.
///
/// # Safety
/// The first `found` entries of `list` are initialised.
unsafe fn first_fit<P>(
    list: &[std::mem::MaybeUninit<P>],
    found: c_int,
    read: impl Fn(&P) -> (sys::cudnnStatus_t, sys::cudnnDeterminism_t, usize, sys::cudnnMathType_t, Algorithm),
) -> Option<(Algorithm, sys::cudnnMathType_t, usize)> {
    let found = usize::try_from(found).unwrap_or(0).min(list.len());
    // SAFETY: the caller says so.
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

/// The library names sizes in the order N, C, H, W whatever the order in memory.
fn named([n, h, w, c]: [usize; 4]) -> [c_int; 4] {
    [n, c, h, w].map(|size| size as c_int)
}

struct Tensor(sys::cudnnTensorDescriptor_t);

impl Tensor {
    fn new(sizes: [usize; 4]) -> Made<Tensor> {
        let tensor = Tensor(result::create_tensor_descriptor()?);
        // SAFETY: the descriptor was just made.
        unsafe { result::set_tensor4d_descriptor(tensor.0, ORDER, NUMBERS, named(sizes)) }?;
        Ok(tensor)
    }
}

impl Drop for Tensor {
    fn drop(&mut self) {
        // SAFETY: made by `new` and destroyed once.
        let _ = unsafe { result::destroy_tensor_descriptor(self.0) };
    }
}

struct Filter(sys::cudnnFilterDescriptor_t);

impl Filter {
    fn new(sizes: [usize; 4]) -> Made<Filter> {
        let filter = Filter(result::create_filter_descriptor()?);
        // SAFETY: the descriptor was just made.
        unsafe { result::set_filter4d_descriptor(filter.0, NUMBERS, ORDER, named(sizes)) }?;
        Ok(filter)
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        // SAFETY: made by `new` and destroyed once.
        let _ = unsafe { result::destroy_filter_descriptor(self.0) };
    }
}

struct Descriptor(sys::cudnnConvolutionDescriptor_t);

impl Descriptor {
    /// Cross-correlation, as networks mean it; products of bf16 on tensor cores, summed in f32.
    fn new(stride: usize, padding: usize) -> Made<Descriptor> {
        let descriptor = Descriptor(result::create_convolution_descriptor()?);
        let (stride, padding) = (stride as c_int, padding as c_int);
        let mode = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
        let sums = sys::cudnnDataType_t::CUDNN_DATA_FLOAT;
        // SAFETY: the descriptor was just made.
        unsafe {
            result::set_convolution2d_descriptor(descriptor.0, padding, padding, stride, stride, 1, 1, mode, sums)?;
            result::set_convolution_math_type(descriptor.0, sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH)?;
        }
        Ok(descriptor)
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: made by `new` and destroyed once.
        let _ = unsafe { result::destroy_convolution_descriptor(self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sys::cudnnStatus_t as Status;

    #[test]
    fn only_what_is_not_supported_is_no_failure() {
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
