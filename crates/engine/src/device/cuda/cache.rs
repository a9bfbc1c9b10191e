//! The cache of compiled kernels on disk, keyed by everything that affects them: text, options, architecture, compiler version.
//! Beside them it keeps the measurements of them on each kind of GPU.

use super::{File, Limits, Precision, compiler, cudnn};
use crate::error::{Error, Result};
use crate::files;
use crate::threads::start_shared_pool;
use rayon::prelude::*;
use std::io::Write;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3Default;

/// The machine code of `file` for `architecture`, from the cache or compiled now.
///
/// # Errors
/// The errors of [`compiler::compile`]. A cache that cannot be written is no error: it only costs time.
pub fn cubin(file: File, architecture: &str, precision: Precision) -> Result<Vec<u8>> {
    let path = folder()?.join("kernels").join(format!("{}.cubin", key(file, architecture, precision)?));
    if let Ok(cubin) = std::fs::read(&path)
        && !cubin.is_empty()
    {
        return Ok(cubin);
    }
    let cubin = compiler::compile(file, architecture, precision)?.cubin;
    keep(&path, &cubin);
    Ok(cubin)
}

/// The result of [`fill`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filled {
    /// The folder that holds the machine code.
    pub folder: PathBuf,
    /// The number of files of machine code that were compiled now.
    pub compiled: usize,
    /// The number of files that were in the cache already.
    pub found: usize,
    /// The total size of all these files.
    pub bytes: usize,
}

/// Compiles every file of kernels for `architecture`, so that a machine with such a GPU and the same version of NVRTC need not
/// compile any. This needs no driver and no GPU.
///
/// # Errors
/// The errors of [`compiler::compile`], threads that cannot be started, and a cache that cannot be written.
pub fn fill(architecture: &str) -> Result<Filled> {
    start_shared_pool()?;
    let folder = folder()?.join("kernels");
    let one = |(file, precision): (File, Precision)| {
        let path = folder.join(format!("{}.cubin", key(file, architecture, precision)?));
        let found = path.exists();
        let bytes = cubin(file, architecture, precision)?.len();
        if path.exists() { Ok((found, bytes)) } else { Err(Error::Other(format!("cannot write {}", path.display()))) }
    };
    let jobs = File::ALL.into_iter().flat_map(|file| [Precision::Bf16, Precision::F32].map(|p| (file, p)));
    let jobs: Vec<(File, Precision)> = jobs.collect();
    let done: Vec<(bool, usize)> = jobs.into_par_iter().map(one).collect::<Result<_>>()?;
    let found = done.iter().filter(|one| one.0).count();
    Ok(Filled { folder, compiled: done.len() - found, found, bytes: done.iter().map(|one| one.1).sum() })
}

/// The file for measurements of `files` on this kind of GPU. The name depends on the GPU, the kernels' text, the compiler and
/// cuDNN.
///
/// # Errors
/// No folder for the cache, or no NVRTC.
pub fn measurements(limits: &Limits, files: &[File], architecture: &str, precision: Precision) -> Result<PathBuf> {
    let mut keys: Vec<String> = files.iter().map(|&f| key(f, architecture, precision)).collect::<Result<_>>()?;
    keys.extend(cudnn::version().map(|version| format!("cuDNN {version}")));
    let keys = fingerprint(keys.iter().map(String::as_str));
    let name: String = limits.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    Ok(folder()?.join("tuning").join(format!("{name}-{}-{keys:016x}.json", limits.processors)))
}

/// `POLYHEAD_CACHE`, otherwise `polyhead` in the system's folder for caches.
fn folder() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let base = set("POLYHEAD_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|p| p.join("polyhead")))
        .or_else(|| set("HOME").map(|p| p.join(".cache/polyhead")));
    base.ok_or_else(|| Error::Other("no folder for compiled kernels: set POLYHEAD_CACHE to a folder".into()))
}

fn key(file: File, architecture: &str, precision: Precision) -> Result<String> {
    let (major, minor) = compiler::version()?;
    let options = compiler::options(architecture, precision);
    let texts = File::HEADERS.iter().chain([&file]).map(|f| f.text).chain(options.iter().map(String::as_str));
    Ok(format!("{}-{architecture}-{major}.{minor}-{:016x}", file.name.trim_end_matches(".cu"), fingerprint(texts)))
}

/// Writes a file so that other processes and threads never read half of it. If that fails, the file is made again next time.
pub fn keep(path: &Path, bytes: &[u8]) {
    if path.parent().map(std::fs::create_dir_all).is_some_and(|made| made.is_ok()) {
        let _ = files::write(path, |file| file.write_all(bytes));
    }
}

/// A hash of texts that also depends on where each of them ends.
pub fn fingerprint<'a>(texts: impl Iterator<Item = &'a str>) -> u64 {
    let mut hash = Xxh3Default::new();
    for text in texts {
        hash.update(text.as_bytes());
        hash.update(&[0]);
    }
    hash.digest()
}
