//! Sets the flag by which the pool takes loom's primitives; only this crate sees it.

fn main() {
    println!("cargo:rustc-cfg=loom");
    println!("cargo:rerun-if-changed=build.rs");
}
