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
    // Alone, the folder is entered; beside a folder that may hold labels, the user decides.
    let dataset = folder.open();
    assert_eq!(dataset.tasks[0].classes(), ["cats", "dogs"]);
    assert_note(&dataset, "archive/ is the only folder with images in");
    folder.text("notes/ours.json", "");
    assert_eq!(
        folder.error(),
        "DIR: all images are below archive/, which would be the only class; if the classes are those of archive/ (cats, dogs), run `polyhead train DIR/archive`"
    );
    let folder = Folder::new();
    folder.images(&["archive/train/cats/a.png", "archive/train/dogs/c.png", "archive/val/cats/d.png"]);
    folder.text("notes/ours.json", "");
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

#[test]
fn folders_without_images_beside_the_data_do_not_count() {
    let roboflow = |folder: &Folder| {
        folder.images(&["rf/train/images/a.png", "rf/valid/images/b.png"]);
        folder.text("rf/train/labels/a.txt", "0 0.5 0.5 0.5 0.5\n");
        folder.text("rf/data.yaml", "train: ../train/images\nval: ../valid/images\nnames: [apple, pear]\n");
    };
    let folder = Folder::new();
    roboflow(&folder);
    folder.text("docs/readme.txt", "").text("__MACOSX/rf/._a.png", "");
    let dataset = folder.open();
    assert_eq!(dataset.tasks[0].classes(), ["apple", "pear"]);
    assert_note(&dataset, "rf/ is the only folder with images in");
    // With labels in the other folder, the message names no classes of boxes as folders.
    for (name, text) in [("label/a.txt", "0 0.5 0.5 0.5 0.5\n"), ("label/ours.csv", "")] {
        let folder = Folder::new();
        roboflow(&folder);
        folder.text(name, text);
        assert_eq!(
            folder.error(),
            "DIR: all images are below rf/, which would be the only class; if you mean YOLO labels under DIR/rf/data.yaml, run `polyhead train DIR/rf`"
        );
    }
}

#[test]
fn a_table_with_a_row_for_each_image_comes_with_the_line_that_declares_it() {
    let said = |folder: &Folder| {
        let said = folder.error();
        let line = said.split('`').nth(1).unwrap_or_else(|| panic!("{said}")).to_string();
        (said, line)
    };
    let folder = Folder::new();
    let names: Vec<String> = (0..12).map(|i| format!("images/{i:02}.png")).collect();
    folder.images(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let rows: String =
        (0..12).map(|i| format!("{i:02}.png,{i}.5,{},{},{i}\n", i % 2, ["red", "dark blue"][i % 2])).collect();
    // Two tables, of which none says that it is the one.
    folder.text("a.csv", &format!("image,price,is new,colour,id\n{rows}"));
    folder.text("b.csv", &format!("image,price,is new,colour,id\n{rows}"));
    let (message, line) = said(&folder);
    let expected = "{tasks: {price: {type: regress, from: {csv: a.csv, column: price}}, \"is new\": {type: classify, from: {csv: a.csv, column: \"is new\"}}, colour: {type: classify, from: {csv: a.csv, column: colour}}}}";
    assert_eq!(line, expected);
    assert_eq!(
        message,
        format!(
            "DIR: 12 images found (images/00.png, images/01.png, images/02.png, …), and a.csv has rows for them, but nothing says what its columns are: add a data.yaml here with the line `{expected}`, where the type of numbers is regress and that of classes is classify"
        )
    );
    folder.text("data.yaml", &line);
    let kinds: Vec<&str> = folder.open().tasks.iter().map(|task| task.kind_word()).collect();
    assert_eq!(kinds, ["regression", "classification", "classification"]);
    // Folders of splits, another name of the column of file names, and a cell that is no number.
    let folder = Folder::new();
    folder.images(&["train/a.png", "train/b.png", "train/c.png", "val/d.png"]);
    folder.text("labels.csv", "photo;price\r\na.png;1\r\nb.png;2\r\nc.png;n.a.\r\nd.png;7\r\n");
    let (_, line) = said(&folder);
    assert_eq!(
        line,
        "{train: train, val: val, tasks: {price: {type: regress, from: {csv: labels.csv, column: price, key: photo}}}}"
    );
    folder.text("data.yaml", &line);
    assert!(folder.error().starts_with("DIR/labels.csv:4: column `price` holds `n.a.`"), "{}", folder.error());
    // A table of other images is not offered.
    let folder = Folder::new();
    folder.images(&["images/a.png"]).text("labels.csv", "image,price\nq.png,1\n");
    assert!(folder.error().contains("(not recognised as labels: labels.csv)"), "{}", folder.error());
}

#[test]
fn a_split_of_a_declared_set_leads_to_the_whole() {
    let part = |split: &str| {
        format!(
            "this is only the {split} split of the data set that DIR/data.yaml declares: give the whole set, as in `polyhead train DIR`"
        )
    };
    let roboflow = Folder::new();
    roboflow.images(&["train/images/a.png", "train/images/b.png", "valid/images/c.png"]);
    roboflow.text("train/labels/a.txt", "0 0.5 0.5 0.5 0.5\n").text("valid/labels/c.txt", "0 0.5 0.5 0.5 0.5\n");
    roboflow.text("data.yaml", "train: ../train/images\nval: ../valid/images\nnames: [apple]\n");
    assert_eq!(error(&roboflow, "train"), format!("DIR/train: {}", part("train")));
    let classes = Folder::new();
    classes.images(&["one/cat/a.png", "one/dog/b.png", "two/cat/c.png", "two/dog/d.png", "three/cat/e.png"]);
    classes.images(&["three/dog/f.png"]);
    classes.text("data.yaml", "{train: one, val: two, tasks: {pet: {type: classify, from: folders}}}");
    assert_eq!(error(&classes, "two"), format!("DIR/two: {}", part("val")));
    // A folder that the file does not name, and the whole set in a folder beside its file.
    assert_eq!(Dataset::open(&classes.path().join("three"), &OpenOptions::default()).unwrap().tasks.len(), 1);
    let inner = Folder::new();
    inner.images(&["set/train/cat/a.png", "set/train/dog/b.png", "set/val/cat/c.png"]);
    inner.text("data.yaml", "{path: set, train: train, val: val, tasks: {pet: {type: classify, from: folders}}}");
    assert_eq!(Dataset::open(&inner.path().join("set"), &OpenOptions::default()).unwrap().tasks[0].name, "class");
    // Sets that are whole by themselves, alone or joined with another one.
    inner.images(&["more/train/cat/a.png", "more/train/dog/b.png", "more/val/cat/c.png"]);
    for declared in ["{train: set/train, val: set/val", "{train: [set/train, more/train], val: [set/val, more/val]"] {
        inner.text("data.yaml", &format!("{declared}, tasks: {{pet: {{type: classify, from: folders}}}}}}"));
        let whole = Dataset::open(&inner.path().join("set"), &OpenOptions::default()).unwrap();
        assert_eq!((whole.train.len(), whole.val.len()), (2, 1), "{declared}");
    }
}

#[test]
fn pictures_that_cannot_be_read_are_counted_by_their_ending() {
    let folder = Folder::new();
    for i in 0..3 {
        folder.text(&format!("a/{i}.HEIC"), "").text(&format!("b/{i}.HEIC"), "");
    }
    let message =
        |below: &str, files: &str| format!("DIR: no image it can read {below}: {files}; convert them to JPEG or PNG");
    assert_eq!(folder.error(), message("below a/, b/", "6 .HEIC files"));
    folder.text("b/x/y.avif", "");
    assert_eq!(folder.error(), message("below a/, b/", "6 .HEIC files, 1 .avif file"));
    let flat = Folder::new();
    flat.text("a.heic", "");
    assert_eq!(flat.error(), message("here", "1 .heic file"));
    // Beside classes that can be read, the others are named.
    folder.images(&["c/0.png", "d/0.png"]);
    assert_eq!(
        folder.error(),
        "DIR: no class for a/, b/, where no image can be read (6 .HEIC files, 1 .avif file): convert them to JPEG or PNG, or move the folder out of the data set"
    );
}

#[test]
fn folders_of_predictions_are_no_classes() {
    for (name, text) in [
        ("predictions.jsonl", "{\"file\":\"a.png\"}\n"),
        ("predictions.csv", "file,kind,error\na.png,cat,\n"),
        ("boxes_cells.csv", "file,class,score,x1,y1,x2,y2\n"),
        ("detections_cells.json", "[]\n"),
        ("boxes.csv", "file,class,score,x1,y1,x2,y2\na.png,cat,0.9,1,1,2,2\n"),
        ("detections.json", "[\n{\"image_id\":1,\"category_id\":1,\"bbox\":[1,1,1,1],\"score\":0.9}]"),
    ] {
        for at in ["", "train/"] {
            let folder = Folder::new();
            folder.images(
                &["cat/a.png", "dog/b.png", "answers/a.png"]
                    .map(|name| format!("{at}{name}"))
                    .each_ref()
                    .map(String::as_str),
            );
            let answers = format!("{at}answers");
            folder.text(&format!("{answers}/{name}"), text);
            let dataset = folder.open();
            assert_eq!(dataset.tasks[0].classes(), ["cat", "dog"], "{name}");
            assert_eq!(dataset.train.len() + dataset.val.len(), 2);
            assert_note(&dataset, &format!("{answers}/ is left out: it holds predictions, not training images"));
        }
    }
    // Other files of these names do not make a folder one of predictions.
    let folder = Folder::new();
    folder.images(&["cat/a.png", "dog/b.png"]).text("cat/boxes.csv", "a,b\n").text("dog/detections.json", "{}");
    assert_eq!(folder.open().tasks[0].classes(), ["cat", "dog"]);
}
