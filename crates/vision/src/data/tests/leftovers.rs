//! What is left over below a data set is said: pictures, label files and folders that are not used.

use super::{Folder, assert_note};
use crate::data::check::{CheckOptions, ProblemKind, check};
use crate::data::dataset::{Dataset, OpenOptions};
use crate::data::own::{Own, mark};
use crate::data::progress::Progress;
use std::collections::HashSet;
use std::fs;

fn checked(folder: &Folder) -> crate::data::check::Check {
    let options = CheckOptions { open: OpenOptions::default(), max_broken: 0.01 };
    check(folder.path(), &options, &Progress::default()).unwrap().check
}

#[test]
fn folders_of_systems_and_hidden_ones_are_ignored_and_named_once() {
    let folder = Folder::new();
    folder.images(&["train/a/0.png", "train/b/0.png", "val/a/0.png", "val/b/0.png"]);
    let before = folder.open();
    folder.images(&[
        "__MACOSX/train/a/0.png",
        "train/@eaDir/0.png",
        "train/a/@eaDir/0.png",
        "train/b/@eaDir/0.png",
        ".ipynb_checkpoints/0.png",
        "train/a/.trash/0.png",
        "train/a/._0.png",
        "#recycle/0.png",
    ]);
    let after = folder.open();
    assert_eq!((&before.tasks, &before.train, &before.val), (&after.tasks, &after.train, &after.val));
    assert_note(
        &after,
        "ignored folders: #recycle/ (a NAS keeps deleted files there), .ipynb_checkpoints/ (hidden), train/a/.trash/ (hidden), 3 @eaDir/ (such as train/@eaDir/; a NAS keeps thumbnails there), __MACOSX/ (macOS keeps attributes of files there)",
    );
    assert_note(&after, "1 hidden file is ignored (such as train/a/._0.png)");
}

#[test]
fn a_system_folder_beside_the_only_folder_does_not_count() {
    let folder = Folder::new();
    folder.images(&["set/train/a/0.png", "set/train/b/0.png", "__MACOSX/set/train/a/0.png"]);
    let dataset = folder.open();
    assert_eq!(dataset.tasks[0].classes(), ["a", "b"]);
    assert_note(&dataset, "set/ is the only folder with images in");
    assert_note(&dataset, "ignored folders: __MACOSX/");
}

#[test]
fn pictures_in_no_split_and_in_other_formats_are_counted() {
    let folder = Folder::new();
    folder.images(&["train/a/0.png", "train/b/0.png", "val/a/0.png", "val/b/0.png", "more/0.png", "more/1.png"]);
    folder.images(&["more/x/0.png"]);
    folder.text("train/a/1.heic", "").text("train/a/2.heic", "").text("train/b/3.AVIF", "");
    fs::copy(folder.path().join("more/0.png"), folder.path().join("train/a/4.weird")).unwrap();
    let dataset = folder.open();
    assert_note(&dataset, "3 images are in no split, so not used: 2 in more/, 1 in more/x/ (such as more/0.png)");
    assert_note(
        &dataset,
        "pictures that are not read: 1 .AVIF file, 2 .heic files, 1 .weird file (such as train/a/1.heic); convert them",
    );
}

#[test]
fn a_class_that_loses_all_its_pictures_stops_training_and_check_says_the_same() {
    let folder = Folder::new();
    folder.images(&["train/a/0.png", "train/b/0.png", "val/a/0.png", "val/b/0.png"]);
    folder.text("train/c/0.heic", "").text("train/c/deep/1.heic", "");
    let error = Dataset::open(folder.path(), &OpenOptions::default()).unwrap_err().to_string();
    assert!(
        error.ends_with(
            ": no class for train/c/, where no image can be read (2 .heic files): convert them to JPEG or PNG, or move the folder out of the data set"
        ),
        "{error}"
    );
    let found = checked(&folder);
    assert_eq!(found.count(ProblemKind::Label), 1);
    assert!(found.problems[0].message.starts_with("no class for train/c/"), "{found}");
    assert!(!found.stops.is_empty());
}

#[test]
fn label_files_that_are_not_read_and_those_without_a_picture_are_counted() {
    let folder = Folder::new();
    folder.images(&["images/train/a.png", "images/train/b.png", "images/val/c.png", "images/test/d.png"]);
    let row = "0 0.5 0.5 0.5 0.5\n";
    for name in ["train/a", "train/gone", "train/lost", "val/c", "test/d"] {
        folder.text(&format!("labels/{name}.txt"), row);
    }
    folder.text("labels/train/classes.txt", "cat\n").text("README.txt", "A data set.\n").text("extra.csv", "x\n");
    folder.text("data.yaml", "train: images/train\nval: images/val\nnames: [cat]\n");
    let dataset = folder.open();
    assert_note(
        &dataset,
        "2 label files belong to no image of this data set (labels/train/gone.txt, labels/train/lost.txt)",
    );
    assert_note(
        &dataset,
        "label files that are not read: 1 .csv file (such as extra.csv), 1 .txt file (such as labels/test/d.txt)",
    );
    assert_note(&dataset, "1 image is in no split, so not used: 1 in images/test/ (such as images/test/d.png)");
    // Nothing is left over when the test split is declared, too.
    folder.text("data.yaml", "train: images/train\nval: images/val\ntest: images/test\nnames: [cat]\n");
    for name in ["labels/train/gone.txt", "labels/train/lost.txt", "extra.csv"] {
        fs::remove_file(folder.path().join(name)).unwrap();
    }
    let whole = folder.open();
    let said = ["not read", "belong to no image", "no split", "ignored"];
    assert!(!whole.notes.iter().any(|note| said.iter().any(|said| note.contains(said))), "{:?}", whole.notes);
}

#[test]
fn a_split_without_any_label_stops_training() {
    let voc = "<annotation><object><name>cat</name><bndbox><xmin>5</xmin><ymin>3</ymin><xmax>19</xmax><ymax>9</ymax></bndbox></object></annotation>";
    let folder = Folder::new();
    folder.images(&["train/a.png", "train/b.png", "val/c.png", "val/d.png"]);
    folder.text("xml/a.xml", voc).text("xml/b.xml", voc);
    folder.text("data.yaml", "train: train\nval: val\ntasks:\n  objects: {type: detect, from: {voc: xml}}\n");
    let said = "task `objects`: none of 2 images of the val split has a label (looked for DIR/xml/c.xml): label them, correct `from:`, or leave the split out";
    assert_eq!(folder.error(), format!("DIR/data.yaml:4: {said}"));
    let found = checked(&folder);
    assert_eq!(found.count(ProblemKind::Label), 1, "{found}");
    assert!(found.problems[0].to_string().ends_with("or leave the split out"), "{found}");
    // A single label is enough, and a test split without labels is left unlabelled.
    folder.text("xml/d.xml", voc);
    assert_eq!(folder.open().val.len(), 2);
    folder.images(&["test/e.png"]);
    folder
        .text("data.yaml", "train: train\nval: val\ntest: test\ntasks:\n  objects: {type: detect, from: {voc: xml}}\n");
    assert_note(&folder.open(), "task `objects`: none of 1 image of the test split has a label");
    // In a YOLO set, an image without a label file would be background: a whole split of them is rather a wrong path.
    let yolo = Folder::new();
    yolo.images(&["images/train/a.png", "images/val/b.png"]).text("labels/train/a.txt", "0 0.5 0.5 0.5 0.5\n");
    yolo.text("data.yaml", "train: images/train\nval: images/val\nnames: [cat]\n");
    yolo.images(&["images/val/c.png"]);
    let error = yolo.error();
    assert!(
        error.contains("none of 2 images of the val split has a label (looked for DIR/labels/val/b.txt)"),
        "{error}"
    );
    yolo.text("data.yaml", "train: images/train\nval: images/val\nnames: [cat]\nmissing: background\n");
    assert_eq!(yolo.open().val.len(), 2);
}

#[test]
fn a_class_that_no_training_image_has_is_a_problem() {
    let folder = Folder::new();
    folder.images(&["images/train/a.png", "images/val/b.png"]);
    folder.text("labels/train/a.txt", "0 0.5 0.5 0.5 0.5\n").text("labels/val/b.txt", "1 0.5 0.5 0.5 0.5\n");
    folder.text("data.yaml", "train: images/train\nval: images/val\nnames: [cat, dog]\n");
    let problems = folder.open().problems;
    assert!(problems.iter().any(|problem| problem.contains("no training image has `dog`")), "{problems:?}");
    let found = checked(&folder);
    assert_eq!((found.count(ProblemKind::Unlearnable), found.stops.len()), (1, 0));
}

#[test]
fn a_list_with_backslashes_names_images_and_check_says_what_training_says() {
    let folder = Folder::new();
    folder.images(&["images/train/a.png", "images/val/b.png"]);
    folder.text("labels/train/a.txt", "0 0.5 0.5 0.5 0.5\n").text("labels/val/b.txt", "0 0.5 0.5 0.5 0.5\n");
    folder.text("train.txt", "images\\train\\a.png\n").text("val.txt", ".\\images\\val\\b.png\r\n");
    folder.text("data.yaml", "train: train.txt\nval: val.txt\nnames: [cat]\n");
    let dataset = folder.open();
    assert_eq!(
        (dataset.train[0].name.as_str(), dataset.val[0].name.as_str()),
        ("images/train/a.png", "images/val/b.png")
    );
    folder.text("train.txt", "images\\train\\gone.png\n");
    let error = folder.error();
    assert!(error.starts_with("DIR/train.txt:1: `images\\train\\gone.png` is not there"), "{error}");
    let options = CheckOptions { open: OpenOptions::default(), max_broken: 0.01 };
    let said = check(folder.path(), &options, &Progress::default()).err().unwrap().to_string();
    assert_eq!(said.replace(&*folder.path().to_string_lossy(), "DIR"), error);
}

#[test]
fn folders_that_polyhead_marks_are_left_out_below_another_root_and_read_when_named() {
    let folder = Folder::new();
    folder.images(&["a/0.png", "b/0.png", "a/1.png", "b/1.png"]);
    let before = folder.open();
    for (name, own, what) in [
        ("converted", Own::Converted, "a converted data set"),
        ("a/answers", Own::Predictions, "predictions"),
        ("cache", Own::Cache, "cached images"),
        ("b/run", Own::Run, "a run"),
    ] {
        folder.images(&[&format!("{name}/a/0.jpg"), &format!("{name}/b/0.jpg")]);
        mark(&folder.path().join(name), own).unwrap();
        let dataset = folder.open();
        assert_eq!((&before.train, &before.val), (&dataset.train, &dataset.val), "{name}");
        assert_note(&dataset, &format!("{name}/ is left out: it holds {what}, not training images"));
        let named = Dataset::open(&folder.path().join(name), &OpenOptions::default()).unwrap();
        assert_eq!(named.train.len() + named.val.len(), 2, "{name}");
    }
    // Where nothing else is, the message leads to it.
    let folder = Folder::new();
    folder.images(&["set/a/0.png", "set/b/0.png"]);
    mark(&folder.path().join("set"), Own::Converted).unwrap();
    assert_eq!(
        folder.error(),
        "DIR: no image or label that is read, except in set/, which holds a converted data set and is read only if it is given itself, as in `polyhead train DIR/set`"
    );
}

/// A small generator, so that the trees are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % most
    }
}

/// Every picture below the root is used, left over and counted, or in an ignored folder that is named.
#[test]
fn the_account_of_random_trees_is_exact() {
    let png = {
        let folder = Folder::new();
        folder.images(&["a.png"]);
        fs::read(folder.path().join("a.png")).unwrap()
    };
    let words = ["train", "val", "a", "b", "c", "@eaDir", ".git", "__MACOSX", "deep", "runs"];
    let endings = ["png", "PNG", "heic", "jxl", "txt", "json", "unknown", ""];
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let folder = Folder::new();
        folder.images(&["train/a/first.png", "train/b/first.png", "val/a/first.png", "val/b/first.png"]);
        for number in 0..40 {
            let depth = dice.below(4);
            let mut name: String =
                (0..depth).map(|_| format!("{}/", words[dice.below(words.len() as u64) as usize])).collect();
            if depth == 0 || name.starts_with("train/") && depth < 2 || name.starts_with("val/") && depth < 2 {
                name = "odd/".into();
            }
            let ending = endings[dice.below(endings.len() as u64) as usize];
            let file =
                folder.path().join(format!("{name}{number}{}{ending}", if ending.is_empty() { "" } else { "." }));
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            let is_text = ["txt", "json"].contains(&ending);
            fs::write(file, if is_text { b"words".as_slice() } else { &png }).unwrap();
            if name.contains("runs/") {
                let at = name.find("runs/").unwrap() + 5;
                folder.text(&format!("{}.polyhead-runs", &name[..at]), "");
            }
        }
        folder.text("data.yaml", "{train: train, val: val, tasks: {c: {type: classify, from: folders}}}");
        let found = {
            let options = CheckOptions { open: OpenOptions::default(), max_broken: 1.0 };
            check(folder.path(), &options, &Progress::default()).unwrap()
        };
        let notes = &found.check.coverage.notes;
        let used: usize = found.check.coverage.images.iter().sum();
        let number = |start: &str, note: &str| -> usize {
            let rest = note.strip_prefix(start).unwrap();
            rest.split([',', '(']).filter_map(|part| part.split_whitespace().next()?.parse::<usize>().ok()).sum()
        };
        let unused: usize = notes
            .iter()
            .filter(|note| note.contains("in no split"))
            .map(|note| number("", note.split(" in no split").next().unwrap()))
            .sum();
        let start = "pictures that are not read: ";
        let unread: usize = notes.iter().filter(|note| note.starts_with(start)).map(|note| number(start, note)).sum();
        // The same tree, counted here in another way.
        let mut pictures = 0;
        let mut inside = 0;
        let mut ignored = HashSet::new();
        let mut open = vec![(folder.path().to_path_buf(), false)];
        while let Some((at, is_inside)) = open.pop() {
            for entry in fs::read_dir(&at).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                if path.is_dir() {
                    let is_ignored =
                        [".git", "@eaDir", "__MACOSX"].contains(&name.as_str()) || path.join(".polyhead-runs").exists();
                    if is_ignored && !is_inside {
                        ignored.insert(path.strip_prefix(folder.path()).unwrap().display().to_string());
                    }
                    open.push((path, is_inside || is_ignored));
                } else if ![".txt", ".json", ".yaml"].iter().any(|end| name.ends_with(end)) && !name.starts_with('.') {
                    pictures += 1;
                    inside += usize::from(is_inside);
                }
            }
        }
        assert_eq!(used + unused + unread + inside, pictures, "seed {seed}: {notes:#?}");
        let named: usize = notes
            .iter()
            .filter_map(|note| note.strip_prefix("ignored folders: "))
            .map(|note| {
                note.split("), ")
                    .map(|part| part.split(' ').next().unwrap().parse::<usize>().unwrap_or(1))
                    .sum::<usize>()
            })
            .sum();
        let own = notes.iter().filter(|note| note.contains("is left out: it holds runs")).count();
        assert_eq!(named + own, ignored.len(), "seed {seed}: {notes:#?} {ignored:?}");
    }
}
