//! Data sets converted to another layout and read again: equal except for what the layout cannot store, which is
//! reported first.

use super::{Folder, one_box};
use crate::data::convert::{Options, Target, Transfer, convert};
use crate::data::dataset::{Dataset, OpenOptions};
use crate::data::declaration::Split;
use crate::data::formats::coco;
use crate::data::progress::Progress;
use crate::error::Error;
use crate::tasks::Label;
use std::fs;

/// Every kind of task and state, and names that are special in YAML, XML or file systems.
fn mixed() -> Folder {
    let folder = Folder::new();
    folder.images(&["in/train/x/a.png", "in/train/x/a.bmp", "in/train/y/.hidden/../a.png", "in/val/x/images/b c.png"]);
    folder.images(&["in/train/x/d.png", "in/test/t.1.png"]);
    let boxes = |list: &str, classes: &str| format!("{{\"bbox\": [{list}], \"categories\": [{classes}]}}");
    let train = [
        format!(
            "{{\"file_name\": \"x/a.png\", \"kind\": \"yes\", \"sky\": [1, null], \"x\": 0.1, \"y\": -3, \"things\": {}}}",
            "{\"bbox\": [[1.25, 2, 3.7, 4.1], [0, 0, 40, 19]], \"categories\": [\"a & <b>\", \"0\"], \"ignore\": [false, true]}"
        ),
        format!("{{\"file_name\": \"x/a.bmp\", \"kind\": \"no: no\", \"sky\": [0, 0], \"things\": {}}}", boxes("", "")),
        format!(
            "{{\"file_name\": \"y/a.png\", \"x\": 3e7, \"y\": 1e-3, \"things\": {}}}",
            boxes("[30, 10, 20, 5]", "\"0\"")
        ),
        "{\"file_name\": \"x/d.png\"}".to_string(),
    ];
    folder.text("in/train/metadata.jsonl", &train.join("\n"));
    folder.text(
        "in/val/metadata.jsonl",
        &format!("{{\"file_name\": \"x/images/b c.png\", \"things\": {}}}", boxes("[3, 3, 9, 9]", "\"0\"")),
    );
    folder.text("in/test/metadata.jsonl", "{\"file_name\": \"t.1.png\", \"kind\": \"yes\"}");
    folder.text(
        "in/data.yaml",
        "train: train\nval: val\ntest: test
tasks:
  things: {type: detect, names: [z, '0', a & <b>], from: things, flip_safe: false}
  kind: {type: classify, names: ['yes', 'no: no'], from: kind, class_weights: [1, 3], crop_safe: true}
  sky: {type: classify, multi_label: true, names: [s, r], from: sky}
  file: {type: regress, from: [x, y], units: [m, '']}
",
    );
    folder
}

fn options(target: Target) -> Options {
    Options { target, transfer: Transfer::LinkOrCopy, force: false, task: None, open: OpenOptions::default() }
}

fn opened(folder: &Folder, name: &str) -> Dataset {
    Dataset::open(&folder.path().join(name), &OpenOptions::default()).unwrap()
}

fn labels(dataset: &Dataset, split: Split) -> Vec<Vec<Label>> {
    dataset.split(split).iter().map(|sample| sample.labels.clone()).collect()
}

#[test]
fn our_own_layout_holds_everything() {
    let folder = mixed();
    let (before, out) = (opened(&folder, "in"), folder.path().join("out"));
    let said = convert(&folder.path().join("in"), &out, &options(Target::Jsonl), &Progress::default()).unwrap();
    assert_eq!((said.images, &said.lost, &said.notes), ([4, 1, 1], &vec![], &vec![]));
    let after = opened(&folder, "out");
    assert_eq!(before.tasks, after.tasks);
    for split in Split::ALL {
        assert_eq!(labels(&before, split), labels(&after, split));
        for (a, b) in before.split(split).iter().zip(after.split(split)) {
            assert_eq!(fs::read(&a.image).unwrap(), fs::read(&b.image).unwrap(), "{} {}", a.name, b.name);
        }
    }
    assert_eq!((before.crop_safe, before.flip_safe), (after.crop_safe, after.flip_safe));
    // Converting the result again gives exactly the same.
    let twice = folder.path().join("twice");
    convert(&out, &twice, &options(Target::Jsonl), &Progress::default()).unwrap();
    for file in ["data.yaml", "train/metadata.jsonl", "val/metadata.jsonl"] {
        assert_eq!(fs::read_to_string(out.join(file)).unwrap(), fs::read_to_string(twice.join(file)).unwrap());
    }
}

/// Compares the boxes of each image, `None` if unlabelled, before and after a round trip.
fn same_boxes(
    before: &Dataset,
    after: &Dataset,
    expect: impl Fn(&[crate::tasks::LabelledBox]) -> Vec<(usize, [f32; 4], bool)>,
) {
    for split in Split::ALL {
        assert_eq!(before.split(split).len(), after.split(split).len());
        for (a, b) in before.split(split).iter().zip(after.split(split)) {
            match (a.labels[0].boxes(), b.labels[0].boxes()) {
                (Some(a), Some(b)) => {
                    let expected = expect(a);
                    assert_eq!(expected.len(), b.len());
                    for ((class, xyxy, ignore), b) in expected.into_iter().zip(b.iter()) {
                        assert_eq!((class, ignore), (b.class, b.ignore));
                        // Single precision, in fractions of 40 pixels.
                        assert!(xyxy.iter().zip(&b.xyxy).all(|(x, y)| (x - y).abs() < 1e-5), "{xyxy:?} {:?}", b.xyxy);
                    }
                }
                (a, b) => assert_eq!(a, b),
            }
        }
    }
}

#[test]
fn layouts_of_boxes_hold_boxes_and_say_what_they_lose() {
    let folder = mixed();
    let before = opened(&folder, "in");
    for (target, more) in [(Target::Yolo, "; 1 box marked to be ignored"), (Target::Voc, ""), (Target::Coco, "")] {
        let out = folder.path().join(target.to_string());
        let go = |force| {
            convert(&folder.path().join("in"), &out, &Options { force, ..options(target) }, &Progress::default())
        };
        let error = go(false).unwrap_err();
        assert!(matches!(error, Error::Usage(_)));
        assert_eq!(
            error.to_string(),
            format!(
                "{target} cannot hold all of this: task `kind` (classification, 3 labelled); task `sky` (multi-label, 2 labelled); task `file` (regression, 2 labelled){more}; --force writes the rest"
            )
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().filter(|e| e.as_ref().unwrap().path() == out).count(), 0);
        assert_eq!(go(true).unwrap().images, [4, 1, 1]);
    }
    // Boxes are clipped to 40 × 20; YOLO drops ignored boxes.
    let clipped = |b: &crate::tasks::LabelledBox| (b.class, crate::boxes::clip(&b.xyxy, 40.0, 20.0), b.ignore);
    let voc = opened(&folder, "voc");
    assert_eq!(voc.tasks[0], before.tasks[0]);
    same_boxes(&before, &voc, |list| list.iter().map(clipped).collect());
    let yolo = opened(&folder, "yolo");
    assert_eq!(yolo.tasks[0].classes(), before.tasks[0].classes());
    assert!(!yolo.flip_safe);
    same_boxes(&before, &yolo, |list| list.iter().filter(|b| !b.ignore).map(clipped).collect());
}

#[test]
fn coco_files_count_from_one_and_keep_crowds() {
    let folder = mixed();
    let out = folder.path().join("out");
    let forced = Options { force: true, ..options(Target::Coco) };
    let said = convert(&folder.path().join("in"), &out, &forced, &Progress::default()).unwrap();
    assert_eq!(said.notes, ["2 unlabelled images not mentioned in the JSON files"]);
    let train = coco::read_annotations(&out.join("annotations/instances_train.json")).unwrap();
    let names: Vec<(i64, &str)> = train.categories.iter().map(|c| (c.id, c.name.as_str())).collect();
    assert_eq!(names, [(1, "z"), (2, "0"), (3, "a & <b>")]);
    assert_eq!(train.images.len(), 3);
    assert!(
        train
            .images
            .iter()
            .all(|image| out.join("train").join(&image.file_name).is_file() && image.width == Some(40.0))
    );
    let boxes: Vec<(i64, i64, [f64; 4], bool)> =
        train.annotations.iter().map(|a| (a.image_id, a.category_id, a.bbox, a.iscrowd)).collect();
    let id = |name: &str| train.images.iter().find(|image| image.file_name == name).unwrap().id;
    let [first, _, last] = ["x/a_2.png", "x/a.bmp", "y/a.png"].map(id);
    assert_eq!(
        boxes,
        [
            (first, 3, [1.25, 2.0, 3.7, 4.1], false),
            (first, 2, [0.0, 0.0, 40.0, 19.0], true),
            (last, 2, [30.0, 10.0, 20.0, 5.0], false)
        ]
    );
    let test = coco::read_annotations(&out.join("annotations/instances_test.json")).unwrap();
    assert_eq!((test.images.len(), test.categories.len()), (0, 3));
}

#[test]
fn the_task_to_write_is_checked_before_anything_else() {
    let folder = Folder::new();
    folder.images(&["a/1.png", "a/2.png", "b/3.png", "b/4.png"]);
    let beside = Folder::new();
    let go = |options: &Options| {
        convert(folder.path(), &beside.path().join("out"), options, &Progress::default()).unwrap_err().to_string()
    };
    assert_eq!(
        go(&options(Target::Yolo)),
        "yolo holds boxes, and this data set has no detection task: --to jsonl holds every task"
    );
    let named = Options { task: Some("class".into()), ..options(Target::Voc) };
    assert_eq!(go(&named), "--task class: no detection task of that name here");
    let table = "{\"file_name\": \"a/1.png\", \"o\": {\"bbox\": [[1, 1, 2, 2]], \"categories\": [\"q\"]}, \"p\": {\"bbox\": [[1, 1, 2, 2]], \"categories\": [\"q\"]}}\n";
    folder.text("metadata.jsonl", table);
    folder.text("data.yaml", "tasks:\n  one: {type: detect, from: o, names: [q]}\n  two: {type: detect, from: p, names: [q]}\nval_fraction: 0.5\n");
    let error = go(&options(Target::Coco));
    assert_eq!(
        error,
        "coco holds the boxes of one task, and there are one, two: choose with --task, or --to jsonl for all"
    );
}

#[test]
fn nothing_half_written_stays() {
    let folder = Folder::new();
    folder.images(&["in/train/a/1.png", "in/train/b/2.png", "in/val/a/3.png"]);
    #[cfg(unix)]
    std::os::unix::fs::symlink("nowhere.png", folder.path().join("in/train/b/gone.png")).unwrap();
    let error =
        convert(&folder.path().join("in"), &folder.path().join("out"), &options(Target::Jsonl), &Progress::default());
    assert!(error.unwrap_err().to_string().contains("gone.png"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    folder.text("taken/mine.txt", "mine");
    let error =
        convert(&folder.path().join("in"), &folder.path().join("taken"), &options(Target::Jsonl), &Progress::default());
    assert!(error.unwrap_err().to_string().ends_with("taken: already exists and is not empty: give a new folder"));
}

#[test]
fn voc_counts_from_one_and_cannot_hold_thin_boxes() {
    let folder = Folder::new();
    folder.images(&["in/images/train/a.png", "in/images/val/b.png"]);
    folder.text("in/data.yaml", "train: images/train\nval: images/val\nnames: [cat]\n");
    folder.text("in/labels/train/a.txt", "0 0.5 0.5 0.025 0.5\n0 0.5 0.5 0.5 0.5\n");
    let go = |force| {
        let options = Options { force, ..options(Target::Voc) };
        convert(&folder.path().join("in"), &folder.path().join("out"), &options, &Progress::default())
    };
    assert!(go(false).unwrap_err().to_string().contains("1 box at most one pixel wide or high"));
    go(true).unwrap();
    let after = opened(&folder, "out");
    assert_eq!(after.train[0].labels[0], one_box(0, [10.0, 5.0, 30.0, 15.0]));
    let xml = fs::read_to_string(folder.path().join("out/Annotations/a.xml")).unwrap();
    assert!(xml.contains("<xmin>11</xmin><ymin>6</ymin><xmax>30</xmax><ymax>15</ymax>"), "{xml}");
}

#[test]
fn leftovers_of_a_killed_conversion_are_not_reused() {
    let folder = mixed();
    // A folder as if a process with this id had started converting to another layout and been killed.
    let left = format!("in-copy/.out.partial-{}-0", std::process::id());
    folder.text(&format!("{left}/train/x/a.png"), "not a picture");
    let out = folder.path().join("in-copy/out");
    convert(&folder.path().join("in"), &out, &options(Target::Jsonl), &Progress::default()).unwrap();
    assert_eq!(fs::read_to_string(folder.path().join(left).join("train/x/a.png")).unwrap(), "not a picture");
    let [before, after] = ["in", "in-copy/out"].map(|name| labels(&opened(&folder, name), Split::Train).len());
    assert_eq!(before, after);
}

#[test]
fn a_folder_among_the_images_that_are_read_is_refused() {
    let folder = mixed();
    for name in ["in/out", "in/train/new/out"] {
        let out = folder.path().join(name);
        let said = convert(&folder.path().join("in"), &out, &options(Target::Jsonl), &Progress::default()).unwrap_err();
        assert!(said.to_string().contains("is inside the source data set"), "{said}");
        assert!(!out.exists());
    }
}

#[test]
fn names_that_differ_only_in_case_are_kept_apart() {
    let folder = Folder::new();
    folder.images(&["in/a/IMG.png", "in/b/img.png"]);
    folder.text("in/metadata.csv", "file_name,xmin,ymin,xmax,ymax,class\na/IMG.png,1,1,9,9,c\nb/img.png,1,1,9,9,c\n");
    folder.text("in/data.yaml", "train: .\nval_fraction: 0.5\ntasks: {t: {type: detect, from: {csv: metadata.csv}}}\n");
    let out = folder.path().join("out");
    convert(&folder.path().join("in"), &out, &options(Target::Voc), &Progress::default()).unwrap();
    let names =
        fs::read_dir(out.join("JPEGImages")).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().to_lowercase());
    assert_eq!(names.collect::<std::collections::HashSet<_>>().len(), 2);
}
