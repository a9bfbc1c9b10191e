//! Each label format: how it is read, its three states, and the message for each mistake.

use super::{Folder, label, of_boxes, of_class, of_values, one_box};
use crate::data::check::{CheckOptions, ProblemKind, check};
use crate::data::dataset::OpenOptions;
use crate::data::progress::Progress;
use crate::tasks::Label;
use crate::tasks::classify::Classify;
use crate::tasks::regress::Regress;

fn yolo() -> Folder {
    let folder = Folder::new();
    folder.images(&["images/train/a.png", "images/train/b.png", "images/val/c.png"]);
    folder.text("data.yaml", "train: images/train\nval: images/val\nnames:\n  0: cat\n  1: dog\n");
    folder.text("labels/train/a.txt", "1 0.5 0.5 0.25 0.5\n");
    folder.text("labels/val/c.txt", "");
    folder
}

#[test]
fn yolo_rows_become_pixels() {
    let folder = yolo();
    let dataset = folder.open();
    assert_eq!(dataset.tasks[0].classes(), ["cat", "dog"]);
    assert_eq!(*label(&dataset, "images/train/a.png", 0), one_box(1, [15.0, 5.0, 25.0, 15.0]));
    assert_eq!(*label(&dataset, "images/val/c.png", 0), of_boxes(vec![]));
    assert!(dataset.crop_safe && dataset.flip_safe);
}

#[test]
fn a_missing_yolo_file_is_background_alone_and_unlabelled_beside_others() {
    let folder = yolo();
    assert_eq!(*label(&folder.open(), "images/train/b.png", 0), of_boxes(vec![]));
    let note = "objects: 1 of 3 images without a label file taken as background (`missing: unlabelled` changes this)";
    assert!(folder.open().notes.iter().any(|n| n == note), "{:?}", folder.open().notes);

    folder.text("data.yaml", "train: images/train\nval: images/val\nnames: [cat, dog]\nmissing: unlabelled\n");
    assert_eq!(*label(&folder.open(), "images/train/b.png", 0), Label::UNLABELLED);

    folder.text("size.csv", "file,size\na.png,1.5\nb.png,2\n");
    let tasks = "train: images/train\nval: images/val\nnames: [cat, dog]\ntasks:\n  pets: {type: detect, from: {yolo: labels}}\n  size: {type: regress, from: {csv: size.csv, column: size}}\n";
    folder.text("data.yaml", tasks);
    let dataset = folder.open();
    assert_eq!(*label(&dataset, "images/train/b.png", 0), Label::UNLABELLED);
    assert_eq!(*label(&dataset, "images/train/b.png", 1), of_values(vec![2.0]));
    assert_eq!(*label(&dataset, "images/val/c.png", 1), Label::UNLABELLED);
    assert_eq!(dataset.tasks[0].classes(), ["cat", "dog"]);
    assert!(!dataset.crop_safe);

    folder.text("data.yaml", &tasks.replace("labels}}", "labels}, missing: background}"));
    assert_eq!(*label(&folder.open(), "images/train/b.png", 0), of_boxes(vec![]));
}

#[test]
fn yolo_polygons_bom_duplicates_and_flat_boxes() {
    let folder = yolo();
    folder.text(
        "labels/train/a.txt",
        "\u{feff}0 0.1 0.2 0.5 0.2 0.5 0.8\n1 0.5 0.5 0.25 0.5\n1 0.5 0.5 0.25 0.5\n0 0.5 0.5 0 0.5\n\n",
    );
    let dataset = folder.open();
    let Some(boxes) = label(&dataset, "images/train/a.png", 0).boxes() else { panic!() };
    assert_eq!(boxes.len(), 2);
    assert_eq!(boxes[0].xyxy, [4.0, 4.0, 20.0, 16.0]);
    let notes = dataset.notes.join("\n");
    assert!(notes.contains("objects: 1 box without width or height left out (labels/train/a.txt:4)"), "{notes}");
    assert!(notes.contains("objects: 1 box repeated and counted once (labels/train/a.txt:3)"), "{notes}");
}

#[test]
fn wrong_yolo_rows_say_where_and_what_to_do() {
    let cases = [
        (
            "0 0.5 0.5 0.25 0.5\n2 0.5 0.5 0.2 0.2",
            "DIR/labels/train/a.txt:2: class 2, but 2 classes are declared (0 to 1): correct the row or add the class to `names:`",
        ),
        (
            "0 20 10 10 10",
            "DIR/labels/train/a.txt:1: 20 is outside 0 to 1: YOLO coordinates are fractions of the image's width and height, not pixels",
        ),
        (
            "0 0.5 0.5 0.2",
            "DIR/labels/train/a.txt:1: 4 numbers: expected `class cx cy w h` or a polygon `class x1 y1 x2 y2 x3 y3 …`",
        ),
        (
            "0 0.5 0.5 0.2 0.2 0.9",
            "DIR/labels/train/a.txt:1: 6 numbers: a confidence after the box makes this a prediction, not a label; expected `class cx cy w h` or a polygon `class x1 y1 x2 y2 x3 y3 …`; to train on predictions, declare `from: {yolo: labels, rows: predictions}` for the task",
        ),
        (
            "cat 0.5 0.5 0.2 0.2",
            "DIR/labels/train/a.txt:1: `cat 0.5 0.5 0.2 0.2` is not a row of numbers: expected `class cx cy w h`",
        ),
        (
            "0.5 0.5 0.5 0.2 0.2",
            "DIR/labels/train/a.txt:1: class `0.5` is not a whole number of at least 0: the first number of a row is the class",
        ),
    ];
    for (rows, expected) in cases {
        let folder = yolo();
        folder.text("labels/train/a.txt", rows);
        assert_eq!(folder.error(), expected);
    }
}

#[test]
fn if_all_label_files_are_missing_the_path_is_wrong() {
    let folder = Folder::new();
    folder.images(&["images/a.png", "images/b.png"]);
    folder.text("data.yaml", "names: [cat, dog]\n");
    assert_eq!(
        folder.error(),
        "DIR/data.yaml:1: task `objects`: none of 2 images has a label file (looked for DIR/labels/a.txt): put the label files there, correct `from:`, or say `missing: background` if that is meant"
    );
}

fn voc_xml(objects: &str) -> String {
    format!("<annotation>\n<size><width>40</width><height>20</height></size>\n{objects}</annotation>\n")
}

fn object(name: &str, difficult: u8, [x1, y1, x2, y2]: [&str; 4]) -> String {
    format!(
        "<object>\n<name>{name}</name><difficult>{difficult}</difficult>\n<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>\n</object>\n"
    )
}

fn voc() -> Folder {
    let folder = Folder::new();
    folder.images(&["JPEGImages/a.png", "JPEGImages/b.png", "JPEGImages/c.png", "JPEGImages/d.png"]);
    folder.text("ImageSets/Main/train.txt", "a\nb  1\n\n").text("ImageSets/Main/val.txt", "c -1\nd\n");
    let boxes =
        [object("cat", 0, ["1", "1", "10", "20"]), object("dog &amp; c&#xf3;&#112;", 1, ["5.5", "6", "40", "20"])];
    folder.text("Annotations/a.xml", &voc_xml(&boxes.concat()));
    folder.text("Annotations/c.xml", &voc_xml(""));
    folder
}

#[test]
fn voc_counts_from_one_and_keeps_three_states() {
    let folder = voc();
    let dataset = folder.open();
    assert!(dataset.layout.starts_with("Pascal VOC"), "{}", dataset.layout);
    assert_eq!(dataset.tasks[0].classes(), ["cat", "dog & cóp"]);
    let Some(boxes) = label(&dataset, "JPEGImages/a.png", 0).boxes() else { panic!() };
    assert_eq!((boxes[0].class, boxes[0].xyxy, boxes[0].ignore), (0, [0.0, 0.0, 10.0, 20.0], false));
    assert_eq!((boxes[1].class, boxes[1].xyxy, boxes[1].ignore), (1, [4.5, 5.0, 40.0, 20.0], true));
    assert_eq!(*label(&dataset, "JPEGImages/b.png", 0), Label::UNLABELLED);
    assert_eq!(*label(&dataset, "JPEGImages/c.png", 0), of_boxes(vec![]));
}

#[test]
fn flat_voc_boxes_are_named_and_left_out() {
    // BloodImage_00338 and 00343 of the blood data set have such boxes.
    let folder = voc();
    let boxes = [object("cat", 0, ["5", "7", "5", "7"]), object("cat", 0, ["5", "7", "9", "9"])];
    folder.text("Annotations/a.xml", &voc_xml(&boxes.concat()));
    let dataset = folder.open();
    assert_eq!(*label(&dataset, "JPEGImages/a.png", 0), one_box(0, [4.0, 6.0, 9.0, 9.0]));
    let note = "objects: 1 box without width or height left out (Annotations/a.xml:3)";
    assert!(dataset.notes.iter().any(|n| n == note), "{:?}", dataset.notes);
}

#[test]
fn voc_names_in_other_encodings_and_in_sections_are_read() {
    let folder = voc();
    folder.text("Annotations/b.xml", &voc_xml(&object("<![CDATA[a <& b]]>", 0, ["1", "1", "10", "20"])));
    assert_eq!(folder.open().tasks[0].classes(), ["a <& b", "cat", "dog & cóp"]);
    let xml = voc_xml(&object("NAME", 0, ["1", "1", "10", "20"]));
    let (before, after) = xml.split_once("NAME").unwrap();
    let declared = b"<?xml version=\"1.0\" encoding=\"gbk\"?>\n";
    let gbk = [declared, before.as_bytes(), b"\xC3\xA8", after.as_bytes()].concat();
    std::fs::write(folder.path().join("Annotations/b.xml"), gbk).unwrap();
    assert_eq!(folder.open().tasks[0].classes(), ["cat", "dog & cóp", "猫"]);
}

#[test]
fn wrong_voc_files_say_where_and_what_to_do() {
    let cases = [
        (
            voc_xml(&object("cat", 0, ["1", "x", "10", "20"])),
            "DIR/Annotations/a.xml:5: <ymin> holds `x`: expected a number of pixels",
        ),
        (
            voc_xml(&object("c&at;", 0, ["1", "1", "10", "20"])),
            "DIR/Annotations/a.xml:4: not well-formed XML (`&at;` has no meaning): correct the file or remove it",
        ),
        (
            voc_xml("<object><bndbox/></object>\n"),
            "DIR/Annotations/a.xml:3: this <object> has no <name>: give its class",
        ),
        (
            voc_xml("\n<object><name>cat</name></object>\n"),
            "DIR/Annotations/a.xml:4: this <object> has no <bndbox> with <xmin>: give xmin, ymin, xmax and ymax in pixels",
        ),
        (
            "<annotation>\n<object>\n".into(),
            "DIR/Annotations/a.xml:3: no whole <annotation> element: correct the file or remove it",
        ),
    ];
    for (xml, expected) in cases {
        let folder = voc();
        folder.text("Annotations/a.xml", &xml);
        assert_eq!(folder.error(), expected);
    }
    let folder = voc();
    folder.text("Annotations/a.xml", "<annotation>\n</object>\n");
    let error = folder.error();
    assert!(error.starts_with("DIR/Annotations/a.xml:2: not well-formed XML ("), "{error}");

    let folder = voc();
    folder.text("ImageSets/Main/train.txt", "a\naa\n");
    assert_eq!(
        folder.error(),
        "DIR/ImageSets/Main/train.txt:2: no image `aa` with one of the endings jpg, jpeg, jfif, png, bmp, webp, tif, tiff, gif, ppm, pgm, pbm, pnm in DIR/JPEGImages: correct the line or remove it; did you mean `a`?"
    );
    let folder = voc();
    folder.text("Annotations/d.xml", &voc_xml(&object("bird", 0, ["1", "2", "10", "20"])));
    assert_eq!(
        folder.error(),
        "DIR/Annotations/d.xml:3: class `bird` is not known; task `objects` knows cat, dog & cóp; the training split does not contain it: correct it, or list all classes in `names:`"
    );
}

#[test]
fn class_folders_with_and_without_splits() {
    let folder = Folder::new();
    folder.images(&["train/class2/a.png", "train/class10/deep/b.png", "valid/class10/c.png"]);
    let dataset = folder.open();
    assert_eq!(dataset.tasks[0].classes(), ["class10", "class2"]);
    assert_eq!(*label(&dataset, "train/class10/deep/b.png", 0), of_class(0));
    assert_eq!((dataset.train.len(), dataset.val.len()), (2, 1));
    assert!(dataset.notes.iter().any(|n| n.contains("natural order")), "{:?}", dataset.notes);
    assert!(dataset.crop_safe);

    let folder = Folder::new();
    let names: Vec<String> = (0..40).map(|i| format!("{}/{i}.png", ["cat", "dog"][i % 2])).collect();
    folder.images(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let dataset = folder.open();
    assert_eq!(dataset.train.len() + dataset.val.len(), 40);
    assert!((2..=16).contains(&dataset.val.len()));
    assert_eq!(dataset.tasks[0].spec.get(), Some(&Classify::new(vec!["cat".into(), "dog".into()])));
}

#[test]
fn class_folders_that_cannot_be_learnt() {
    let folder = Folder::new();
    folder.images(&["train/cat/a.png", "val/cat/b.png"]);
    assert_eq!(
        folder.error(),
        "DIR: task `class`: a classification needs at least two classes, but there is only `cat` (in class folders the class is the first folder below that of the split)"
    );
    let folder = Folder::new();
    folder.images(&["train/cat/a.png", "train/dog/b.png", "train/c.png", "val/cat/d.png"]);
    assert_eq!(
        folder.error(),
        "DIR/train/c.png: this image lies in no class folder below DIR/train: move it into the folder of its class"
    );
    let folder = Folder::new();
    folder.images(&["train/cat/a.png", "train/dog/b.png", "val/dogs/d.png"]);
    assert_eq!(
        folder.error(),
        "DIR/val/dogs/d.png: class `dogs` is not known; task `class` knows cat, dog; correct it, or add it to `names:`; did you mean `dog`?"
    );
}

#[test]
fn metadata_tables_without_a_config() {
    let folder = Folder::new();
    folder.images(&["train/a.png", "train/b.png", "train/c.png", "val/d.png"]);
    let rows = [
        r#"{"file_name":"a.png","scene":"city","objects":{"bbox":[[10,2,20,4],[1,1,0,5]],"categories":["car","car"]},"speed":42.0}"#,
        r#"{"file_name":"b.png","scene":"rural","objects":{"bbox":[],"categories":[]}}"#,
        r#"{"file_name":"c.png","speed":null,"note":null}"#,
    ];
    folder.text("train/metadata.jsonl", &rows.join("\n"));
    folder.text("val/metadata.jsonl", r#"{"file_name":"d.png","scene":"city","speed":7}"#);
    let dataset = folder.open();
    let names: Vec<&str> = dataset.tasks.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["scene", "objects", "speed"]);
    assert_eq!(*label(&dataset, "train/a.png", 1), one_box(0, [10.0, 2.0, 30.0, 6.0]));
    assert_eq!(*label(&dataset, "train/b.png", 1), of_boxes(vec![]));
    assert_eq!(*label(&dataset, "train/c.png", 1), Label::UNLABELLED);
    assert_eq!(*label(&dataset, "train/b.png", 0), of_class(1));
    assert_eq!(*label(&dataset, "train/c.png", 2), Label::UNLABELLED);
    assert_eq!(*label(&dataset, "val/d.png", 2), of_values(vec![7.0]));
    let notes = dataset.notes.join("\n");
    assert!(notes.contains("objects: 1 box without width or height left out (train/metadata.jsonl:1)"), "{notes}");
    assert!(notes.contains("column `note` left out: it is blank"), "{notes}");
}

fn csv(table: &str) -> Folder {
    let folder = Folder::new();
    folder.images(&["train/a.png", "train/b.png", "val/a.png"]);
    folder.text("labels.csv", table);
    folder.text(
        "data.yaml",
        "train: train\nval: val\ntasks:\n  kind: {type: classify, from: {csv: labels.csv, column: kind}}\n  pose: {type: regress, from: {csv: labels.csv, column: [x, y]}, unit: [m, s]}\n",
    );
    folder
}

#[test]
fn csv_columns_with_blanks() {
    let folder = csv("file,kind,x,y\ntrain/a.png,10,1,2\ntrain/b.png,9,,\nval/a.png,,3,\nelsewhere.png,9,1,1\n");
    let dataset = folder.open();
    assert_eq!(dataset.tasks[0].classes(), ["9", "10"]);
    let units = ["m".into(), "s".into()].into();
    let expected = Regress { units, ..Regress::new(vec!["x".into(), "y".into()]) };
    assert_eq!(dataset.tasks[1].spec.get(), Some(&expected));
    assert_eq!(dataset.train[0].labels, [of_class(1), of_values(vec![1.0, 2.0])]);
    assert_eq!(dataset.train[1].labels, [of_class(0), Label::UNLABELLED]);
    assert_eq!(dataset.val[0].labels, [Label::UNLABELLED, Label::UNLABELLED]);
    let notes = dataset.notes.join("\n");
    assert!(notes.contains("pose: 1 row with some of the columns blank, so unlabelled (labels.csv:4)"), "{notes}");
    assert!(
        notes.contains("labels.csv: 1 row names no image of this data set (first: line 5, `elsewhere.png`)"),
        "{notes}"
    );
}

#[test]
fn wrong_tables_say_where_and_what_to_do() {
    let cases = [
        (
            "file,kind,x,y\na.png,1,1,1\nb.png,2,1,1\n",
            "DIR/labels.csv:2: `a.png` is the name of 2 images: write the path relative to DIR",
        ),
        (
            "file,kind,x,y\ntrain/a.png,1,1,1\nb.png,2,one,1\n",
            "DIR/labels.csv:3: column `x` holds `one`; expected a number, or a blank cell for unlabelled",
        ),
        (
            "file,kinds,x,y\nb.png,2,1,1\n",
            "DIR/data.yaml:4: task `kind` reads the column `kind`, which DIR/labels.csv does not have; it has file, kinds, x, y; did you mean `kinds`?",
        ),
        (
            "name,kind,x,y\nb.png,2,1,1\n",
            "DIR/labels.csv:1: no column of file names (called file, file_name, filename or image); it has name, kind, x, y: rename it, or name it with `key:`",
        ),
        (
            "file,kind,x,y\nb.png,2,1,1\nb.png,3,1,1\n",
            "DIR/labels.csv:3: `b.png` has other labels on line 2: keep one of the two rows",
        ),
        (
            "file,kind,x,y\nb.png,2,1\n",
            "DIR/labels.csv:2: 3 cells, but the header has 4: quote cells that hold a comma",
        ),
        (
            "file,kind,x,y\nq.png,2,1,1\n",
            "DIR/labels.csv:2: no row names an image of this data set: the first names `q.png`, and an image here is `train/a.png`; write paths relative to the images",
        ),
    ];
    for (table, expected) in cases {
        assert_eq!(csv(table).error(), expected);
    }
}

#[test]
fn values_keep_the_digits_of_their_file() {
    let folder = Folder::new();
    folder.images(&["train/a.png", "train/b.png", "train/c.png"]);
    folder.text("t.csv", "file,n,m\na.png,1700000000.125,7.123456789012e-7\nb.png,1700000001,0.1\nc.png,5,0.1\n");
    folder.text("data.yaml", "train: train\ntasks:\n  t: {type: regress, from: {csv: t.csv, column: [n, m]}}\n");
    let of = |name: &str| label(&folder.open(), name, 0).clone();
    assert_eq!(of("train/a.png"), of_values(vec![1_700_000_000.125, 7.123_456_789_012e-7]));
    let dataset = folder.open();
    let written = dataset.tasks[0].spec.to_json(&of("train/a.png")).unwrap();
    assert_eq!(serde_json::to_string(&written).unwrap(), "[1700000000.125,7.123456789012e-7]");
    // A bound is the number in the file, too: 0.1 is not below it.
    let range = "train: train\ntasks:\n  t: {type: regress, range: [0.1, 9], from: {csv: t.csv, column: [m]}}\n";
    folder.text("data.yaml", range).text("t.csv", "file,m\na.png,0.1\nb.png,8\nc.png,9\n");
    assert_eq!(of("train/a.png"), of_values(vec![0.1]));
    folder.text("t.csv", "file,m\na.png,0.1\nb.png,0.09999999999\nc.png,9\n");
    assert!(folder.error().contains("t.csv:3: 0.09999999999 is outside"), "{}", folder.error());
    folder.text("t.csv", "file,m\na.png,1e101\nb.png,8\nc.png,9\n");
    let expected = "DIR/t.csv:2: column `m` holds `1e101`; expected a number from -1e100 to 1e100: use a larger unit";
    assert_eq!(folder.error(), expected);
}

#[test]
fn training_values_that_hardly_differ_are_problems() {
    let folder = Folder::new();
    folder.images(&["train/a.png", "train/b.png", "train/c.png", "val/d.png"]);
    folder.text("data.yaml", "train: train\nval: val\ntasks:\n  n: {type: regress, from: {csv: t.csv}}\n");
    folder.text("t.csv", "file,n\na.png,5\nb.png,5\nc.png,5\nd.png,6\n");
    let problem = "n: all 3 training values are 5, so the model can only learn this constant";
    assert_eq!(folder.open().problems, [problem]);
    let options = CheckOptions { open: OpenOptions::default(), max_broken: 0.0 };
    let found = check(folder.path(), &options, &Progress::default()).unwrap().check;
    assert_eq!((found.count(ProblemKind::Unlearnable), found.stops.len()), (1, 0));
    assert!(found.to_string().contains(&format!("the training images cannot teach this: 1\n  {problem}")), "{found}");
    folder.text("t.csv", "file,n\na.png,1700000000\nb.png,1700000128\nc.png,1700000000\nd.png,1700000256\n");
    let said = folder.open().problems.concat();
    assert!(said.contains("n: the training values have a standard deviation of 60.34 and lie 128.0 apart"), "{said}");
    folder.text("t.csv", "file,n\na.png,1700000000\nb.png,1700000060\nc.png,1700000000\nd.png,1700000256\n");
    assert_eq!(folder.open().problems, [""; 0]);
}
