//! Compiled kernels on disk, by everything that decides what they are: text, options, architecture, compiler version; and
//! beside them what was measured of them on one kind of GPU.

use super::{File, Limits, Precision, compiler, cudnn};
use crate::error::{Error, Result};
use crate::files;
use rayon::prelude::*;
use std::io::Write;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3Default;

/// Machine code of `file` for `architecture`, from the cache or compiled now.
///
/// # Errors
/// The errors of [`compiler::compile`]. A cache that cannot be written is none: it only costs time.
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
    /// Files of machine code that were made now.
    pub compiled: usize,
    /// Files that were there already.
    pub found: usize,
    /// Bytes of all these files.
    pub bytes: usize,
}

/// Compiles every file of kernels for `architecture`, so that a machine with such a GPU and the same version of NVRTC compiles
/// nothing. Needs no driver and no GPU.
///
/// # Errors
/// The errors of [`compiler::compile`], and a cache that cannot be written.
pub fn fill(architecture: &str) -> Result<Filled> {
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

/// Where measurements of `files` on such a GPU are kept: another GPU, a changed kernel, another compiler or cuDNN is another file.
///
/// # Errors
/// No place for it, or no NVRTC.
pub fn measurements(limits: &Limits, files: &[File], architecture: &str, precision: Precision) -> Result<PathBuf> {
    let mut keys: Vec<String> = files.iter().map(|&f| key(f, architecture, precision)).collect::<Result<_>>()?;
    keys.extend(cudnn::version().map(|version| format!("cuDNN {version}")));
    let keys = fingerprint(keys.iter().map(String::as_str));
    let name: String = limits.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    Ok(folder()?.join("tuning").join(format!("{name}-{}-{keys:016x}.json", limits.processors)))
}

/// `POLYHEAD_CACHE`, or `polyhead` where the system keeps caches.
fn folder() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let base = set("POLYHEAD_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|p| p.join("polyhead")))
        .or_else(|| set("HOME").map(|p| p.join(".cache/polyhead")));
    base.ok_or_else(|| Error::Other("no place for compiled kernels: set POLYHEAD_CACHE to a folder".into()))
}

fn key(file: File, architecture: &str, precision: Precision) -> Result<String> {
    let (major, minor) = compiler::version()?;
    let options = compiler::options(architecture, precision);
    let texts = File::HEADERS.iter().chain([&file]).map(|f| f.text).chain(options.iter().map(String::as_str));
    Ok(format!("{}-{architecture}-{major}.{minor}-{:016x}", file.name.trim_end_matches(".cu"), fingerprint(texts)))
}

/// Keeps a file. Programs and threads that start at once never read half of it; one that cannot be written is made again next time.
pub fn keep(path: &Path, bytes: &[u8]) {
    if path.parent().map(std::fs::create_dir_all).is_some_and(|made| made.is_ok()) {
        let _ = files::write(path, |file| file.write_all(bytes));
    }
}

/// A hash of texts; it also depends on where each ends.
pub fn fingerprint<'a>(texts: impl Iterator<Item = &'a str>) -> u64 {
    let mut hash = Xxh3Default::new();
    for text in texts {
        hash.update(text.as_bytes());
        hash.update(&[0]);
    }
    hash.digest()
}
