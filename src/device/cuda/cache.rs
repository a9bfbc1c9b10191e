//! Compiled kernels on disk, by everything that decides what they are: text, options, architecture, compiler version.

use super::{File, Precision, compiler};
use crate::error::{Error, Result};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Machine code of `file` for `architecture`, from the cache or compiled now.
///
/// # Errors
/// As [`compiler::compile`]; a cache that cannot be written only costs time.
pub fn cubin(file: File, architecture: &str, precision: Precision) -> Result<Vec<u8>> {
    let path = folder()?.join(format!("{}.cubin", key(file, architecture, precision)?));
    if let Ok(cubin) = std::fs::read(&path)
        && !cubin.is_empty()
    {
        return Ok(cubin);
    }
    let cubin = compiler::compile(file, architecture, precision)?.cubin;
    keep(&path, &cubin);
    Ok(cubin)
}

/// `POLYHEAD_CACHE`, or `polyhead` where the system keeps caches.
fn folder() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let base = set("POLYHEAD_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|p| p.join("polyhead")))
        .or_else(|| set("HOME").map(|p| p.join(".cache/polyhead")));
    base.ok_or_else(|| Error::Other("no place for compiled kernels: set POLYHEAD_CACHE to a folder".into()))
        .map(|b| b.join("kernels"))
}

fn key(file: File, architecture: &str, precision: Precision) -> Result<String> {
    let (major, minor) = compiler::version()?;
    let mut hash = Fnv::new();
    for header in File::HEADERS {
        hash.add(header.text);
    }
    hash.add(file.text);
    for option in compiler::options(architecture, precision) {
        hash.add(&option);
    }
    Ok(format!("{}-{architecture}-{major}.{minor}-{:016x}", file.name.trim_end_matches(".cu"), hash.0))
}

/// Written aside and renamed, so that programs and threads that start at once never read half a file.
fn keep(path: &std::path::Path, cubin: &[u8]) {
    static WRITES: AtomicUsize = AtomicUsize::new(0);
    let write = WRITES.fetch_add(1, Ordering::Relaxed);
    let aside = path.with_extension(format!("part{}-{write}", std::process::id()));
    let written = path.parent().map(std::fs::create_dir_all).is_some_and(|made| made.is_ok())
        && std::fs::write(&aside, cubin).is_ok();
    if !written || std::fs::rename(&aside, path).is_err() {
        let _ = std::fs::remove_file(&aside);
    }
}

/// FNV-1a, 64 bits.
struct Fnv(u64);

impl Fnv {
    fn new() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    /// The text and where it ends.
    fn add(&mut self, text: &str) {
        for byte in text.bytes().chain([0]) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
