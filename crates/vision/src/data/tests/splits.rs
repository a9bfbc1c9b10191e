//! The assignment of images to training and validation.

use super::{Folder, assert_note};
use crate::data::dataset::{Dataset, Fold, OpenOptions};
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
        "DIR/train.csv: none of the 1 image that it names is in DIR (first: `3`; an image that is there is `images/a.png`): correct the names, or name the folder of the images in a data.yaml"
    );
}

#[test]
fn images_in_two_splits_are_noted() {
    let folder = Folder::new();
    folder.images(&["images/a.png", "images/b.png", "images/c.png"]);
    folder.text("labels/a.txt", "0 0.5 0.5 0.5 0.5").text("labels/c.txt", "0 0.5 0.5 0.5 0.5");
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
fn the_share_is_exact_in_every_class() {
    let folder = Folder::new();
    for (class, images) in [("cat", 37), ("dog", 10), ("owl", 5), ("yak", 1)] {
        let names: Vec<String> = (0..images).map(|i| format!("{class}/{i:02}.png")).collect();
        folder.images(&names.iter().map(String::as_str).collect::<Vec<_>>());
    }
    for (fraction, held) in [(0.2, 11), (0.1, 5), (0.5, 27), (0.7, 37), (0.001, 1)] {
        let options = OpenOptions { val_fraction: Some(fraction), seed: 3, ..Default::default() };
        let dataset = Dataset::open(folder.path(), &options).unwrap();
        assert_eq!((dataset.val.len(), dataset.train.len()), (held, 53 - held), "{fraction}");
        for (class, [train, val, _]) in dataset.counts(0).classes {
            let share = f64::from(fraction) * (train + val) as f64;
            assert!((val as f64 - share).abs() < 1.0, "{class} at {fraction}: {val} of {}", train + val);
        }
        assert_note(
            &dataset,
            &format!("no validation split: {} of 53 held out", crate::reading::count_of(held, "image")),
        );
    }
}

#[test]
fn every_task_has_its_share_of_labelled_images() {
    let folder = many();
    let rows: Vec<String> = (0..60)
        .map(|i| {
            let [kind, size] = [["", "a", "b"][i % 3], if i % 4 == 0 { "1.5" } else { "" }];
            format!("{}/{i:02}.png,{kind},{size}{}\n", ["cat", "dog"][i % 2], if size.is_empty() { "" } else { "0" })
        })
        .collect();
    folder.text("rows.csv", &format!("file,kind,size\n{}", rows.concat()));
    let tasks = "tasks:\n  animal: {type: classify, from: folders}\n  kind: {type: classify, from: {csv: rows.csv, column: kind}}\n  size: {type: regress, from: {csv: rows.csv, column: size}}\n";
    folder.text("data.yaml", &format!("train: .\n{tasks}"));
    let open = |options: &OpenOptions| Dataset::open(folder.path(), options).unwrap();
    let dataset = open(&OpenOptions::default());
    assert_eq!(dataset.val.len(), 12);
    let labelled = |task: usize| dataset.val.iter().filter(|sample| sample.labels[task].is_labelled()).count();
    assert_eq!([0, 1, 2].map(labelled), [12, 8, 3]);
    let classes = [0, 1].map(|task| dataset.counts(task).classes.into_iter().map(|(_, n)| n[1]).collect::<Vec<_>>());
    assert_eq!(classes, [[6, 6], [4, 4]]);
    // A run of one task validates on the same images as a run of all.
    let names = |dataset: &Dataset| dataset.val.iter().map(|sample| sample.name.clone()).collect::<Vec<_>>();
    for task in ["animal", "kind", "size"] {
        let alone = open(&OpenOptions { tasks: vec![task.into()], ..Default::default() });
        assert_eq!((alone.tasks.len(), names(&alone)), (1, names(&dataset)), "{task}");
    }
    // The labels of another task may be gone; a note says that the images may be others.
    std::fs::remove_file(folder.path().join("rows.csv")).unwrap();
    let alone = open(&OpenOptions { tasks: vec!["animal".into()], ..Default::default() });
    assert_note(&alone, "the labels of the task `kind`, which is not used here, cannot be read (");
}

#[test]
fn folds_divide_the_images_and_every_class() {
    let folder = many();
    let mut seen = BTreeSet::new();
    for number in 1..=7 {
        let fold: Fold = format!("{number}/7").parse().unwrap();
        let options = OpenOptions { fold: Some(fold), seed: 5, ..Default::default() };
        let dataset = Dataset::open(folder.path(), &options).unwrap();
        assert!([8, 9].contains(&dataset.val.len()) && dataset.train.len() + dataset.val.len() == 60);
        let cats = dataset.val.iter().filter(|sample| sample.name.starts_with("cat")).count();
        assert!([4, 5].contains(&cats), "{number}: {cats}");
        assert!(dataset.val.iter().all(|sample| seen.insert(sample.name.clone())), "an image is in one fold only");
        assert_note(&dataset, &format!("(fold {number}/7, seed 5)"));
    }
    assert_eq!(seen.len(), 60);
    let refused = |folder: &Folder, fold: &str, val_fraction| {
        let options = OpenOptions { fold: Some(fold.parse().unwrap()), val_fraction, ..Default::default() };
        let said = Dataset::open(folder.path(), &options).unwrap_err().to_string();
        said.replace(&*folder.path().to_string_lossy(), "DIR")
    };
    assert_eq!(
        refused(&folder, "2/5", Some(0.2)),
        "--fold 2/5 and --val-fraction exclude each other: a fold is one 5th of the images"
    );
    assert_eq!(refused(&folder, "1/61", None), "DIR: 60 images found: --fold 1/61 needs at least 61");
    let split = Folder::new();
    split.images(&["train/cat/a.png", "train/dog/b.png", "val/cat/c.png"]);
    assert_eq!(
        refused(&split, "2/5", None),
        "--fold 2/5: the data set has its own validation split, DIR/val: leave --fold out, or take that split out of the declaration"
    );
    for wrong in ["0/5", "6/5", "1/1", "2", "a/b", "1/1001", "-1/5"] {
        let said = wrong.parse::<Fold>().unwrap_err();
        assert_eq!(said, "expected the number of a fold and of all folds, at most 1000, as in 2/5", "{wrong}");
    }
}

/// The groups of a split's images: the part of the name between the class and the underscore.
fn groups_in(samples: &[crate::data::Sample]) -> BTreeSet<String> {
    let group = |name: &str| name.split(['/', '_']).nth(1).unwrap().to_owned();
    samples.iter().map(|sample| group(&sample.name)).collect()
}

#[test]
fn groups_stay_whole() {
    let folder = Folder::new();
    let names: Vec<String> =
        (0..66).map(|i| format!("{}/p{:02}_{i}.png", ["cat", "dog"][i % 2], (i * i) % 23)).collect();
    folder.images(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let rows = |header: &str| {
        let row = |name: &String| format!("{name},{}\n", &name[4..7]);
        format!("{header}\n{}", names.iter().map(row).collect::<String>())
    };
    folder.text("metadata.csv", &rows("file_name,patient")).text("patients.csv", &rows("picture,patient"));
    let task = "train: .\ntasks: {animal: {type: classify, from: folders}}\n";
    let mut all = Vec::new();
    for group in ["(*)_*", "patient", "{csv: patients.csv, column: patient, key: picture}"] {
        folder.text("data.yaml", &format!("{task}group: {group}\n"));
        let dataset = folder.open();
        assert!(groups_in(&dataset.train).is_disjoint(&groups_in(&dataset.val)), "{group}");
        assert!([12, 13, 14].contains(&dataset.val.len()), "{group}: {}", dataset.val.len());
        assert_note(&dataset, "groups that stay whole, so the share is 0.");
        all.push(dataset.val.iter().map(|sample| sample.name.clone()).collect::<Vec<_>>());
        let text =
            crate::data::describe::data_yaml(folder.path(), &OpenOptions::default(), &Default::default()).unwrap();
        folder.text("data.yaml", &text);
        assert_eq!(folder.open().val, dataset.val, "{text}");
        for number in 1..=3 {
            let options = OpenOptions { fold: Some(format!("{number}/3").parse().unwrap()), ..Default::default() };
            let dataset = Dataset::open(folder.path(), &options).unwrap();
            assert!(groups_in(&dataset.train).is_disjoint(&groups_in(&dataset.val)), "{group}");
            assert!((21..=23).contains(&dataset.val.len()), "{group}: {}", dataset.val.len());
        }
    }
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "the three ways name the same groups");
    let refused = |group: &str| {
        folder.text("data.yaml", &format!("{task}group: {group}\n"));
        folder.error()
    };
    assert_eq!(
        refused("(*)-*"),
        "DIR/data.yaml:3: `group: (*)-*` gives none of 66 images a group, such as `cat/p00_0.png`: correct it"
    );
    assert_eq!(
        refused("p*"),
        "DIR/data.yaml:3: `group: p*` needs one pair of parentheses around what names the group, as in `(*)_*.jpg`"
    );
    assert_eq!(
        refused("(p)*"),
        "DIR/data.yaml: `group:` puts 66 images into 1 group, which stay whole: training and validation need at least one each"
    );
    assert_eq!(
        refused("person"),
        "DIR/data.yaml:3: `group:` reads the column `person`, which DIR/metadata.csv does not have; it has file_name, patient"
    );
    assert_eq!(
        refused("{csv: gone.csv, column: patient}"),
        "DIR/data.yaml:3: `group:`: the file `gone.csv` is not there (looked for DIR/gone.csv)"
    );
    assert!(refused("{csv: patients.csv, colum: patient}").contains("not `colum`; did you mean `column`?"));
    // Images without a group are on their own, and groups of declared splits may be on both sides.
    folder.images(&["cat/plain.png"]).text("data.yaml", &format!("{task}group: (*)_*\n"));
    assert_note(
        &folder.open(),
        "group: 1 image without a group may be in training or validation by itself (cat/plain.png)",
    );
    let split = Folder::new();
    split.images(&["train/cat/p1_a.png", "train/dog/p2_b.png", "val/cat/p1_c.png", "val/cat/p3_c.png"]);
    split.text("data.yaml", "train: train\nval: val\ngroup: (*)_*\ntasks: {animal: {type: classify, from: folders}}\n");
    assert_note(
        &split.open(),
        "group: 1 group in training and also in validation or test, with images such as val/cat/p1_c.png",
    );
}

#[test]
fn classes_without_a_validation_image_are_noted() {
    let folder = Folder::new();
    let names: Vec<String> = (0..30).map(|i| format!("cat/{i:02}.png")).collect();
    folder.images(&names.iter().map(String::as_str).collect::<Vec<_>>()).images(&["dog/0.png", "owl/0.png"]);
    let notes = |fraction| {
        let options = OpenOptions { val_fraction: Some(fraction), seed: 1, ..Default::default() };
        let dataset = Dataset::open(folder.path(), &options).unwrap();
        dataset.notes.into_iter().filter(|note| note.contains("no validation image has")).collect::<Vec<_>>()
    };
    let end = ": give the data set a validation split, or choose another --val-fraction or --seed";
    let several = "class: no validation image has one of 2 classes (dog, owl), so the metrics leave them out";
    assert_eq!(notes(0.2), [format!("{several}{end}")]);
    // The only image of a class is needed for training.
    folder.images(&["dog/1.png", "dog/2.png"]);
    assert_eq!(
        notes(0.5),
        [format!("class: no validation image has the class `owl`, so the metrics leave it out{end}")]
    );
    folder.images(&["owl/1.png", "owl/2.png"]);
    assert_eq!(notes(0.5), [""; 0]);
    // A declared validation split is the user's choice.
    let folder = Folder::new();
    folder.images(&["train/cat/a.png", "train/dog/b.png", "val/cat/c.png"]);
    assert!(!folder.open().notes.iter().any(|note| note.contains("no validation image has")));
}

#[test]
fn a_class_that_only_validation_has_is_a_problem() {
    let folder = Folder::new();
    folder.images(&["images/train/a.png", "images/val/b.png", "images/val/c.png"]);
    folder.text("labels/train/a.txt", "0 0.5 0.5 0.5 0.5\n").text("labels/val/b.txt", "2 0.5 0.5 0.5 0.5\n");
    folder.text("data.yaml", "train: images/train\nval: images/val\nnames: [cat, dog, owl]\n");
    let expected = "objects: no training image has `owl`, which validation or test images have: the model cannot learn it; add training images, or take the class out";
    assert_eq!(folder.open().problems, [expected]);
    folder.text("labels/val/c.txt", "1 0.5 0.5 0.5 0.5\n");
    let said = folder.open().problems.concat();
    assert!(said.contains("any of 2 classes that validation or test images have (dog, owl): the model"), "{said}");
    folder.text("labels/train/a.txt", "0 0.5 0.5 0.5 0.5\n1 0.2 0.2 0.1 0.1\n2 0.7 0.7 0.1 0.1\n");
    assert_eq!(folder.open().problems, [""; 0]);
}

#[test]
fn data_sets_that_are_only_judged_are_not_divided() {
    let judged = |folder: &Folder| {
        Dataset::open(folder.path(), &OpenOptions { undivided: true, ..Default::default() })
            .map(|dataset| [dataset.train.len(), dataset.val.len(), dataset.test.len()])
            .map_err(|error| error.to_string().replace(&*folder.path().to_string_lossy(), "DIR"))
    };
    assert_eq!(judged(&many()), Ok([60, 0, 0]));
    // Only a test split: class folders, YOLO in two forms, and a data.yaml whose other splits are not there.
    let folder = Folder::new();
    folder.images(&["test/cat/a.png", "test/dog/b.png", "test/dog/c.png"]);
    assert_eq!(judged(&folder), Ok([0, 0, 3]));
    assert!(folder.error().contains("test"), "training refuses it: {}", folder.error());
    let folder = Folder::new();
    folder.images(&["test/images/a.png", "test/images/b.png"]);
    folder.text("test/labels/a.txt", "0 0.5 0.5 0.5 0.5\n");
    assert_eq!(judged(&folder), Ok([0, 0, 2]));
    folder.text("data.yaml", "train: train/images\nval: valid/images\ntest: test/images\nnames: [cat, dog]\n");
    assert_eq!(judged(&folder), Ok([0, 0, 2]));
    assert!(folder.error().starts_with("DIR/data.yaml:1: `train: train/images` is neither"), "{}", folder.error());
    folder.text("data.yaml", "test: test/images\nnames: [cat, dog]\n");
    assert_eq!(judged(&folder), Ok([0, 0, 2]));
    folder.text("data.yaml", "train: gone\nval: gone\nnames: [cat, dog]\n");
    assert!(judged(&folder).is_err(), "{:?}", judged(&folder));
    // A validation split is used as it is.
    let folder = Folder::new();
    folder.images(&["train/cat/a.png", "train/dog/b.png", "val/cat/c.png"]);
    assert_eq!(judged(&folder), Ok([2, 1, 0]));
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
