//! The driver's side of the CUDA device without a GPU: programs that find `kernels/host/driver.cpp` in the place of NVIDIA's
//! driver and NVRTC. Work on its streams happens as late as the manual allows, and a kernel can be made to fail.

use polyhead::device::cuda::{Cuda, Driver, File, Precision};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

/// What a program needs to find the stand-in and the kernels.
struct StandIn {
    libraries: PathBuf,
    kernels: [PathBuf; 2],
}

impl StandIn {
    /// In a folder for the test `name`. `None` where kernels cannot be compiled for this CPU; that is said, and a failure if `POLYHEAD_REQUIRE_SHIM` is set.
    fn build(name: &str) -> Option<StandIn> {
        // Tests of one program would build into one file.
        static BUILDING: Mutex<()> = Mutex::new(());
        let _alone = BUILDING.lock().unwrap_or_else(|e| e.into_inner());
        let (root, target) = (Path::new(env!("CARGO_MANIFEST_DIR")), PathBuf::from(env!("CARGO_TARGET_TMPDIR")));
        let files = File::ALL.map(|file| file.name);
        let kernels = |precision: Precision| crate::shim::build(&files, precision.bits(), &target);
        let built = kernels(Precision::Bf16).and_then(|bf16| Ok([bf16, kernels(Precision::F32)?]));
        let kernels = match built {
            Ok(kernels) => kernels,
            Err(e) if std::env::var_os("POLYHEAD_REQUIRE_SHIM").is_some() => panic!("{e}"),
            Err(e) => {
                eprintln!("skipped: kernels on this CPU: {e}");
                return None;
            }
        };
        let libraries = target.join(format!("stand-in-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&libraries).unwrap();
        let library = libraries.join("libcuda.so.1");
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
        let compiled = Command::new(&compiler)
            .args(["-std=c++17", "-O1", "-fPIC", "-shared", "-w", "-x", "c++"])
            .arg(root.join("kernels/host/driver.cpp"))
            .arg("-o")
            .arg(&library)
            .arg("-ldl")
            .output()
            .unwrap();
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        std::fs::copy(&library, libraries.join("libnvrtc.so.13")).unwrap();
        Some(StandIn { libraries, kernels })
    }

    /// Runs `program` with a cache of its own.
    fn run(&self, program: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        let paths = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let paths = std::iter::once(self.libraries.clone()).chain(std::env::split_paths(&paths));
        Command::new(program)
            .args(arguments)
            .env("LD_LIBRARY_PATH", std::env::join_paths(paths).unwrap())
            .env("POLYHEAD_STAND_IN_16", &self.kernels[0])
            .env("POLYHEAD_STAND_IN_32", &self.kernels[1])
            .env("POLYHEAD_CACHE", self.libraries.join("cache"))
            // What runs through the shim directly is tested without a driver.
            .env("POLYHEAD_REQUIRE_GPU", "1")
            .env("CXX", "false")
            .env_remove("POLYHEAD_REQUIRE_SHIM")
            .envs(environment.iter().copied())
            .output()
            .unwrap()
    }

    /// Runs tests of this program.
    fn test(&self, names: &[&str], environment: &[(&str, &str)]) {
        let arguments = [names, &["--exact", "--test-threads", "1"]].concat();
        let output = self.run(&std::env::current_exe().unwrap(), &arguments, environment);
        let said = said(&output);
        assert!(output.status.success() && said.contains(&format!("{} passed", names.len())), "{said}");
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.libraries);
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Whether this program has found the stand-in; else starts itself for the test `name` so that it does.
fn with_stand_in(name: &str) -> bool {
    let found = std::env::var_os("POLYHEAD_STAND_IN_16").is_some();
    if !found && let Some(stand_in) = StandIn::build(name) {
        stand_in.test(&[&format!("stand_in::{name}")], &[]);
    }
    found
}

/// Whole steps, batches that travel while a step computes, recorded graphs, updates.
#[test]
fn steps_are_the_cpus_on_a_driver_that_does_everything_late() {
    let Some(stand_in) = StandIn::build("steps") else { return };
    stand_in.test(&["cuda::a_step_in_f32_is_the_cpus", "cuda::steps_in_f32_move_parameters_as_the_cpu_does"], &[]);
}

fn numbers(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 256 + 7 * seed) as u8).collect()
}

#[test]
fn what_is_uploaded_may_be_changed_at_once() {
    if !with_stand_in("what_is_uploaded_may_be_changed_at_once") {
        return;
    }
    let mut cuda = Cuda::Driver(Box::new(Driver::open(0, Precision::F32).unwrap()));
    let lens = [1, 100, 64 << 10, (64 << 10) + 1, 3, 1 << 20, 5000, 64, 1000, 12, 77, 100_000, 9];
    let memory = cuda.allocate(lens.iter().sum()).unwrap();
    let mut expected = Vec::new();
    for (seed, len) in lens.into_iter().enumerate() {
        let mut data = numbers(len, seed);
        cuda.upload(memory, expected.len(), &data).unwrap();
        expected.extend_from_slice(&data);
        data.fill(0xee);
    }
    let mut found = vec![0; memory.bytes];
    cuda.download(memory, 0, &mut found).unwrap();
    assert!(found == expected, "an upload read its source after it had returned");
}

/// A batch that is written and never asked for, as when a run ends, is given back with its memory.
#[test]
fn a_batch_that_nobody_reads_has_travelled_before_its_memory_is_gone() {
    if !with_stand_in("a_batch_that_nobody_reads_has_travelled_before_its_memory_is_gone") {
        return;
    }
    let mut cuda = Cuda::Driver(Box::new(Driver::open(0, Precision::F32).unwrap()));
    let staging = cuda.staging(1 << 20).unwrap();
    let batch = numbers(1 << 20, 0);
    cuda.stage(&staging, 0, &batch).unwrap();
    let memory = staging.memory;
    drop(staging);
    let mut found = vec![0; memory.bytes];
    cuda.download(memory, 0, &mut found).unwrap();
    assert!(found == batch);
}
