//! Folders that polyhead wrote inside a data set, and names that a terminal must not act on.

use super::{Folder, assert_note};
use crate::data::check::{CheckOptions, check};
use crate::data::dataset::{Dataset, OpenOptions};
use crate::data::progress::Progress;
use crate::error::is_hidden;

fn classes() -> Folder {
    let folder = Folder::new();
    folder.images(&["cat/a.png", "cat/b.png", "cat/c.png", "dog/a.png", "dog/b.png", "dog/c.png"]);
    folder
}

#[test]
fn folders_that_polyhead_wrote_are_left_out_and_named() {
    let args = "command: polyhead train\nversion: 0.1.0\ncommit: abc\nmachine:\n  cores: 2\nepochs: 7\n";
    let report = "{\n  \"model\": \"best.safetensors\",\n  \"data\": \"d\",\n  \"split\": \"val\",\n  \"images\": 4,\n  \"unreadable\": []\n}\n";
    let comparison = "{\n  \"data\": null,\n  \"test\": \"paired t over seeds, 95 %\",\n  \"tasks\": []\n}\n";
    let cases = [
        ("args.yaml", args, "a run"),
        ("report.json", report, "an evaluation"),
        ("compare.json", comparison, "a comparison"),
        ("predictions.jsonl", "", "predictions"),
        ("labels/.polyhead-predictions", "", "predictions"),
        ("labels_objects/.polyhead-predictions", "", "predictions"),
    ];
    for (file, text, what) in cases {
        for place in ["out", "cat/out"] {
            let folder = classes();
            let before = folder.open();
            folder.images(&[&format!("{place}/picture.png")]).text(&format!("{place}/{file}"), text);
            let dataset = folder.open();
            assert_eq!(dataset.tasks[0].classes(), ["cat", "dog"], "{place}/{file}");
            assert_eq!((&dataset.train, &dataset.val), (&before.train, &before.val), "{place}/{file}");
            assert_note(&dataset, &format!("{place}/ is left out: it holds {what}, not training images"));
        }
    }
}

#[test]
fn files_of_others_with_such_names_are_no_reason_to_leave_a_folder_out() {
    let cases = [
        ("args.yaml", "task: detect\nmode: train\nepochs: 3\n"),
        ("report.json", "{\"score\": 1}"),
        ("compare.json", "[]"),
        ("labels/a.txt", "0 0.5 0.5 0.1 0.1"),
        ("boxes.csv", "image,x\n"),
    ];
    for (file, text) in cases {
        let folder = classes();
        folder.images(&["cat/more/picture.png"]).text(&format!("cat/more/{file}"), text);
        let dataset = folder.open();
        assert_eq!(dataset.train.len() + dataset.val.len(), 7, "{file}");
    }
    // Labels that `predict` wrote beside images are a data set to train on.
    let folder = classes();
    folder.images(&["cat/more/images/picture.png"]).text("cat/more/labels/.polyhead-predictions", "");
    let dataset = folder.open();
    assert_eq!(dataset.train.len() + dataset.val.len(), 7);
}

#[test]
fn a_wrong_validation_share_is_refused_even_if_it_is_not_used() {
    let folder = Folder::new();
    folder.images(&["train/cat/a.png", "train/dog/b.png", "val/cat/c.png", "val/dog/d.png"]);
    let options = |share| OpenOptions { val_fraction: Some(share), ..OpenOptions::default() };
    assert!(Dataset::open(folder.path(), &options(0.5)).is_ok());
    for share in [-0.1, 1.0, 7.0, f32::NAN] {
        let error = Dataset::open(folder.path(), &options(share)).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("expected a number from 0 to less than 1"), "{error}");
    }
}

#[test]
fn names_of_tasks_are_short_enough_for_files_and_have_no_hidden_characters() {
    let folder = Folder::new();
    folder.images(&["a.png", "b.png", "c.png"]).text("labels.csv", "file,v\na.png,1\nb.png,2\nc.png,3\n");
    let declare = |name: &str| {
        let name = serde_json::Value::from(name);
        let text = format!("tasks:\n  {name}: {{type: regress, from: {{csv: labels.csv, column: v}}}}\n");
        folder.text("data.yaml", &text);
    };
    declare(&"é".repeat(100));
    folder.open();
    for (name, words) in [
        ("n".repeat(300), "is 300 bytes long: give it at most 200, because files are named after it"),
        ("a\u{1b}[2Jb".to_owned(), "has characters that are not shown: remove them"),
        ("a\u{202e}b".to_owned(), "has characters that are not shown"),
    ] {
        declare(&name);
        let error = folder.error();
        assert!(error.starts_with("DIR/data.yaml:2: the name of task `") && error.contains(words), "{error}");
        assert!(!error.contains(is_hidden) && error.len() < 300, "{error}");
    }
}

#[cfg(unix)]
#[test]
fn devices_are_no_files_of_images_or_labels() {
    let folder = Folder::new();
    folder.images(&["a.png", "b.png"]);
    std::os::unix::fs::symlink("/dev/zero", folder.path().join("labels.csv")).unwrap();
    folder.text("data.yaml", "tasks:\n  v: {type: regress, from: {csv: labels.csv, column: v}}\n");
    let device = "a pipe, a socket or a device";
    assert_eq!(
        folder.error(),
        format!("DIR/data.yaml:2: task `v`: `labels.csv` is {device}, not a file: correct `csv:`")
    );
    folder.text("data.yaml", "train: labels.csv\nnames: [a, b]\n");
    let error = folder.error();
    assert!(error.contains(&format!("`train: labels.csv` is {device}, neither a folder nor a list file")), "{error}");
    let error = Dataset::open(std::path::Path::new("/dev/zero"), &OpenOptions::default()).unwrap_err().to_string();
    assert_eq!(error, format!("/dev/zero: this is {device}: give a data.yaml or a folder of images"));
}

#[cfg(unix)]
#[test]
fn a_report_shows_names_as_text() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let folder = classes();
    let names: [&[u8]; 3] = [b"cat/x\x1b[2J\n.png", b"dog/\xff.png", b"dog/\xfe.png"];
    for name in names {
        std::fs::copy(folder.path().join("cat/a.png"), folder.path().join(OsStr::from_bytes(name))).unwrap();
    }
    std::fs::write(folder.path().join("cat/broken\u{9b}.png"), "").unwrap();
    std::fs::rename(folder.path().join("dog"), folder.path().join("do\u{202e}g\r")).unwrap();
    let options = CheckOptions { open: OpenOptions::default(), max_broken: 1.0 };
    let report = check(folder.path(), &options, &Progress::default()).unwrap().check.to_string();
    assert!(report.chars().all(|c| c == '\n' || !is_hidden(c)), "{report:?}");
    for shown in ["x\\u{1b}[2J\\n.png", "\\xff.png", "\\xfe.png", "broken\\u{9b}.png", "do\\u{202e}g\\r"] {
        assert!(report.contains(shown), "no {shown} in {report}");
    }
}
