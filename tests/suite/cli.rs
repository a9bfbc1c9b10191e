//! Tests of the binary from the command line: a small run from data to predictions, resuming it, and invalid input.

use crate::step::Folder;
use polyhead::data::built_in::digits::{DigitsOptions, write_digits};
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

pub fn polyhead() -> Command {
    Command::new(env!("CARGO_BIN_EXE_polyhead"))
}

pub fn run(args: &[&str]) -> Output {
    polyhead().args(args).stdin(Stdio::null()).output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs and expects success; returns standard output.
pub fn succeed(args: &[&str]) -> String {
    let output = run(args);
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Runs a command that must succeed, and returns standard error.
pub fn said(args: &[&str]) -> String {
    let output = run(args);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}");
    said
}

/// The lines of a run's table without times.
pub fn timeless_table(run_folder: &str) -> Vec<String> {
    let text = std::fs::read_to_string(Path::new(run_folder).join("results.csv")).unwrap();
    let timeless =
        |line: &str| line.split(',').enumerate().filter(|c| c.0 != 1).map(|c| c.1).collect::<Vec<_>>().join(",");
    text.lines().map(timeless).collect()
}

/// Runs and expects `code`, and an error as the last line that contains all of `words`.
pub fn fail(args: &[&str], code: i32, words: &[&str]) {
    let output = run(args);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    let error = said.lines().last().unwrap_or_default();
    assert!(error.starts_with("error: "), "{args:?}: {said}");
    for word in words {
        assert!(error.contains(word), "{args:?}: no `{word}` in: {said}");
    }
}

/// Runs each command of `tests/cli/{name}.txt` in `folder` and expects the output below it: standard output, lines of
/// standard error after `2> `, and the exit code after `? ` unless it is 0. `[FOLDER]` stands for the folder, and
/// `[..]` for any text within a line. With SNAPSHOTS=overwrite the file is rewritten from the actual output.
pub fn session(folder: &Folder, name: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli").join(name).with_extension("txt");
    let commands = std::fs::read_to_string(&file).unwrap();
    let answer = |command: &str| {
        let args = command.split(' ').skip(2).map(|arg| if arg == "''" { "" } else { arg });
        let output = polyhead().args(args).current_dir(&folder.path).stdin(Stdio::null()).output().unwrap();
        let mut said = format!("{command}\n{}", text(&output.stdout));
        for line in text(&output.stderr).lines() {
            said += format!("2> {line}").trim_end();
            said += "\n";
        }
        match output.status.code() {
            Some(0) => said,
            code => said + &format!("? {}\n", code.expect("no command is killed")),
        }
    };
    let said: Vec<String> = commands.lines().filter(|line| line.starts_with("$ polyhead ")).map(answer).collect();
    let mut redactions = snapbox::Redactions::new();
    redactions.insert("[FOLDER]", folder.path.canonicalize().unwrap()).unwrap();
    let assert = snapbox::Assert::new().action_env(snapbox::assert::DEFAULT_ACTION_ENV).redact_with(redactions);
    assert.eq(said.join("\n"), snapbox::Data::read_from(&file, None));
}

pub fn digits(folder: &Folder, train: usize) -> String {
    let path = folder.path.join("digits");
    let options = DigitsOptions { train, val: 9, test: 5, size: 64, seed: 1 };
    write_digits(&path, &options).unwrap();
    path.to_string_lossy().into_owned()
}

pub fn path(folder: &Folder, name: &str) -> String {
    folder.path.join(name).to_string_lossy().into_owned()
}

pub const SMALL: [&str; 8] = ["--backbone", "tiny", "--imgsz", "64", "--batch", "8", "--threads", "2"];

/// A small run named `name`; returns its folder.
pub fn train(folder: &Folder, data: &str, name: &str, more: &[&str]) -> String {
    let project = path(folder, "runs/train");
    succeed(&[&["train", data, "--project", &project, "--name", name], &SMALL[..], more].concat());
    path(folder, &format!("runs/train/{name}"))
}

#[test]
fn a_small_run_from_data_to_predictions() {
    let folder = Folder::new("whole");
    let data = digits(&folder, 24);
    let checked = succeed(&["data", "check", &data]);
    assert!(checked.contains("digits") && checked.contains("unreadable images: 0"), "{checked}");
    let run_folder = train(&folder, &data, "first", &["--epochs", "2"]);
    for file in ["args.yaml", "log.txt", "val_batch0_pred.jpg", "weights/last.safetensors", "weights/best.safetensors"]
    {
        assert!(Path::new(&run_folder).join(file).is_file(), "{file}");
    }
    check_results(&run_folder, 2);
    check_evaluation(&folder, &run_folder, &data);
    check_predictions(&folder, &run_folder, &data);
    // The name is taken, so the next run gets a number.
    train(&folder, &data, "first", &["--epochs", "1"]);
    assert!(folder.path.join("runs/train/first-2/args.yaml").is_file());
}

fn check_results(run_folder: &str, epochs: usize) {
    let table = std::fs::read_to_string(Path::new(run_folder).join("results.csv")).unwrap();
    let rows: Vec<Vec<&str>> = table.lines().map(|l| l.split(',').collect()).collect();
    assert_eq!(rows.len(), epochs + 1);
    assert!(rows.iter().all(|r| r.len() == rows[0].len()));
    for column in [
        "epoch",
        "train/digits/loss",
        "val/digits/AP50",
        "val/paper/top1",
        "val/sum/R2",
        "weight/sum",
        "weighted/digits",
        "log_var/paper",
        "lr",
    ] {
        assert!(rows[0].contains(&column), "{column} of {:?}", rows[0]);
    }
}

fn check_evaluation(folder: &Folder, run_folder: &str, data: &str) {
    let figures = |batch: &str| -> Value {
        let json = path(folder, &format!("figures{batch}.json"));
        succeed(&["evaluate", run_folder, data, "--batch", batch, "--json", &json]);
        serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap()
    };
    let one = figures("1");
    assert_eq!(one["images"], 9);
    assert!(one["tasks"]["digits"]["metrics"]["AP"].is_number());
    for batch in ["4", "16"] {
        assert!(alike(&one["tasks"], &figures(batch)["tasks"]), "batch {batch}");
    }
    let implied = succeed(&["evaluate", run_folder, "--split", "test"]);
    assert!(implied.contains("5 images"), "{implied}");
}

/// Equal except for f32 rounding of sums, which another batch orders differently.
fn alike(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => (x.as_f64().unwrap() - y.as_f64().unwrap()).abs() < 1e-4,
        (Value::Object(x), Value::Object(y)) => x.len() == y.len() && x.iter().all(|(k, v)| alike(v, &y[k])),
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(v, w)| alike(v, w)),
        _ => a == b,
    }
}

fn check_predictions(folder: &Folder, run_folder: &str, data: &str) {
    let (out, images) = (path(folder, "answers"), format!("{data}/val"));
    succeed(&["predict", run_folder, &images, "--out", &out, "--conf", "0.01"]);
    let lines = std::fs::read_to_string(Path::new(&out).join("predictions.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 9);
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["file"].as_str().unwrap().ends_with(".png"));
        assert_eq!((&line["width"], &line["height"]), (&Value::from(64), &Value::from(64)));
        let paper = &line["tasks"]["paper"];
        let total: f64 = paper["probabilities"].as_object().unwrap().values().map(|p| p.as_f64().unwrap()).sum();
        assert!((total - 1.0).abs() < 1e-4 && paper["probabilities"][paper["class"].as_str().unwrap()].is_number());
        assert_eq!(line["tasks"]["sum"]["values"].as_array().unwrap().len(), 1);
        assert_eq!(line["tasks"]["sum"]["units"].as_array().unwrap().len(), 1);
        for found in line["tasks"]["digits"]["boxes"].as_array().unwrap() {
            let corners: Vec<f64> = found["box"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
            assert!(corners.iter().all(|v| (0.0..=64.0).contains(v)) && corners[0] < corners[2], "{corners:?}");
            assert!(found["class"].is_string() && found["score"].as_f64().unwrap() > 0.01);
        }
    }
    let pictures = |out: &str| {
        let files = std::fs::read_dir(out).unwrap().filter_map(|e| e.ok());
        files.filter(|f| f.path().extension().is_some_and(|e| e == "jpg")).count()
    };
    assert_eq!(pictures(&out), 9);
    let bare = path(folder, "bare");
    succeed(&["predict", run_folder, &format!("{images}/*.png"), "--out", &bare, "--no-images"]);
    assert_eq!(pictures(&bare), 0);
}

/// Waits until the table in `run_folder` has so many epochs.
pub fn wait_for_epochs(run_folder: &str, epochs: usize) {
    let table = Path::new(run_folder).join("results.csv");
    let deadline = Instant::now() + Duration::from_secs(60);
    while std::fs::read_to_string(&table).unwrap_or_default().lines().count() <= epochs {
        assert!(Instant::now() < deadline, "{epochs} epochs took over a minute");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// Starts a run and ends it by SIGTERM (Ctrl-C is ignored in the background of a script) once the table in `run_folder` has two epochs.
pub fn interrupt(args: &[&str], run_folder: &str) {
    let mut child = polyhead().args(args).stderr(Stdio::null()).spawn().unwrap();
    wait_for_epochs(run_folder, 2);
    let killed = Command::new("sh").args(["-c", &format!("kill -TERM {}", child.id())]).status().unwrap();
    assert!(killed.success());
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130), "an interrupted run says so");
}

#[test]
fn an_interrupted_run_ends_like_an_undisturbed_one() {
    let folder = Folder::new("interrupt");
    let data = digits(&folder, 40);
    let whole = train(&folder, &data, "whole", &["--epochs", "12"]);
    let project = path(&folder, "runs/train");
    let args = [&["train", &data, "--project", &project, "--name", "cut", "--epochs", "12"], &SMALL[..]].concat();
    let cut = path(&folder, "runs/train/cut");
    interrupt(&args, &cut);
    let card = |run: &str| {
        polyhead::model::ModelFile::read(&Path::new(run).join("weights/last.safetensors"), None).unwrap().card
    };
    assert!(card(&cut).intervals.is_empty(), "weights in the middle of an epoch have the intervals of others");
    // Other numbers of workers and threads give the same results. A flag that a resumed run ignores is named.
    let output =
        run(&["train", "--resume", &cut, "--workers", "1", "--threads", "1", "--lr0", "9", "--schedule", "step"]);
    let said = text(&output.stderr);
    assert!(output.status.success() && said.contains("resumed") && said.contains("--lr0 is ignored"), "{said}");
    assert!(said.contains("--schedule is ignored"), "{said}");
    check_results(&cut, 12);
    let tensors =
        |run: &str| polyhead::model::weights::read(&Path::new(run).join("weights/last.safetensors")).unwrap().tensors;
    let (a, b) = (tensors(&whole), tensors(&cut));
    assert_eq!(a.len(), b.len());
    assert_eq!(card(&whole), card(&cut));
    for (name, tensor) in &a {
        let bits = |t: &candle_core::Tensor| -> Vec<u32> {
            t.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
        };
        assert!(bits(tensor) == bits(&b[name]), "{name} differs");
    }
}

#[test]
fn wrong_flags_give_an_error_and_exit_code_2() {
    let folder = Folder::new("flags");
    digits(&folder, 8);
    session(&folder, "flags");
    assert_eq!(std::fs::read_dir(&folder.path).unwrap().count(), 1, "a refused command left something behind");
}

#[test]
fn learning_rates_are_set_per_part_and_epoch_or_refused() {
    let folder = Folder::new("rates");
    let data = digits(&folder, 8);
    session(&folder, "rates");
    assert!(!folder.path.join("runs/train").exists(), "a refused run left a folder behind");

    let flags = ["--epochs", "4", "--warmup-epochs", "0", "--lr0", "0.01", "--schedule", "step", "--lr-head", "sum=2"];
    // By default at 60 % and 85 % of the four epochs: after epoch 2 (2.4, with one step per epoch) and 3 (3.4).
    for (name, more, rates) in [
        ("default", vec![], [0.01, 0.01, 0.001, 0.0001]),
        ("given", vec!["--milestones", "1,2", "--gamma", "0.5"], [0.01, 0.005, 0.0025, 0.0025]),
    ] {
        let run_folder = train(&folder, &data, name, &[&flags[..], &more].concat());
        let table = results(&run_folder);
        let got: Vec<f64> = table.iter().map(|row| row["lr"].parse().unwrap()).collect();
        assert!(got.iter().zip(rates).all(|(g, r): (&f64, f64)| (g - r).abs() < 1e-8), "{got:?}, {rates:?} expected");
        let args = std::fs::read_to_string(Path::new(&run_folder).join("args.yaml")).unwrap();
        assert!(args.contains("schedule: step") && args.contains("lr_heads:\n  sum: 2"), "{args}");
    }
}

/// The rows of a run's table, by column.
pub fn results(run_folder: &str) -> Vec<HashMap<String, String>> {
    let mut reader = csv::Reader::from_path(Path::new(run_folder).join("results.csv")).unwrap();
    reader.deserialize().map(|row| row.unwrap()).collect()
}

#[test]
fn missing_data_gives_an_error() {
    let folder = Folder::new("data");
    std::fs::create_dir_all(folder.path.join("empty")).unwrap();
    digits(&folder, 8);
    let declared = folder.path.join("digits");
    let good = std::fs::read_to_string(declared.join("data.yaml")).unwrap();
    for (file, from, to) in [
        ("column.yaml", "column: paper", "column: parchment"),
        ("folder.yaml", "val: val", "val: elsewhere"),
        ("type.yaml", "type: detect", "type: segment"),
    ] {
        std::fs::write(declared.join(file), good.replace(from, to)).unwrap();
    }
    session(&folder, "declarations");
    assert!(!folder.path.join("empty/train").exists(), "a run folder was left behind");
}

#[test]
fn unreadable_images_are_named_counted_and_left_out_up_to_a_share() {
    let folder = Folder::new("broken");
    let data = digits(&folder, 16);
    let first = std::fs::read_dir(folder.path.join("digits/train")).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&first).unwrap();
    std::fs::write(&first, &whole[..whole.len() / 2]).unwrap();
    let name = first.file_name().unwrap().to_string_lossy().into_owned();
    assert!(succeed(&["data", "check", &data]).contains("unreadable images: 1"));
    let project = path(&folder, "runs/train");
    let args = [&["train", &data, "--project", &project, "--epochs", "2"], &SMALL[..]].concat();
    let output = run(&args);
    let said = text(&output.stderr);
    assert!(output.status.success() && said.contains(&format!("unreadable, left out: train/{name}")), "{said}");
    fail(&[&args[..], &["--max-broken", "0"]].concat(), 1, &[&name, "--max-broken"]);
}

#[test]
fn unsuitable_models_give_an_error() {
    let folder = Folder::new("models");
    let data = digits(&folder, 8);
    let run_folder = train(&folder, &data, "m", &["--epochs", "1"]);
    let images = format!("{data}/val");
    let (out, nothing) = (path(&folder, "out"), path(&folder, "nothing"));
    fail(&["predict", &nothing, &images, "--out", &out], 2, &["nothing", "weights"]);
    fail(&["predict", &run_folder, &nothing, "--out", &out], 2, &["nothing", "image"]);
    fail(&["train", "--resume", &nothing], 2, &["nothing", "does not exist"]);

    let last = PathBuf::from(&run_folder).join("weights/last.safetensors");
    let whole = std::fs::read(&last).unwrap();
    std::fs::write(&last, &whole[..whole.len() / 2]).unwrap();
    let cut = last.to_string_lossy().into_owned();
    fail(&["predict", &cut, &images, "--out", &out], 1, &["last.safetensors", "not a complete safetensors file"]);
    // Without the previous state the run cannot be resumed.
    std::fs::remove_file(last.with_file_name("previous.safetensors")).unwrap();
    fail(&["train", "--resume", &run_folder], 1, &["last.safetensors", "not a complete safetensors file"]);
    let best = PathBuf::from(&run_folder).join("weights/best.safetensors");
    std::fs::copy(&best, &last).unwrap();
    fail(&["train", "--resume", &run_folder], 1, &["not a run's state"]);

    let yaml = folder.path.join("digits/data.yaml");
    let good = std::fs::read_to_string(&yaml).unwrap();
    std::fs::write(&yaml, good.replace("  sum:", "  total:")).unwrap();
    fail(&["evaluate", &run_folder, &data], 2, &["`sum`", "`total`", "--tasks digits,paper"]);
    // A file exists where the output folder should be.
    let file = path(&folder, "file");
    std::fs::write(&file, "x").unwrap();
    fail(&["predict", &run_folder, &images, "--out", &format!("{file}/below")], 1, &["cannot create", "below"]);
}

#[test]
fn a_run_folder_among_the_images_is_not_read_as_images() {
    let folder = Folder::new("among");
    let digits = digits(&folder, 8);
    let data = folder.path.join("kinds");
    for (i, entry) in std::fs::read_dir(Path::new(&digits).join("train")).unwrap().enumerate() {
        let class = data.join(["a", "b"][i % 2]);
        std::fs::create_dir_all(&class).unwrap();
        let image = entry.unwrap().path();
        std::fs::copy(&image, class.join(image.file_name().unwrap())).unwrap();
    }
    for run in ["run", "run-2"] {
        let args = [&["train", ".", "--epochs", "1", "--val-fraction", "0.4"], &SMALL[..]].concat();
        let output = polyhead().args(args).current_dir(&data).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let model = data.join("runs/train").join(run).join("weights/best.safetensors");
        let card = polyhead::model::ModelFile::read(&model, None).unwrap().card;
        assert_eq!(card.architecture.tasks[0].classes(), ["a", "b"]);
    }
}

#[test]
fn predict_does_not_overwrite_images_and_refuses_invalid_requests() {
    let folder = Folder::new("spare");
    let data = digits(&folder, 8);
    let run_folder = train(&folder, &data, "m", &["--epochs", "1"]);
    let images = format!("{data}/val");
    let before =
        std::fs::read_dir(&images).unwrap().map(|e| std::fs::read(e.unwrap().path()).unwrap()).collect::<Vec<_>>();
    fail(&["predict", &run_folder, &images, "--out", &images], 2, &["would be overwritten", "--out"]);
    let after =
        std::fs::read_dir(&images).unwrap().map(|e| std::fs::read(e.unwrap().path()).unwrap()).collect::<Vec<_>>();
    assert_eq!(before, after);
    let out = path(&folder, "out");
    fail(&["predict", &run_folder, &images, "--out", &out, "--imgsz", "0"], 2, &["--imgsz 0", "multiple of 32"]);
    fail(&["predict", &run_folder, &images, "--out", &out, "--conf", "nan"], 2, &["--conf", "from 0 to 1"]);
    let names = path(&folder, "names.txt");
    std::fs::write(&names, "a\nb\n").unwrap();
    fail(
        &["predict", &run_folder, &images, "--out", &out, "--classes", &names],
        2,
        &["--classes", "its own class names"],
    );
    succeed(&["predict", &run_folder, &images, "--out", &out, "--no-images", "--batch", "100000000"]);
    let lines = Path::new(&out).join("predictions.jsonl");
    let good = std::fs::read(&lines).unwrap();
    // With more unreadable images than allowed, predict fails and keeps the older predictions.
    for i in 0..3 {
        std::fs::write(format!("{images}/broken{i}.png"), "no image").unwrap();
    }
    fail(&["predict", &run_folder, &images, "--out", &out, "--no-images"], 1, &["cannot be read", "--max-broken"]);
    assert_eq!(std::fs::read(&lines).unwrap(), good);
    // The predictions and the marker of the folder.
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 2);
}

/// A limit on file sizes simulates a full disk: writing beyond it fails.
#[test]
fn a_full_disk_stops_the_run_and_leaves_no_half_file() {
    let folder = Folder::new("disk");
    let data = digits(&folder, 8);
    let project = path(&folder, "runs/train");
    let arguments = [&["train", &data, "--project", &project, "--name", "full", "--epochs", "1"], &SMALL[..]].concat();
    // Blocks of 512 bytes: 128 KiB are enough for the table and the log, but not for weights.
    let script = format!("trap '' XFSZ; ulimit -f 256; exec '{}' \"$@\"", env!("CARGO_BIN_EXE_polyhead"));
    let output = Command::new("sh").args(["-c", &script, "sh"]).args(arguments).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot write") && said.contains("safetensors"), "{said}");
    let left: Vec<_> = std::fs::read_dir(folder.path.join("runs/train/full/weights")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_plain_resnet_can_classify_and_start_training() {
    use candle_core::{Device, Tensor};
    let folder = Folder::new("plain");
    let data = digits(&folder, 8);
    // ResNet-18 with torchvision's names, made from the parameters' shapes.
    let card = polyhead::model::Architecture::new(polyhead::model::Backbone::Resnet18, Vec::new(), 64, 0.0);
    let network = card.network([1, 64, 64], polyhead::ir::Mode::Evaluate).unwrap();
    let device = polyhead::executor::DeviceChoice::Cpu { threads: 1 };
    let mut executor =
        polyhead::executor::Executor::new(&device, &network.graph.parameters, &network.graph.buffers).unwrap();
    executor.edit_store(|store| polyhead::model::init::initialise(store, 0)).unwrap();
    use polyhead::model::weights::{self, Slot};
    let set = polyhead::executor::ParameterSet::Current;
    let mut tensors = weights::export_parameters(executor.store().unwrap(), Slot::Set(set), "").unwrap();
    tensors.append(&mut weights::export_buffers(executor.store().unwrap(), set, "").unwrap());
    let fc: Vec<f32> = (0..3 * 512).map(|i| ((i * 37) % 23) as f32 / 100.0 - 0.1).collect();
    tensors.insert("fc.weight".into(), Tensor::from_vec(fc, (3, 512), &Device::Cpu).unwrap());
    tensors.insert("fc.bias".into(), Tensor::from_vec(vec![0.0f32, 0.1, 0.2], 3, &Device::Cpu).unwrap());
    let file = folder.path.join("resnet18.safetensors");
    weights::write(&file, &tensors, std::collections::HashMap::new()).unwrap();
    let file = file.to_string_lossy().into_owned();

    let (images, out, names) = (format!("{data}/val"), path(&folder, "out"), path(&folder, "names.txt"));
    succeed(&["predict", &file, &images, "--out", &out, "--no-images"]);
    let first = |out: &str| -> Value {
        let lines = std::fs::read_to_string(Path::new(out).join("predictions.jsonl")).unwrap();
        serde_json::from_str(lines.lines().next().unwrap()).unwrap()
    };
    let by_index = first(&out)["tasks"]["class"]["class"].as_str().unwrap().parse::<usize>().unwrap();
    std::fs::write(&names, "ant\nbee\ncat\n").unwrap();
    succeed(&["predict", &file, &images, "--out", &out, "--no-images", "--classes", &names]);
    assert_eq!(first(&out)["tasks"]["class"]["class"], ["ant", "bee", "cat"][by_index]);
    std::fs::write(&names, "ant\nbee\n").unwrap();
    fail(&["predict", &file, &images, "--out", &out, "--classes", &names], 2, &["2 classes", "3"]);

    let project = path(&folder, "runs/train");
    let args =
        ["train", &data, "--project", &project, "--weights", &file, "--epochs", "1", "--batch", "4", "--imgsz", "32"];
    let output = run(&[&args[..], &["--backbone", "resnet18"]].concat());
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("tensors start at random") && said.contains("heads.digits"), "{said}");
    assert!(said.contains("not used: fc.bias, fc.weight"), "{said}");
    fail(&[&args[..], &["--backbone", "resnet50"]].concat(), 1, &["resnet18.safetensors", "--backbone"]);
}
