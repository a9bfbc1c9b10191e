//! COCO JSON as labels: both published layouts, sparse categories, crowds, the three states, and rejected files.

use super::{Folder, assert_note, boxes_of, label, of_boxes, of_values};
use crate::data::dataset::{Dataset, OpenOptions};
use crate::tasks::Label;

/// Categories 3 and 17 of COCO's own ids, a crowd, an image without boxes, and an image that does not exist.
const TRAIN: &str = r#"{"info": {"year": 2017}, "categories": [
  {"id": 17, "name": "cat", "supercategory": "animal"}, {"id": 3, "name": "car", "supercategory": "vehicle"}],
 "images": [
  {"id": 900, "file_name": "a.png", "width": 40, "height": 20}, {"id": 7, "file_name": "b.png", "width": 40, "height": 20},
  {"id": 8, "file_name": "gone.png", "width": 40, "height": 20}],
 "annotations": [
  {"id": 1, "image_id": 900, "category_id": 17, "bbox": [4, 2, 10.5, 6], "area": 60, "iscrowd": 0, "segmentation": [[4, 2, 14, 8]]},
  {"id": 2, "image_id": 900, "category_id": 3, "bbox": [0, 0, 20, 20], "area": 400, "iscrowd": 1},
  {"id": 3, "image_id": 900, "category_id": 3, "bbox": [5, 5, 0, 3], "area": 0, "iscrowd": 0},
  {"id": 4, "image_id": 900, "category_id": 3, "bbox": [30, 5, 20, 10], "area": 200, "iscrowd": 0},
  {"id": 5, "image_id": 55, "category_id": 3, "bbox": [1, 1, 2, 2], "area": 4, "iscrowd": 0}]}"#;
const VAL: &str = r#"{"categories": [{"id": 3, "name": "car"}, {"id": 17, "name": "cat"}],
 "images": [{"id": 1, "file_name": "a.png"}],
 "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4]}]}"#;

fn coco() -> Folder {
    let folder = Folder::new();
    folder.images(&["train2017/a.png", "train2017/b.png", "train2017/c.png", "val2017/a.png"]);
    folder.text("annotations/instances_train2017.json", TRAIN).text("annotations/instances_val2017.json", VAL);
    folder.text("annotations/captions_train2017.json", r#"{"images": [], "annotations": []}"#);
    folder
}

#[test]
fn the_published_layout() {
    let dataset = coco().open();
    assert!(
        dataset
            .layout
            .starts_with("COCO (annotations/instances_train2017.json, annotations/instances_val2017.json) in"),
        "{}",
        dataset.layout
    );
    assert_eq!((dataset.train.len(), dataset.val.len(), dataset.test.len()), (3, 1, 0));
    // Sorted by id, 3 before 17, regardless of the order in the file.
    assert_eq!(dataset.tasks[0].classes(), ["car", "cat"]);
    assert_eq!(
        boxes_of(label(&dataset, "train2017/a.png", 0)),
        [(1, [4.0, 2.0, 14.5, 8.0], false), (0, [0.0, 0.0, 20.0, 20.0], true), (0, [30.0, 5.0, 50.0, 15.0], false)]
    );
    assert_eq!(*label(&dataset, "train2017/b.png", 0), of_boxes(vec![]));
    assert_eq!(*label(&dataset, "train2017/c.png", 0), Label::UNLABELLED);
    // The file of the same name in the other split is a different picture.
    assert_eq!(boxes_of(label(&dataset, "val2017/a.png", 0)), [(0, [1.0, 2.0, 4.0, 6.0], false)]);
    for words in [
        "objects: 1 of 4 images not mentioned in annotations/instances_train2017.json taken as unlabelled (`missing: background` changes this)",
        "annotations/instances_train2017.json: 1 image names no image of this data set (first: images[2], `gone.png`)",
        "1 annotation of images that are not listed, left out (first: annotations[4], image 55)",
        "1 box without width or height left out (annotations/instances_train2017.json annotations[2])",
        "1 box reaching beyond the stated image size, clipped to the picture (annotations/instances_train2017.json annotations[3])",
        "objects: classes in the order of their file: car, cat",
    ] {
        assert_note(&dataset, words);
    }
}

#[test]
fn roboflows_layout_and_its_category_above_the_others() {
    let folder = Folder::new();
    folder.images(&["train/a.png", "train/b.png", "valid/c.png", "test/d.png"]);
    let file = |image: &str, category: usize| {
        format!(
            r#"{{"images": [{{"id": 0, "file_name": "{image}"}}], "categories": [{{"id": 0, "name": "cells", "supercategory": "none"}},
            {{"id": 1, "name": "white", "supercategory": "cells"}}, {{"id": 2, "name": "red", "supercategory": "cells"}}],
            "annotations": [{{"id": 0, "image_id": 0, "category_id": {category}, "bbox": [1, 2, 3, 4]}}]}}"#
        )
    };
    for (split, image, category) in [("train", "a.png", 2), ("valid", "c.png", 1), ("test", "d.png", 1)] {
        folder.text(&format!("{split}/_annotations.coco.json"), &file(image, category));
    }
    let dataset = folder.open();
    assert_eq!((dataset.train.len(), dataset.val.len(), dataset.test.len()), (2, 1, 1));
    assert_eq!(dataset.tasks[0].classes(), ["white", "red"]);
    assert_eq!(boxes_of(label(&dataset, "train/a.png", 0)), [(1, [1.0, 2.0, 4.0, 6.0], false)]);
    assert_note(&dataset, "train/_annotations.coco.json: category 0 (`cells`) left out: no box has it");
    // If a box has that category, it is a class.
    folder.text("test/_annotations.coco.json", &file("d.png", 0));
    assert_eq!(folder.open().tasks[0].classes(), ["cells", "white", "red"]);
}

#[test]
fn beside_other_tasks_and_missing_as_background() {
    let folder = coco();
    folder.text("size.csv", "file,size\ntrain2017/a.png,1\ntrain2017/c.png,3\n");
    let yaml = |files: &str| {
        format!(
            "train: train2017\nval: val2017\ntasks:\n  things: {{type: detect, from: {{coco: {files}}}, missing: background}}\n  size: {{type: regress, from: {{csv: size.csv}}}}\n"
        )
    };
    let split = "{train: annotations/instances_train2017.json, val: annotations/instances_val2017.json}";
    folder.text("data.yaml", &yaml(split));
    let dataset = folder.open();
    assert_eq!(*label(&dataset, "train2017/c.png", 0), of_boxes(vec![]));
    assert_eq!(*label(&dataset, "train2017/c.png", 1), of_values(vec![3.0]));
    assert_eq!(boxes_of(label(&dataset, "val2017/a.png", 0)).len(), 1);
    assert_note(&dataset, "taken as background (`missing: unlabelled` changes this)");
    // Without split keys, `a.png` is in both files.
    folder.text("data.yaml", &yaml("[annotations/instances_train2017.json, annotations/instances_val2017.json]"));
    assert_eq!(
        folder.error(),
        "DIR/annotations/instances_train2017.json: images[0]: `a.png` is also in DIR/annotations/instances_val2017.json: say which split each file is for, as in `{train: annotations/instances_train2017.json, val: annotations/instances_val2017.json}`"
    );
}

#[test]
fn one_folder_of_images_split_by_the_files() {
    let folder = Folder::new();
    folder.images(&["images/a.png", "images/b.png", "images/v.png", "images/of-nobody.png"]);
    folder.text("annotations/train.json", &TRAIN.replace("gone.png", "sub/gone.png"));
    folder.text("annotations/val.json", &VAL.replace("a.png", "v.png"));
    let dataset = folder.open();
    let names = |samples: &[crate::data::Sample]| samples.iter().map(|s| s.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&dataset.train), ["images/a.png", "images/b.png"]);
    assert_eq!(names(&dataset.val), ["images/v.png"]);
    // The same declared by hand.
    folder.text(
        "data.yaml",
        "train: annotations/train.json\nval: annotations/val.json\ntasks:\n  objects: {type: detect, from: {coco: [annotations/train.json, annotations/val.json]}}\n",
    );
    let by_hand = folder.open();
    assert_eq!((by_hand.train, by_hand.val), (dataset.train, dataset.val));
}

#[test]
fn a_single_file_and_a_validation_split_cut_from_it() {
    let folder = Folder::new();
    folder.images(&["a.png", "b.png"]);
    folder.text("annotations.json", TRAIN);
    let dataset = Dataset::open(folder.path(), &OpenOptions::default()).unwrap();
    assert_eq!((dataset.train.len(), dataset.val.len()), (1, 1));
    assert_eq!(boxes_of(label(&dataset, "a.png", 0)).len(), 3);
}

#[test]
fn wrong_files_say_which_entry_and_what_to_do() {
    let cases = [
        (
            TRAIN.replace("\"category_id\": 17", "\"category_id\": 18"),
            "annotations[0]: category 18 is not among the 2 of `categories`: correct it, or list it there",
        ),
        (TRAIN.replace("\"b.png\"", "\"./a.png\""), "images[1]: `./a.png` is images[0] already: list every image once"),
        (TRAIN.replace("\"b.png\"", "\"\""), "images[1]: no `file_name`: give the path relative to the images"),
        (TRAIN.replace("\"cat\"", "\" \""), "categories[0]: no `name`: name the class"),
        (TRAIN.replace("\"id\": 7,", "\"id\": 900,"), "images[0] and images[1] both have id 900: each needs its own"),
        (
            VAL.replace("a.png", "z.png"),
            "images[0]: no image names an image of this data set: the first names `z.png`, and an image here is `train2017/a.png`; write paths relative to the images",
        ),
        (
            r#"{"images": [{"id": 1, "file_name": "a.png"}], "annotations": [], "categories": []}"#.into(),
            "`categories` is empty: list each class with its id and name",
        ),
    ];
    for (text, expected) in cases {
        let folder = coco();
        folder.text("annotations/instances_train2017.json", &text);
        assert_eq!(folder.error(), format!("DIR/annotations/instances_train2017.json: {expected}"));
    }
    let folder = coco();
    folder.text("annotations/instances_train2017.json", &TRAIN.replace("[4, 2, 10.5, 6]", "[4, 2, 10.5]"));
    assert_eq!(
        folder.error(),
        "DIR/annotations/instances_train2017.json: annotations[0]: `bbox` has 3 numbers: expected the left, top, width and height in pixels"
    );
    folder.text("annotations/instances_train2017.json", TRAIN).text("annotations/instances_train2014.json", TRAIN);
    assert_eq!(
        folder.error(),
        "DIR: annotations/instances_train2014.json and annotations/instances_train2017.json could both hold the labels: choose with a data.yaml that has `train:`, `val:` and, under `tasks:`, `objects: {type: detect, from: {coco: annotations/instances_train2014.json}}`"
    );
}
