//! Folders that are one level away from a data set, or lack labels: the message names what is there and what to do.

use super::{Folder, assert_note};
use crate::data::dataset::{Dataset, OpenOptions};

/// The message for the folder `name` in `folder`, whose path is replaced by `DIR`.
fn error(folder: &Folder, name: &str) -> String {
    let error = Dataset::open(&folder.path().join(name), &OpenOptions::default()).unwrap_err();
    error.to_string().replace(&*folder.path().to_string_lossy(), "DIR")
}

#[test]
fn class_folders_one_level_too_deep_are_named_with_the_command() {
    let folder = Folder::new();
    folder.images(&["archive/cats/a.png", "archive/cats/b.png", "archive/dogs/c.png", "archive/dogs/d.png"]);
    // Alone, the folder is entered; beside another folder, the user decides.
    let dataset = folder.open();
    assert_eq!(dataset.tasks[0].classes(), ["cats", "dogs"]);
    assert_note(&dataset, "archive/ is the only folder with images in");
    folder.text("notes/readme.txt", "");
    assert_eq!(
        folder.error(),
        "DIR: all images are below archive/, which would be the only class; if the classes are those of archive/ (cats, dogs), run `polyhead train DIR/archive`"
    );
    let folder = Folder::new();
    folder.images(&["archive/train/cats/a.png", "archive/train/dogs/c.png", "archive/val/cats/d.png"]);
    folder.text("notes/readme.txt", "");
    let said = folder.error();
    assert!(said.ends_with("those of archive/ (cats, dogs), run `polyhead train DIR/archive`"), "{said}");
}

#[test]
fn class_folders_too_deep_in_split_folders_come_with_the_line_that_declares_them() {
    let folder = Folder::new();
    folder.images(&["train/pets/cats/a.png", "train/pets/dogs/b.png", "val/pets/cats/c.png", "test/cats/d.png"]);
    let line = "{train: train/pets, val: val/pets, tasks: {class: {type: classify, from: folders}}}";
    assert_eq!(
        folder.error(),
        format!(
            "DIR: all images are below train/pets/, which would be the only class; if the classes are those of train/pets/ (cats, dogs), add a data.yaml here with the line `{line}`"
        )
    );
    folder.text("data.yaml", line);
    let dataset = folder.open();
    assert_eq!(
        (dataset.tasks[0].classes(), dataset.train.len(), dataset.val.len()),
        (["cats", "dogs"].map(String::from).as_slice(), 2, 1)
    );
}

#[test]
fn pictures_without_labels_are_counted_and_what_was_looked_for_is_named() {
    let looked = "but no labels for them: looked for .txt files in labels/ (YOLO), .xml files in Annotations/ (VOC), COCO or BDD100K .json files, a .csv file with one row per box, metadata.csv, metadata.jsonl, and a folder for each class";
    let what = "; add one of these, or a data.yaml that says where the labels are";
    let cases: [(&[&str], &str); 5] = [
        (&["images/a.png", "images/b.png"], "2 images found (images/a.png, images/b.png)"),
        (&["Imgs/a.png"], "1 image found (Imgs/a.png)"),
        (&["images/train/a.png", "images/val/b.png"], "2 images found (images/train/a.png, images/val/b.png)"),
        (&["train/a.png", "val/b.png"], "2 images found (train/a.png, val/b.png)"),
        (&["a.png", "b.png", "c.png", "d.png"], "4 images found (a.png, b.png, c.png, …)"),
    ];
    for (images, found) in cases {
        let folder = Folder::new();
        folder.images(images);
        assert_eq!(folder.error(), format!("DIR: {found}, {looked}{what}"));
    }
    let folder = Folder::new();
    folder.images(&["images/a.png"]).text("annotations/ours.json", "{}").text("readme.txt", "");
    folder.text("label/a.txt", "0 0.5 0.5 0.5 0.5\n");
    assert_eq!(
        folder.error(),
        format!(
            "DIR: 1 image found (images/a.png), {looked} (not recognised as labels: annotations/ours.json, label/a.txt){what}"
        )
    );
    // A folder named after a class stays a class.
    let folder = Folder::new();
    folder.images(&["cat/a.png", "cat/b.png"]);
    let said = folder.error();
    assert!(said.contains("a classification needs at least two classes, but there is only `cat`"), "{said}");
}

#[test]
fn a_part_of_a_yolo_set_leads_to_the_whole() {
    let part = |whole: &str| {
        format!(
            "this is only a part of the YOLO data set {whole}, which has the images in images/ and the labels in labels/: give the whole set, as in `polyhead train {whole}`"
        )
    };
    let one = Folder::new();
    one.images(&["images/a.png", "images/b.png"]).text("labels/a.txt", "0 0.5 0.5 0.5 0.5\n");
    for name in ["images", "labels"] {
        assert_eq!(error(&one, name), format!("DIR/{name}: {}", part("DIR")));
    }
    let splits = Folder::new();
    splits.images(&["images/train/a.png", "images/val/b.png"]).text("labels/train/a.txt", "0 0.5 0.5 0.5 0.5\n");
    for name in ["images", "images/train"] {
        assert_eq!(error(&splits, name), format!("DIR/{name}: {}", part("DIR")));
    }
    let roboflow = Folder::new();
    roboflow.images(&["train/images/a.png", "valid/images/b.png"]);
    roboflow.text("train/labels/a.txt", "0 0.5 0.5 0.5 0.5\n").text("valid/labels/b.txt", "0 0.5 0.5 0.5 0.5\n");
    for name in ["train/images", "valid/images"] {
        assert_eq!(error(&roboflow, name), format!("DIR/{name}: {}", part("DIR")));
    }
    // Folders below images/ may be meant as classes, so they are read and the set is a note.
    let days = Folder::new();
    days.images(&["images/day/a.png", "images/night/b.png"]).text("labels/day/a.txt", "0 0.5 0.5 0.5 0.5\n");
    let dataset = Dataset::open(&days.path().join("images"), &OpenOptions::default()).unwrap();
    assert_eq!(dataset.tasks[0].classes(), ["day", "night"]);
    let whole = days.path().display();
    assert_note(&dataset, &format!("{whole} is a YOLO data set of which this folder is only a part"));
    assert_note(&dataset, &format!("run `polyhead train {whole}`"));
}

#[test]
fn images_below_their_class_folder_are_counted() {
    let folder = Folder::new();
    folder.images(&["train/animals/cat/a.png", "train/animals/dog/b.png", "train/animals/c.png"]);
    folder.images(&["train/plants/oak/old/d.png", "train/tools/e.png", "val/animals/cat/f.png"]);
    let dataset = folder.open();
    assert_eq!(dataset.tasks[0].classes(), ["animals", "plants", "tools"]);
    assert_note(
        &dataset,
        "class: the class is the first folder below the split's folder; 4 of 6 images lie in folders further down and count as the class above them: `animals` has 3 images there, such as those in train/animals/cat/, `plants` has 1 image there, such as those in train/plants/oak/old/; to make those folders the classes, declare the folders above them, as in `train: [train/animals, train/plants]`",
    );
    // The line that the note names: no image of it lies further down.
    folder.text(
        "data.yaml",
        "train: [train/animals, train/plants/oak]\nval: val/animals\ntasks:\n  kind: {type: classify, from: folders}\n",
    );
    std::fs::remove_file(folder.path().join("train/animals/c.png")).unwrap();
    let dataset = folder.open();
    assert_eq!(dataset.tasks[0].classes(), ["cat", "dog", "old"]);
    assert!(!dataset.notes.iter().any(|note| note.contains("further down")), "{:?}", dataset.notes);
}
