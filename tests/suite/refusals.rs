//! Tests of refused command lines: each gets one sentence that says what to type instead, and exit code 2.

use crate::cli::{digits, fail, run, session, succeed, text};
use crate::step::Folder;

#[test]
fn a_refused_command_line_gets_one_sentence() {
    let folder = Folder::new("refusals");
    digits(&folder, 8);
    session(&folder, "refusals");
    assert_eq!(std::fs::read_dir(&folder.path).unwrap().count(), 1, "a refused command left something behind");
}

#[test]
fn a_named_input_that_does_not_exist_is_a_wrong_request() {
    let folder = Folder::new("absent");
    let data = digits(&folder, 8);
    let absent = crate::cli::path(&folder, "absent");
    let out = crate::cli::path(&folder, "out");
    let (absent, out, data) = (absent.as_str(), out.as_str(), data.as_str());
    let commands: [&[&str]; 23] = [
        &["train", absent],
        &["train", data, "--weights", absent],
        &["train", data, "--config", absent],
        &["train", "--resume", absent],
        &["compare", absent, "--out", out],
        &["compare", data, "--out", out, "--weights", absent],
        &["compare", data, "--out", out, "--config", absent],
        &["compare", "--out", out, "--runs", absent],
        &["evaluate", absent],
        &["evaluate", absent, data],
        &["evaluate", data, absent],
        &["evaluate", "--coco", absent, "--detections", data],
        &["evaluate", "--coco", data, "--detections", absent],
        &["predict", absent, data],
        &["predict", data, absent, "--out", out],
        &["predict", data, data, "--classes", absent],
        &["predict", data, data, "--format", "coco", "--coco-images", absent],
        &["data", "check", absent],
        &["data", "describe", absent],
        &["data", "preview", absent, "--out", out],
        &["data", "convert", absent, "--to", "coco", "--out", out],
        &["bench", "data", absent],
        &["bench", "train", "--data", absent],
    ];
    for command in commands {
        fail(command, 2, &["absent: does not exist"]);
        let said = text(&run(command).stderr);
        assert_eq!(said.lines().count(), 1, "{command:?}: {said}");
    }
    assert_eq!(std::fs::read_dir(&folder.path).unwrap().count(), 1, "a refused command left something behind");
}

#[test]
fn the_number_of_a_gpu_is_a_device() {
    let device = |word: &str| polyhead::executor::DeviceChoice::parse(word, 0).map(|device| device.to_string());
    for (word, expected) in [("0", "cuda:0"), ("1", "cuda:1"), ("cuda:1", "cuda:1"), ("cuda", "cuda:0"), ("cpu", "cpu")]
    {
        assert_eq!(device(word).unwrap(), expected, "{word}");
    }
}

#[test]
fn bench_data_times_no_augmentation_where_there_is_none() {
    let folder = Folder::new("bench-none");
    let data = digits(&folder, 8);
    let said = |more: &[&str]| succeed(&[&["bench", "data", &data, "--images", "4", "--imgsz", "64"], more].concat());
    let plain = said(&[]);
    assert!(plain.contains("augment       none: images are only framed and mirrored\n"), "{plain}");
    let line = |said: &str| said.lines().find(|line| line.contains("augment")).unwrap().to_owned();
    assert!(line(&said(&["--jitter", "0.2"])).contains(" ms ") && !line(&plain).contains(" ms "), "{plain}");
}
