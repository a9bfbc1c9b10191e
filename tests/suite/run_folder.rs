//! Writing into a run's folder: only one process at a time, which other processes report, and the files that `--exist-ok`
//! removes.

use crate::cli::{SMALL, digits, fail, interrupt, path, polyhead, results, run, succeed, text, train};
use crate::step::Folder;
use crate::system::Running;
use polyhead::train::checkpoint;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

fn spawn(args: &[&str]) -> Running {
    Running::new(polyhead().args(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
}

fn signal(name: &str, id: u32) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {id}")]).status().unwrap();
    assert!(sent.success(), "kill -{name} {id}");
}

/// Waits until one of `children` has locked the folder, and stops it.
fn stop_the_holder(run_folder: &str, children: &[&Running]) -> u32 {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let said = std::fs::read_to_string(Path::new(run_folder).join(".polyhead-lock")).unwrap_or_default();
        let holds = |child: &&&Running| said.starts_with(&format!("process {} on ", child.id()));
        if let Some(holder) = children.iter().find(holds).filter(|_| said.ends_with('\n')) {
            signal("STOP", holder.id());
            return holder.id();
        }
        assert!(Instant::now() < deadline, "nobody locked {run_folder}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Asserts that a process was refused with one error message that names the holder.
fn assert_refused(output: &Output, holder: u32) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let error = said.lines().last().unwrap_or_default();
    let named = format!("is being written by process {holder} on ");
    assert!(error.starts_with("error: ") && error.contains(&named), "{said}");
    assert!(error.contains("Z: ") && error.contains(" train ") && error.contains("wait until"), "{said}");
}

/// Every file below `folder`, with its bytes and modification time.
fn snapshot(folder: &Path) -> Vec<(PathBuf, SystemTime, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
        match entry.is_dir() {
            true => found.extend(snapshot(&entry)),
            false => {
                let changed = entry.metadata().unwrap().modified().unwrap();
                found.push((entry.clone(), changed, std::fs::read(entry).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn names(folder: &Path) -> Vec<String> {
    let below = |path: PathBuf| path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
    snapshot(folder).into_iter().map(|file| below(file.0)).collect()
}

/// A run of `epochs` epochs that was interrupted after a few.
fn cut_run(folder: &Folder, data: &str, epochs: &str) -> String {
    let (project, cut) = (path(folder, "runs/train"), path(folder, "runs/train/cut"));
    interrupt(
        &[&["train", data, "--project", &project, "--name", "cut", "--epochs", epochs], &SMALL[..]].concat(),
        &cut,
    );
    cut
}

#[test]
fn two_processes_resume_the_same_run_and_one_is_refused() {
    let folder = Folder::new("two-resumes");
    let data = digits(&folder, 24);
    let cut = cut_run(&folder, &data, "60");
    let both = [spawn(&["train", "--resume", &cut]), spawn(&["train", "--resume", &cut])];
    let holder = stop_the_holder(&cut, &[&both[0], &both[1]]);
    let (first, second): (Vec<_>, Vec<_>) = both.into_iter().partition(|child| child.id() == holder);
    for child in second {
        assert_refused(&child.output(), holder);
    }
    signal("CONT", holder);
    for child in first {
        let output = child.output();
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let epochs: Vec<String> = results(&cut).iter().map(|row| row["epoch"].clone()).collect();
    assert_eq!(epochs, (1..=60).map(|e| e.to_string()).collect::<Vec<_>>());
}

#[test]
fn readers_of_a_running_runs_folder_change_nothing() {
    let folder = Folder::new("held");
    let data = digits(&folder, 24);
    let cut = cut_run(&folder, &data, "2000");
    let first = spawn(&["train", "--resume", &cut]);
    let holder = stop_the_holder(&cut, &[&first]);
    let before = snapshot(Path::new(&cut));
    std::os::unix::fs::symlink("runs/train/cut", folder.path.join("link")).unwrap();
    let project = path(&folder, "runs/train");
    let over = [&["train", &data, "--project", &project, "--name", "cut", "--exist-ok"], &SMALL[..]].concat();
    let writers: [&[&str]; 5] = [
        &["train", "--resume", &cut],
        &["train", "--resume", "link"],
        &["train", "--resume", "runs/../runs/train/cut"],
        &["evaluate", &cut, "--out", &cut],
        &over,
    ];
    let writers = writers.map(|args| {
        polyhead().args(args).current_dir(&folder.path).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    });
    for writer in writers {
        assert_refused(&writer.wait_with_output().unwrap(), holder);
    }
    assert!(snapshot(Path::new(&cut)) == before, "a process that was refused changed something");
    let (images, answers) = (format!("{data}/val"), path(&folder, "answers"));
    succeed(&["evaluate", &cut, "--out", &answers]);
    succeed(&["predict", &cut, &images, "--out", &answers]);
    assert!(snapshot(Path::new(&cut)) == before, "reading the folder changed something");
    // Without --exist-ok the same name gets a number.
    train(&folder, &data, "cut", &["--epochs", "1"]);
    assert!(folder.path.join("runs/train/cut-2/args.yaml").is_file());

    // A kill frees the folder, even before the parent has waited for the process.
    signal("KILL", holder);
    let second = spawn(&["train", "--resume", &cut]);
    stop_the_holder(&cut, &[&second]);
    for mut child in [first, second] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // The resumed run finishes.
    let stopped = run(&["train", "--resume", &cut, "--time", "0.0000001"]);
    assert!(stopped.status.success() && text(&stopped.stderr).contains("is over"), "{}", text(&stopped.stderr));
}

#[test]
fn two_runs_over_the_same_folder_leave_one_complete_run() {
    let folder = Folder::new("two-overs");
    let data = digits(&folder, 24);
    let project = path(&folder, "runs/train");
    let target = train(&folder, &data, "same", &["--epochs", "1"]);
    let over = |seed: &'static str| {
        let own =
            ["train", &data, "--project", &project, "--name", "same", "--exist-ok", "--epochs", "7", "--seed", seed];
        spawn(&[&own, &SMALL[..]].concat())
    };
    let both = [over("11"), over("12")];
    let holder = stop_the_holder(&target, &[&both[0], &both[1]]);
    let seed = if both[0].id() == holder { 11 } else { 12 };
    let (first, second): (Vec<_>, Vec<_>) = both.into_iter().partition(|child| child.id() == holder);
    for child in second {
        assert_refused(&child.output(), holder);
    }
    signal("CONT", holder);
    for child in first {
        let output = child.output();
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    assert_eq!(results(&target).len(), 7);
    let state = checkpoint::load(&Path::new(&target).join("weights/last.safetensors")).unwrap().state;
    assert_eq!((state.config.seed, state.epochs_done), (seed, 7));
    let args = std::fs::read_to_string(Path::new(&target).join("args.yaml")).unwrap();
    assert!(args.contains(&format!("\nseed: {seed}\n")), "{args}");
}

#[test]
fn a_run_over_an_older_one_keeps_files_that_are_not_the_runs() {
    let folder = Folder::new("over");
    let data = digits(&folder, 24);
    let target = train(&folder, &data, "same", &["--epochs", "1"]);
    let first = names(Path::new(&target));
    for file in ["weights/best_paper.safetensors", "confusion_paper.png", "scatter_sum.png"] {
        assert!(first.contains(&file.to_owned()), "{file} of {first:?}");
    }
    let foreign = ["notes.txt", "confusion_mine.png", "weights/notes.md", "weights/keep.safetensors", "clip.part"];
    foreign.iter().for_each(|file| std::fs::write(Path::new(&target).join(file), file).unwrap());
    // With other tasks: all files of the first run are removed, not only those that are written again.
    let yaml = folder.path.join("digits/data.yaml");
    let text = std::fs::read_to_string(&yaml).unwrap();
    std::fs::write(&yaml, text.replace("  paper:", "  sheet:").replace("  sum:", "  total:")).unwrap();
    let fresh = names(Path::new(&train(&folder, &data, "fresh", &["--epochs", "1"])));
    let in_the_way = Path::new(&target).join("weights/best_total.safetensors");
    std::fs::write(&in_the_way, "mine").unwrap();
    let project = path(&folder, "runs/train");
    let over = ["train", &data, "--project", &project, "--name", "same", "--exist-ok", "--epochs", "1"];
    let over = [&over[..], &SMALL[..]].concat();
    let before = snapshot(Path::new(&target));
    fail(&over, 2, &["weights/best_total.safetensors is in the way"]);
    assert!(snapshot(Path::new(&target)) == before, "a run that was refused changed something");
    std::fs::remove_file(&in_the_way).unwrap();
    succeed(&over);
    let mut expected: Vec<String> = fresh.into_iter().chain(foreign.map(str::to_owned)).collect();
    expected.sort();
    let mut left = names(Path::new(&target));
    left.sort();
    assert_eq!(left, expected);
    for file in foreign {
        assert_eq!(std::fs::read_to_string(Path::new(&target).join(file)).unwrap(), file);
    }
}

#[test]
fn a_folder_that_is_not_a_runs_is_not_written_into() {
    let folder = Folder::new("no-run");
    let data = digits(&folder, 8);
    let project = path(&folder, "project/train");
    std::fs::create_dir_all(folder.path.join("project/train/src")).unwrap();
    std::fs::create_dir_all(folder.path.join("project/train/copied/weights")).unwrap();
    std::fs::write(folder.path.join("project/train/src/main.rs"), "fn main() {}").unwrap();
    std::fs::write(folder.path.join("project/train/copied/weights/best.safetensors"), "weights").unwrap();
    let before = snapshot(&folder.path);
    for (name, words) in [
        ("src", ["train/src: holds main.rs and is not a run's folder", "--exist-ok"]),
        ("copied", ["weights/best.safetensors is in the way", "--name"]),
    ] {
        let args = ["train", &data, "--project", &project, "--name", name, "--exist-ok", "--epochs", "1"];
        fail(&[&args, &SMALL[..]].concat(), 2, &words);
    }
    assert!(snapshot(&folder.path) == before, "a run that was refused changed something");
    std::fs::create_dir(folder.path.join("project/train/empty")).unwrap();
    let args = ["train", &data, "--project", &project, "--name", "empty", "--exist-ok", "--epochs", "1"];
    succeed(&[&args, &SMALL[..]].concat());
}

#[test]
fn a_name_that_is_not_a_single_folder_is_refused() {
    let folder = Folder::new("names");
    let data = digits(&folder, 8);
    let project = path(&folder, "a/runs");
    let outside = path(&folder, "outside");
    for name in ["", ".", "..", "a/b", "../b", &outside, "a\\b", "a\nb", "NUL", "com1.txt", "a:b", "a.", " a"] {
        for more in [&["--exist-ok"][..], &["--dry-run"], &[]] {
            let args = ["train", &data, "--project", &project, "--name", name];
            fail(&[&args, more, &SMALL[..]].concat(), 2, &["expected the name of one folder"]);
        }
    }
    assert_eq!(std::fs::read_dir(&folder.path).unwrap().count(), 1, "a run that was refused left something");
}
