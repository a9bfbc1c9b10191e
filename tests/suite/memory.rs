//! Too little memory, by a limit on the address space: an error says what it was for and what to do, instead of an abort.

use crate::cli::{digits, path, polyhead, text, train};
use crate::predict::model;
use crate::step::{Folder, three_tasks};
use std::process::{Command, Output};

/// Runs with a limit of this many KiB of address space.
fn run_with_memory(kib: usize, args: &[&str]) -> Output {
    let binary = polyhead().get_program().to_os_string();
    let script = format!("ulimit -v {kib}; exec \"$@\"");
    Command::new("sh").args(["-c", &script, "sh"]).arg(binary).args(args).output().unwrap()
}

fn refused(kib: usize, args: &[&str], words: &[&str]) {
    let output = run_with_memory(kib, args);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{args:?} with {kib} KiB: {said}");
    let error = said.lines().last().unwrap_or_default();
    assert!(error.starts_with("error: the system refuses "), "{args:?} with {kib} KiB: {said}");
    words.iter().for_each(|word| assert!(error.contains(word), "`{word}` is not in {error}"));
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_step_or_a_picture_that_does_not_fit_is_an_error() {
    let folder = Folder::new("memory");
    let data = digits(&folder, 8);
    let weights = path(&folder, "model.safetensors");
    model(three_tasks()).save(weights.as_ref()).unwrap();
    let (out, images) = (path(&folder, "out"), format!("{data}/val"));
    let large = ["--threads", "1", "--workers", "1", "--imgsz", "16384"];
    for kib in [600_000, 2_000_000, 4_000_000] {
        let predict = [&["predict", &weights, &images, "--out", &out], &large[..]].concat();
        refused(kib, &predict, &["MiB of memory for", "lower --"]);
    }
    let run = train(&folder, &data, "run", &["--epochs", "1"]);
    for kib in [2_000_000, 4_000_000] {
        refused(kib, &[&["evaluate", &run], &large[..]].concat(), &["MiB of memory for", "lower --"]);
    }
    // One picture of 225 megapixels, in a file of 27 KB.
    let picture = path(&folder, "large.png");
    image::GrayImage::new(15_000, 15_000).save(&picture).unwrap();
    let predict = ["predict", &weights, &picture, "--out", &out, "--threads", "1", "--workers", "1"];
    refused(900_000, &predict, &["for the 15000 × 15000 pixels of", "large.png", "make the picture smaller"]);
}
