//! The place of a run, runs that start from another one, and words in any case.

use crate::cli::{SMALL, digits, fail, path, polyhead, said, succeed, text, train, wait_for_epochs};
use crate::step::Folder;
use std::path::Path;
use std::process::Stdio;

#[test]
fn a_project_and_a_name_are_the_folder_of_a_run() {
    let folder = Folder::new("project");
    let data = digits(&folder, 8);
    let project = path(&folder, "mine");
    let args = [&["train", &data, "--project", &project, "--epochs", "1", "--cache", "disk"], &SMALL[..]].concat();
    succeed(&[&args[..], &["--name", "first"]].concat());
    succeed(&args);
    assert!(folder.path.join("mine/first/args.yaml").is_file() && folder.path.join("mine/run/args.yaml").is_file());
    // The built-in digits, which runs share, lie in the project. A data set around the project does not read them.
    assert!(folder.path.join("mine/cache").is_dir() && folder.path.join("mine/.polyhead-runs").is_file());
    succeed(&["train", "--resume", &path(&folder, "mine/first"), "--epochs", "2"]);
    let args = std::fs::read_to_string(folder.path.join("mine/first/args.yaml")).unwrap();
    assert!(args.contains(&format!("project: {project}\n")) && folder.path.join("mine/cache").is_dir(), "{args}");
    assert!(!folder.path.join("mine/first/cache").exists());
    // Without the flag, it is `runs/train`, and what runs share lies above it.
    let plain = [&["train", &data, "--epochs", "1", "--cache", "disk"], &SMALL[..]].concat();
    let output = polyhead().args(plain).current_dir(&folder.path).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(folder.path.join("runs/train/run/args.yaml").is_file() && folder.path.join("runs/cache").is_dir());
}

#[test]
fn a_run_from_another_has_its_choices_and_weights_and_its_own_place() {
    let folder = Folder::new("from");
    let data = digits(&folder, 16);
    let first = train(&folder, &data, "first", &["--epochs", "1", "--lr-trunk", "0.5", "--optimizer", "sgd"]);
    let moved = path(&folder, "moved");
    std::fs::rename(&first, &moved).unwrap();
    let own = ["--project", &path(&folder, "new"), "--clip-norm", "3"];
    let words = said(&[&["train", "--from", &moved], &own[..]].concat());
    assert!(!words.contains("start at random") && !words.contains("not taken"), "{words}");
    let args = std::fs::read_to_string(folder.path.join("new/run/args.yaml")).unwrap();
    for choice in ["lr_trunk: 0.5\n", "optimizer: sgd\n", "clip_norm: 3.0\n", "moved/weights/best.safetensors\n"] {
        assert!(args.contains(choice), "{choice}{args}");
    }
    let from = |more: &[&str], words: &[&str]| fail(&[&["train", "--from"], more].concat(), 2, words);
    from(&[&moved, "--weights", &moved], &["--from", "--weights"]);
    from(&[&path(&folder, "moved/weights/best.safetensors")], &["expected a run's folder; --weights starts from"]);
    from(&[&path(&folder, "nowhere")], &["does not exist: give a run's folder"]);
    // A file that no run wrote names a place on purpose, so it is said that it is not taken.
    let plan = path(&folder, "plan.yaml");
    std::fs::write(&plan, "epochs: 1\nproject: elsewhere\nname: x\n").unwrap();
    let args = ["train", &data, "--config", &plan, "--project", &path(&folder, "new")];
    let words = said(&[&args, &SMALL[..]].concat());
    assert!(words.contains("note: not taken from --config: --name\n"), "{words}");
    assert!(folder.path.join("new/run-2/args.yaml").is_file());
}

#[test]
fn words_are_read_in_any_case() {
    let folder = Folder::new("any-case");
    let data = digits(&folder, 16);
    let words = ["--optimizer", "AdamW", "--balance", "CAGrad", "--schedule", "Cosine", "--freeze", "Stem"];
    let run_folder = train(&folder, &data, "flags", &[&["--epochs", "1"], &words[..]].concat());
    let args = std::fs::read_to_string(Path::new(&run_folder).join("args.yaml")).unwrap();
    let ours = ["optimizer: adamw\n", "balance: cagrad\n", "schedule: cosine\n", "- stem\n"];
    assert!(ours.iter().all(|word| args.contains(word)), "{args}");
    let file = path(&folder, "choices.yaml");
    let choices =
        "backbone: Tiny\noptimizer: SGD\nbalance: Fixed\nschedule: Constant\ncache: RAM\nepochs: 1\nimgsz: 64\n";
    std::fs::write(&file, choices).unwrap();
    let project = path(&folder, "runs/train");
    succeed(&["train", &data, "--config", &file, "--project", &project, "--name", "file", "--threads", "2"]);
    let args = std::fs::read_to_string(path(&folder, "runs/train/file/args.yaml")).unwrap();
    let ours = ["backbone: tiny\n", "optimizer: sgd\n", "balance: fixed\n", "schedule: constant\n", "cache: ram\n"];
    assert!(ours.iter().all(|word| args.contains(word)), "{args}");
    fail(&["train", &data, "--optimizer", "Adan"], 2, &["--optimizer Adan: expected sgd or adamw"]);
    assert!(said(&["evaluate", &run_folder, "--split", "Val"]).is_empty());
}

#[test]
fn evaluate_names_the_new_place_of_a_moved_data_set() {
    let folder = Folder::new("moved-data");
    let data = digits(&folder, 8);
    let run_folder = train(&folder, &data, "r", &["--epochs", "1"]);
    std::fs::rename(&data, path(&folder, "elsewhere")).unwrap();
    let hint = format!("if it was moved, name its new place after {run_folder}");
    fail(&["evaluate", &run_folder], 1, &[&data, &hint]);
    succeed(&["evaluate", &run_folder, &path(&folder, "elsewhere")]);
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_ends_with_its_own_line_and_no_error() {
    let folder = Folder::new("own-line");
    let data = digits(&folder, 16);
    let project = path(&folder, "runs/train");
    let args = [&["train", &data, "--project", &project, "--epochs", "5000"], &SMALL[..]].concat();
    let child = polyhead().args(args).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    wait_for_epochs(&path(&folder, "runs/train/run"), 1);
    let killed = run_kill(child.id());
    assert!(killed);
    let output = child.wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.lines().last().unwrap().starts_with("stopped after step ") && !said.contains("error: "), "{said}");
}

#[cfg(unix)]
fn run_kill(process: u32) -> bool {
    std::process::Command::new("kill").arg(process.to_string()).status().is_ok_and(|status| status.success())
}
