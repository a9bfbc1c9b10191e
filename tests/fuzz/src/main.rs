//! The targets as one program for libFuzzer. The variable TARGET names the one that runs, so that a single program is built and
//! linked for all of them.

#![no_main]

#[path = "../targets/mod.rs"]
mod targets;

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;
use targets::Target;

fn chosen() -> Target {
    static CHOSEN: OnceLock<Target> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let names = || targets::TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        let asked = std::env::var("TARGET").unwrap_or_default();
        let found = targets::TARGETS.iter().find(|(name, _)| *name == asked);
        let found = found.unwrap_or_else(|| panic!("TARGET={asked}: expected one of {}", names()));
        // libFuzzer's hook ends the process at every panic, but `decode` catches those of other crates' decoders on purpose.
        // A panic that leaves a target still ends it.
        std::panic::set_hook(Box::new(|panic| {
            let is_ours = panic.location().is_none_or(|at| !at.file().contains("/registry/"));
            if is_ours {
                eprintln!("{panic}\n{}", std::backtrace::Backtrace::force_capture());
                std::process::abort();
            }
        }));
        found.1
    })
}

fuzz_target!(|bytes: &[u8]| chosen()(bytes));
