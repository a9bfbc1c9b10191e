//! The kernels compile for every architecture they are meant for, without a GPU: no stack, no spills, few enough registers
//! for two blocks on a processor. NVRTC does it; where it is not to be had, that is said and the test counts as skipped.

use polyhead::device::cuda::{File, Precision, compiler};

const ARCHITECTURES: [&str; 5] = ["sm_80", "sm_86", "sm_90", "sm_100", "sm_120"];
/// Registers of one processor, and what of them a block may take.
const REGISTERS: usize = 65536;

/// What the assembler said of one kernel.
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
            let what = format!("{} for {architecture} in {precision:?}: {report:?}", file.name);
            assert_eq!((report.stack, report.spills), (0, 0), "{what}");
            let threads = threads(file, &report.kernel);
            assert!(report.registers > 0 && report.registers * threads <= REGISTERS / blocks(&report.kernel), "{what}");
        }
    }
}

/// Blocks of a kernel that must fit on one processor.
fn blocks(_kernel: &str) -> usize {
    2
}

/// The kernels of a file in one precision: those between `#if PH_ACTIVATION_BITS == …` and its `#else` or `#endif` belong to
/// one only, those after the `#else` to the other.
fn kernels(file: File, precision: Precision) -> Vec<&'static str> {
    let bits = 8 * precision.bytes();
    // For each `#if` that is open, whether its lines are meant; all are where it asks for something else.
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

/// The threads of a block, as the kernel's head says: `PH_KERNEL(name, Args, threads)` or
/// `PH_KERNEL_BLOCKS(name, Args, threads, blocks)`.
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
