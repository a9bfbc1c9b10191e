//! Runs that start from the choices of another run, and the choices that a resumed run accepts.

use crate::cli::{SMALL, digits, fail, path, run, session, succeed, text, train};
use crate::step::Folder;
use polyhead::reading::yaml::{self, Mapping};
use std::path::Path;

/// The choices in a run's args.yaml, without those in `without` and without the keys about machine and program.
fn choices(run_folder: &str, without: &[&str]) -> Mapping {
    let text = std::fs::read_to_string(Path::new(run_folder).join("args.yaml")).unwrap();
    let mut map: Mapping = yaml::read(&text).unwrap_or_else(|e| panic!("{e}"));
    let provenance = ["command", "version", "commit", "machine", "id", "isa", "tuning"];
    provenance.iter().chain(without).for_each(|key| drop(map.remove(*key)));
    map
}

#[test]
fn a_run_starts_from_the_choices_of_another() {
    let folder = Folder::new("choices");
    let data = digits(&folder, 16);
    let special = [
        &["--epochs", "2", "--schedule", "step", "--milestones", "0.5,1", "--lr-head", "sum=0.5", "--freeze", "stem"][..],
        &[
            "--balance",
            "fixed",
            "--task-weight",
            "sum=2",
            "--task-weight",
            "paper=0.5",
            "--hsv-h",
            "0.1",
            "--cache",
            "ram",
        ],
        &["--val-fraction", "0.25", "--seed", "3", "--clip-norm", "0.3", "--exist-ok"],
    ];
    let first = train(&folder, &data, "first", &special.concat());
    let args = path(&folder, "runs/train/first/args.yaml");
    let before = std::fs::read(Path::new(&first).join("weights/last.safetensors")).unwrap();

    // The first run was allowed to overwrite another. Its repetition is not, and gets its own folder, wherever the first one was.
    let elsewhere = path(&folder, "elsewhere");
    succeed(&["train", "--config", &args, "--project", &elsewhere]);
    let (again, place) = (path(&folder, "elsewhere/run"), ["exist_ok", "project", "name"]);
    assert_eq!(choices(&again, &place), choices(&first, &place));
    let all = choices(&again, &[]);
    assert_eq!((all["project"].as_str(), all["name"].as_str()), (Some(elsewhere.as_str()), Some("run")));
    assert_eq!(std::fs::read(Path::new(&first).join("weights/last.safetensors")).unwrap(), before);

    let other = Folder::new("choices-other");
    let more = digits(&other, 8);
    let own = ["--project", &path(&folder, "runs/train"), "--name", "other", "--clip-norm", "7", "--threads", "1"];
    succeed(&[&["train", &more, "--config", &first], &own[..]].concat());
    let changed = ["exist_ok", "data", "name", "clip_norm", "threads"];
    let (a, b) = (path(&folder, "runs/train/other"), choices(&first, &changed));
    assert_eq!(choices(&a, &changed), b);
    let all = choices(&a, &[]);
    assert_eq!((all["data"].as_str(), all["clip_norm"].as_f64()), (Some(more.as_str()), Some(7.0)));
}

#[test]
fn a_typed_method_or_schedule_removes_what_belongs_to_the_one_in_the_file() {
    let folder = Folder::new("choices-replaced");
    let data = digits(&folder, 8);
    let one_epoch = ["--epochs", "1", "--gramian", "layer"];
    let fixed = [&one_epoch[..], &["--balance", "fixed", "--task-weight", "sum=2"]].concat();
    let file = train(&folder, &data, "fixed", &fixed);
    let again = |name: &str, file: &str, more: &[&str]| {
        let place = ["--project", &path(&folder, "runs/train"), "--name", name];
        let output = run(&[&["train", "--config", file], &place[..], more].concat());
        let said = text(&output.stderr);
        assert!(output.status.success(), "{more:?}: {said}");
        (said, choices(&path(&folder, &format!("runs/train/{name}")), &[]))
    };
    let (said, all) = again("dwa", &file, &["--balance", "dwa"]);
    assert!(said.contains("note: not taken from --config: --task-weight\n"), "{said}");
    assert!(all["task_weights"].as_object().is_none_or(Mapping::is_empty), "{all:?}");
    assert_eq!((all["balance"].as_str(), all["gramian"].as_str()), (Some("dwa"), Some("layer")));
    // The same method keeps its parameters.
    let (said, all) = again("same", &file, &["--balance", "fixed"]);
    assert!(!said.contains("not taken") && all["task_weights"]["sum"].as_f64() == Some(2.0), "{said}");

    let cagrad = [&one_epoch[..], &["--balance", "cagrad", "--balance-c", "0.25"]].concat();
    let file = train(&folder, &data, "cagrad", &cagrad);
    let (said, all) = again("weighted", &file, &["--balance", "fixed", "--task-weight", "sum=3"]);
    assert!(said.contains("note: not taken from --config: --balance-c\n"), "{said}");
    assert!(
        all.get("balance_c").is_none_or(yaml::Value::is_null) && all["task_weights"]["sum"].as_f64() == Some(3.0),
        "{all:?}"
    );

    let steps = ["--epochs", "2", "--schedule", "step", "--milestones", "1", "--gamma", "0.5"];
    let file = train(&folder, &data, "step", &steps);
    let (said, all) = again("cosine", &file, &["--schedule", "cosine"]);
    let note = said.lines().find(|line| line.starts_with("note: not taken from --config: ")).unwrap();
    assert!(note.contains("--milestones") && note.contains("--gamma") && !note.contains("--lrf"), "{note}");
    assert_eq!(
        (all["schedule"].as_str(), all["gamma"].as_f64().map(|gamma| gamma as f32)),
        (Some("cosine"), Some(0.1))
    );
}

#[test]
fn an_invalid_file_of_choices_is_refused() {
    let folder = Folder::new("choices-wrong");
    for (file, text) in [
        ("typo.yaml", "epochs: 2\nclip_nrom: 1\n"),
        ("stranger.yaml", "task: detect\nmode: train\nepochs: 3\n"),
        ("range.yaml", "epochs: 2\nmosaic: 1.5\n"),
        ("schedule.yaml", "schedule: cosine\n"),
    ] {
        std::fs::write(folder.path.join(file), text).unwrap();
    }
    session(&folder, "choices");
    assert!(!folder.path.join("runs").exists());
}

#[test]
fn a_resumed_run_names_the_flags_it_ignores() {
    let folder = Folder::new("choices-resume");
    let data = digits(&folder, 8);
    let run_folder = train(&folder, &data, "r", &["--epochs", "1"]);
    let output = run(&["train", "--resume", &run_folder, "--exist-ok", "--clip-norm", "1", "--workers", "1"]);
    let said = text(&output.stderr);
    assert!(output.status.success() && said.contains("--exist-ok is ignored"), "{said}");
    assert!(said.contains("--clip-norm is ignored"), "{said}");
    assert!(!said.contains("--project is ignored") && !said.contains("--workers is ignored"), "{said}");
    let log = std::fs::read_to_string(Path::new(&run_folder).join("log.txt")).unwrap();
    assert!(log.contains("\nnote: --workers 1 (before: 2)\n"), "{log}");
    fail(
        &["train", "--resume", &run_folder, "--max-broken", "2"],
        2,
        &["--max-broken 2: expected a share from 0 to 1"],
    );
    // This is checked before the data set is opened.
    std::fs::rename(&data, path(&folder, "moved")).unwrap();
    fail(&["train", "--resume", &run_folder, "--device", "tpu"], 2, &["tpu"]);
    std::fs::rename(path(&folder, "moved"), &data).unwrap();
    // A run with half the batch is not the same run: `SMALL` contains the flags that a resumed run keeps.
    let said = text(&run(&[&["train", "--resume", &run_folder], &SMALL[..]].concat()).stderr);
    assert!(said.contains("--backbone is ignored") && said.contains("--batch is ignored"), "{said}");
}

#[test]
fn a_runs_folder_stands_for_its_best_weights() {
    let folder = Folder::new("weights-of-a-run");
    let (data, project) = (digits(&folder, 16), path(&folder, "runs/train"));
    let first = train(&folder, &data, "run", &["--epochs", "1"]);
    let again = ["train", &data, "--project", &project, "--name", "run", "--weights", &first, "--epochs", "1"];
    let output = run(&[&again, &SMALL[..]].concat());
    let said = text(&output.stderr);
    assert!(output.status.success() && said.contains("the folder run is taken, so this run's is run-2"), "{said}");
    let args = std::fs::read_to_string(path(&folder, "runs/train/run-2/args.yaml")).unwrap();
    assert!(args.contains("run/weights/best.safetensors"), "{args}");
}
