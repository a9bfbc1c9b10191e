//! Tells the binary which commit it was built from, for the run folder.

// Cargo reads it there.
#![allow(clippy::print_stdout)]

use std::process::Command;

fn main() {
    // A path that is not there would make every build start over.
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
