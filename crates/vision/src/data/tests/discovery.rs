//! Recognition of a folder's layout: different spellings, nested folders, and folders that match two layouts.

use super::{Folder, assert_note, boxes_of, label, of_boxes, of_class, of_classes, of_values, one_box};
use crate::tasks::Label;
use crate::tasks::detect::Detect;

#[test]
fn splits_in_other_spellings() {
    let folder = Folder::new();
    folder.images(&["Training/cat/deep/er/a.png", "Training/dog/b.png", "Validation/dog/c.png", "Testing/cat/d.png"]);
    let dataset = folder.open();
    assert_eq!((dataset.train.len(), dataset.val.len(), dataset.test.len()), (2, 1, 1));
    assert_eq!(*label(&dataset, "Training/cat/deep/er/a.png", 0), of_class(0));
    folder.images(&["val/cat/e.png"]);
    assert_eq!(
        folder.error(),
        "DIR: Validation/ and val/ both look like the val split: choose one with `val: val` in a data.yaml"
    );
}

#[test]
fn a_folder_in_a_folder_as_archives_unpack() {
    let folder = Folder::new();
    folder.images(&["flowers/flowers/train/rose/a.png", "flowers/flowers/train/tulip/b.png"]);
    folder.images(&["flowers/flowers/val/rose/c.png"]).text("README.txt", "");
    let dataset = folder.open();
    assert_eq!(dataset.tasks[0].classes(), ["rose", "tulip"]);
    assert_eq!(dataset.train[0].name, "train/rose/a.png");
    assert_note(&dataset, "flowers/ is the only folder with images in");
}

#[test]
fn two_readings_are_both_named() {
    let folder = Folder::new();
    folder.images(&["images/train/a.png", "images/val/b.png"]);
    folder.text("labels/train/a.txt", "0 0.5 0.5 0.5 0.5\n");
    let coco =
        r#"{"images": [{"id": 1, "file_name": "a.png"}], "categories": [{"id": 1, "name": "cat"}], "annotations": []}"#;
    folder.text("annotations/instances_train.json", coco);
    let [coco, yolo] = [
        "{train: images/train, tasks: {objects: {type: detect, from: {coco: {train: annotations/instances_train.json}}}}}",
        "{train: images/train, val: images/val, tasks: {objects: {type: detect, from: {yolo: labels}}}}",
    ];
    assert_eq!(
        folder.error(),
        format!(
            "DIR: this folder can be read in 2 ways; add a data.yaml here with one of these lines. COCO (annotations/instances_train.json): `{coco}`; or YOLO (images/ and labels/, no data.yaml): `{yolo}`"
        )
    );
    // Each line is a complete data.yaml.
    folder.text("data.yaml", yolo);
    assert_eq!(*label(&folder.open(), "images/train/a.png", 0), one_box(0, [10.0, 5.0, 30.0, 15.0]));
    folder.images(&["images/train/c.png"]).text("data.yaml", coco);
    assert_eq!(*label(&folder.open(), "images/train/a.png", 0), of_boxes(vec![]));
}

#[test]
fn the_reading_that_labels_clearly_more_images_is_taken() {
    let folder = Folder::new();
    let names: Vec<String> = (0..6).map(|i| format!("images/{i}.png")).collect();
    folder.images(&names.iter().map(String::as_str).collect::<Vec<_>>());
    for i in 0..6 {
        folder.text(&format!("labels/{i}.txt"), "0 0.5 0.5 0.5 0.5\n");
    }
    let coco = |count: usize| {
        let images: Vec<String> = (0..count).map(|i| format!("{{\"id\": {i}, \"file_name\": \"{i}.png\"}}")).collect();
        format!(
            "{{\"images\": [{}], \"categories\": [{{\"id\": 1, \"name\": \"cat\"}}], \"annotations\": []}}",
            images.join(", ")
        )
    };
    folder.text("annotations/all.json", &coco(2));
    let dataset = folder.open();
    assert!(dataset.layout.starts_with("YOLO"), "{}", dataset.layout);
    assert_note(
        &dataset,
        "YOLO (images/ and labels/, no data.yaml) labels 6 images and is used; COCO (annotations/all.json) labels 2, and is not used: for it, write `{train: images, tasks: {objects: {type: detect, from: {coco: annotations/all.json}}}}`",
    );
    folder.text("annotations/all.json", &coco(4));
    assert!(folder.error().contains("this folder can be read in 2 ways"), "{}", folder.error());
    std::fs::remove_file(folder.path().join("labels/0.txt")).unwrap();
    std::fs::remove_file(folder.path().join("labels/1.txt")).unwrap();
    (2..5).for_each(|i| std::fs::remove_file(folder.path().join(format!("labels/{i}.txt"))).unwrap());
    assert!(folder.open().layout.starts_with("COCO"));
    // Label files of a few images do not outweigh class folders with all of them.
    let classes = Folder::new();
    let names: Vec<String> = (0..24).map(|i| format!("{}/{i}.png", ["cat", "dog"][i % 2])).collect();
    classes.images(&names.iter().map(String::as_str).collect::<Vec<_>>());
    classes.text("some.json", &coco(1).replace("0.png", "cat/0.png"));
    let said = classes.error();
    assert!(said.contains("this folder can be read in 2 ways") && said.contains("from: folders"), "{said}");
}

#[test]
fn two_tables_of_the_same_images() {
    let folder = Folder::new();
    folder.images(&["train/a.png", "train/b.png"]);
    folder.text("train/metadata.csv", "file_name,n\na.png,1\nb.png,2\n");
    folder.text("train/_classes.csv", "filename,x\na.png,1\nb.png,0\n");
    let classes = "{train: train, tasks: {labels: {type: classify, multi_label: true, from: {csv: {train: train/_classes.csv}, column: [x]}}}}";
    assert_eq!(
        folder.error(),
        format!(
            "DIR: this folder can be read in 2 ways; add a data.yaml here with one of these lines. images with train/metadata.csv: `{{train: train, tasks: {{n: {{type: regress, from: n}}}}}}`; or several labels per image from train/_classes.csv: `{classes}`"
        )
    );
    folder.text("data.yaml", classes);
    assert_eq!(*label(&folder.open(), "train/b.png", 0), of_classes(vec![Some(false)]));
    std::fs::remove_file(folder.path().join("data.yaml")).unwrap();
    folder.text("train/metadata.jsonl", "{\"file_name\":\"a.png\",\"n\":1}\n");
    assert_eq!(
        folder.error(),
        "DIR/train: train/metadata.jsonl and train/metadata.csv both describe the images: remove one, or name it in a data.yaml as `from: {csv: train/metadata.csv, column: …}`"
    );
}

#[test]
fn class_folders_beside_a_metadata_table() {
    let folder = Folder::new();
    folder.images(&["train/cat/a.png", "train/dog/b.png", "val/cat/c.png"]);
    folder.text("train/metadata.csv", "file_name,age\ncat/a.png,1\ndog/b.png,2\n");
    folder.text("val/metadata.csv", "file_name,age\ncat/c.png,3\n");
    let dataset = folder.open();
    assert_eq!((dataset.tasks.len(), dataset.tasks[0].name.as_str()), (1, "age"));
    assert_note(&dataset, "the folders cat, dog are not used as classes");
}

#[test]
fn a_split_by_a_file_that_is_no_labels() {
    let folder = Folder::new();
    folder.images(&["images/a.png", "images/b.png"]).text("split.json", "{\"train\": [1]}");
    folder.text("data.yaml", "train: split.json\nnames: [cat]\n");
    assert_eq!(
        folder.error(),
        "DIR/split.json: neither COCO annotations nor a list of BDD100K frames: name a folder, a list file, or one of these"
    );
}

#[test]
fn metadata_columns_of_lists_and_of_objects() {
    let folder = Folder::new();
    folder.images(&["train/a.png", "train/b.png", "val/c.png"]);
    let rows = [
        r#"{"file_name":"a.png","label":3,"tags":["sun","sea"],"at":[1.5,2],"things":[{"bbox":[1,2,3,4],"category":0}]}"#,
        r#"{"file_name":"b.png","label":0,"tags":[],"at":null,"things":[]}"#,
    ];
    folder.text("train/metadata.jsonl", &rows.join("\n"));
    folder.text("val/metadata.jsonl", r#"{"file_name":"c.png","label":3,"tags":["sea"],"at":[0,0]}"#);
    let dataset = folder.open();
    let kinds: Vec<(&str, &str)> = dataset.tasks.iter().map(|task| (task.name.as_str(), task.kind_word())).collect();
    let expected =
        [("label", "classification"), ("tags", "multi-label"), ("at", "regression"), ("things", "detection")];
    assert_eq!(kinds, expected);
    let a = |task| label(&dataset, "train/a.png", task).clone();
    assert_eq!(a(0), of_class(1));
    assert_eq!(a(1), of_classes(vec![Some(true), Some(true)]));
    assert_eq!(a(2), of_values(vec![1.5, 2.0]));
    assert_eq!(boxes_of(&a(3)), [(0, [1.0, 2.0, 4.0, 6.0], false)]);
    assert_eq!(*label(&dataset, "train/b.png", 1), of_classes(vec![Some(false), Some(false)]));
    assert_eq!(*label(&dataset, "val/c.png", 3), Label::UNLABELLED);
}

#[test]
fn boxes_in_other_forms_in_a_metadata_csv() {
    let folder = Folder::new();
    folder.images(&["train/a.png", "train/b.png", "val/c.png"]);
    let cell = |bbox: &str| format!("\"{{\"\"bbox\"\": [{bbox}], \"\"categories\"\": [\"\"car\"\"]}}\"");
    let train = |bbox: &str| format!("file_name,objects,speed\na.png,{},4\nb.png,,\n", cell(bbox));
    folder.text("val/metadata.csv", "file_name,objects,speed\nc.png,[],2\n");
    for (format, bbox) in
        [("xywh_abs", "[10, 5, 20, 10]"), ("xyxy_abs", "[10, 5, 30, 15]"), ("cxcywh_norm", "[0.5, 0.5, 0.5, 0.5]")]
    {
        folder.text("train/metadata.csv", &train(bbox));
        folder.text(
            "data.yaml",
            &format!("train: train\nval: val\ntasks:\n  objects: {{type: detect, bbox_format: {format}}}\n  speed: {{type: regress}}\n"),
        );
        let dataset = folder.open();
        assert_eq!(*label(&dataset, "train/a.png", 0), one_box(0, [10.0, 5.0, 30.0, 15.0]), "{format}");
        assert_eq!(*label(&dataset, "train/b.png", 0), Label::UNLABELLED);
        assert_eq!(*label(&dataset, "val/c.png", 0), of_boxes(vec![]));
    }
}

#[test]
fn an_ultralytics_file_with_lists_of_everything() {
    let folder = Folder::new();
    folder.images(&["set/images/one/a.png", "set/images/two/b.png", "set/images/three/c.png", "set/images/four/d.png"]);
    folder.text("set/labels/one/a.txt", "1 0.1 0.2 0.5 0.2 0.5 0.8 0.1 0.8\n").text("set/labels/two/b.txt", "");
    folder.text("set/labels/three/c.txt", "0 0.5 0.5 0.5 0.5\n");
    folder.text("set/val.txt", "./images/three/c.png\n");
    folder.text(
        "data.yaml",
        "path: set\ntrain:\n  - images/one\n  - images/two\nval: [val.txt, images/four]\nnc: 2\nnames: {0: car, 1: man}\nchannels: 3\n",
    );
    let dataset = folder.open();
    assert_eq!((dataset.train.len(), dataset.val.len()), (2, 2));
    assert_eq!(dataset.tasks[0].spec.get(), Some(&Detect::new(vec!["car".into(), "man".into()])));
    assert_eq!(*label(&dataset, "images/one/a.png", 0), one_box(1, [4.0, 4.0, 20.0, 16.0]));
    assert_eq!(*label(&dataset, "images/two/b.png", 0), of_boxes(vec![]));
    assert_eq!(boxes_of(label(&dataset, "images/three/c.png", 0)).len(), 1);
}
