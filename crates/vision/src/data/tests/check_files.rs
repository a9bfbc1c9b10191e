//! In files with the labels of many images, each invalid entry is reported and the rest is read.

use super::Folder;
use super::pixels::jpeg;
use crate::data::check::{Check, CheckOptions, check};
use crate::data::dataset::{Dataset, OpenOptions};
use crate::data::images::Image;
use crate::data::progress::Progress;
use std::fs;

fn folder() -> Folder {
    let folder = Folder::new();
    for (number, name) in ["train/a.png", "train/b.png", "train/c.png", "valid/d.png"].iter().enumerate() {
        let file = folder.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        image::RgbImage::from_pixel(40, 20, image::Rgb([number as u8, 120, 150])).save(file).unwrap();
    }
    folder
}

fn checked(folder: &Folder) -> Check {
    let options = CheckOptions { open: OpenOptions::default(), max_broken: 0.01 };
    check(folder.path(), &options, &Progress::default()).unwrap().check
}

/// Checks that the problems have these kinds, positions and words.
fn assert_found(folder: &Folder, check: &Check, expected: &[(&str, &str)]) {
    let root = format!("{}/", folder.path().display());
    let found: Vec<String> =
        check.problems.iter().map(|p| format!("{:?} {}", p.kind, p.to_string().replace(&root, ""))).collect();
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, (start, words)) in found.iter().zip(expected) {
        assert!(found.starts_with(start) && found.contains(words), "`{start}`, `{words}`: {found}");
    }
}

#[test]
fn coco() {
    let folder = folder();
    let upright = Image { width: 60, height: 40, rgb: (0..60 * 40 * 3).map(|v| v as u8).collect() };
    fs::write(folder.path().join("train/turned.jpg"), jpeg(&upright, Some(6))).unwrap();
    let box_of = |image: usize, category: usize, numbers: &str| {
        format!("{{\"id\": 1, \"image_id\": {image}, \"category_id\": {category}, \"bbox\": [{numbers}]}}")
    };
    let annotations = [
        box_of(1, 1, "1, 1, 5, 5"),
        box_of(1, 7, "1, 1, 5, 5"),
        box_of(1, 1, "2, 2, 0, 5"),
        box_of(1, 1, "30, 2, 20, 5"),
        box_of(2, 2, "50, 2, 5, 5"),
        box_of(3, 2, "0.1, 0.2, 0.5, 0.6"),
        box_of(4, 2, "45, 5, 10, 10"),
    ];
    let file = |images: &str, annotations: &str| {
        format!(
            "{{\"categories\": [{{\"id\": 1, \"name\": \"cat\"}}, {{\"id\": 2, \"name\": \"dog\"}}], \"images\": [{images}], \"annotations\": [{annotations}]}}"
        )
    };
    let images = r#"{"id": 1, "file_name": "a.png", "width": 40, "height": 20}, {"id": 2, "file_name": "b.png"}, {"id": 3, "file_name": "c.png"}, {"id": 4, "file_name": "turned.jpg"}"#;
    folder.text("train/_annotations.coco.json", &file(images, &annotations.join(", ")));
    folder.text("valid/_annotations.coco.json", &file(r#"{"id": 1, "file_name": "d.png"}"#, ""));
    let json = "train/_annotations.coco.json";
    let check = checked(&folder);
    let expected = [
        (format!("Label {json}: annotations[1]: "), "category 7 is not among the 2"),
        (format!("Exif {json}: annotations[6]: "), "turned.jpg: 1 box of 1 fit the picture as stored"),
        (format!("Scale {json}: annotations[5]: "), "multiply them by its width and height"),
        (format!("BoxOutside {json}: annotations[3]: "), "reaching beyond"),
        (format!("BoxOutside {json}: annotations[4]: "), "lies outside train/b.png, which is 40 × 20"),
        (format!("DegenerateBox {json}: annotations[2]: "), "without width or height"),
    ];
    assert_found(&folder, &check, &expected.each_ref().map(|(start, words)| (start.as_str(), *words)));
    // The annotation of an unknown category leaves its image unlabelled.
    assert_eq!(check.coverage.tasks[0].splits[0].boxes, 3);
    let verdict = check.verdict().unwrap_err().to_string();
    // The report names it, so the verdict does not.
    assert!(
        verdict.contains("1 problem in the declaration or the labels, listed") && !verdict.contains("annotations[1]")
    );
    let error = Dataset::open(folder.path(), &OpenOptions::default()).unwrap_err().to_string();
    assert!(error.contains("annotations[1]: category 7"), "{error}");
    // If the classes of a data.yaml do not include one of the file's, the annotation is reported.
    folder.text("train/_annotations.coco.json", &file(images, &annotations[0]));
    folder.text("data.yaml", "train: train\nval: valid\ntasks:\n  o: {type: detect, names: [dog], from: {coco: {train: train/_annotations.coco.json, val: valid/_annotations.coco.json}}}\n");
    let label = format!("Label {json}: annotations[0]: ");
    assert_found(&folder, &checked(&folder), &[(&label, "class `cat` is not known")]);
}

#[test]
fn rows_of_boxes() {
    let folder = folder();
    let header = "filename,width,height,class,xmin,ymin,xmax,ymax\n";
    let rows = "a.png,40,20,dog,4,2,14,8\na.png,40,20,dog,four,2,14,8\na.png,40,20,cat,3,3,3,8\nb.png,40,20,dog,4,2\na.png,,,,,,,\nb.png,40,20,dog,4,2,44,8\nb.png,,,dog,30,2,50,8\nc.png,40,20,dog,0.1,0.1,0.5,0.5\n";
    folder.text("train/_annotations.csv", &format!("{header}{rows}"));
    folder.text("valid/_annotations.csv", &format!("{header}d.png,40,20,cow,4,2,14,8\n"));
    let csv = "train/_annotations.csv";
    let expected = [
        (format!("Label {csv}:5: "), "6 cells, but the header has 8"),
        (format!("Label {csv}:3: "), "column `xmin` holds `four`"),
        (format!("Label {csv}:6: "), "a row without a box and a row with one"),
        ("Label valid/_annotations.csv:2: ".to_string(), "class `cow` is not known"),
        (format!("Scale {csv}:9: "), "multiply them by its width and height"),
        (format!("BoxOutside {csv}:7: "), "reaching beyond"),
        (format!("BoxOutside {csv}:8: "), "reaches beyond train/b.png"),
        (format!("DegenerateBox {csv}:4: "), "without width or height"),
    ];
    let check = checked(&folder);
    assert_found(&folder, &check, &expected.each_ref().map(|(start, words)| (start.as_str(), *words)));
    // The wrong rows of a.png leave it unlabelled.
    assert_eq!(check.coverage.tasks[0].splits[0].boxes, 3);
    // Training stops at the first problem.
    let error = Dataset::open(folder.path(), &OpenOptions::default()).unwrap_err().to_string();
    assert!(error.contains("_annotations.csv:5: 6 cells"), "{error}");
}

#[test]
fn open_images_in_pixels() {
    let folder = folder();
    let header = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsGroupOf\n";
    folder.text("train/boxes.csv", &format!("{header}a,x,/m/1,1,4,14,2,9,0\nb,x,/m/1,1,0.1,0.5,0.2,0.9,0\n"));
    folder.text("valid/boxes.csv", &format!("{header}d,x,/m/1,1,0.1,0.5,0.2,0.9,0\n"));
    assert_found(&folder, &checked(&folder), &[("Scale train/boxes.csv:2: ", "divide them by its width and height")]);
}

#[test]
fn frames_of_bdd100k() {
    let folder = folder();
    let frames = r#"[{"name": "a.png", "labels": [{"box2d": {"x1": 1, "y1": 2, "x2": 9, "y2": 9}},
      {"category": "car", "box2d": {"x1": 1, "y1": 2, "x2": 9, "y2": 9}}, {"category": "car", "box2d": {"x1": 9, "y1": 2, "x2": 9, "y2": 9}}]},
     {"name": "b.png", "labels": [{"category": "car", "box2d": {"x1": 1, "y1": 2, "x2": 60, "y2": 9}}]}]"#;
    folder.text("labels/det_train.json", frames);
    folder.text("labels/det_val.json", r#"[{"name": "d.png", "labels": []}]"#);
    let expected = [
        ("Label labels/det_train.json: frames[0]: ", "labels[0] has a box and no `category`"),
        ("BoxOutside labels/det_train.json: frames[1]: ", "reaches beyond train/b.png"),
        ("DegenerateBox labels/det_train.json: frames[0]: ", "without width or height"),
    ];
    let check = checked(&folder);
    assert_found(&folder, &check, &expected);
    assert_eq!(check.coverage.tasks[0].splits[0].boxes, 1);
}

#[test]
fn rows_of_tables_and_classes_nobody_looked_for() {
    let folder = folder();
    folder.images(&["train/e.png"]);
    folder.text("t.csv", "file,kind,speed\na.png,x,1\nb.png,y\n,x,2\nc.png,y,3\nc.png,x,3\ne.png,y,2\nd.png,x,1\n");
    let partly = |looked_for: &str| {
        format!(
            "{{\"bbox\": [[0.1, 0.1, 0.5, 0.5]], \"categories\": [\"car\"], \"labelled_categories\": [{looked_for}]}}"
        )
    };
    folder.text(
        "train/metadata.jsonl",
        &format!(
            "{{\"file_name\": \"a.png\", \"o\": {}}}\n{{\"file_name\": \"b.png\", \"o\": {{\"bbox\": [[1, 1, 5, 5]], \"categories\": [\"man\"]}}}}\nnothing\n{{\"file_name\": \"c.png\", \"o\": {}}}\n",
            partly("\"car\""),
            partly("\"cart\"")
        ),
    );
    folder.text("valid/metadata.jsonl", "{\"file_name\": \"d.png\", \"o\": []}\n");
    folder.text(
        "data.yaml",
        "train: train\nval: valid\ntasks:\n  o: {type: detect, from: o}\n  kind: {type: classify, from: {csv: t.csv}}\n  speed: {type: regress, from: {csv: t.csv}}\n",
    );
    let expected = [
        ("Label train/metadata.jsonl:3: ", "not a JSON object"),
        ("Label train/metadata.jsonl:4: ", "class `cart` is not known"),
        // Reported once, though two tasks read the table.
        ("Label t.csv:3: ", "2 cells, but the header has 3"),
        ("Label t.csv:4: ", "no file name"),
        ("Label t.csv:6: ", "other labels on line 5"),
        ("Scale train/metadata.jsonl:1: ", "`bbox_format: cxcywh_norm`?"),
    ];
    let check = checked(&folder);
    assert_found(&folder, &check, &expected);
    // The ignored region for the class that was not looked for in a.png does not count as a box. c.png is
    // unlabelled.
    let coverage = check.coverage.tasks[0].splits[0];
    assert_eq!((coverage.boxes, coverage.ignored, coverage.partial), (2, 0, 1));
    assert_eq!(check.coverage.tasks[0].classes, [("car".to_string(), [1, 0, 0]), ("man".to_string(), [1, 0, 0])]);
}
