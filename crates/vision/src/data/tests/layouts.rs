//! Every supported layout once: described as a data.yaml, converted to each output layout, and checked.

use super::Folder;
use crate::data::check::{CheckOptions, ProblemKind, check};
use crate::data::convert::{Options, Target, Transfer, convert};
use crate::data::dataset::{Dataset, OpenOptions};
use crate::data::declaration::Split;
use crate::data::describe;
use crate::data::progress::Progress;
use crate::tasks::{Boxes, Content, Label, LabelledBox};
use std::collections::HashMap;
use std::fs;
use std::path::Path;

const COCO: &str = r#"{"categories": [{"id": 17, "name": "cat"}, {"id": 3, "name": "car: a"}],
 "images": [{"id": 900, "file_name": "A", "width": 40, "height": 20}, {"id": 7, "file_name": "B"}],
 "annotations": [{"id": 1, "image_id": 900, "category_id": 17, "bbox": [4, 2, 10.3, 6.1]},
  {"id": 2, "image_id": 900, "category_id": 3, "bbox": [0, 0, 20, 20], "iscrowd": 1},
  {"id": 3, "image_id": 900, "category_id": 3, "bbox": [30, 5, 9.7, 10]}]}"#;
const BDD: &str = r#"[{"name": "A", "attributes": {"weather": "rainy", "time": "night"}, "labels": [
  {"category": "car", "box2d": {"x1": 1.5, "y1": 2, "x2": 20, "y2": 10}},
  {"category": "bus", "attributes": {"crowd": true}, "box2d": {"x1": 20, "y1": 2, "x2": 30, "y2": 10}}]},
 {"name": "B", "attributes": {"weather": "clear", "time": "undefined"}, "labels": []}]"#;
const TENSORFLOW: &str = "filename,width,height,class,xmin,ymin,xmax,ymax\n";
const OPEN_IMAGES: &str = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsGroupOf\n";
const VOC: &str = "<annotation><object><name>cat</name><bndbox><xmin>5</xmin><ymin>3</ymin><xmax>19</xmax><ymax>9</ymax></bndbox></object><object><name>no</name><difficult>1</difficult><bndbox><xmin>5</xmin><ymin>3</ymin><xmax>30</xmax><ymax>19</ymax></bndbox></object></annotation>";

/// Pictures of 40 × 20 pixels with different content, because they are identified by their bytes.
fn images(folder: &Folder, names: &[&str]) {
    for (number, name) in names.iter().enumerate() {
        let file = folder.path().join("in").join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        image::RgbImage::from_pixel(40, 20, image::Rgb([number as u8 * 7, 120, 150])).save(file).unwrap();
    }
}

fn layout(names: &[&str], files: &[(&str, &str)]) -> Folder {
    let folder = Folder::new();
    images(&folder, names);
    for (name, text) in files {
        folder.text(&format!("in/{name}"), text);
    }
    folder
}

/// A label file for images `a` and `b`.
fn of(text: &str, a: &str, b: &str) -> String {
    text.replace("\"A\"", &format!("\"{a}\"")).replace("\"B\"", &format!("\"{b}\""))
}

/// The name, words of its description, and the folder with the layout in `in`.
fn layouts() -> Vec<(&'static str, &'static str, Folder)> {
    let four = ["train/a.png", "train/b.png", "train/c.png", "valid/d.png"];
    let objects =
        r#"[{"bbox": [1, 1, 5, 5], "category": "man"}, {"bbox": [1, 1, 9.3, 9], "category": "car", "iscrowd": 1}]"#;
    let partly = r#"{"bbox": [[10, 2, 20, 4]], "categories": ["car"], "labelled_categories": ["car"]}"#;
    let metadata = format!(
        "{{\"file_name\": \"a.png\", \"o\": {objects}, \"speed\": 1.5}}\n{{\"file_name\": \"b.png\", \"o\": {partly}}}\n{{\"file_name\": \"c.png\", \"o\": [], \"speed\": 2}}\n"
    );
    let table = "file_name,weather,speed\n";
    let classes = "filename, sun, rain\n";
    let flat = ["images/a.png", "images/b.png", "images/c.png", "images/d.png"];
    vec![
        (
            "class folders",
            "class folders",
            layout(&["train/class2/a.png", "train/class10/b.png", "train/no/c.png", "val/no/d.png"], &[]),
        ),
        (
            "yolo",
            "YOLO",
            layout(
                &["images/train/a.png", "images/train/b.png", "images/val/c.png"],
                &[("labels/train/a.txt", "1 0.5 0.5 0.25 0.5\n"), ("labels/val/c.txt", "")],
            ),
        ),
        (
            "yolo of roboflow",
            "YOLO",
            layout(
                &["train/images/a.png", "valid/images/b.png"],
                &[("train/labels/a.txt", "1 0.5 0.5 0.25 0.5\n"), ("valid/labels/b.txt", "0 0.1 0.1 0.1 0.1\n")],
            ),
        ),
        (
            "voc",
            "Pascal VOC",
            layout(
                &["JPEGImages/a.png", "JPEGImages/b.png", "JPEGImages/c.png"],
                &[
                    ("ImageSets/Main/train.txt", "a\nc\n"),
                    ("ImageSets/Main/val.txt", "b\n"),
                    ("Annotations/a.xml", VOC),
                    ("Annotations/b.xml", "<annotation></annotation>"),
                ],
            ),
        ),
        (
            "coco",
            "COCO",
            layout(
                &["train2017/a.png", "train2017/b.png", "train2017/c.png", "val2017/d.png", "val2017/e.png"],
                &[
                    ("annotations/instances_train2017.json", &of(COCO, "a.png", "b.png")),
                    ("annotations/instances_val2017.json", &of(COCO, "e.png", "d.png")),
                ],
            ),
        ),
        (
            "coco of roboflow",
            "COCO",
            layout(
                &four,
                &[
                    ("train/_annotations.coco.json", &of(COCO, "b.png", "a.png")),
                    ("valid/_annotations.coco.json", &of(COCO, "d.png", "gone.png")),
                ],
            ),
        ),
        (
            "coco by its files",
            "COCO",
            layout(
                &flat,
                &[
                    ("annotations/train.json", &of(COCO, "a.png", "b.png")),
                    ("annotations/val.json", &of(COCO, "d.png", "c.png")),
                ],
            ),
        ),
        (
            "bdd100k",
            "BDD100K",
            layout(
                &[
                    "images/100k/train/a.png",
                    "images/100k/train/b.png",
                    "images/100k/train/c.png",
                    "images/100k/val/d.png",
                ],
                &[
                    ("labels/det_20/det_train.json", &of(BDD, "a.png", "b.png")),
                    ("labels/det_20/det_val.json", &of(BDD, "d.png", "gone.png")),
                ],
            ),
        ),
        (
            "csv of tensorflow",
            "one row per box",
            layout(
                &four,
                &[
                    (
                        "train/_annotations.csv",
                        &format!("{TENSORFLOW}a.png,40,20,dog,4,2,14,8\na.png,40,20,cat,30,2,38,8\nb.png,,,,,,,\n"),
                    ),
                    ("valid/_annotations.csv", &format!("{TENSORFLOW}d.png,40,20,cat,0,0,5,5\n")),
                ],
            ),
        ),
        (
            "csv of retinanet",
            "one row per box",
            layout(
                &flat,
                &[
                    ("train.csv", "images/a.png,4,2,14,8,dog\nimages/a.png,1,1,5,5,cat\nimages/b.png,,,,,\n"),
                    ("val.csv", "images/d.png,1,1,5,5,cat\n"),
                    ("classes.csv", "dog,0\ncat,1\n"),
                ],
            ),
        ),
        (
            "csv of open images",
            "one row per box",
            layout(
                &four,
                &[
                    (
                        "train/annotations-bbox.csv",
                        &format!("{OPEN_IMAGES}a,x,/m/1,1,0.1,0.5,0.25,0.75,0\na,x,/m/2,1,0,1,0,1,1\n"),
                    ),
                    ("valid/annotations-bbox.csv", &format!("{OPEN_IMAGES}d,x,/m/2,1,0.1,0.5,0.25,0.75,0\n")),
                ],
            ),
        ),
        (
            "metadata.csv",
            "metadata.csv",
            layout(
                &four,
                &[
                    ("train/metadata.csv", &format!("{table}a.png,sun,1.5\nb.png,rain,\nc.png,,2\n")),
                    ("valid/metadata.csv", &format!("{table}d.png,rain,2\n")),
                ],
            ),
        ),
        (
            "metadata.jsonl with boxes",
            "metadata.jsonl",
            layout(
                &four,
                &[
                    ("train/metadata.jsonl", &metadata),
                    (
                        "valid/metadata.jsonl",
                        "{\"file_name\": \"d.png\", \"o\": {\"bbox\": [], \"categories\": [], \"labelled_categories\": [\"man\"]}, \"speed\": 3}\n",
                    ),
                ],
            ),
        ),
        (
            "_classes.csv",
            "several labels per image",
            layout(
                &four,
                &[
                    ("train/_classes.csv", &format!("{classes}a.png, 1, 0\nb.png, 1, 1\n")),
                    ("valid/_classes.csv", &format!("{classes}d.png, 0, 0\n")),
                ],
            ),
        ),
        (
            "a data.yaml of everything",
            "data.yaml",
            layout(
                &["images/a.png", "images/b.png", "images/v.png"],
                &[
                    ("labels/a.txt", "0 0.5 0.5 0.5 0.5\n1 0.2 0.2 0.1 0.1\n"),
                    ("labels/v.txt", "1 0.5 0.5 0.5 0.5\n"),
                    ("t.csv", "file,x,y\na.png,1,2\nv.png,3,4\n"),
                    ("train.txt", "images/a.png\nimages/b.png\n"),
                    (
                        "data.yaml",
                        "train: train.txt\nval: [images/v.png.txt]\nflip_invariant: false\nnames: [car, man]\ntasks:\n  o: {type: detect, from: {yolo: labels}, labelled_categories: [car], missing: background}\n  at: {type: regress, from: {csv: t.csv, column: [x, y]}, units: [m, s], scale_invariant: true}\n",
                    ),
                    ("images/v.png.txt", "v.png\n"),
                ],
            ),
        ),
    ]
}

fn open(path: &Path) -> Dataset {
    Dataset::open(path, &OpenOptions::default()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn each_is_described_as_a_data_yaml_that_gives_it_again() {
    for (name, words, folder) in layouts() {
        let path = folder.path().join("in");
        let text = describe::data_yaml(&path, &OpenOptions::default(), &Progress::default())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(text.starts_with("# ") && text.lines().next().unwrap().contains(words), "{name}: {text}");
        let elsewhere = Folder::new();
        elsewhere.text("data.yaml", &text);
        let again = Dataset::open(elsewhere.path(), &OpenOptions::default())
            .unwrap_or_else(|error| panic!("{name}: {error}\n{text}"));
        let first = open(&path);
        assert_eq!(first.tasks, again.tasks, "{name}: {text}");
        assert_eq!((&first.train, &first.val, &first.test), (&again.train, &again.val, &again.test), "{name}: {text}");
        assert_eq!(
            (&first.invariances, first.flip_safe, first.scale_safe),
            (&again.invariances, again.flip_safe, again.scale_safe)
        );
        // Describing the described data set gives the same text, except for the location.
        let twice = describe::data_yaml(elsewhere.path(), &OpenOptions::default(), &Progress::default()).unwrap();
        let declared = |text: &str| text.lines().filter(|l| !l.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(declared(&text), declared(&twice), "{name}");
    }
}

/// The labels of every image, keyed by split and the image's bytes.
fn by_picture(dataset: &Dataset) -> HashMap<(Split, Vec<u8>), &[Label]> {
    let all = Split::ALL.into_iter().flat_map(|split| dataset.split(split).iter().map(move |s| (split, s)));
    all.map(|(split, s)| ((split, fs::read(&s.image).unwrap()), s.labels.as_slice())).collect()
}

fn converted(folder: &Folder, target: Target, force: bool) -> Result<(Dataset, Vec<String>, Vec<String>), String> {
    let (from, out) = (folder.path().join("in"), folder.path().join(target.to_string()));
    let open_options = OpenOptions::default();
    let options = Options { target, transfer: Transfer::LinkOrCopy, force, task: None, open: open_options };
    let said = convert(&from, &out, &options, &Progress::default()).map_err(|error| error.to_string())?;
    Ok((open(&out), said.lost, said.notes))
}

#[test]
fn each_becomes_our_own_layout_without_a_loss() {
    for (name, _, folder) in layouts() {
        let before = open(&folder.path().join("in"));
        let (after, lost, _) = converted(&folder, Target::Jsonl, false).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!((&before.tasks, &lost), (&after.tasks, &vec![]), "{name}");
        assert_eq!(by_picture(&before), by_picture(&after), "{name}");
        assert_eq!((&before.invariances, before.flip_safe), (&after.invariances, after.flip_safe), "{name}");
    }
}

/// The label that remains after conversion to a layout for boxes.
fn expected(label: &Label, classes: usize, target: Target) -> Label {
    let Some(boxes) = label.boxes() else { return label.clone() };
    let clipped = |b: &LabelledBox| LabelledBox { xyxy: crate::boxes::clip(&b.xyxy, 40.0, 20.0), ..b.clone() };
    let kept = boxes.with_regions(classes).filter(|b| target != Target::Yolo || !b.ignore);
    Label::of(kept.map(|b| if target == Target::Coco { b } else { clipped(&b) }).collect::<Boxes>())
}

fn near(a: &Label, b: &Label) -> bool {
    match (a.boxes(), b.boxes()) {
        (Some(a), Some(b)) => {
            // Single precision, in fractions of 40 pixels.
            let edges =
                |a: &LabelledBox, b: &LabelledBox| a.xyxy.iter().zip(&b.xyxy).all(|(x, y)| (x - y).abs() < 1e-5);
            let same = |(a, b): (&LabelledBox, &LabelledBox)| (a.class, a.ignore) == (b.class, b.ignore) && edges(a, b);
            a.len() == b.len() && a.iter().zip(b.iter()).all(same)
        }
        _ => a == b,
    }
}

#[test]
fn each_becomes_a_layout_of_boxes_up_to_what_that_holds() {
    for (name, _, folder) in layouts() {
        let before = open(&folder.path().join("in"));
        let Some(at) = before.tasks.iter().position(|task| task.spec.kind().content == Content::Boxes) else {
            assert!(converted(&folder, Target::Coco, false).unwrap_err().contains("no detection task"), "{name}");
            continue;
        };
        let boxes =
            || Split::ALL.into_iter().flat_map(|split| before.split(split)).filter_map(|s| s.labels[at].boxes());
        let partial = boxes().filter(|boxes| !boxes.partial.is_empty()).count();
        let crowds = boxes().flat_map(|boxes| boxes.iter()).filter(|b| b.ignore).count();
        let classes = before.tasks[at].classes().len();
        for target in [Target::Coco, Target::Voc, Target::Yolo] {
            let (after, lost, notes) =
                converted(&folder, target, true).unwrap_or_else(|error| panic!("{name}, {target}: {error}"));
            // All other tasks are reported as lost and, for YOLO, ignored boxes too.
            let is_yolo = target == Target::Yolo;
            let others =
                before.tasks.len() - 1 + usize::from(is_yolo && partial > 0) + usize::from(is_yolo && crowds > 0);
            assert_eq!(lost.len(), others, "{name}, {target}: {lost:?}");
            let says = |list: &[String]| list.iter().any(|said| said.contains("for some classes only"));
            assert_eq!(
                (says(&lost), says(&notes)),
                (is_yolo && partial > 0, !is_yolo && partial > 0),
                "{name}, {target}"
            );
            assert_eq!(after.tasks[0].classes(), before.tasks[at].classes(), "{name}, {target}");
            assert_eq!(after.flip_safe, before.flip_safe, "{name}, {target}");
            let (before, after) = (by_picture(&before), by_picture(&after));
            assert_eq!(before.len(), after.len());
            for (picture, labels) in before {
                let (expected, found) = (expected(&labels[at], classes, target), &after[&picture][0]);
                assert!(near(&expected, found), "{name}, {target}: {expected:?} became {found:?}");
            }
        }
    }
}

#[test]
fn each_is_clean_when_checked_and_its_repaired_copy_is_the_same() {
    for (name, _, folder) in layouts() {
        let path = folder.path().join("in");
        let options = CheckOptions { open: OpenOptions::default(), max_broken: 0.0 };
        let examined = check(&path, &options, &Progress::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
        // A layout's example may lack a class in training.
        let others = examined.check.problems.iter().filter(|problem| problem.kind != ProblemKind::Unlearnable);
        assert_eq!(others.count(), 0, "{name}: {}", examined.check);
        examined.check.verdict().unwrap();
        let fixed = folder.path().join("fixed");
        crate::data::check::fix(&examined, &fixed, Transfer::Copy, &Progress::default()).unwrap();
        let (before, after) = (open(&path), open(&fixed));
        assert_eq!(before.tasks, after.tasks, "{name}");
        assert_eq!(by_picture(&before), by_picture(&after), "{name}");
    }
}
