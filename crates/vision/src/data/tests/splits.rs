//! The assignment of images to training and validation.

use super::{Folder, assert_note};
use crate::data::dataset::{Dataset, OpenOptions};
use std::collections::BTreeSet;

fn many() -> Folder {
    let folder = Folder::new();
    let names: Vec<String> = (0..60).map(|i| format!("{}/{i:02}.png", ["cat", "dog"][i % 2])).collect();
    folder.images(&names.iter().map(String::as_str).collect::<Vec<_>>());
    folder
}

fn held_out(folder: &Folder, fraction: f32, seed: u64) -> BTreeSet<String> {
    let options = OpenOptions { val_fraction: Some(fraction), seed, ..Default::default() };
    let dataset = Dataset::open(folder.path(), &options).unwrap();
    assert_eq!(dataset.train.len() + dataset.val.len(), 60);
    dataset.val.into_iter().map(|sample| sample.name).collect()
}

#[test]
fn the_seed_decides_the_validation_images() {
    let folder = many();
    assert_eq!(held_out(&folder, 0.3, 1), held_out(&folder, 0.3, 1));
    assert_ne!(held_out(&folder, 0.3, 1), held_out(&folder, 0.3, 2));
    // A larger fraction holds out more of the same images, and neither side is ever empty.
    assert!(held_out(&folder, 0.2, 1).is_subset(&held_out(&folder, 0.6, 1)));
    assert_eq!(held_out(&folder, 1e-6, 1).len(), 1);
    assert_eq!(held_out(&folder, 0.999_999, 1).len(), 59);
}

#[test]
fn an_image_stays_in_its_split_when_others_come() {
    let folder = many();
    let before = held_out(&folder, 0.3, 1);
    for i in 60..63 {
        std::fs::copy(folder.path().join("cat/00.png"), folder.path().join(format!("cat/{i}.png"))).unwrap();
    }
    let options = OpenOptions { val_fraction: Some(0.3), seed: 1, ..Default::default() };
    let after = Dataset::open(folder.path(), &options).unwrap();
    let after: BTreeSet<String> = after.val.into_iter().map(|s| s.name).collect();
    assert!(before.difference(&after).count() <= 1, "only the image that keeps a side from being empty may move");
}

#[test]
fn a_table_of_paths_is_a_list() {
    let folder = Folder::new();
    folder.images(&["images/a.png", "images/b.png", "images/c.png"]);
    folder.text("labels/a.txt", "0 0.5 0.5 0.5 0.5");
    folder.text("data.yaml", "train: train.csv\nval: val.txt\nnames: [thing]\n").text("val.txt", "images/c.png\n");
    for table in [
        "images/a.png\nimages/b.png\n",
        "whatever\nimages/a.png\n./images/b.png\n",
        "id,Image,age\n1,images/a.png,3\n\n2,images/b.png,4\n",
        "age;where\n3;images/a.png\n4;images\\b.png\n",
        "images/a.png,3\nimages/b.png,4\n",
    ] {
        folder.text("train.csv", table);
        let names: Vec<String> = folder.open().train.into_iter().map(|sample| sample.name).collect();
        assert_eq!(names, ["images/a.png", "images/b.png"], "{table}");
    }
    folder.text("train.csv", "path\nimages/a.png\nimages/z.png\n");
    assert!(folder.error().starts_with("DIR/train.csv:3: `images/z.png` is not there"), "{}", folder.error());
    folder.text("train.csv", "age,height\n3,4\n");
    assert_eq!(
        folder.error(),
        "DIR/train.csv:1: expected a list of images: one path per line, or a table whose column of paths is called `file`; labels in a table belong under `tasks:`"
    );
}

#[test]
fn images_in_two_splits_are_noted() {
    let folder = Folder::new();
    folder.images(&["images/a.png", "images/b.png", "images/c.png"]);
    folder.text("labels/a.txt", "0 0.5 0.5 0.5 0.5");
    folder.text("train.txt", "./images/a.png\nimages/b.png\n").text("val.txt", "images/b.png\nimages/c.png\n");
    folder.text("data.yaml", "train: train.txt\nval: val.txt\nnames: [thing]\n");
    let dataset = folder.open();
    assert_eq!((dataset.train.len(), dataset.val.len()), (2, 2));
    let notes = dataset.notes.join("\n");
    assert!(
        notes.contains("1 image in both train and val (images/b.png): val metrics will be too optimistic"),
        "{notes}"
    );
    folder.text("val.txt", "images/b.png\n\nimages/z.png\n");
    assert_eq!(
        folder.error(),
        "DIR/val.txt:3: `images/z.png` is not there (looked in DIR and beside this list): correct the line or remove it"
    );
}

#[test]
fn a_fraction_of_training_is_seeded_and_leaves_validation() {
    let folder = many();
    let kept = |seed| {
        let mut dataset = folder.open();
        let val = dataset.val.len();
        dataset.keep_fraction(0.25, seed);
        assert_eq!(dataset.val.len(), val);
        dataset.train.into_iter().map(|s| s.name).collect::<Vec<_>>()
    };
    assert_eq!(kept(1), kept(1));
    assert_ne!(kept(1), kept(2));
    assert!((8..=16).contains(&kept(1).len()));
}

#[test]
fn classes_without_a_validation_image_are_noted() {
    let folder = Folder::new();
    let names: Vec<String> = (0..30).map(|i| format!("cat/{i:02}.png")).collect();
    folder.images(&names.iter().map(String::as_str).collect::<Vec<_>>()).images(&["dog/0.png", "owl/0.png"]);
    let notes = |fraction| {
        let options = OpenOptions { val_fraction: Some(fraction), seed: 1, ..Default::default() };
        let dataset = Dataset::open(folder.path(), &options).unwrap();
        let counts = dataset.counts(0).classes;
        let absent: Vec<String> =
            counts.into_iter().filter(|(_, n)| n[0] > 0 && n[1] == 0).map(|(name, _)| name).collect();
        (absent, dataset.notes.into_iter().filter(|note| note.contains("no validation image has")).collect::<Vec<_>>())
    };
    let end = ": give the data set a validation split, or choose another --val-fraction or --seed";
    let several = "class: no validation image has one of 2 classes (dog, owl), so the metrics leave them out";
    let mut seen = [false; 3];
    for fraction in [0.01, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95] {
        let (absent, notes) = notes(fraction);
        seen[absent.len()] = true;
        let expected = match &absent[..] {
            [] => Vec::new(),
            [one] => {
                vec![format!("class: no validation image has the class `{one}`, so the metrics leave it out{end}")]
            }
            _ => vec![format!("{several}{end}")],
        };
        assert_eq!(notes, expected);
    }
    assert_eq!(seen, [true; 3], "every case came up");
    // A declared validation split is the user's choice.
    let folder = Folder::new();
    folder.images(&["train/cat/a.png", "train/dog/b.png", "val/cat/c.png"]);
    assert!(!folder.open().notes.iter().any(|note| note.contains("no validation image has")));
}

#[test]
fn a_fraction_of_0_holds_nothing_out() {
    let folder = many();
    let options = OpenOptions { val_fraction: Some(0.0), ..Default::default() };
    let dataset = Dataset::open(folder.path(), &options).unwrap();
    assert_eq!((dataset.train.len(), dataset.val.len()), (60, 0));
    assert_note(&dataset, "no validation split, and none is made (val_fraction 0)");
    // A single image suffices, and a data.yaml can say the same.
    let folder = Folder::new();
    folder.images(&["images/a.png"]).text("labels/a.txt", "0 0.5 0.5 0.5 0.5");
    folder.text("data.yaml", "train: images\nval_fraction: 0\nnames: [thing]\n");
    let dataset = folder.open();
    assert_eq!((dataset.train.len(), dataset.val.len()), (1, 0));
    let text = crate::data::describe::data_yaml(folder.path(), &OpenOptions::default(), &Default::default()).unwrap();
    assert!(text.contains("val_fraction: 0  # 0 images"), "{text}");
    for wrong in [1.0, -0.1, f32::NAN] {
        let options = OpenOptions { val_fraction: Some(wrong), ..Default::default() };
        let said = Dataset::open(many().path(), &options).unwrap_err().to_string();
        assert!(said.ends_with("expected a number from 0 to less than 1, such as 0.2"), "{said}");
    }
}
