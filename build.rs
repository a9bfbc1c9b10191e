//! Puts the commit that the binary is built from into POLYHEAD_COMMIT, for the run folder.

// Cargo reads instructions from standard output.
#![allow(clippy::print_stdout)]

use std::process::Command;

fn main() {
    // A path that does not exist would rebuild the package every time.
    for path in [".git/HEAD", ".git/logs/HEAD", "build.rs"] {
        if std::path::Path::new(path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    let commit = output
        .ok()
        .filter(|o| o.status.success())
        .and_then(|o| String::from_utf8(o.stdout).ok())
        .map_or_else(|| "unknown".to_owned(), |s| s.trim().to_owned());
    println!("cargo:rustc-env=POLYHEAD_COMMIT={commit}");
}
