//! cuDNN's functions as declared in its manual, from a library of the right version. The bindings that provide its types would
//! first open a library whose name has no version.

use super::libraries::Shared;
use crate::error::Result;
use cudarc::cudnn::sys::{
    cudaStream_t as Stream, cudnnConvolutionBwdDataAlgo_t as DgradAlgorithm,
    cudnnConvolutionBwdDataAlgoPerf_t as DgradAnswer, cudnnConvolutionBwdFilterAlgo_t as WgradAlgorithm,
    cudnnConvolutionBwdFilterAlgoPerf_t as WgradAnswer, cudnnConvolutionDescriptor_t as Convolution,
    cudnnConvolutionFwdAlgo_t as FpropAlgorithm, cudnnConvolutionFwdAlgoPerf_t as FpropAnswer,
    cudnnConvolutionMode_t as Mode, cudnnDataType_t as DataType, cudnnFilterDescriptor_t as Filter,
    cudnnHandle_t as Handle, cudnnMathType_t as MathType, cudnnStatus_t as Status, cudnnTensorDescriptor_t as Tensor,
    cudnnTensorFormat_t as Format,
};
use std::ffi::{c_int, c_void};

/// A factor in host memory, or an operand in device memory.
type In = *const c_void;
type Out = *mut c_void;
/// Runs a convolution: two operands with their descriptors, the convolution, the workspace and its size, and the output.
type Run<A, B, Algorithm, C> =
    unsafe extern "C" fn(Handle, In, A, In, B, In, Convolution, Algorithm, Out, usize, In, C, Out) -> Status;
/// Asks for the algorithms for three descriptors: the room for answers, the number written, and the array to write to.
type Ask<A, B, C, Answer> =
    unsafe extern "C" fn(Handle, A, B, Convolution, C, c_int, *mut c_int, *mut Answer) -> Status;

#[derive(Clone, Copy)]
pub struct Calls {
    pub create: unsafe extern "C" fn(*mut Handle) -> Status,
    pub destroy: unsafe extern "C" fn(Handle) -> Status,
    pub set_stream: unsafe extern "C" fn(Handle, Stream) -> Status,
    pub fprop: Run<Tensor, Filter, FpropAlgorithm, Tensor>,
    pub dgrad: Run<Filter, Tensor, DgradAlgorithm, Tensor>,
    pub wgrad: Run<Tensor, Tensor, WgradAlgorithm, Filter>,
    pub fprop_algorithms: Ask<Tensor, Filter, Tensor, FpropAnswer>,
    pub dgrad_algorithms: Ask<Filter, Tensor, Tensor, DgradAnswer>,
    pub wgrad_algorithms: Ask<Tensor, Tensor, Filter, WgradAnswer>,
    pub create_tensor: unsafe extern "C" fn(*mut Tensor) -> Status,
    pub set_tensor: unsafe extern "C" fn(Tensor, Format, DataType, c_int, c_int, c_int, c_int) -> Status,
    pub destroy_tensor: unsafe extern "C" fn(Tensor) -> Status,
    pub create_filter: unsafe extern "C" fn(*mut Filter) -> Status,
    pub set_filter: unsafe extern "C" fn(Filter, DataType, Format, c_int, c_int, c_int, c_int) -> Status,
    pub destroy_filter: unsafe extern "C" fn(Filter) -> Status,
    pub create_convolution: unsafe extern "C" fn(*mut Convolution) -> Status,
    pub set_convolution:
        unsafe extern "C" fn(Convolution, c_int, c_int, c_int, c_int, c_int, c_int, Mode, DataType) -> Status,
    pub set_math_type: unsafe extern "C" fn(Convolution, MathType) -> Status,
    pub destroy_convolution: unsafe extern "C" fn(Convolution) -> Status,
}

impl Calls {
    /// # Errors
    /// The library lacks one of the functions.
    pub fn of(library: &Shared) -> Result<Calls> {
        // SAFETY: the fields' types are the manual's.
        unsafe {
            Ok(Calls {
                create: library.function("cudnnCreate")?,
                destroy: library.function("cudnnDestroy")?,
                set_stream: library.function("cudnnSetStream")?,
                fprop: library.function("cudnnConvolutionForward")?,
                dgrad: library.function("cudnnConvolutionBackwardData")?,
                wgrad: library.function("cudnnConvolutionBackwardFilter")?,
                fprop_algorithms: library.function("cudnnGetConvolutionForwardAlgorithm_v7")?,
                dgrad_algorithms: library.function("cudnnGetConvolutionBackwardDataAlgorithm_v7")?,
                wgrad_algorithms: library.function("cudnnGetConvolutionBackwardFilterAlgorithm_v7")?,
                create_tensor: library.function("cudnnCreateTensorDescriptor")?,
                set_tensor: library.function("cudnnSetTensor4dDescriptor")?,
                destroy_tensor: library.function("cudnnDestroyTensorDescriptor")?,
                create_filter: library.function("cudnnCreateFilterDescriptor")?,
                set_filter: library.function("cudnnSetFilter4dDescriptor")?,
                destroy_filter: library.function("cudnnDestroyFilterDescriptor")?,
                create_convolution: library.function("cudnnCreateConvolutionDescriptor")?,
                set_convolution: library.function("cudnnSetConvolution2dDescriptor")?,
                set_math_type: library.function("cudnnSetConvolutionMathType")?,
                destroy_convolution: library.function("cudnnDestroyConvolutionDescriptor")?,
            })
        }
    }
}
