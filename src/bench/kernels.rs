//! Compiles the GPU's kernels ahead of a measurement; this works without a GPU.

use crate::error::{Error, Result};
use crate::executor::compile_kernels;
use crate::reading::count_of;

/// Compiles the kernels for GPUs of `architecture` into the cache and returns a short report.
///
/// # Errors
/// `architecture` is not a valid name, NVRTC is not available, or the cache cannot be written.
pub fn kernels(architecture: &str) -> Result<String> {
    let number = architecture.strip_prefix("sm_").unwrap_or("");
    let number = number.strip_suffix(['a', 'f']).unwrap_or(number);
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Error::Usage(format!(
            "--architecture {architecture}: expected sm_ and a compute capability without its point, as sm_90"
        )));
    }
    let (filled, libraries) = compile_kernels(architecture)?;
    let mut said = format!(
        "{architecture}: {} of machine code ({:.1} MB) in {}: {} compiled now, {} already there",
        count_of(filled.compiled + filled.found, "file"),
        filled.bytes as f64 / 1e6,
        filled.folder.display(),
        filled.compiled,
        filled.found
    );
    libraries.iter().for_each(|library| said += &format!("\n{library}"));
    Ok(said)
}
