//! Output without a reader or onto a full disk: nothing panics, training continues, results are not lost silently, and
//! files are complete.

use crate::cli::{SMALL, digits, path, polyhead, succeed, text, train};
use crate::step::Folder;
use serde_json::Value;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The target of a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
enum To {
    Reader,
    /// A pipe whose reader has gone.
    Nobody,
    FullDisk,
}

impl To {
    fn open(self) -> Stdio {
        match self {
            To::Reader => Stdio::piped(),
            To::Nobody => std::io::pipe().unwrap().1.into(),
            To::FullDisk => OpenOptions::new().write(true).open("/dev/full").unwrap().into(),
        }
    }
}

/// The exit code, and the text that arrived from both streams.
fn outcome(args: &[&str], stdout: To, stderr: To) -> (Option<i32>, String, String) {
    let mut command = polyhead();
    let output = command.args(args).stdin(Stdio::null()).stdout(stdout.open()).stderr(stderr.open()).output().unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn training_continues_without_a_reader() {
    let folder = Folder::new("unread-training");
    let (data, project) = (digits(&folder, 16), path(&folder, "runs/train"));
    let broken = std::fs::read_dir(Path::new(&data).join("train")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(broken, "no image").unwrap();
    // The lines without durations and rates.
    let log = |name: &str| -> Vec<String> {
        let log = std::fs::read_to_string(folder.path.join("runs/train").join(name).join("log.txt")).unwrap();
        log.lines().map(|line| line.chars().filter(|c| !c.is_ascii_digit()).take(40).collect()).collect()
    };
    let args = |name: &'static str| {
        [&["train", &data, "--project", &project, "--name", name, "--epochs", "2"], &SMALL[..]].concat()
    };
    let (code, _, said) = outcome(&args("heard"), To::Reader, To::Reader);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("unreadable, left out"), "{said}");
    for (name, stdout, stderr) in
        [("closed", To::Nobody, To::Nobody), ("full", To::FullDisk, To::FullDisk), ("read", To::Reader, To::Nobody)]
    {
        let (code, _, _) = outcome(&args(name), stdout, stderr);
        assert_eq!(code, Some(0), "{name}");
        let run_folder = folder.path.join("runs/train").join(name);
        assert_eq!(std::fs::read_to_string(run_folder.join("results.csv")).unwrap().lines().count(), 3, "{name}");
        assert!(run_folder.join("weights/best.safetensors").is_file(), "{name}");
        assert_eq!(log(name).len(), log("heard").len(), "{name}");
        let (code, _, _) = outcome(&["train", "--resume", &run_folder.to_string_lossy()], stdout, stderr);
        assert_eq!(code, Some(0), "{name}");
        assert!(log(name).last().unwrap().starts_with("nothing is left to do"), "{name}");
        let (code, _, _) = outcome(&[&args("dry")[..], &["--dry-run"]].concat(), stdout, stderr);
        assert_eq!(code, Some(0), "{name}");
    }
}

/// A command that prints a result, and the file that it also writes.
struct Case<'a> {
    args: Vec<&'a str>,
    file: Option<&'a str>,
}

#[test]
fn results_without_a_reader_are_no_error_but_results_on_a_full_disk_are() {
    let folder = Folder::new("unread-results");
    let data = digits(&folder, 8);
    let model = train(&folder, &data, "m", &["--epochs", "1"]);
    let (images, json) = (format!("{data}/val"), path(&folder, "figures.json"));
    let (out, picture, converted) = (path(&folder, "out"), path(&folder, "preview.png"), path(&folder, "converted"));
    let lines = format!("{out}/predictions.jsonl");
    let golden = |name: &str| format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    let (annotations, detections) = (golden("coco_annotations.json"), golden("coco_results.json"));
    let small = ["--backbone", "tiny", "--imgsz", "32", "--threads", "2", "--repeats", "1"];
    let bench = |work: &'static str, more: &[&'static str]| [&["bench", work], &small[..], more].concat();
    let with_json = |args: Vec<&'static str>| -> Vec<&str> { [&args[..], &["--json", json.as_str()]].concat() };
    let file = Some(json.as_str());
    let case = |args: Vec<_>, file| Case { args, file };
    let cases = [
        case(vec!["evaluate", &model, "--json", &json], file),
        case(vec!["evaluate", "--coco", &annotations, "--detections", &detections, "--json", &json], file),
        case(vec!["predict", &model, &images, "--out", &out, "--no-images"], Some(&lines)),
        case(vec!["predict", &model, &images, "--out", "-"], None),
        case(vec!["data", "check", &data, "--json", &json], file),
        case(vec!["data", "describe", &data], None),
        case(vec!["data", "preview", &data, "--out", &picture], Some(&picture)),
        case(vec!["data", "preview", &data, "--augmented", "--out", &picture], Some(&picture)),
        case(vec!["data", "convert", &data, "--to", "jsonl", "--out", &converted], Some(&converted)),
        case(with_json(bench("train", &["--batch", "1,2"])), file),
        case(bench("infer", &["--batch", "1,2"]), None),
        case(with_json(bench("ops", &["--batch", "1"])), file),
        case(vec!["bench", "data", &data, "--images", "8", "--imgsz", "32", "--json", &json], file),
        case(vec!["--help"], None),
        case(vec!["train", "--help"], None),
        case(vec!["--version"], None),
    ];
    for Case { args, file } in cases {
        let whole = |of: &str| {
            let Some(file) = file else { return };
            let written = std::fs::read(file).or_else(|_| std::fs::read(Path::new(file).join("data.yaml")));
            let written = written.unwrap_or_else(|e| panic!("{args:?}, {of}: {file}: {e}"));
            let json = file.ends_with(".json").then(|| serde_json::from_slice::<Value>(&written).unwrap());
            // Every batch is measured although the first one's figures could not be shown.
            let all = args.contains(&"1,2").then_some(2);
            assert_eq!(json.and_then(|json| json.as_array().map(Vec::len)), all, "{args:?}, {of}");
            let _ = std::fs::remove_file(file);
            let _ = std::fs::remove_dir_all(file);
        };
        let (code, shown, said) = outcome(&args, To::Reader, To::Reader);
        assert_eq!(code, Some(0), "{args:?}: {said}");
        assert!(!shown.is_empty(), "{args:?} print nothing");
        whole("read");
        for stderr in [To::Nobody, To::FullDisk] {
            let (code, again, _) = outcome(&args, To::Reader, stderr);
            assert_eq!((code, again.lines().count()), (Some(0), shown.lines().count()), "{args:?}, {stderr:?}");
            whole("standard error is not read");
        }
        let (code, _, said) = outcome(&args, To::Nobody, To::Reader);
        assert_eq!(code, Some(0), "{args:?}: {said}");
        assert!(!said.contains("panicked") && !said.contains("error"), "{args:?}: {said}");
        whole("standard output is not read");
        let (code, _, said) = outcome(&args, To::FullDisk, To::Reader);
        assert_eq!(code, Some(1), "{args:?}: {said}");
        let error = said.lines().last().unwrap_or_default();
        assert!(error.starts_with("error: cannot write ") && !said.contains("panicked"), "{args:?}: {said}");
        assert_eq!(error.matches("No space left").count(), 1, "{args:?}: {said}");
        whole("standard output is full");
        assert_eq!(outcome(&args, To::FullDisk, To::FullDisk).0, Some(1), "{args:?}");
        whole("both are full");
    }
}

#[test]
fn an_unread_error_keeps_its_exit_code() {
    let nowhere = std::env::temp_dir().join("polyhead-no-such-folder").to_string_lossy().into_owned();
    let cases: [(&[&str], i32); 6] = [
        (&[], 2),
        (&["train", "--no-such-flag"], 2),
        (&["train", "--epochs", "0"], 2),
        (&["data", "check", concat!(env!("CARGO_MANIFEST_DIR"), "/src")], 1),
        (&["data", "check", &nowhere], 2),
        (&["predict", &nowhere, &nowhere, "--out", &nowhere], 2),
    ];
    for (args, code) in cases {
        for stderr in [To::Reader, To::Nobody, To::FullDisk] {
            let (ended, _, said) = outcome(args, To::Nobody, stderr);
            assert_eq!(ended, Some(code), "{args:?}, {stderr:?}: {said}");
        }
    }
}

/// A run that is killed when the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

fn signal(run: &Running, name: &str) {
    let kill = format!("kill -{name} {}", run.0.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}

/// Waits until `ready`, for at most a minute.
fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !ready() {
        assert!(Instant::now() < deadline, "{what} took over a minute");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn control_c_works_when_its_message_cannot_be_written() {
    let folder = Folder::new("unread-interrupt");
    let (data, project) = (digits(&folder, 8), path(&folder, "runs/train"));
    let start = |name: &str, stderr: Stdio| {
        let args = ["train", &data, "--project", &project, "--name", name, "--epochs", "1000"];
        Running(polyhead().args([&args, &SMALL[..]].concat()).stderr(stderr).spawn().unwrap())
    };
    let lines = |name: &str, file: &str| {
        let file = folder.path.join("runs/train").join(name).join(file);
        std::fs::read_to_string(file).unwrap_or_default().lines().count()
    };
    let mut run = start("closed", To::Nobody.open());
    wait_for("two epochs", || lines("closed", "results.csv") > 2);
    signal(&run, "INT");
    assert_eq!(run.0.wait().unwrap().code(), Some(130));
    let run_folder = path(&folder, "runs/train/closed");
    succeed(&["evaluate", &run_folder]);

    // A pipe fills up and nobody empties it: the run blocks while writing a line, and a second signal must still end it.
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut run = start("stalled", writer.try_clone().unwrap().into());
    let mut reader = BufReader::new(reader);
    let mut line = String::new();
    // The run handles signals from here on.
    while !line.contains("epochs of") {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0, "the run ended early");
    }
    std::thread::spawn(move || while writer.write_all(&[b'.'; 512]).is_ok() {});
    let mut before = 0;
    wait_for("the stall", || {
        std::thread::sleep(Duration::from_millis(500));
        let now = lines("stalled", "log.txt");
        std::mem::replace(&mut before, now) == now
    });
    for _ in 0..2 {
        signal(&run, "TERM");
        std::thread::sleep(Duration::from_millis(200));
    }
    wait_for("the end", || run.0.try_wait().unwrap().is_some());
    assert_eq!(run.0.wait().unwrap().code(), Some(130));
    drop(reader);
}
