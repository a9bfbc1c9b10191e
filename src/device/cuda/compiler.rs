//! NVRTC: kernels' text → machine code for one architecture. Needs no driver and no GPU.

use super::{File, Precision};
use crate::error::{Error, Result};
use cudarc::nvrtc::{result, sys};
use std::ffi::{CStr, CString, c_char};
use std::ptr;

/// Machine code, and what the assembler said of each kernel (registers, stack, spills).
pub struct Compiled {
    pub cubin: Vec<u8>,
    pub log: String,
}

/// NVRTC's version, or the sentence that says how to get it.
///
/// # Errors
/// The library is not to be found.
pub fn version() -> Result<(i32, i32)> {
    // SAFETY: the call only looks for the library.
    if !unsafe { sys::is_culib_present() } {
        return Err(Error::Other(format!(
            "NVRTC, which compiles the kernels, was not found: no libnvrtc.so.13, .12 or .11 in LD_LIBRARY_PATH ({}) or where the \
             system keeps libraries; install the CUDA toolkit's nvrtc, or `pip install nvidia-cuda-nvrtc` and add its nvidia/cu13/lib \
             to LD_LIBRARY_PATH",
            std::env::var("LD_LIBRARY_PATH").unwrap_or_else(|_| "not set".into())
        )));
    }
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both point to an int.
    check("nvrtcVersion", unsafe { sys::nvrtcVersion(&mut major, &mut minor) })?;
    Ok((major, minor))
}

/// `architecture` as NVRTC names it: `sm_80`, `sm_90a`.
pub fn options(architecture: &str, precision: Precision) -> Vec<String> {
    vec![
        format!("--gpu-architecture={architecture}"),
        format!("-DPH_ACTIVATION_BITS={}", precision.bits()),
        "--std=c++17".into(),
        "-default-device".into(),
        "--ptxas-options=-v".into(),
    ]
}

/// Compiles one file of kernels.
///
/// # Errors
/// No NVRTC, an architecture it does not know, or a kernel it refuses, with its words.
pub fn compile(file: File, architecture: &str, precision: Precision) -> Result<Compiled> {
    version()?;
    let text = c_string(file.text);
    let headers: Vec<(CString, CString)> = File::HEADERS.iter().map(|h| (c_string(h.text), c_string(h.name))).collect();
    let header_texts: Vec<*const c_char> = headers.iter().map(|h| h.0.as_ptr()).collect();
    let header_names: Vec<*const c_char> = headers.iter().map(|h| h.1.as_ptr()).collect();
    let name = c_string(file.name);
    let mut program = ptr::null_mut();
    // SAFETY: all strings outlive the call, and the two lists are as long as said.
    check("nvrtcCreateProgram", unsafe {
        sys::nvrtcCreateProgram(
            &mut program,
            text.as_ptr(),
            name.as_ptr(),
            headers.len() as i32,
            header_texts.as_ptr(),
            header_names.as_ptr(),
        )
    })?;
    let program = Program(program);
    // SAFETY: the program was made above.
    let compiled = unsafe { result::compile_program(program.0, &options(architecture, precision)) };
    // SAFETY: as above.
    let log = unsafe { result::get_program_log(program.0) }.map(|log| words(&log)).unwrap_or_default();
    compiled.map_err(|_| Error::Other(format!("kernels/{} does not compile for {architecture}:\n{log}", file.name)))?;
    let mut bytes = 0;
    // SAFETY: the program has been compiled, and `bytes` is where its size goes.
    check("nvrtcGetCUBINSize", unsafe { sys::nvrtcGetCUBINSize(program.0, &mut bytes) })?;
    let mut cubin = vec![0u8; bytes];
    // SAFETY: the block is as large as the call before said.
    check("nvrtcGetCUBIN", unsafe { sys::nvrtcGetCUBIN(program.0, cubin.as_mut_ptr().cast()) })?;
    Ok(Compiled { cubin, log })
}

struct Program(sys::nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: made by nvrtcCreateProgram and destroyed once; there is nothing to do about a failure.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

fn c_string(text: &str) -> CString {
    CString::new(text).unwrap_or_else(|_| unreachable!("kernels' text holds no zero byte"))
}

fn words(log: &[c_char]) -> String {
    let bytes: Vec<u8> = log.iter().map(|&c| c as u8).collect();
    CStr::from_bytes_until_nul(&bytes).map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()
}

fn check(call: &str, result: sys::nvrtcResult) -> Result<()> {
    result.result().map_err(|e| Error::Other(format!("NVRTC's {call} failed: {e:?}")))
}
