//! NVRTC: compiles kernels' text to machine code for one architecture. This needs no driver and no GPU.

use super::libraries::{self, Shared};
use super::{File, Precision};
use crate::error::{Error, Result};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;

/// Machine code, and the assembler's report on each kernel (registers, stack, spills).
pub struct Compiled {
    /// The machine code of all kernels of the file, as the driver loads it.
    pub cubin: Vec<u8>,
    /// The assembler's messages, one line for each kernel and quantity.
    pub log: String,
}

/// NVRTC's version, or an error that says how to install it.
///
/// # Errors
/// The library is not found.
pub fn version() -> Result<(i32, i32)> {
    library().and_then(libraries::nvrtc_version)
}

fn library() -> Result<&'static Shared> {
    libraries::nvrtc().ok_or_else(|| {
        Error::Other(format!(
            "NVRTC, which compiles the kernels, was not found: no libnvrtc.so.13, .12 or .11.2 in LD_LIBRARY_PATH ({}) or the \
             system's library folders; install the CUDA toolkit's nvrtc, or `pip install nvidia-cuda-nvrtc` and add its \
             nvidia/cu13/lib to LD_LIBRARY_PATH",
            std::env::var("LD_LIBRARY_PATH").unwrap_or_else(|_| "not set".into())
        ))
    })
}

/// An NVRTC program.
type Program = *mut c_void;
/// The result of each function: 0 for success.
type Status = c_int;

/// NVRTC's functions as declared in its manual.
struct Nvrtc {
    create: unsafe extern "C" fn(
        *mut Program,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> Status,
    compile: unsafe extern "C" fn(Program, c_int, *const *const c_char) -> Status,
    log_size: unsafe extern "C" fn(Program, *mut usize) -> Status,
    log: unsafe extern "C" fn(Program, *mut c_char) -> Status,
    cubin_size: unsafe extern "C" fn(Program, *mut usize) -> Status,
    cubin: unsafe extern "C" fn(Program, *mut c_char) -> Status,
    destroy: unsafe extern "C" fn(*mut Program) -> Status,
}

impl Nvrtc {
    fn open() -> Result<Nvrtc> {
        let library = library()?;
        // SAFETY: the fields' types are the manual's.
        unsafe {
            Ok(Nvrtc {
                create: library.function("nvrtcCreateProgram")?,
                compile: library.function("nvrtcCompileProgram")?,
                log_size: library.function("nvrtcGetProgramLogSize")?,
                log: library.function("nvrtcGetProgramLog")?,
                cubin_size: library.function("nvrtcGetCUBINSize")?,
                cubin: library.function("nvrtcGetCUBIN")?,
                destroy: library.function("nvrtcDestroyProgram")?,
            })
        }
    }

    fn check(&self, call: &str, status: Status) -> Result<()> {
        if status == 0 {
            return Ok(());
        }
        type Words = unsafe extern "C" fn(Status) -> *const c_char;
        // SAFETY: the type is the manual's; for any number NVRTC returns a string that lives as long as the library.
        let words = library()
            .and_then(|l| unsafe { l.function::<Words>("nvrtcGetErrorString") })
            .map(|words| unsafe { CStr::from_ptr(words(status)).to_string_lossy().into_owned() });
        Err(Error::Other(format!("NVRTC's {call} failed: {}", words.unwrap_or_else(|_| format!("status {status}")))))
    }
}

/// NVRTC's options. `architecture` is a name such as `sm_80` or `sm_90a`.
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
/// NVRTC is missing, does not know the architecture, or reports an error in a kernel, which is included.
pub fn compile(file: File, architecture: &str, precision: Precision) -> Result<Compiled> {
    let nvrtc = Nvrtc::open()?;
    let text = c_string(file.text);
    let headers: Vec<(CString, CString)> = File::HEADERS.iter().map(|h| (c_string(h.text), c_string(h.name))).collect();
    let header_texts: Vec<*const c_char> = headers.iter().map(|h| h.0.as_ptr()).collect();
    let header_names: Vec<*const c_char> = headers.iter().map(|h| h.1.as_ptr()).collect();
    let name = c_string(file.name);
    let mut program = ptr::null_mut();
    // SAFETY: all strings outlive the call, and the two lists have the lengths that are passed.
    nvrtc.check("nvrtcCreateProgram", unsafe {
        let count = headers.len() as c_int;
        let (texts, names) = (header_texts.as_ptr(), header_names.as_ptr());
        (nvrtc.create)(&mut program, text.as_ptr(), name.as_ptr(), count, texts, names)
    })?;
    let compiled = compiled(&nvrtc, program, file, architecture, precision);
    // SAFETY: made above and destroyed once. A failure here cannot be handled.
    let _ = unsafe { (nvrtc.destroy)(&mut program) };
    compiled
}

fn compiled(nvrtc: &Nvrtc, program: Program, file: File, architecture: &str, precision: Precision) -> Result<Compiled> {
    let options: Vec<CString> = options(architecture, precision).iter().map(|option| c_string(option)).collect();
    let options: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
    // SAFETY: the caller made the program; the options outlive the call.
    let done = unsafe { (nvrtc.compile)(program, options.len() as c_int, options.as_ptr()) };
    // SAFETY: the arguments have the types that both functions take.
    let log = unsafe { bytes(nvrtc, "nvrtcGetProgramLog", program, nvrtc.log_size, nvrtc.log) }?;
    let log = String::from_utf8_lossy(&log).trim_end_matches('\0').to_owned();
    nvrtc
        .check("nvrtcCompileProgram", done)
        .map_err(|_| Error::Other(format!("kernels/{} does not compile for {architecture}:\n{log}", file.name)))?;
    // SAFETY: as above, and the program has been compiled.
    let cubin = unsafe { bytes(nvrtc, "nvrtcGetCUBIN", program, nvrtc.cubin_size, nvrtc.cubin) }?;
    Ok(Compiled { cubin, log })
}

/// The bytes that the function `write` of a program writes; `size` returns their number.
///
/// # Safety
/// The two functions are NVRTC's and belong together.
unsafe fn bytes(
    nvrtc: &Nvrtc,
    call: &str,
    program: Program,
    size: unsafe extern "C" fn(Program, *mut usize) -> Status,
    write: unsafe extern "C" fn(Program, *mut c_char) -> Status,
) -> Result<Vec<u8>> {
    let mut len = 0;
    // SAFETY: `len` is the address the size is written to.
    nvrtc.check(call, unsafe { size(program, &mut len) })?;
    let mut bytes = vec![0u8; len];
    // SAFETY: the buffer has the size that the previous call returned.
    nvrtc.check(call, unsafe { write(program, bytes.as_mut_ptr().cast()) })?;
    Ok(bytes)
}

fn c_string(text: &str) -> CString {
    CString::new(text).unwrap_or_else(|_| unreachable!("kernels' text and options hold no zero byte"))
}
