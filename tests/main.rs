//! The integration tests in one binary. Each suite's head says what belongs in it.

// Tests print what they skip, and results of devices.
#![allow(clippy::print_stderr, clippy::print_stdout)]

#[path = "suite/augment.rs"]
mod augment;
#[path = "suite/balance.rs"]
mod balance;
#[path = "suite/bench.rs"]
mod bench;
#[path = "suite/choices.rs"]
mod choices;
#[path = "suite/cli.rs"]
mod cli;
#[path = "suite/compare.rs"]
mod compare;
#[cfg(target_os = "linux")]
#[path = "suite/console.rs"]
mod console;
#[path = "suite/continuing.rs"]
mod continuing;
#[path = "suite/corpus.rs"]
mod corpus;
#[path = "suite/cuda.rs"]
mod cuda;
#[cfg(unix)]
#[path = "suite/damage.rs"]
mod damage;
#[path = "suite/data.rs"]
mod data;
#[path = "suite/devices.rs"]
mod devices;
#[cfg(unix)]
#[path = "suite/disk.rs"]
mod disk;
#[path = "suite/evaluating.rs"]
mod evaluating;
#[path = "suite/fuzz.rs"]
mod fuzz;
// Finds its processes through /proc.
#[cfg(target_os = "linux")]
#[path = "suite/gpu_script.rs"]
mod gpu_script;
#[path = "suite/gramian.rs"]
mod gramian;
#[path = "suite/heads.rs"]
mod heads;
#[path = "suite/hostile_pickle.rs"]
mod hostile_pickle;
#[path = "suite/kernels.rs"]
mod kernels;
#[cfg(unix)]
#[path = "suite/kill.rs"]
mod kill;
#[path = "suite/layout/mod.rs"]
mod layout;
#[path = "suite/library.rs"]
mod library;
#[cfg(unix)]
#[path = "suite/life.rs"]
mod life;
#[path = "suite/losses.rs"]
mod losses;
#[cfg(target_os = "linux")]
#[path = "suite/memory.rs"]
mod memory;
#[path = "suite/multi_scale.rs"]
mod multi_scale;
#[cfg(target_os = "linux")]
#[path = "suite/names.rs"]
mod names;
#[path = "suite/overfit.rs"]
mod overfit;
#[path = "suite/partial.rs"]
mod partial;
#[path = "suite/places.rs"]
mod places;
#[path = "suite/precision.rs"]
mod precision;
#[path = "suite/predict.rs"]
mod predict;
#[path = "suite/predict_files.rs"]
mod predict_files;
#[path = "suite/predict_parts.rs"]
mod predict_parts;
#[path = "suite/published.rs"]
mod published;
#[path = "suite/pytorch.rs"]
mod pytorch;
#[path = "suite/reference.rs"]
mod reference;
#[path = "suite/refusals.rs"]
mod refusals;
#[cfg(unix)]
#[path = "suite/resume.rs"]
mod resume;
#[cfg(unix)]
#[path = "suite/run_folder.rs"]
mod run_folder;
#[path = "suite/shapes.rs"]
mod shapes;
#[path = "suite/share.rs"]
mod share;
#[path = "../kernels/host/build.rs"]
mod shim;
#[path = "suite/signals.rs"]
mod signals;
#[cfg(target_os = "linux")]
#[path = "suite/stand_in.rs"]
mod stand_in;
#[path = "suite/step.rs"]
mod step;
// Signals and limits of Unix; ignored signals are known on Linux only.
#[cfg(target_os = "linux")]
#[path = "suite/system.rs"]
mod system;
#[path = "suite/tasks.rs"]
mod tasks;
#[cfg(target_os = "linux")]
#[path = "suite/traces.rs"]
mod traces;
#[path = "suite/trajectory.rs"]
mod trajectory;
#[path = "suite/trials.rs"]
mod trials;
