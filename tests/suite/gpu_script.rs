//! `benches/gpu.sh` without a GPU: `tests/rehearsal.sh` replaces every program that it starts, and succeeds, fails, hangs or
//! kills at any stage. In every case measured results are kept, the table is correct and no process is left.

use crate::step::Folder;
use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

const A: [&str; 6] = ["describe", "check", "steps", "ops", "ncu", "torch"];
const B: [&str; 4] = ["retest", "inference", "memcheck", "torch-inference"];
/// The programs that `rehearsal.sh` replaces: on the PATH, and in the carried folder.
const TOOLS: [&str; 4] = ["nvidia-smi", "ncu", "compute-sanitizer", "python3"];
const PROGRAMS: [&str; 3] = ["polyhead", "tests-engine", "tests-main"];
/// Number of files that may come back from a borrowed machine.
const MOST_FILES: usize = 8;

/// A test environment: its programs, its results, and a mark that identifies its processes.
struct Rehearsal {
    folder: Folder,
    mark: String,
}

impl Rehearsal {
    fn new(name: &str) -> Rehearsal {
        let folder = Folder::new(&format!("gpu-{name}"));
        let stand_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rehearsal.sh");
        for (place, names) in [("bin", &TOOLS[..]), ("programs", &PROGRAMS[..])] {
            std::fs::create_dir(folder.path.join(place)).unwrap();
            for name in names {
                symlink(&stand_in, folder.path.join(place).join(name)).unwrap();
            }
        }
        let kernels = folder.path.join("programs/cache/kernels");
        std::fs::create_dir_all(&kernels).unwrap();
        std::fs::write(kernels.join("one.cubin"), "machine code").unwrap();
        std::fs::create_dir(folder.path.join("tmp")).unwrap();
        let mark = format!("{}-{name}", std::process::id());
        Rehearsal { folder, mark }
    }

    fn out(&self) -> PathBuf {
        self.folder.path.join("out")
    }

    /// `second_ms` is the length of a second in the script's limits.
    fn run(&self, words: &[&str], second_ms: u64, behaviour: &str) -> Output {
        self.command(words, second_ms, behaviour).output().unwrap()
    }

    fn command(&self, words: &[&str], second_ms: u64, behaviour: &str) -> Command {
        let path = std::env::var("PATH").unwrap();
        let mut command = Command::new("bash");
        command
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/gpu.sh"))
            .args(words)
            .env("PATH", format!("{}:{path}", self.folder.path.join("bin").display()))
            .env("OUT", self.out())
            .env("TMPDIR", self.folder.path.join("tmp"))
            .env("POLYHEAD_PROGRAMS", self.folder.path.join("programs"))
            .env("POLYHEAD_CACHE", self.folder.path.join("cache"))
            .env("POLYHEAD_SECOND_MS", second_ms.to_string())
            .env("REHEARSAL", behaviour)
            .env("REHEARSAL_MARK", &self.mark);
        command
    }

    /// Processes of the run that still exist.
    fn left(&self) -> Vec<String> {
        let mark = format!("REHEARSAL_MARK={}\0", self.mark);
        let processes = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            let environment = std::fs::read(entry.path().join("environ")).ok()?;
            let ours = String::from_utf8_lossy(&environment).contains(&mark);
            ours.then(|| std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default().replace('\0', " "))
        });
        processes.collect()
    }

    /// Waits until everything that the run started has ended, and asserts that nothing else is left.
    fn settle(&self) {
        let patience = Instant::now();
        while !self.left().is_empty() && patience.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(self.left(), Vec::<String>::new(), "processes are left");
        let files = std::fs::read_dir(self.out()).unwrap().count();
        assert!(files <= MOST_FILES, "{files} files");
    }

    /// Asserts the conditions that hold after every run, and returns the table with each stage's result.
    fn table(&self) -> BTreeMap<String, String> {
        self.settle();
        let left = std::fs::read_dir(self.folder.path.join("tmp")).unwrap().count();
        assert_eq!(left, 0, "the work folder is left");
        let table = std::fs::read_to_string(self.out().join("README.md")).unwrap();
        assert_eq!(table, self.kept("README.md").unwrap(), "the table in results.tgz is another");
        let rows = table.lines().filter(|line| line.starts_with("| ")).skip(1);
        let rows: BTreeMap<String, String> = rows
            .map(|row| {
                let cells: Vec<&str> = row.split(" | ").collect();
                (cells[0].trim_start_matches("| ").to_owned(), cells[1].to_owned())
            })
            .collect();
        // The result in the table matches the stage's log.
        for (stage, result) in &rows {
            let log = self.kept(&format!("{stage}/log.txt")).unwrap_or_default();
            let answered = log.contains(&format!(" was asked for {stage}: "));
            // The log of an earlier run stays together with its result.
            match result.trim_end_matches(" (an earlier run)") {
                result if result.ends_with("passed") => assert!(answered, "{stage} {result}, but its log is {log:?}"),
                "failed with exit code 3" => assert!(log.contains(&format!("{stage} went wrong")), "{log}"),
                result => assert!(!result.is_empty() && !answered, "{stage}: {result:?}: {log}"),
            }
        }
        rows
    }

    /// A file from results.tgz, which must be complete.
    fn kept(&self, file: &str) -> Option<String> {
        let archive = self.out().join("results.tgz");
        let whole = Command::new("tar").arg("-tzf").arg(&archive).output().unwrap();
        assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));
        let read = Command::new("tar").arg("-xzOf").arg(&archive).arg(format!("./{file}")).output().unwrap();
        read.status.success().then(|| String::from_utf8_lossy(&read.stdout).into_owned())
    }
}

fn every(stages: &[&str], behaviour: &str) -> String {
    stages.iter().map(|stage| format!("{stage}={behaviour} ")).collect()
}

/// Stages in order, each with the previous and the next one.
fn with_neighbours() -> impl Iterator<Item = [&'static str; 3]> {
    let stages: Vec<&str> = A.into_iter().chain(B).collect();
    let at = move |i: usize| stages[i % stages.len()];
    (0..A.len() + B.len()).map(move |i| [at(i + 9), at(i), at(i + 1)])
}

#[test]
fn both_parts_pass_and_their_results_end_up_together() {
    let rehearsal = Rehearsal::new("whole");
    std::fs::create_dir(rehearsal.out()).unwrap();
    // Left by a run that was killed while packing.
    std::fs::write(rehearsal.out().join("results.tgz.part"), "half").unwrap();
    let first = rehearsal.run(&["run", "A"], 1000, &every(&A, "late"));
    assert_eq!(first.status.code(), Some(0), "{}", String::from_utf8_lossy(&first.stdout));
    assert!(A.iter().all(|stage| rehearsal.table()[*stage] == "passed"), "{:?}", rehearsal.table());
    assert!(rehearsal.kept("clocks-A.csv").unwrap().matches("1980").count() >= 2);
    let kernel = rehearsal.folder.path.join("cache/kernels/one.cubin");
    assert_eq!(std::fs::read_to_string(kernel).unwrap(), "machine code", "the kernels that were carried");

    let second = rehearsal.run(&["run", "B"], 1000, "torch-inference=absent");
    let table = rehearsal.table();
    assert_eq!(table.len(), A.len() + B.len(), "{table:?}");
    let absent = "not possible here: python3 has no torch and torchvision";
    for (stage, result) in &table {
        let expected = match stage.as_str() {
            "torch-inference" => absent,
            stage if A.contains(&stage) => "passed (an earlier run)",
            _ => "passed",
        };
        assert_eq!(result, expected, "{stage}");
    }
    assert_eq!(second.status.code(), Some(0), "what a machine cannot do is no failure");

    // A stage without time left says so, and keeps the results of an earlier run.
    assert_eq!(rehearsal.run(&["run", "ops", "--seconds", "1"], 1000, "").status.code(), Some(1));
    let expected = "skipped: 0 s were left of 1, it may take 60; passed (an earlier run)";
    assert_eq!(rehearsal.table()["ops"], expected);
    assert!(rehearsal.kept("ops/log.txt").unwrap().contains("bench ops"));
}

#[test]
fn a_failed_stage_does_not_affect_others() {
    let rehearsal = Rehearsal::new("fail");
    let run = rehearsal.run(&["run", "check", "steps", "ops", "memcheck"], 1000, "check=fail steps=watch ops=shot");
    let expected = [("check", "failed with exit code 3"), ("steps", "passed"), ("memcheck", "passed")];
    let table = rehearsal.table();
    assert!(expected.iter().all(|(stage, result)| table[*stage] == *result), "{table:?}");
    assert_eq!(table["ops"], "failed with exit code 137");
    assert!(!rehearsal.kept("steps/log.txt").unwrap().contains("not alone"), "a process of check ran beside steps");
    assert_eq!(run.status.code(), Some(1));
}

/// Within 100 s three stages hang until their limits; the others get no time.
#[test]
fn stages_that_hang_are_stopped_and_the_deadline_is_kept() {
    let rehearsal = Rehearsal::new("hang");
    let started = Instant::now();
    let run = rehearsal.run(&["run", "A", "--seconds", "100"], 50, "describe=hang check=deaf steps=mute");
    let seconds = started.elapsed().as_secs_f64();
    assert!(seconds < 5.0 + 3.0, "{seconds} s of 5");
    let table = rehearsal.table();
    assert!(A[..3].iter().all(|stage| table[*stage].starts_with("stopped at its limit of ")), "{table:?}");
    assert!(A[3..].iter().all(|stage| table[*stage].starts_with("skipped: ")), "{table:?}");
    assert_eq!(run.status.code(), Some(1));
    // They are also named at the end of the output.
    assert!(String::from_utf8_lossy(&run.stdout).contains("torch: skipped: "));
}

#[test]
fn a_run_killed_at_any_stage_keeps_its_results() {
    let rehearsal = Rehearsal::new("kill");
    for stages in with_neighbours() {
        let _ = std::fs::remove_dir_all(rehearsal.out());
        let run = rehearsal.run(&[&["run"], &stages[..]].concat(), 1000, &format!("{}=kill", stages[1]));
        assert_eq!(run.status.code(), None, "{stages:?}: ended by a signal");
        let table = rehearsal.table();
        let results = stages.map(|stage| table[stage].as_str());
        assert_eq!(results, ["passed", "had not ended when this was written", "not begun"], "{stages:?}");
    }
}

#[test]
fn a_run_terminated_at_any_stage_keeps_that_stages_output() {
    let rehearsal = Rehearsal::new("end");
    for stages in with_neighbours() {
        let _ = std::fs::remove_dir_all(rehearsal.out());
        let run = rehearsal.run(&[&["run"], &stages[..]].concat(), 1000, &format!("{}=end", stages[1]));
        assert_eq!(run.status.code(), Some(143), "{stages:?}");
        let table = rehearsal.table();
        let results = stages.map(|stage| table[stage].as_str());
        assert_eq!(results, ["passed", "stopped with the run by SIGTERM", "not begun"], "{stages:?}");
        assert!(rehearsal.kept(&format!("{}/log.txt", stages[1])).unwrap().contains("before the end"));
    }
    assert_eq!(rehearsal.run(&["run", "ops"], 1000, "ops=interrupt").status.code(), Some(130));
    assert_eq!(rehearsal.table()["ops"], "stopped with the run by SIGINT");
}

/// results.tgz contains a running stage's output so far, in case of a kill that cannot be caught.
#[test]
fn the_output_of_a_long_stage_is_packed_while_it_runs() {
    let rehearsal = Rehearsal::new("long");
    let script = "echo half of it; sleep 1.5; kill -9 ${POLYHEAD_STAGE%%-*}; sleep 600";
    let program = rehearsal.folder.path.join("programs/tests-engine");
    std::fs::remove_file(&program).unwrap();
    std::fs::write(&program, format!("#!/usr/bin/env bash\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    // Packed every 20 s, which is every second here; the limit of 40 s comes later.
    rehearsal.run(&["run", "check"], 50, "");
    rehearsal.settle();
    assert!(rehearsal.kept("check/log.txt").unwrap().contains("half of it"));
}

/// Killed while it starts, while a stage starts or ends, or while it packs.
#[test]
fn a_run_killed_at_any_moment_leaves_complete_files_and_no_process() {
    let rehearsal = Rehearsal::new("moments");
    for moment in 0..12 {
        let mut run = rehearsal.command(&["run", "A"], 1000, "");
        let mut run = run.stdout(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(37 * moment));
        run.kill().unwrap();
        run.wait().unwrap();
        if rehearsal.out().join("results.tgz").exists() {
            rehearsal.settle();
            rehearsal.kept("README.md").unwrap();
        }
    }
    // The folder is empty if the run ended before its guard started. In every case the next run continues from it.
    let _ = std::fs::remove_dir_all(rehearsal.folder.path.join("tmp"));
    std::fs::create_dir(rehearsal.folder.path.join("tmp")).unwrap();
    assert_eq!(rehearsal.run(&["run", "A"], 1000, "").status.code(), Some(0));
    assert!(rehearsal.table().values().all(|result| result == "passed"));
}

#[test]
fn invalid_requests_are_refused_before_anything_changes() {
    let rehearsal = Rehearsal::new("refused");
    for (words, said) in [
        (&["run", "A", "step"][..], "step is not a stage"),
        (&["run", "A", "--seconds", "many"], "--seconds many"),
        (&["run", "A", "--out"], "--out: its value is missing"),
        (&["run"], "benches/gpu.sh run A"),
        (&["walk"], "benches/gpu.sh run A"),
    ] {
        let refused = rehearsal.run(words, 1000, "");
        let output = [refused.stdout, refused.stderr].concat();
        assert_eq!(refused.status.code(), Some(2), "{words:?}");
        assert!(String::from_utf8_lossy(&output).contains(said), "{words:?}: {}", String::from_utf8_lossy(&output));
    }
    assert!(!rehearsal.out().exists());

    std::fs::create_dir(rehearsal.out()).unwrap();
    let archive = rehearsal.out().join("results.tgz");
    std::fs::write(&archive, "no archive").unwrap();
    assert_eq!(rehearsal.run(&["run", "steps"], 1000, "").status.code(), Some(2));
    assert_eq!(std::fs::read_to_string(&archive).unwrap(), "no archive");
    std::fs::remove_file(rehearsal.folder.path.join("programs/polyhead")).unwrap();
    assert_eq!(rehearsal.run(&["run", "steps"], 1000, "").status.code(), Some(2));
}
