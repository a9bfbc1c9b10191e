//! Sets the flag that makes the pool use loom's primitives. Only this crate sees it.

fn main() {
    println!("cargo:rustc-cfg=loom");
    println!("cargo:rerun-if-changed=build.rs");
}
