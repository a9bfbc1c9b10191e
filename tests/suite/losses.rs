//! The losses that a run shows: on validation images, and in both scales. Also what a run and `evaluate` say about missing labels
//! and about parts of the data.

use crate::cli::{digits, path, results, run, said, succeed, text, train};
use crate::step::Folder;
use polyhead::data::{Dataset, OpenOptions};
use polyhead::executor::DeviceChoice;
use polyhead::model::Model;
use polyhead::predict::Settings;
use polyhead::tasks::classify::{Class, Probabilities};
use polyhead::tasks::regress::{Amounts, Values};
use std::path::{Path, PathBuf};

/// The losses of `paper` and `sum` on the validation images by their definitions in f64, from the predictions of the run's best
/// weights, and the factors of their plain forms.
fn by_definition(run_folder: &str, data: &str) -> [(f64, f64); 2] {
    let mut model = Model::load(run_folder, &DeviceChoice::parse("cpu", 2).unwrap()).unwrap();
    let card = model.card().clone();
    let options = OpenOptions::default();
    let val = Dataset::open(Path::new(data), &options).unwrap().val;
    let files: Vec<PathBuf> = val.iter().map(|sample| sample.image.clone()).collect();
    let answers = model.predict_files(&files, &Settings { batch: 4, ..Settings::default() }).unwrap();
    let place = |name: &str| card.architecture.tasks.iter().position(|task| task.name == name).unwrap();
    let fitted = card.standardisation[place("sum")].as_ref().unwrap();
    let (mean, deviation) = (fitted.mean[0], fitted.deviation[0]);
    let classes = card.architecture.tasks[place("paper")].classes().len() as f64;
    let [mut paper, mut sum] = [0.0, 0.0];
    for (sample, answer) in val.iter().zip(&answers) {
        let answer = answer.as_ref().unwrap();
        let Some(Class::One(class)) = sample.labels[place("paper")].get() else { panic!("all are labelled") };
        let probabilities: &Probabilities = answer.get("paper").unwrap();
        paper -= f64::from(probabilities.probabilities[*class]).ln() / classes.ln();
        let label: &Values = sample.labels[place("sum")].get().unwrap();
        let amounts: &Amounts = answer.get("sum").unwrap();
        let apart = ((amounts.values[0] - mean) / deviation - (label[0] - mean) / deviation).abs();
        sum += if apart <= 1.0 { 0.5 * apart * apart } else { apart - 0.5 };
    }
    let images = val.len() as f64;
    [(paper / images, classes.ln()), (sum / images, deviation * deviation)]
}

fn figure(run_folder: &str, column: &str) -> f64 {
    results(run_folder)[0][column].parse().unwrap()
}

#[test]
fn validation_losses_are_those_of_the_definition_in_both_scales() {
    let folder = Folder::new("val-losses");
    let data = digits(&folder, 8);
    // One step, whose losses are those of the same initial weights. Nine validation images are a batch and a part of one.
    let normalised = train(&folder, &data, "normalised", &["--epochs", "1"]);
    let raw = train(&folder, &data, "raw", &["--epochs", "1", "--loss-scale", "raw"]);
    for (run_folder, is_raw) in [(&normalised, false), (&raw, true)] {
        for (task, (expected, factor)) in ["paper", "sum"].iter().zip(by_definition(run_folder, &data)) {
            let factor = if is_raw { factor } else { 1.0 };
            let shown = figure(run_folder, &format!("val/{task}/loss"));
            assert!((shown / (expected * factor) - 1.0).abs() < 2e-5, "{run_folder} {task}: {shown}, {expected}");
        }
        assert!(figure(run_folder, "val/digits/loss") > 0.0);
    }
    let factors = by_definition(&raw, &data).map(|(_, factor)| factor);
    for (task, factor) in ["digits", "paper", "sum"].iter().zip([&[1.0], &factors[..]].concat()) {
        let [plain, scaled] = [&raw, &normalised].map(|run| figure(run, &format!("train/{task}/loss")));
        assert!((plain / (scaled * factor) - 1.0).abs() < 2e-5, "{task}: {plain}, {scaled}");
    }
    let log = |run_folder: &str| std::fs::read_to_string(Path::new(run_folder).join("log.txt")).unwrap();
    assert!(
        log(&normalised).contains("note: losses are normalised: ") && log(&raw).contains("cross-entropy is in nats")
    );
    assert!(log(&normalised).contains("  paper (classification, 9 labelled): loss "), "{}", log(&normalised));
    // The choice is kept on resume, and for a run from this one.
    succeed(&["train", "--resume", &raw, "--epochs", "2"]);
    let args = std::fs::read_to_string(Path::new(&raw).join("args.yaml")).unwrap();
    assert!(args.contains("loss_scale: raw\n"), "{args}");
}

#[test]
fn evaluate_says_which_part_of_the_images_a_run_has_seen() {
    let folder = Folder::new("parts-seen");
    let data = digits(&folder, 16);
    for (name, more, words) in [
        ("overfit", ["--overfit", "8"], "trained and validated on the first 8 training images only (--overfit)"),
        ("fraction", ["--fraction", "0.5"], "the run trained on 0.5 of the training images (--fraction)"),
    ] {
        let run_folder = train(&folder, &data, name, &[&["--epochs", "1"], &more[..]].concat());
        let said = said(&["evaluate", &run_folder]);
        assert!(said.contains(words) && said.contains("judges all 9 images of the val split"), "{said}");
    }
    let whole = train(&folder, &data, "whole", &["--epochs", "1"]);
    assert!(!said(&["evaluate", &whole]).contains("this judges"));
}

/// Blanks cells of labels.csv in the rows of validation images.
fn blank(data: &str, columns: &[usize]) {
    let file = Path::new(data).join("labels.csv");
    let table = std::fs::read_to_string(&file).unwrap();
    let of_row = |row: &str| {
        let blank = |(column, cell): (usize, &str)| {
            if row.starts_with("val/") && columns.contains(&column) { String::new() } else { cell.to_owned() }
        };
        row.split(',').enumerate().map(blank).collect::<Vec<_>>().join(",")
    };
    std::fs::write(&file, table.lines().map(of_row).collect::<Vec<_>>().join("\n")).unwrap();
}

#[test]
fn a_split_without_labels_is_named_and_then_best_is_the_last_epoch() {
    let folder = Folder::new("no-labels");
    let data = digits(&folder, 16);
    let header = std::fs::read_to_string(Path::new(&data).join("labels.csv")).unwrap();
    let columns: Vec<&str> = header.lines().next().unwrap().split(',').collect();
    let column = |name: &str| columns.iter().position(|column| *column == name).unwrap();
    blank(&data, &[column("sum")]);
    let log = |run_folder: &str| std::fs::read_to_string(Path::new(run_folder).join("log.txt")).unwrap();
    let run_of_all =
        run(&["train", &data, "--project", &path(&folder, "runs/train"), "--backbone", "tiny", "--imgsz", "64"]);
    let refused = text(&run_of_all.stderr);
    assert_eq!(run_of_all.status.code(), Some(1), "{refused}");
    assert!(refused.contains("task `sum`: none of 9 images of the val split has a label: "), "{refused}");

    // A single image may lack a label by chance.
    let declared = Path::new(&data).join("data.yaml");
    let yaml = std::fs::read_to_string(&declared).unwrap();
    std::fs::write(&declared, yaml.replace("val: val\n", "val: one.txt\n")).unwrap();
    std::fs::write(Path::new(&data).join("one.txt"), "val/00003.png\n").unwrap();
    let some = train(&folder, &data, "some", &["--epochs", "1"]);
    assert!(log(&some).contains("note: sum: no validation image has labels for it"), "{}", log(&some));
    assert_eq!(results(&some)[0]["val/sum/loss"], "");
    let judged = said(&["evaluate", &some]);
    assert!(judged.contains("note: sum: no image of the val split has labels for it"), "{judged}");

    blank(&data, &[column("paper")]);
    let tasks = ["--task", "paper", "--task", "sum"];
    let none = train(&folder, &data, "none", &[&["--epochs", "3", "--patience", "1"], &tasks[..]].concat());
    let words = ["note: no validation image has labels", "without metrics, `best` is the last epoch, 3"];
    assert!(words.iter().all(|words| log(&none).contains(words)), "{}", log(&none));
    succeed(&["predict", &none, &format!("{data}/test"), "--out", &path(&folder, "out"), "--no-images"]);
}

#[test]
fn a_run_without_a_finished_epoch_has_no_best_and_predict_says_so() {
    let folder = Folder::new("no-best");
    let data = digits(&folder, 16);
    let whole = train(&folder, &data, "whole", &["--epochs", "1"]);
    std::fs::remove_file(Path::new(&whole).join("weights/best.safetensors")).unwrap();
    let output = run(&["predict", &whole, &format!("{data}/test"), "--out", &path(&folder, "out"), "--no-images"]);
    let said = text(&output.stderr);
    assert!(output.status.success() && said.contains("the run has no best.safetensors"), "{said}");
}
