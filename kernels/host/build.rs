//! Compiles kernels and the shim into a library for this machine. Only tests use it: the unit tests and the integration
//! tests both include this file. It needs a C++17 compiler and x86-64.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds the library of `files`, given by their names under `kernels/`, for activations of `activation_bits` bits. It is
/// compiled into `target` unless it is there already.
///
/// # Errors
/// There is no C++ compiler, the processor is not x86-64, or a kernel does not compile; the compiler's output is included.
pub fn build(files: &[&str], activation_bits: usize, target: &Path) -> Result<PathBuf, String> {
    // The crates whose tests include this file are at different depths in the repository.
    let mut folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join("kernels"));
    let kernels = folders.find(|folder| folder.is_dir()).ok_or("no folder `kernels` above this crate")?;
    let sources: Vec<PathBuf> = files.iter().chain(&["host/shim.cpp"]).map(|name| kernels.join(name)).collect();
    let headers = ["primitives.cuh", "conv2d.cuh", "host/shim.h"].map(|name| kernels.join(name));
    let mut hasher = DefaultHasher::new();
    for path in sources.iter().chain(&headers) {
        let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        text.hash(&mut hasher);
    }
    let library = target.join(format!("kernels-{activation_bits}-{:016x}.so", hasher.finish()));
    if library.exists() {
        return Ok(library);
    }
    let aside = library.with_extension(format!("part{}", std::process::id()));
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
    let run = |command: &mut Command| -> Result<(), String> {
        let run = command
            .output()
            .map_err(|e| format!("{compiler}, which compiles the kernels for this CPU, did not start: {e}"))?;
        let refused = || format!("{compiler} could not compile the kernels:\n{}", String::from_utf8_lossy(&run.stderr));
        run.status.success().then_some(()).ok_or_else(refused)
    };
    // x86 allows integer overflow, and unaligned accesses, which a GPU does not. The kernels call the shim when a check fails;
    // the shim itself is not checked.
    const CHECKS: [&str; 4] =
        ["-O2", "-fsanitize=alignment,undefined", "-fno-sanitize=vptr", "-fno-sanitize-recover=all"];
    let mut objects = Vec::new();
    let compiled = sources.iter().try_for_each(|source| {
        let object = aside.with_extension(format!("part{}-{}.o", std::process::id(), objects.len()));
        let options: &[&str] = if source.ends_with("host/shim.cpp") { &["-O3"] } else { &CHECKS };
        objects.push(object.clone());
        run(Command::new(&compiler)
            .args(["-c", "-std=c++17", "-fPIC", "-DPH_HOST", "-w", "-x", "c++"])
            .args(options)
            .arg(format!("-DPH_ACTIVATION_BITS={activation_bits}"))
            .arg("-I")
            .arg(&kernels)
            .arg(source)
            .arg("-o")
            .arg(&object))
    });
    // Signal handlers stay installed, so the library stays loaded. A check for which the shim has no handler is a link error.
    const LINK: [&str; 3] = ["-shared", "-Wl,-z,nodelete", "-Wl,-z,defs"];
    let linked = compiled.and_then(|()| run(Command::new(&compiler).args(LINK).args(&objects).arg("-o").arg(&aside)));
    objects.iter().for_each(|object| drop(std::fs::remove_file(object)));
    linked?;
    std::fs::rename(&aside, &library).map_err(|e| format!("cannot rename {}: {e}", aside.display()))?;
    Ok(library)
}
