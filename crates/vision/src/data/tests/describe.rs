//! The data.yaml that describes a data set gives the same data set again, from another folder.

use super::Folder;
use crate::data::dataset::{Dataset, OpenOptions};
use crate::data::describe;
use crate::data::progress::Progress;
use crate::reading::yaml;
use std::fs;

/// Describes the data set, writes the text elsewhere and checks that it gives the same tasks, labels and splits;
/// returns the text.
pub fn again(folder: &Folder, options: &OpenOptions) -> String {
    let text = describe::data_yaml(folder.path(), options, &Progress::default()).unwrap();
    let elsewhere = Folder::new();
    elsewhere.text("data.yaml", &text);
    let first = Dataset::open(folder.path(), options).unwrap();
    let second = Dataset::open(elsewhere.path(), &OpenOptions { val_fraction: None, ..options.clone() })
        .unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(first.tasks, second.tasks, "{text}");
    assert_eq!((&first.train, &first.val, &first.test), (&second.train, &second.val, &second.test), "{text}");
    assert_eq!((first.crop_safe, first.flip_safe), (second.crop_safe, second.flip_safe), "{text}");
    let written = yaml::read::<yaml::Tree>(&text).unwrap().value;
    assert!(fs::canonicalize(folder.path()).unwrap().starts_with(written["path"].as_str().unwrap()));
    text
}

#[test]
fn discovered_layouts_are_declared_whole() {
    let folders = Folder::new();
    folders.images(&["class2/a.png", "class2/b.png", "class10/a.png", "class10/c.png", "no/d.png", "1/e.png"]);
    let text = again(&folders, &OpenOptions { val_fraction: Some(0.4), seed: 3, ..Default::default() });
    assert!(text.contains("val_fraction: 0.4"), "{text}");
    assert!(text.contains("names: [\"1\", class10, class2, \"no\"]") && text.contains("from: folders"), "{text}");
    assert!(text.contains("natural order"), "{text}");

    let yolo = Folder::new();
    yolo.images(&["images/train/a.png", "images/train/b.png", "images/val/c.png"]);
    yolo.text("labels/train/a.txt", "1 0.5 0.5 0.25 0.5\n").text("labels/val/c.txt", "");
    let text = again(&yolo, &OpenOptions::default());
    assert!(text.contains("train: images/train  # 2 images") && text.contains("missing: background"), "{text}");

    let voc = Folder::new();
    voc.images(&["JPEGImages/a.png", "JPEGImages/b.png", "JPEGImages/c.png"]);
    voc.text("ImageSets/Main/train.txt", "a\n")
        .text("ImageSets/Main/val.txt", "b\n")
        .text("ImageSets/Main/test.txt", "c\n");
    let object =
        "<object><name>cat: a</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>";
    voc.text("Annotations/a.xml", &format!("<annotation>{object}</annotation>"));
    let text = again(&voc, &OpenOptions::default());
    assert!(text.contains("names: [\"cat: a\"]") && text.contains("# labelled: 1 of 1, 0 of 1, 0 of 1"), "{text}");

    let table = Folder::new();
    table.images(&["train/a.png", "train/b.png", "val/c.png"]);
    let header = "file_name,weather,speed\n";
    table.text("train/metadata.csv", &format!("{header}a.png,sun,1.5\nb.png,rain,\n"));
    table.text("val/metadata.csv", &format!("{header}c.png,sun,2\n"));
    again(&table, &OpenOptions::default());
}

#[test]
fn every_key_of_a_task_is_said() {
    let folder = Folder::new();
    folder.images(&["images/train/a.png", "images/train/b.png", "images/val/c.png"]);
    folder.text("labels/train/a.txt", "1 0.5 0.5 0.25 0.5 0.1 0.1 2\n");
    folder.text("t.csv", "image,sun,rain,folders,x,y\na.png,1,0,one,1,2\nb.png,,1,two,3,4\nc.png,0,0,one,5,6\n");
    folder.text(
        "images/metadata.jsonl",
        "{\"file_name\": \"train/a.png\", \"folders\": \"on\", \"o\": {\"bbox\": [[1, 2, 11, 12]], \"categories\": [\"b\"]}}\n{\"file_name\": \"train/b.png\", \"folders\": \"y\"}\n",
    );
    folder.text(
        "data.yaml",
        "path: .\ntrain: [images/train/a.png.txt, images/train]\nval: images/val\nnames: [cat, 'no']\nkpt_shape: [1, 3]\ncrop_safe: true
tasks:
  pets: {type: detect}
  sky: {type: classify, multi_label: true, from: {csv: t.csv, column: [sun, rain], key: image}, names: [s, r]}
  kind: {type: classify, from: [folders], class_weights: balanced, label_smoothing: 0.1}
  other: {type: classify, from: {csv: t.csv, column: folders}, class_weights: [1, 2.5], crop_safe: false}
  at: {type: regress, from: {csv: t.csv, column: [x, y]}, unit: m, range: [-1, 9], loss: mse, flip_safe: false}
  things: {type: detect, from: o, bbox_format: xyxy_abs, missing: unlabelled}
",
    );
    folder.text("images/train/a.png.txt", "images/train/b.png\n");
    let text = again(&folder, &OpenOptions::default());
    for part in
        ["from: [folders]", "class_weights: balanced", "[1.0, 2.5]", "loss: mse", "key: image", "xyxy_abs", "kpt"]
    {
        assert!(text.contains(part), "{part} of {text}");
    }
}

#[test]
fn a_box_that_is_left_out_needs_no_class() {
    let folder = Folder::new();
    folder.images(&["images/train/a.png", "images/train/b.png", "images/val/c.png"]);
    folder.text("labels/train/a.txt", "1 0.5 0.5 0.25 0.5\n7 0.5 0.5 0 0.5\n");
    let text = again(&folder, &OpenOptions::default());
    assert!(text.contains("names: [\"0\", \"1\"]"), "{text}");
}

#[test]
fn a_note_that_quotes_a_line_break_stays_a_comment() {
    let folder = Folder::new();
    folder.images(&["images/1.png", "images/2.png", "images/3.png"]);
    folder.text("boxes.csv", "1.png,1,2,20,18,cat\n\"a\n\0train: nowhere\",1,2,20,18,cat\n");
    let text = again(&folder, &OpenOptions::default());
    assert!(text.contains("`a\\n\\u{0}train: nowhere`"), "{text}");
}
