//! Tests of the kernels without a GPU. They must compile for every supported architecture without stack or spills, and
//! with few enough registers for two blocks per processor. Without NVRTC the test prints `skipped:` and passes.
//! The shim that runs kernels on a CPU must detect the bugs planted for it.

use crate::cli::{path, polyhead, text};
use crate::step::Folder;
use polyhead::device::cuda::{Address, Arguments, Contents, Cuda, File, Host, Launch, Memory, Precision, compiler};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

const ARCHITECTURES: [&str; 5] = ["sm_80", "sm_86", "sm_90", "sm_100", "sm_120"];
/// Registers of one processor, and the number of a kernel's blocks that must fit into it.
const REGISTERS: usize = 65536;
const BLOCKS: usize = 2;

/// The assembler's report about one kernel.
#[derive(Debug, Default)]
struct Report {
    kernel: String,
    stack: usize,
    spills: usize,
    registers: usize,
}

#[test]
fn every_kernel_compiles_for_every_architecture_without_spills() {
    if let Err(e) = compiler::version() {
        assert!(std::env::var_os("POLYHEAD_REQUIRE_NVRTC").is_none(), "{e}");
        eprintln!("skipped: {e}");
        return;
    }
    let jobs: Vec<(File, &str, Precision)> = File::ALL
        .iter()
        .flat_map(|&file| ARCHITECTURES.map(|architecture| (file, architecture)))
        .flat_map(|(f, a)| [Precision::F32, Precision::Bf16].map(|p| (f, a, p)))
        .collect();
    let mut wrong = Vec::new();
    for (file, architecture, precision) in jobs {
        let compiled = compiler::compile(file, architecture, precision).unwrap();
        assert!(!compiled.cubin.is_empty());
        let reports = reports(&compiled.log);
        let mut compiled: Vec<&str> = reports.iter().map(|r| r.kernel.as_str()).collect();
        let mut written = kernels(file, precision);
        compiled.sort_unstable();
        written.sort_unstable();
        assert_eq!(compiled, written, "{}: kernels in the log for {precision:?}", file.name);
        for report in reports {
            let fits = (1..=REGISTERS / BLOCKS).contains(&(report.registers * threads(file, &report.kernel)));
            if report.stack > 0 || report.spills > 0 || !fits {
                wrong.push(format!("{} for {architecture} in {precision:?}: {report:?}", file.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The kernels of a file in one precision. Kernels between `#if PH_ACTIVATION_BITS == …` and its `#else` or `#endif` belong
/// to that precision, and kernels after the `#else` to the other.
fn kernels(file: File, precision: Precision) -> Vec<&'static str> {
    let bits = 8 * precision.bytes();
    // For each open `#if`, whether its lines apply. If its condition is about something else, they always apply.
    let mut open: Vec<Option<bool>> = Vec::new();
    let mut kernels = Vec::new();
    for line in file.text.lines() {
        if let Some(condition) = line.strip_prefix("#if") {
            let only = condition.trim().strip_prefix("PH_ACTIVATION_BITS == ");
            open.push(only.map(|only| only.parse() == Ok(bits)));
        } else if line.starts_with("#else") {
            open.iter_mut().next_back().into_iter().flatten().for_each(|meant| *meant = !*meant);
        } else if line.starts_with("#endif") {
            open.pop();
        } else if let Some(rest) = line.strip_prefix("PH_KERNEL").filter(|_| open.iter().flatten().all(|&meant| meant))
        {
            kernels.push(rest.split(['(', ',']).nth(1).unwrap());
        }
    }
    kernels
}

/// The number of threads per block from the kernel's head: `PH_KERNEL(name, Args, threads)` or `PH_KERNEL_BLOCKS(name,
/// Args, threads, blocks)`.
fn threads(file: File, kernel: &str) -> usize {
    let head = format!("({kernel},");
    let head = file.text.split(&head).nth(1).unwrap_or_else(|| panic!("{kernel} is not in {}", file.name));
    let word = head.split([',', ')']).nth(1).unwrap().trim();
    word.parse().unwrap_or_else(|_| {
        let define = format!("#define {word} ");
        let mut texts = std::iter::once(file.text).chain(File::HEADERS.map(|header| header.text));
        let value = texts.find_map(|text| text.split(&define).nth(1));
        let value = value.unwrap_or_else(|| panic!("{word} is not defined in {} or a header", file.name));
        value.split_whitespace().next().unwrap().parse().unwrap()
    })
}

fn reports(log: &str) -> Vec<Report> {
    let mut reports: Vec<Report> = Vec::new();
    for line in log.lines() {
        if let Some(rest) = line.split("Compiling entry function '").nth(1) {
            let kernel = rest.split('\'').next().unwrap().to_owned();
            reports.push(Report { kernel, ..Report::default() });
        }
        let Some(report) = reports.last_mut() else { continue };
        let number = |before: &str| -> Option<usize> {
            line.split(before).next()?.split_whitespace().next_back()?.trim_start_matches(',').parse().ok()
        };
        if line.contains("bytes stack frame") {
            report.stack = number(" bytes stack frame").unwrap();
            report.spills = number(" bytes spill stores").unwrap() + number(" bytes spill loads").unwrap();
        }
        if line.contains("Used ") && line.contains(" registers") {
            report.registers = number(" registers").unwrap();
        }
    }
    reports
}

/// Runs a planted kernel; returns its output, or how it ended.
fn planted(
    library: &Path,
    kernel: &'static str,
    threads: u32,
    input: &[f32],
    n: usize,
    bug: usize,
    seed: u64,
) -> Result<Vec<f32>, String> {
    let mut host = Host::open(library, Precision::Bf16).unwrap();
    host.schedule(seed);
    let halves: Vec<u8> = input.iter().flat_map(|v| ((v.to_bits() >> 16) as u16).to_ne_bytes()).collect();
    let out = host.allocate_poisoned(4 * 512).unwrap();
    let mut cuda = Cuda::Host(host);
    let data: Memory = cuda.allocate(halves.len()).unwrap();
    cuda.upload(data, 0, &halves).unwrap();
    let at = |block| Address { block, offset: 0 };
    let launch = Launch {
        file: PLANTED,
        kernel,
        grid: [1, 1, 1],
        threads,
        shared_bytes: 2048,
        arguments: Arguments::new().pointer(at(0)).pointer(at(1)).int(n).int(bug),
    };
    cuda.launch(&[launch.into()], &[data, out]).map_err(|e| e.to_string())?;
    let mut bytes = vec![0; out.bytes];
    cuda.download(out, 0, &mut bytes).unwrap();
    Ok(bytes.chunks_exact(4).map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]])).collect())
}

const PLANTED: File = File { name: "host/planted.cu", text: "" };

/// Compiles the kernels of `files` for this CPU, each library once per test program. If that is impossible, a message says so
/// and the test passes, unless `POLYHEAD_REQUIRE_SHIM` is set.
pub fn library(files: &[&str], precision: Precision) -> Option<PathBuf> {
    // Otherwise tests of one program would build into the same file.
    static BUILDING: Mutex<()> = Mutex::new(());
    let _alone = BUILDING.lock().unwrap_or_else(|e| e.into_inner());
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    match crate::shim::build(files, precision.bits(), &target) {
        Ok(library) => Some(library),
        Err(e) if std::env::var_os("POLYHEAD_REQUIRE_SHIM").is_some() => panic!("{e}"),
        Err(e) => {
            eprintln!("skipped: kernels on this CPU: {e}");
            None
        }
    }
}

fn planted_library() -> Option<PathBuf> {
    library(&[PLANTED.name], Precision::Bf16)
}

#[test]
fn the_shim_runs_correct_kernels_and_detects_every_planted_bug() {
    let Some(library) = planted_library() else { return };
    let numbers: Vec<f32> = (0..4 * 512).map(|i| ((i * 37) % 101) as f32 - 50.0).collect();
    let reversed: Vec<f32> = (0..64).map(|i| numbers[63 - i]).collect();
    let sums: Vec<f32> = (0..512).map(|i| (0..4).map(|tile| numbers[512 * tile + i]).sum()).collect();
    let product: Vec<f32> =
        (0..16 * 8).map(|i| (0..16).map(|k| numbers[i / 8 * 16 + k] * numbers[256 + i % 8 * 16 + k]).sum()).collect();
    let cases: [(&'static str, u32, usize, usize, &[f32]); 3] = [
        ("planted_reverse", 64, 512, 6, &reversed),
        ("planted_pipeline", 64, 4, 3, &sums),
        ("planted_product", 32, 0, 2, &product),
    ];
    for (kernel, threads, n, bugs, expected) in cases {
        let run = |bug, seed| planted(&library, kernel, threads, &numbers, n, bug, seed);
        for seed in 0..8 {
            let got = run(0, seed).unwrap();
            assert_eq!(&got[..expected.len()], expected, "{kernel} with seed {seed}");
            assert!(got[expected.len()..].iter().all(|v| v.is_nan()), "{kernel} writes only what it should");
        }
        for bug in 1..=bugs {
            let wrong = |seed| match run(bug, seed) {
                Ok(got) => got[..expected.len()] != *expected,
                Err(_) => true,
            };
            assert!((0..8).any(wrong), "{kernel}: bug {bug} does not show");
        }
    }
}

/// Both bugs also change numbers, so only the message shows that the checks are active.
#[test]
fn the_shim_names_unaligned_accesses_and_undefined_arithmetic() {
    let Some(library) = planted_library() else { return };
    for (bug, fault) in
        [(5, "access at an address that is not a multiple of 8"), (6, "shift by more bits than the number has")]
    {
        let error = planted(&library, "planted_reverse", 64, &[1.0; 64], 512, bug, 0).unwrap_err();
        assert!(error.contains("something else that is undefined: host/planted.cu:"), "{bug}: {error}");
        assert!(error.contains(fault), "{bug}: {error}");
    }
}

/// Runs three blocks of `planted_index` over 12.9 GB of address space; returns their output by block, and checks that
/// nothing else was written.
fn planted_index(library: &Path, bug: usize) -> Result<[Vec<u16>; 3], String> {
    const APART: usize = 65536;
    const BLOCKS: usize = 98304;
    let mut host = Host::open(library, Precision::Bf16).unwrap();
    let (bytes, out_bytes) = (2 * APART * BLOCKS, 4 * 64 * BLOCKS);
    let input = host.reserve(bytes, Contents::TernaryBf16, 1).unwrap();
    let out = host.reserve(out_bytes, Contents::Poison, 0).unwrap();
    let at = |block| Address { block, offset: 0 };
    let launch = Launch {
        file: PLANTED,
        kernel: "planted_index",
        grid: [BLOCKS as u32, 1, 1],
        threads: 64,
        shared_bytes: 0,
        arguments: Arguments::new().pointer(at(0)).pointer(at(1)).int(APART).int(BLOCKS).int(bug),
    };
    let blocks = [0, BLOCKS / 2 + 7, BLOCKS - 1];
    host.launch_blocks(&launch, &[input, out], &blocks.map(|block| [block as u32, 0, 0])).map_err(|e| e.to_string())?;
    let touched = host.touched(out);
    let cuda = Cuda::Host(host);
    let mut elsewhere = Vec::new();
    for range in touched {
        let mut bytes = vec![0; range.len()];
        cuda.download(out, range.start, &mut bytes).unwrap();
        let rows = bytes.chunks(256).zip(range.step_by(256));
        let other = rows.filter(|(row, at)| !blocks.contains(&(at / 256)) && row.iter().any(|&byte| byte != 0xff));
        elsewhere.extend(other.map(|(_, at)| at));
    }
    if !elsewhere.is_empty() {
        return Err(format!("other rows are written: {elsewhere:?}"));
    }
    Ok(blocks.map(|block| {
        let (mut expected, mut got) = (vec![0; 128], vec![0; 256]);
        cuda.download(input, 2 * APART * block, &mut expected).unwrap();
        cuda.download(out, 256 * block, &mut got).unwrap();
        let apart = |(expected, got): (&[u8], &[u8])| {
            let expected = f32::from_bits(u32::from(u16::from_ne_bytes([expected[0], expected[1]])) << 16);
            let got = f32::from_ne_bytes([got[0], got[1], got[2], got[3]]);
            u16::from(got.to_bits() != expected.to_bits())
        };
        expected.chunks(2).zip(got.chunks(4)).map(apart).collect()
    }))
}

/// Bugs that only appear at the sizes of real networks. Each is detected, and reported with its place or its buffer.
#[test]
fn the_shim_finds_indices_that_overflow_and_accesses_outside_gigabytes() {
    let Some(library) = planted_library() else { return };
    let wrong = |bug| planted_index(&library, bug).map(|blocks| blocks.map(|block| block.iter().sum::<u16>()));
    assert_eq!(wrong(0), Ok([0; 3]));
    for (bug, words) in [
        (1, "something else that is undefined: host/planted.cu:"),
        (1, "an integer overflows in a product"),
        (3, "host/planted.cu:"),
        (3, "access at an address that is not a multiple of 16"),
        (4, "it read directly past the end of a buffer of 12884901888 bytes"),
        (5, "it wrote in a buffer of 12884901888 bytes that it may only read"),
        (6, "other rows are written: [256, 6292480, 12582912]"),
    ] {
        let error = wrong(bug).unwrap_err();
        assert!(error.contains(words), "{bug}: {error}");
    }
    let wrapped = wrong(2).unwrap();
    assert!(wrapped[0] == 0 && wrapped[2] > 16, "{wrapped:?}");
}

/// A replacement for NVRTC that reports this version and returns `cubin` for every source.
const COMPILER: &str = r#"
extern "C" int nvrtcVersion(int *major, int *minor) { *major = MAJOR; *minor = 0; return 0; }
extern "C" int nvrtcCreateProgram(void **p, const char *, const char *, int, const char **, const char **) { *p = 0; return 0; }
extern "C" int nvrtcCompileProgram(void *, int, const char **) { return 0; }
extern "C" int nvrtcGetProgramLogSize(void *, unsigned long *size) { *size = 1; return 0; }
extern "C" int nvrtcGetProgramLog(void *, char *log) { *log = 0; return 0; }
extern "C" int nvrtcGetCUBINSize(void *, unsigned long *size) { *size = 5; return 0; }
extern "C" int nvrtcGetCUBIN(void *, char *cubin) { for (int i = 0; i < 5; i++) cubin[i] = "cubin"[i]; return 0; }
extern "C" int nvrtcDestroyProgram(void **) { return 0; }
"#;

/// A toolkit's folder is full of names without a version, and comes before the wheels' in LD_LIBRARY_PATH.
#[test]
#[cfg(target_os = "linux")]
fn the_library_with_the_version_in_its_name_is_used_and_named() {
    let folder = Folder::new("libraries");
    let source = folder.path.join("compiler.cpp");
    std::fs::write(&source, COMPILER).unwrap();
    let build = |place: &str, name: &str, major: usize| {
        let library = folder.path.join(place).join(name);
        std::fs::create_dir_all(library.parent().unwrap()).unwrap();
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
        let define = format!("-DMAJOR={major}");
        let mut command = std::process::Command::new(compiler);
        let built = command.args(["-shared", "-fPIC", "-w", &define, "-o"]).arg(&library).arg(&source).output();
        built.is_ok_and(|output| output.status.success())
    };
    let libraries =
        [("toolkit", "libnvrtc.so", 99), ("toolkit", "libnvrtc.so.12", 12), ("wheels", "libnvrtc.so.13", 13)];
    if !libraries.into_iter().all(|(place, name, major)| build(place, name, major)) {
        assert!(std::env::var_os("POLYHEAD_REQUIRE_SHIM").is_none(), "no C++ compiler");
        eprintln!("skipped: no C++ compiler");
        return;
    }
    let compile = |places: &[&str]| {
        let paths: Vec<String> = places.iter().map(|place| path(&folder, place)).collect();
        let output = polyhead()
            .args(["bench", "kernels", "--architecture", "sm_90"])
            .env("LD_LIBRARY_PATH", paths.join(":"))
            .env("POLYHEAD_CACHE", folder.path.join("cache"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let files = 2 * File::ALL.len();
    let first = compile(&["toolkit", "wheels"]);
    assert!(first.ends_with(&format!("NVRTC 13.0 from {}\n", path(&folder, "wheels/libnvrtc.so.13"))), "{first}");
    assert!(first.contains(&format!("{files} files")) && first.contains(&format!("{files} compiled now")), "{first}");
    let kept: Vec<_> = std::fs::read_dir(folder.path.join("cache/kernels")).unwrap().map(|f| f.unwrap()).collect();
    assert_eq!(kept.len(), files);
    assert!(kept.iter().all(|f| f.file_name().to_string_lossy().contains("-sm_90-13.0-")), "{kept:?}");
    // The output of another compiler version is not reused.
    assert!(compile(&["wheels"]).contains(&format!(" 0 compiled now, {files} already there")));
    let older = compile(&["toolkit"]);
    assert!(older.contains("NVRTC 12.0 from") && older.contains(&format!("{files} compiled now")), "{older}");

    let cache = path(&folder, "compiler.cpp");
    let unwritable = polyhead()
        .args(["bench", "kernels", "--architecture", "sm_90"])
        .env("LD_LIBRARY_PATH", path(&folder, "wheels"))
        .env("POLYHEAD_CACHE", &cache)
        .output()
        .unwrap();
    assert!(unwritable.status.code() == Some(1) && text(&unwritable.stderr).contains(&cache));
}
