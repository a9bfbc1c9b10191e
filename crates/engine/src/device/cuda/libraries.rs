//! NVIDIA's libraries other than the driver, opened at first use by file names that contain a version. A name without a version
//! belongs to whichever toolkit comes first in the search path, and parts of two toolkits do not work together.

use crate::error::{Error, Result};
use libloading::Library;
use serde::Serialize;
use std::ffi::{CString, c_int};
use std::fmt;
use std::sync::OnceLock;

/// File names of NVRTC, the newest first. The last finds only a library that has no version in any of its names.
const NVRTC_NAMES: [&str; 4] = if cfg!(windows) {
    ["nvrtc64_130_0.dll", "nvrtc64_120_0.dll", "nvrtc64_112_0.dll", "nvrtc.dll"]
} else {
    ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2", "libnvrtc.so"]
};
const CUDNN_NAME: &str = if cfg!(windows) { "cudnn64_9.dll" } else { "libcudnn.so.9" };

static NVRTC: OnceLock<Option<Shared>> = OnceLock::new();
static CUBLAS: OnceLock<Option<Shared>> = OnceLock::new();
static CUDNN: OnceLock<Option<Shared>> = OnceLock::new();

/// A library that was opened, with its version and file, to be reported with measurements.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LoadedLibrary {
    /// NVIDIA's name for it, such as `cuBLAS`.
    pub name: &'static str,
    /// Its version as reported by the library itself.
    pub version: String,
    /// The path that it was loaded from; `an unknown file` if the system does not report it.
    pub file: String,
}

impl fmt::Display for LoadedLibrary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} from {}", self.name, self.version, self.file)
    }
}

/// The libraries opened so far.
pub fn loaded_libraries() -> Vec<LoadedLibrary> {
    [&NVRTC, &CUBLAS, &CUDNN].into_iter().filter_map(|l| l.get()?.as_ref()).flat_map(|l| l.loaded.clone()).collect()
}

/// A library that stays open until the program ends.
pub struct Shared {
    library: Library,
    /// This library, and a library that it loaded itself if that has its own version.
    loaded: Vec<LoadedLibrary>,
}

impl Shared {
    /// # Safety
    /// `F` is the type of a pointer to the function of this name.
    pub unsafe fn function<F: Copy>(&self, name: &str) -> Result<F> {
        let symbol = CString::new(name).unwrap_or_else(|_| unreachable!("no name holds a zero byte"));
        // SAFETY: the caller names the type, and the library is never closed.
        let found = unsafe { self.library.get::<F>(symbol.as_bytes_with_nul()) };
        let file = self.loaded.first().map_or("the library", |l| l.file.as_str());
        found.map(|f| *f).map_err(|_| Error::Other(format!("{file} has no function {name}; install another version")))
    }

    fn loaded(&mut self, name: &'static str, version: String, function: &str) {
        // SAFETY: the address is only read and never called.
        let address = unsafe { self.function::<unsafe extern "C" fn()>(function) };
        let file = address.ok().and_then(|f| file_of(f as usize)).unwrap_or_else(|| "an unknown file".into());
        self.loaded.push(LoadedLibrary { name, version, file });
    }
}

/// The first library of these names that opens and reports its version.
fn open(names: &[&str], ask: impl Fn(&mut Shared) -> Result<()>) -> Option<Shared> {
    names.iter().find_map(|name| {
        // SAFETY: NVIDIA's libraries may be opened by any program, at any time, from any thread.
        let library = unsafe { Library::new(*name) }.ok()?;
        let mut shared = Shared { library, loaded: Vec::new() };
        ask(&mut shared).ok().map(|()| shared)
    })
}

/// The compiler of the kernels.
pub fn nvrtc() -> Option<&'static Shared> {
    let ask = |shared: &mut Shared| {
        let (major, minor) = nvrtc_version(shared)?;
        shared.loaded("NVRTC", format!("{major}.{minor}"), "nvrtcVersion");
        Ok(())
    };
    NVRTC.get_or_init(|| open(&NVRTC_NAMES, ask)).as_ref()
}

/// Major and minor version of NVRTC.
///
/// # Errors
/// The library does not report its version.
pub fn nvrtc_version(nvrtc: &Shared) -> Result<(i32, i32)> {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the type is the manual's; both pointers point to an int.
    let said = unsafe {
        nvrtc.function::<unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int>("nvrtcVersion")?(&mut major, &mut minor)
    };
    if said == 0 { Ok((major, minor)) } else { Err(Error::Other(format!("NVRTC's nvrtcVersion failed: {said}"))) }
}

/// cuBLAS of NVRTC's major version, so that both come from the same toolkit.
pub fn cublas() -> Option<&'static Shared> {
    type Property = unsafe extern "C" fn(c_int, *mut c_int) -> c_int;
    let ask = |shared: &mut Shared| {
        // cuBLAS loads cuBLASLt, and each reports its version as three properties.
        for (name, function) in [("cuBLAS", "cublasGetProperty"), ("cuBLASLt", "cublasLtGetProperty")] {
            // SAFETY: the type is the manual's.
            let Ok(property) = (unsafe { shared.function::<Property>(function) }) else { continue };
            let mut version = [0; 3];
            for (which, part) in (0..).zip(&mut version) {
                // SAFETY: `part` is an int, and the properties 0, 1 and 2 exist.
                let _ = unsafe { property(which, part) };
            }
            shared.loaded(name, version.map(|part| part.to_string()).join("."), function);
        }
        Ok(())
    };
    let open = || {
        let (major, _) = nvrtc_version(nvrtc()?).ok()?;
        let name = if cfg!(windows) { format!("cublas64_{major}.dll") } else { format!("libcublas.so.{major}") };
        open(&[&name], ask)
    };
    CUBLAS.get_or_init(open).as_ref()
}

/// cuDNN 9, the version whose functions we use.
pub fn cudnn() -> Option<&'static Shared> {
    let ask = |shared: &mut Shared| {
        let version = cudnn_version(shared)?;
        let words = format!("{}.{}.{}", version / 10_000, version / 100 % 100, version % 100);
        shared.loaded("cuDNN", words, "cudnnGetVersion");
        Ok(())
    };
    CUDNN.get_or_init(|| open(&[CUDNN_NAME], ask)).as_ref()
}

/// cuDNN's version, major · 10,000 + minor · 100 + patch.
///
/// # Errors
/// The library does not report its version.
pub fn cudnn_version(cudnn: &Shared) -> Result<usize> {
    // SAFETY: the type is the manual's.
    Ok(unsafe { cudnn.function::<unsafe extern "C" fn() -> usize>("cudnnGetVersion")?() })
}

/// The file that code at `address` was loaded from, if the system reports it the way Linux does.
fn file_of(address: usize) -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let parse = |text: &str| usize::from_str_radix(text, 16).ok();
    maps.lines().find_map(|line| {
        // `start-end rights offset device inode   path`
        let (start, rest) = line.split_once('-')?;
        let (end, rest) = rest.split_once(' ')?;
        let within = (parse(start)?..parse(end)?).contains(&address);
        within.then(|| rest.split_once('/').map(|(_, path)| format!("/{path}")))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn code_is_found_in_the_file_it_came_from() {
        let file = file_of(loaded_libraries as *const () as usize).unwrap();
        assert_eq!(std::path::PathBuf::from(file), std::env::current_exe().unwrap());
        assert_eq!(file_of(0), None);
    }
}
