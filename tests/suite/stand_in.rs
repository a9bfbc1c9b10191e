//! Tests of the CUDA device's use of the driver, without a GPU: programs load `kernels/host/driver.cpp` instead of NVIDIA's
//! driver and NVRTC. It executes work on streams as late as the manual allows, and can make a kernel fail.

use polyhead::bench::{Heads, Options, train};
use polyhead::device::cuda::{Cuda, Driver, File, Precision};
use polyhead::executor::DeviceChoice;
use polyhead::model::Backbone;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The paths of the replacement driver and of the kernels.
struct StandIn {
    libraries: PathBuf,
    kernels: [PathBuf; 2],
}

impl StandIn {
    /// Builds it in a folder for the test `name`. `None` if kernels cannot be compiled for this CPU; a message says so, and with
    /// `POLYHEAD_REQUIRE_SHIM` that is a failure.
    fn build(name: &str) -> Option<StandIn> {
        let (root, target) = (Path::new(env!("CARGO_MANIFEST_DIR")), PathBuf::from(env!("CARGO_TARGET_TMPDIR")));
        let files = File::ALL.map(|file| file.name);
        let [bf16, f32] = [Precision::Bf16, Precision::F32].map(|precision| crate::kernels::library(&files, precision));
        let kernels = [bf16?, f32?];
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

    /// Runs `program` with its own cache.
    fn run(&self, program: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        let paths = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let paths = std::iter::once(self.libraries.clone()).chain(std::env::split_paths(&paths));
        Command::new(program)
            .args(arguments)
            .env("LD_LIBRARY_PATH", std::env::join_paths(paths).unwrap())
            .env("POLYHEAD_STAND_IN_16", &self.kernels[0])
            .env("POLYHEAD_STAND_IN_32", &self.kernels[1])
            .env("POLYHEAD_CACHE", self.libraries.join("cache"))
            // Other tests run the kernels through the shim directly, without a driver.
            .env("POLYHEAD_REQUIRE_GPU", "1")
            .env("CXX", "false")
            .env_remove("POLYHEAD_REQUIRE_SHIM")
            .envs(environment.iter().copied())
            .output()
            .unwrap()
    }

    /// Runs tests of this program with the replacement driver.
    fn test(&self, names: &[&str], environment: &[(&str, &str)]) {
        let arguments = [names, &["--exact", "--test-threads", "1"]].concat();
        let output = self.run(&std::env::current_exe().unwrap(), &arguments, environment);
        let said = said(&output);
        assert!(output.status.success() && said.contains(&format!("{} passed", names.len())), "{said}");
    }

    /// The output and exit code of a benchmark of a few steps of a tiny network in bf16, with tuning.
    fn bench(&self, environment: &[(&str, &str)]) -> (Option<i32>, String) {
        let words = "bench train --device cuda --backbone tiny --imgsz 32 --batch 1 --repeats 1";
        let program = Path::new(env!("CARGO_BIN_EXE_polyhead"));
        let output = self.run(program, &words.split(' ').collect::<Vec<_>>(), environment);
        (output.status.code(), said(&output))
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

/// Whether this program runs with the replacement driver. If not, it starts itself with it for the test `name`.
fn with_stand_in(name: &str) -> bool {
    let found = std::env::var_os("POLYHEAD_STAND_IN_16").is_some();
    if !found && let Some(stand_in) = StandIn::build(name) {
        stand_in.test(&[&format!("stand_in::{name}")], &[]);
    }
    found
}

/// Whole steps, copying the next batch during a step, recorded graphs, updates.
#[test]
fn steps_are_the_cpus_on_a_driver_that_does_everything_late() {
    let Some(stand_in) = StandIn::build("steps") else { return };
    stand_in.test(&["cuda::a_step_in_f32_matches_the_cpu", "cuda::steps_in_f32_change_parameters_as_on_the_cpu"], &[]);
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

/// A batch that is written but never read, for example at the end of a run, is released with its memory.
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

/// Run with a planted fault; see `a_kernel_that_fails_is_named_where_launches_are_waited_for`.
#[test]
fn a_step_that_fails() {
    if std::env::var_os("POLYHEAD_STAND_IN_FAULT").is_none() {
        return;
    }
    let device = DeviceChoice::Cuda { ordinal: 0, precision: Precision::F32 };
    let (backbone, heads) = (Backbone::Tiny, Heads::One);
    let options = Options { imgsz: 32, batch: 1, device, backbone, heads, repeats: 1, source: None };
    println!("ended with: {}", train(&options).err().map_or("no error".into(), |e| e.to_string()));
}

#[test]
fn a_kernel_that_fails_is_named_where_launches_are_waited_for() {
    let Some(stand_in) = StandIn::build("fault") else { return };
    let ends = |synchronous: &str| {
        let program = std::env::current_exe().unwrap();
        let fault = [("POLYHEAD_STAND_IN_FAULT", "batch_norm_finish"), ("POLYHEAD_CUDA_SYNC", synchronous)];
        said(&stand_in.run(&program, &["--exact", "stand_in::a_step_that_fails", "--nocapture"], &fault))
    };
    let ahead = ends("0");
    assert!(ahead.contains("ended with: the GPU refused cu"), "{ahead}");
    assert!(ahead.contains("POLYHEAD_CUDA_SYNC=1") && !ahead.contains("batch_norm"), "{ahead}");
    let one_by_one = ends("1");
    let named = "ended with: kernel batch_norm_finish (batch_norm.cu) failed: CUDA_ERROR_ILLEGAL_ADDRESS";
    assert!(one_by_one.contains(named), "{one_by_one}");
    // Waiting for each launch gives the same results.
    stand_in.test(&["cuda::a_step_in_f32_matches_the_cpu"], &[("POLYHEAD_CUDA_SYNC", "1")]);
}

#[test]
fn kernels_that_live_in_shared_memory_ask_for_all_of_it() {
    let Some(stand_in) = StandIn::build("carveout") else { return };
    let log = stand_in.libraries.join("calls.txt");
    let (code, said) = stand_in.bench(&[("POLYHEAD_STAND_IN_LOG", log.to_str().unwrap())]);
    assert_eq!(code, Some(0), "{said}");
    let log = std::fs::read_to_string(log).unwrap();
    let asked: Vec<&str> = log.lines().filter_map(|line| line.strip_prefix("carveout ")).collect();
    assert!(asked.iter().any(|line| line.starts_with("conv2d_fprop_")), "{log}");
    assert!(asked.iter().all(|line| line.starts_with("conv2d_") && line.ends_with(" 100")), "{log}");
    // Once per kernel.
    let mut once = asked.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), asked.len(), "{log}");
}

#[test]
fn tuning_ends_with_the_tile_and_the_layer_that_failed() {
    let Some(stand_in) = StandIn::build("tile") else { return };
    let (code, said) = stand_in.bench(&[("POLYHEAD_STAND_IN_FAULT", "conv2d_wgrad_64x64")]);
    assert_eq!(code, Some(1), "{said}");
    let named = ["conv2d wgrad ", " → ", "by tile 64x64 in ", "CUDA_ERROR_ILLEGAL_ADDRESS"];
    assert!(named.iter().all(|words| said.contains(words)), "{said}");
}

#[test]
fn cudnn_may_decline_a_layer_but_not_fail() {
    let Some(stand_in) = StandIn::build("cudnn") else { return };
    std::fs::copy(stand_in.libraries.join("libcuda.so.1"), stand_in.libraries.join("libcudnn.so.9")).unwrap();
    // CUDNN_STATUS_EXECUTION_FAILED, then CUDNN_STATUS_NOT_SUPPORTED_SHAPE.
    let (code, said) = stand_in.bench(&[("POLYHEAD_STAND_IN_CUDNN", "5000")]);
    let named = ["conv2d fprop ", "by cuDNN: ", "CUDNN_STATUS_EXECUTION_FAILED", "remove it from LD_LIBRARY_PATH"];
    assert!(code == Some(1) && named.iter().all(|words| said.contains(words)), "{said}");
    let (code, said) = stand_in.bench(&[("POLYHEAD_STAND_IN_CUDNN", "3002")]);
    assert_eq!(code, Some(0), "{said}");
}
