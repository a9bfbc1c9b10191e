//! Folders reached under several names are reported once, with the name a user would choose.

use super::{Folder, assert_note};
use crate::data::check::{CheckOptions, check};
use crate::data::dataset::{Dataset, OpenOptions, Sample};
use crate::data::progress::Progress;
use std::fs;
use std::os::unix::fs::symlink;

/// Creates symbolic links `(link, target)`; the link's path is relative to the folder.
fn linked(folder: &Folder, links: &[(&str, &str)]) {
    for (link, to) in links {
        let at = folder.path().join(link);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        symlink(to, at).unwrap();
    }
}

fn names(samples: &[Sample]) -> Vec<&str> {
    samples.iter().map(|sample| sample.name.as_str()).collect()
}

/// A data set whose labels do not depend on the names of the folders in train/.
fn boxed() -> Folder {
    let folder = Folder::new();
    folder.images(&["val/v.png"]);
    folder.text(
        "data.yaml",
        "train: train\nval: val\nnames: [car]\ntasks:\n  o: {type: detect, from: {yolo: labels}, missing: background}\n",
    );
    folder.text("labels/v.txt", "0 0.5 0.5 0.5 0.5\n");
    folder
}

fn said(dataset: &Dataset) -> Vec<&String> {
    dataset.notes.iter().filter(|note| note.contains("another name")).collect()
}

#[test]
fn links_to_a_real_folder_are_reported_wherever_they_are() {
    let folder = boxed();
    folder.images(&["train/m/a.png", "train/m/deep/b.png"]);
    linked(&folder, &[("train/a", "m"), ("train/z", "m"), ("train/deep", "m/deep"), ("train/m/up", "..")]);
    let dataset = folder.open();
    let all = ["a/a.png", "a/deep/b.png", "deep/b.png", "m/a.png", "m/deep/b.png", "z/a.png", "z/deep/b.png"];
    assert_eq!(names(&dataset.train), all.map(|name| format!("train/{name}")));
    let expected = [("a", "m"), ("deep", "m/deep"), ("z", "m")]
        .map(|(link, real)| format!("train/{link}/ is train/{real}/ under another name: its images are listed twice; remove the name that the labels do not use"));
    assert_eq!(said(&dataset), expected.iter().collect::<Vec<_>>());
}

#[test]
fn among_links_alone_the_first_gives_the_name() {
    let elsewhere = Folder::new();
    elsewhere.images(&["shared/a.png", "shared/deep/b.png"]);
    let shared = elsewhere.path().join("shared");
    let folder = boxed();
    folder.images(&["train/.store/c.png"]);
    linked(&folder, &[("train/n", shared.to_str().unwrap()), ("train/k", shared.to_str().unwrap())]);
    // A hidden folder is only reached through a link.
    linked(&folder, &[("train/kept", ".store"), ("train/late", ".store")]);
    let dataset = folder.open();
    let all = ["k/a.png", "k/deep/b.png", "kept/c.png", "late/c.png", "n/a.png", "n/deep/b.png"];
    assert_eq!(names(&dataset.train), all.map(|name| format!("train/{name}")));
    assert_eq!(said(&dataset).len(), 2);
    assert_note(&dataset, "train/n/ is train/k/ under another name");
    assert_note(&dataset, "train/late/ is train/kept/ under another name");
}

#[test]
fn splits_and_classes_may_lie_elsewhere() {
    let elsewhere = Folder::new();
    elsewhere.images(&["val/cat/a.png", "val/dog/b.png", "cats/c.png"]);
    let at = |name: &str| elsewhere.path().join(name).to_str().unwrap().to_string();
    let folder = Folder::new();
    folder.images(&["train/dog/d.png"]);
    linked(&folder, &[("val", &at("val")), ("train/cat", &at("cats"))]);
    let dataset = folder.open();
    assert_eq!(names(&dataset.train), ["train/cat/c.png", "train/dog/d.png"]);
    assert_eq!(names(&dataset.val), ["val/cat/a.png", "val/dog/b.png"]);
    assert!(said(&dataset).is_empty());
}

#[test]
fn two_classes_that_are_one_folder_are_a_fault() {
    let folder = Folder::new();
    folder.images(&["train/cat/a.png", "train/cat/deep/b.png", "train/dog/c.png", "val/cat/d.png", "val/dog/e.png"]);
    linked(&folder, &[("train/cat/more", "deep")]);
    assert_eq!(
        said(&folder.open()),
        [
            "train/cat/more/ is train/cat/deep/ under another name: its images are listed twice; remove the name that the labels do not use"
        ]
    );
    linked(&folder, &[("train/bird", "cat")]);
    let expected =
        "DIR/train/bird: the same folder as train/cat/, which is another class of task `class`: remove one of the two";
    assert_eq!(folder.error(), expected);
    let options = CheckOptions { open: OpenOptions::default(), max_broken: 0.0 };
    let checked = check(folder.path(), &options, &Progress::default()).unwrap().check;
    assert!(checked.verdict().is_err());
    assert!(
        checked.problems.iter().any(|problem| problem.to_string().contains("the same folder as train/cat/")),
        "{checked}"
    );
}
