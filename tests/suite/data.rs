//! `polyhead data` as a person uses it: what a set holds, a repaired copy, pictures of it, other layouts, one declaration.

use crate::cli::{digits, fail, path, run, succeed, text};
use crate::step::Folder;
use serde_json::Value;
use std::path::Path;

#[test]
fn a_sound_set_is_checked_described_drawn_and_converted() {
    let folder = Folder::new("data-sound");
    let data = digits(&folder, 24);
    let json = path(&folder, "check.json");
    let checked = succeed(&["data", "check", &data, "--json", &json]);
    assert!(checked.contains("unreadable images: 0; training would start"), "{checked}");
    let found: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(found["coverage"]["images"], serde_json::json!([24, 9, 5]));
    assert_eq!((&found["problems"], &found["stops"]), (&serde_json::json!([]), &serde_json::json!([])));

    let yaml = path(&folder, "elsewhere.yaml");
    std::fs::write(&yaml, succeed(&["data", "describe", &data])).unwrap();
    let again = succeed(&["data", "check", &yaml]);
    assert_eq!(checked.lines().skip(1).collect::<Vec<_>>(), again.lines().skip(1).collect::<Vec<_>>());

    let sheet = path(&folder, "sheet.png");
    succeed(&["data", "preview", &data, "--out", &sheet, "--count", "5", "--split", "val", "--seed", "3"]);
    let drawn = image::open(&sheet).unwrap();
    // Three to a row, each at least as large as is readable.
    assert!(drawn.width() > 3 * 384 && drawn.height() > 2 * 384 && drawn.width() < 1500);

    let own = path(&folder, "own");
    assert_eq!(
        succeed(&["data", "convert", &data, "--to", "jsonl", "--out", &own, "--copy"]),
        format!("wrote {own}: 24 training, 9 validation and 5 test images\n")
    );
    let converted = succeed(&["data", "check", &own]);
    // A row without boxes needs no remark about files that are missing.
    let figures = |said: &str| {
        said.lines()
            .skip(1)
            .filter(|l| !l.is_empty() && !l.starts_with("note: "))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(figures(&checked), figures(&converted));
    let yolo = path(&folder, "yolo");
    fail(&["data", "convert", &data, "--to", "yolo", "--out", &yolo], 2, &["task `paper`", "task `sum`", "--force"]);
    assert!(!Path::new(&yolo).exists());
    let forced = succeed(&["data", "convert", &data, "--to", "yolo", "--out", &yolo, "--force"]);
    assert!(forced.contains("lost: task `sum`") && forced.contains("`missing: unlabelled`"), "{forced}");
    succeed(&["data", "check", &yolo]);
}

#[test]
fn a_broken_set_is_refused_and_its_repaired_copy_is_not() {
    let folder = Folder::new("data-broken");
    let data = digits(&folder, 24);
    let label = std::fs::read_dir(format!("{data}/labels/train")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&label, "3 0.5 0.5 0.2 0.2\n12 0.5 0.5 0.2 0.2\n1 30 30 9 9\n").unwrap();
    std::fs::write(format!("{data}/train/00003.png"), "no picture").unwrap();
    let (json, out) = (path(&folder, "check.json"), path(&folder, "fixed"));
    let args = ["data", "check", &data, "--json", &json, "--fix", &out];
    let output = run(&args);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    let stem = label.file_name().unwrap().to_string_lossy();
    for part in [format!("{stem}:2: class 12"), format!("{stem}:3: 30 is outside"), "training would not start".into()] {
        assert!(said.contains(&part), "{part} of {said}");
    }
    assert!(said.contains("fixed: 1 image left out: cannot be read"), "{said}");
    let found: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let kinds: Vec<&str> = found["problems"].as_array().unwrap().iter().map(|p| p["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["label", "label", "unreadable_image"]);
    assert_eq!(found["problems"][0]["line"], 2);
    // The copy is not written over.
    fail(&args, 1, &["already there"]);
    let again = succeed(&["data", "check", &out]);
    assert!(again.contains("0 problems") && again.contains("train        23"), "{again}");
    fail(&["data", "check", &path(&folder, "nowhere")], 1, &["not there"]);
}
