//! Which YAML file of a folder is read, and which splits it may leave out or name without effect.

use super::{Folder, assert_note};
use crate::data::check::{CheckOptions, check};
use crate::data::dataset::{Dataset, OpenOptions, Sample};
use crate::data::describe;
use crate::data::progress::Progress;

/// A YOLO set without a data.yaml in the folder `at`.
fn yolo(at: &str) -> Folder {
    let folder = Folder::new();
    for name in ["train/a", "train/b", "val/c"] {
        folder.images(&[&format!("{at}images/{name}.png")]);
        folder.text(&format!("{at}labels/{name}.txt"), "1 0.5 0.5 0.5 0.5\n");
    }
    folder
}

const DECLARES: &str = "train: images/train\nval: images/val\nnames: [cat, dog]\n";

/// The folder's notes, with its path replaced by `DIR`.
fn notes(folder: &Folder) -> Vec<String> {
    let notes = folder.open().notes;
    notes.into_iter().map(|note| note.replace(&*folder.path().to_string_lossy(), "DIR")).collect()
}

#[test]
fn the_only_file_that_declares_a_data_set_is_used_under_any_name() {
    for name in ["blood.yaml", "dataset.yml", "archive/dataset.yaml"] {
        let folder = yolo(if name.contains('/') { "archive/" } else { "" });
        folder.text(name, DECLARES);
        // Files for other purposes are left alone.
        folder.text("params.yaml", "train: {lr: 0.1}\nval: 0.2\nnames: x\n").text("more.yaml", "tasks: [a, b]\n");
        assert_eq!(folder.open().tasks[0].classes(), ["cat", "dog"], "{name}");
        let used = "it is the only YAML file here that declares a data set, and there is no data.yaml";
        assert!(notes(&folder).contains(&format!("DIR/{name} is used: {used}")), "{:?}", notes(&folder));
    }
    let folder = yolo("");
    folder.text("blood.yaml", DECLARES).text("data.yaml", "train: images/train\nval: images/val\nnames: [x, y]\n");
    assert_eq!(folder.open().tasks[0].classes(), ["x", "y"]);
    assert!(!notes(&folder).iter().any(|note| note.contains("blood")));
}

#[test]
fn a_fault_in_such_a_file_says_why_it_was_read() {
    let folder = yolo("");
    folder.text("coco.yaml", "path: ../coco\ntrain: images/train\nnames: [cat, dog]\n");
    assert_eq!(
        folder.error(),
        "DIR/coco.yaml:1: `path: ../coco` is not a folder (looked for DIR/../coco and for ../coco in the current folder): give it relative to this file, or leave it out; DIR/coco.yaml was read because it is the only YAML file here that declares a data set"
    );
    folder.text("coco.yaml", "train: images/train\nnames: [cat\n");
    let said = folder.error();
    assert!(said.starts_with("DIR/coco.yaml:") && said.contains("not valid YAML"), "{said}");
}

#[test]
fn of_two_such_files_none_is_guessed() {
    let folder = yolo("");
    folder.text("blood.yaml", DECLARES).text("cells.yaml", DECLARES);
    assert_eq!(
        folder.error(),
        "DIR: blood.yaml, cells.yaml each declare a data set, and there is no data.yaml: give the file you mean, as in `polyhead train DIR/blood.yaml`"
    );
}

#[test]
fn validation_without_training_is_refused() {
    for key in ["val", "validation"] {
        for train in ["", "train:\n"] {
            let folder = yolo("");
            folder.text("data.yaml", &format!("names: [cat, dog]\n{key}: images/val\n{train}"));
            assert_eq!(
                folder.error(),
                format!(
                    "DIR/data.yaml:2: `{key}:` is given without `train:`, so the validation images would be trained on, too: add `train:` with the folder or list file of the training images"
                )
            );
        }
    }
}

#[test]
fn a_later_error_says_why_a_file_of_another_name_was_read() {
    let folder = Folder::new();
    folder.images(&["dog/a.png", "owl/b.png"]).text("config.yaml", "names: {0: dog, 1: owl}\n");
    let said = folder.error();
    assert!(
        said.contains("has a label file") && said.contains("config.yaml was read because it is the only"),
        "{said}"
    );
}

#[test]
fn without_training_the_folders_of_splits_are_not_mixed() {
    for rest in ["", "test: images/test\n"] {
        let folder = yolo("");
        folder.images(if rest.is_empty() { &[] } else { &["images/test/d.png"] });
        folder.text("data.yaml", &format!("names: [cat, dog]\n{rest}"));
        assert_eq!(
            folder.error(),
            "DIR/data.yaml: there is no `train:`, but DIR/images has folders for the splits: add `train: images/train`, `val: images/val`; or `train: images` if these folders are classes"
        );
    }
}

#[test]
fn a_test_split_alone_keeps_its_images_out_of_the_others() {
    let folder = Folder::new();
    folder.images(&["images/a.png", "images/b.png", "images/c.png"]).text("test.txt", "images/c.png\n");
    folder.text("labels/a.txt", "1 0.5 0.5 0.5 0.5\n");
    folder.text("data.yaml", "test: test.txt\nnames: [cat, dog]\n");
    let dataset = folder.open();
    let names = |samples: &[Sample]| samples.iter().map(|sample| sample.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&dataset.test), ["images/c.png"]);
    let mut others = [names(&dataset.train), names(&dataset.val)].concat();
    others.sort();
    assert_eq!(others, ["images/a.png", "images/b.png"]);
    let all = "DIR/data.yaml: there is no `train:`, so all images below DIR/images";
    assert!(notes(&folder).contains(&format!("{all}, except those of `test:`, are for training and validation")));
    folder.text("data.yaml", "names: [cat, dog]\n");
    assert!(notes(&folder).contains(&format!("{all} are for training and validation")));
}

/// Roboflow's export without a test split, whose data.yaml names one.
fn roboflow() -> Folder {
    let folder = Folder::new();
    for split in ["train", "valid"] {
        folder.images(&[&format!("set/{split}/images/{split}.png")]);
        folder.text(&format!("set/{split}/labels/{split}.txt"), "1 0.5 0.5 0.5 0.5\n");
    }
    folder.text(
        "set/data.yaml",
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\nnames: ['cat', 'dog']\n",
    );
    folder
}

fn open(folder: &Folder) -> crate::error::Result<Dataset> {
    Dataset::open(&folder.path().join("set"), &OpenOptions::default())
}

#[test]
fn a_roboflow_export_is_read_although_its_paths_lead_outside() {
    let folder = roboflow();
    let dataset = open(&folder).unwrap();
    assert_eq!((dataset.train.len(), dataset.val.len(), dataset.test.len()), (1, 1, 0));
    assert_eq!(dataset.train[0].name, "train/images/train.png");
    assert_note(&dataset, "set/data.yaml:1: `../train/images` does not exist, so `train/images` is used");
    assert_note(&dataset, "set/data.yaml:2: `../valid/images` does not exist, so `valid/images` is used");
    // Evaluating the test split is refused with the reason.
    let reason = dataset.no_test.clone().unwrap().replace(&*folder.path().to_string_lossy(), "DIR");
    assert_eq!(
        reason,
        "DIR/set/data.yaml:3: `test: ../test/images` is neither a folder nor a list file (looked for DIR/set/../test/images and DIR/set/test/images)"
    );
    assert_note(&dataset, "set/test/images); there is no test split");
    let options = CheckOptions { open: OpenOptions::default(), max_broken: 0.0 };
    check(&folder.path().join("set"), &options, &Progress::default()).unwrap().check.verdict().unwrap();
    let text = describe::data_yaml(&folder.path().join("set"), &OpenOptions::default(), &Progress::default()).unwrap();
    assert!(text.contains("train: train/images") && !text.contains("\ntest:"), "{text}");

    std::fs::create_dir_all(folder.path().join("set/test/images")).unwrap();
    let empty = open(&folder).unwrap();
    assert_note(
        &empty,
        "set/test/images: the test split holds no image (jpg, jpeg, jfif, png, bmp, webp, tif, tiff, gif, ppm, pgm, pbm, pnm are read); it is left out",
    );
    assert!(empty.no_test.is_some() && empty.test.is_empty());

    folder.images(&["set/test/images/t.png"]);
    let whole = open(&folder).unwrap();
    assert_eq!((whole.no_test.clone(), whole.test.len()), (None, 1));
}

#[test]
fn a_missing_training_or_validation_folder_stays_an_error() {
    for (folder_of, at) in [("train", "set/data.yaml:1"), ("valid", "set/data.yaml:2")] {
        let folder = roboflow();
        std::fs::remove_dir_all(folder.path().join("set").join(folder_of)).unwrap();
        let said = open(&folder).unwrap_err().to_string();
        assert!(said.contains(at) && said.contains("is neither a folder nor a list file"), "{said}");
    }
}

#[test]
fn a_folder_outside_that_has_a_namesake_inside_is_named_with_it() {
    let folder = roboflow();
    folder.images(&["train/images/other.png"]).text("train/labels/other.txt", "0 0.5 0.5 0.5 0.5\n");
    let dataset = open(&folder).unwrap();
    assert_eq!(dataset.train.len(), 1);
    assert!(dataset.train[0].name.ends_with("other.png"), "{:?}", dataset.train);
    assert_note(
        &dataset,
        "set/train/images is there, too, and is not used: write `train: train/images` if you mean that one",
    );
}

#[test]
fn the_validation_split_may_be_called_valid() {
    let folder = Folder::new();
    folder.images(&["images/train/a.png", "images/val/b.png"]).text("labels/train/a.txt", "0 0.5 0.5 0.5 0.5\n");
    for key in ["val", "valid", "validation"] {
        folder.text("data.yaml", &format!("train: images/train\n{key}: images/val\nnames: [thing]\n"));
        let dataset = folder.open();
        assert_eq!((dataset.train.len(), dataset.val.len()), (1, 1), "{key}");
        assert!(!dataset.notes.iter().any(|note| note.contains("is not known")), "{:?}", dataset.notes);
    }
    folder.text("data.yaml", "train: images/train\nvalid: images/val\nval: images/val\nnames: [thing]\n");
    assert_eq!(folder.error(), "DIR/data.yaml:2: `val:` and `valid:` both name the val split: remove one");
}

#[test]
fn a_number_of_classes_without_names_is_noted() {
    let folder = Folder::new();
    folder.images(&["images/a.png", "images/b.png"]).text("labels/a.txt", "1 0.5 0.5 0.5 0.5\n");
    let words = "data.yaml:2: `nc:` without `names:`, so classes are called by their numbers; to name them, add `names: [first, second, …]`";
    let is_noted = |text: &str| {
        folder.text("data.yaml", text);
        let dataset = folder.open();
        (dataset.tasks[0].classes().to_vec(), dataset.notes.iter().any(|note| note.ends_with(words)))
    };
    let numbers = ["0", "1"].map(String::from).to_vec();
    assert_eq!(is_noted("train: images\nnc: 2\n"), (numbers.clone(), true));
    assert_eq!(is_noted("train: images\nnc: 2\ntasks: {t: {type: detect, from: {yolo: labels}}}\n"), (numbers, true));
    let names = ["x", "y"].map(String::from).to_vec();
    assert_eq!(is_noted("train: images\nnc: 2\nnames: [x, y]\n"), (names.clone(), false));
    let own = "train: images\nnc: 2\ntasks: {t: {type: detect, names: [x, y], from: {yolo: labels}}}\n";
    assert_eq!(is_noted(own), (names, false));
}
