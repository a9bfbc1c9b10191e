//! Regressions whose values f32 cannot hold, or that fixed decimals would write as 0: from the table to the metrics and the
//! answers of the binary.

use crate::cli::{path, results, run, succeed, text};
use crate::step::Folder;
use polyhead::draw::{Canvas, write_png};
use polyhead::executor::DeviceChoice;
use polyhead::model::Model;
use polyhead::predict::Settings;
use polyhead::tasks::regress::Amounts;
use serde_json::Value;
use std::collections::HashMap;
use std::fmt::Write as _;

const SMALL: [&str; 10] = ["--backbone", "tiny", "--imgsz", "32", "--epochs", "2", "--batch", "8", "--threads", "1"];
const TRAINING: usize = 24;
const VALIDATION: usize = 12;

/// Seconds since 1970 over six minutes.
fn time(i: usize) -> f64 {
    1.7e9 + 10.0 * i as f64 + 0.125
}

fn size(i: usize) -> f64 {
    7e-7 + 1e-9 * (i * 7 % 36) as f64
}

/// Images of 32 × 32 pixels with their times, the same rounded to f32, and sizes below the sixth decimal.
fn data(folder: &Folder) -> String {
    let mut table = "file,time,rounded,size\n".to_owned();
    for i in 0..TRAINING + VALIDATION {
        let split = if i < TRAINING { "train" } else { "val" };
        std::fs::create_dir_all(folder.path.join("data").join(split)).unwrap();
        let name = format!("{i:02}.png");
        let rgb = (0..32 * 32 * 3).map(|at| ((at * (i + 3) + i * 5) % 251) as u8).collect();
        write_png(&folder.path.join("data").join(split).join(&name), &Canvas::new(32, 32, rgb).unwrap()).unwrap();
        // Writing to a String cannot fail.
        let _ = writeln!(table, "{name},{},{},{:e}", time(i), time(i) as f32, size(i));
    }
    let tasks = ["time", "rounded", "size"]
        .map(|task| format!("  {task}: {{type: regress, from: {{csv: labels.csv, column: {task}}}}}\n"));
    let yaml = format!("train: train\nval: val\ntasks:\n{}", tasks.concat());
    std::fs::write(folder.path.join("data/labels.csv"), table).unwrap();
    std::fs::write(folder.path.join("data/data.yaml"), yaml).unwrap();
    path(folder, "data")
}

/// scikit-learn's R², with the truth's first value subtracted from everything.
fn r2(predicted: &[f64], truth: &[f64]) -> f64 {
    let truth_at = |i: usize| truth[i] - truth[0];
    let center = (0..truth.len()).map(truth_at).sum::<f64>() / truth.len() as f64;
    let residual: f64 = (0..truth.len()).map(|i| (predicted[i] - truth[0] - truth_at(i)).powi(2)).sum();
    1.0 - residual / (0..truth.len()).map(|i| (truth_at(i) - center).powi(2)).sum::<f64>()
}

#[test]
fn large_and_tiny_values_keep_their_digits_from_the_table_to_the_answers() {
    let folder = Folder::new("precision");
    let data = data(&folder);
    let note = "rounded: the training values have a standard deviation of ";
    let checked = run(&["data", "check", &data]);
    assert!(text(&checked.stdout).contains(note), "{checked:?}");

    let project = path(&folder, "runs/train");
    let trained = run(&[&["train", &data, "--project", &project, "--name", "r"], &SMALL[..]].concat());
    let said = text(&trained.stderr);
    assert!(trained.status.success() && said.contains(&format!("note: {note}")), "{said}");
    assert!(!said.contains("note: time") && !said.contains("note: size"), "{said}");
    let run_folder = path(&folder, "runs/train/r");
    // Errors of about 1e-8.
    let of_size = said.lines().find(|line| line.trim_start().starts_with("size (regression")).unwrap();
    assert!(of_size.contains("e-8  RMSE") || of_size.contains("e-9  RMSE"), "{of_size}");
    let row = &results(&run_folder)[1];
    let mae = &row["val/size/MAE"];
    assert!(mae.trim_start_matches(['0', '.']).len() == 6 && mae.parse::<f64>().unwrap() > 1e-10, "{mae}");

    let figures = path(&folder, "figures.json");
    succeed(&["evaluate", &run_folder, "--batch", "4", "--json", &figures]);
    let figures: Value = serde_json::from_slice(&std::fs::read(figures).unwrap()).unwrap();
    let files: Vec<String> =
        (TRAINING..TRAINING + VALIDATION).map(|i| path(&folder, &format!("data/val/{i}.png"))).collect();
    let mut model = Model::load(&run_folder, &DeviceChoice::Cpu { threads: 1 }).unwrap();
    let settings = Settings { batch: 4, ..Settings::default() };
    let answers: Vec<_> = model.predict_files(&files, &settings).unwrap().into_iter().map(Result::unwrap).collect();

    let out = path(&folder, "out");
    let val = format!("{data}/val");
    succeed(&["predict", &run_folder, &val, "--out", &out, "--batch", "4", "--format", "csv,jsonl", "--no-images"]);
    let lines = std::fs::read_to_string(format!("{out}/predictions.jsonl")).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut table = csv::Reader::from_path(format!("{out}/predictions.csv")).unwrap();
    let rows: Vec<HashMap<String, String>> = table.deserialize().map(|row| row.unwrap()).collect();
    for (task, deviation, value) in [("time", 70.0, time as fn(usize) -> f64), ("size", 1e-8, size)] {
        let truth: Vec<f64> = (TRAINING..TRAINING + VALIDATION).map(value).collect();
        let exact: Vec<f64> = answers.iter().map(|answer| answer.get::<Amounts>(task).unwrap().values[0]).collect();
        let (judged, expected) = (figures["tasks"][task]["metrics"]["R2"].as_f64().unwrap(), r2(&exact, &truth));
        assert!((judged - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{task}: {judged}, expected {expected}");
        // Two epochs are not enough to learn anything. In f32, the times of this split are three numbers.
        assert!(judged < 0.9, "{task}: {judged}");
        for ((exact, line), row) in exact.iter().zip(&lines).zip(&rows) {
            let written = line["tasks"][task]["values"][0].as_f64().unwrap();
            assert!((written - exact).abs() < 1e-6 * deviation, "{task}: {line}, expected {exact}");
            assert_eq!(row[task].parse::<f64>().unwrap(), written);
        }
        let first = lines[0]["tasks"][task]["values"][0].as_f64();
        assert!(lines.iter().any(|line| line["tasks"][task]["values"][0].as_f64() != first), "{task}: {lines:?}");
    }
}
