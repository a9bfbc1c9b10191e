//! The label files of annotation tools: recognised by their folder or named in a data.yaml, described, and with wrong entries.

use super::describe::again;
use super::hostile::in_linear_time;
use super::{Folder, assert_note, boxes_of, label, of_boxes, of_class, of_classes};
use crate::data::check::{CheckOptions, check};
use crate::data::dataset::{Dataset, OpenOptions};
use crate::data::progress::Progress;
use crate::tasks::Label;

/// Every problem as `file:line: message`, with the folder's path replaced by `DIR`.
pub fn problems(folder: &Folder) -> Vec<String> {
    let options = CheckOptions { open: OpenOptions::default(), max_broken: 0.01 };
    let examined = check(folder.path(), &options, &Progress::default()).unwrap();
    let dir = folder.path().to_string_lossy().into_owned();
    let shown = |p: &crate::data::check::Problem| {
        let name = p.file.strip_prefix(folder.path()).unwrap_or(&p.file).display().to_string();
        let line = p.line.map_or(String::new(), |line| format!(":{line}"));
        format!("{name}{line}: {}", p.message.replace(&dir, "DIR"))
    };
    let is_label = |p: &&crate::data::check::Problem| format!("{:?}", p.kind) == "Label";
    examined.check.problems.iter().filter(is_label).map(shown).collect()
}

/// Asserts that the data set is read as it is and gives the same again from its description.
pub fn opened(folder: &Folder) -> Dataset {
    let dataset = folder.open();
    again(folder, &OpenOptions::default());
    dataset
}

fn labelme(shapes: &str, flags: &str) -> String {
    format!(
        r#"{{"version": "5.5.0", "flags": {flags}, "shapes": [{shapes}], "imagePath": "x.png", "imageData": "iVBORw0KGgo=", "imageHeight": 20, "imageWidth": 40}}"#
    )
}

fn shape(kind: &str, label: &str, points: &str) -> String {
    format!(
        r#"{{"label": "{label}", "points": {points}, "group_id": null, "shape_type": "{kind}", "flags": {{}}, "mask": null}}"#
    )
}

#[test]
fn labelme_beside_the_pictures() {
    let folder = Folder::new();
    folder.images(&["train/a.png", "train/b.png", "train/sub/c.png", "train/d.png", "val/a.png"]);
    let shapes = [
        // The corners of a rectangle may be in any order.
        shape("rectangle", "cat", "[[16.5, 12], [3, 2]]"),
        shape("polygon", " dog ", "[[1, 1], [5, 2], [3, 9]]"),
        shape("circle", "cat", "[[20, 10], [23, 14]]"),
        shape("linestrip", "dog", "[[1, 1], [5, 5]]"),
        shape("point", "cat", "[[1, 1]]"),
        shape("line", "cat", "[[1, 1], [9, 1]]"),
        shape("rectangle", "cat", "[[30, 2], [44, 9]]"),
    ];
    folder.text("train/a.json", &labelme(&shapes.join(", "), "{}"));
    folder.text("train/b.json", &labelme("", "{}"));
    folder.text("train/sub/c.json", &labelme(&shape("point", "cat", "[[1, 1]]"), "{}"));
    folder.text("val/a.json", &labelme(&shape("rectangle", "dog", "[[1, 1], [2, 2]]"), "{}"));
    folder.text("train/gone.json", &labelme("", "{}")).text("train/package.json", r#"{"name": "x"}"#);
    let dataset = opened(&folder);
    assert!(
        dataset.layout.starts_with("LabelMe (a .json file for each image, in train, val) in "),
        "{}",
        dataset.layout
    );
    assert_eq!(dataset.tasks.len(), 1);
    assert_eq!(dataset.tasks[0].classes(), ["cat", "dog"]);
    let expected = [
        (0, [3.0, 2.0, 16.5, 12.0], false),
        (1, [1.0, 1.0, 5.0, 9.0], false),
        (0, [15.0, 5.0, 25.0, 15.0], false),
        (1, [1.0, 1.0, 5.0, 5.0], false),
        (0, [30.0, 2.0, 44.0, 9.0], false),
    ];
    assert_eq!(boxes_of(label(&dataset, "train/a.png", 0)), expected);
    // No shape means that nothing is there; a point alone says no such thing.
    let states = ["train/b.png", "train/sub/c.png", "train/d.png"].map(|name| label(&dataset, name, 0).clone());
    assert_eq!(states, [of_boxes(vec![]), Label::UNLABELLED, Label::UNLABELLED]);
    assert_eq!(boxes_of(label(&dataset, "val/a.png", 0)), [(1, [1.0, 1.0, 2.0, 2.0], false)]);
    for words in [
        "objects: 1 of 5 images without a label file taken as unlabelled (`missing: background` changes this)",
        "train: shapes that are no boxes are left out: 2 × point",
        "objects: 1 box without width or height left out (train/a.json shapes[5])",
        "objects: 1 box reaching beyond the stated image size, clipped to the picture (train/a.json shapes[6])",
        "1 file of LabelMe belongs to no image of this data set (first: train/gone.json)",
    ] {
        assert_note(&dataset, words);
    }
}

#[test]
fn labelme_flags_are_classes() {
    let folder = Folder::new();
    folder.images(&["a.png", "b.png", "c.png", "d.png", "e.png"]);
    folder.text("a.json", &labelme("", r#"{"sun": true, "rain": false}"#));
    folder.text("b.json", &labelme("", r#"{"sun": false, "rain": false}"#));
    folder.text("c.json", &labelme("", r#"{"sun": true, "rain": true}"#));
    folder.text("d.json", &labelme("", "{}"));
    folder.text(
        "data.yaml",
        "val_fraction: 0\ntrain: .\ntasks:\n  weather: {type: classify, multi_label: true, from: {labelme: .}}\n",
    );
    let dataset = opened(&folder);
    assert_eq!(dataset.tasks[0].classes(), ["rain", "sun"]);
    let of = |name: &str| label(&dataset, name, 0).clone();
    let both = |rain, sun| of_classes(vec![Some(rain), Some(sun)]);
    assert_eq!([of("a.png"), of("b.png"), of("c.png")], [both(false, true), both(false, false), both(true, true)]);
    // Nobody was asked.
    assert_eq!([of("d.png"), of("e.png")], [Label::UNLABELLED, Label::UNLABELLED]);
    std::fs::remove_file(folder.path().join("data.yaml")).unwrap();
    let found = opened(&folder);
    assert_eq!((found.tasks[0].name.as_str(), found.tasks.len()), ("flags", 1));
    assert!(found.layout.starts_with("LabelMe (a .json file for each image, beside it) in "), "{}", found.layout);
    // The same labels as one class per image.
    folder.text("data.yaml", "train: .\ntasks:\n  weather: {type: classify, from: {labelme: ., attribute: flags}}\n");
    assert_eq!(
        folder.error(),
        "DIR/c.json: `c` has 2 values of `flags` (\"sun\", \"rain\"): give it one, or declare the task with `multi_label: true`"
    );
}

#[test]
fn labelme_in_a_folder_of_its_own() {
    for (images, labels) in
        [("images/train", "labels/train"), ("images", "annotations"), ("", "Annotations"), ("images/train", "json")]
    {
        let folder = Folder::new();
        folder.images(
            &["a", "b"].map(|name| format!("{images}/{name}.png")).each_ref().map(|n| n.trim_start_matches('/')),
        );
        folder.text(&format!("{labels}/a.json"), &labelme(&shape("rectangle", "cat", "[[1, 2], [3, 4]]"), "{}"));
        folder.text(&format!("{labels}/b.json"), &labelme(&shape("rectangle", "dog", "[[1, 2], [3, 4]]"), "{}"));
        let dataset = opened(&folder);
        assert_eq!(dataset.train.len() + dataset.val.len(), 2);
        let name = format!("{images}/a.png");
        assert_eq!(boxes_of(label(&dataset, name.trim_start_matches('/'), 0)).len(), 1, "{labels}");
    }
}

#[test]
fn wrong_labelme_files_are_faults_of_their_image() {
    let right = shape("rectangle", "cat", "[[1, 2], [3, 4]]");
    let cases = [
        (
            labelme(&format!("{right}, {}", shape("rectangle", "", "[[1, 2], [3, 4]]")), "{}"),
            ": shapes[1]: no `label`: give the class",
        ),
        (
            labelme(&shape("polygon", "cat", "[[1, 2], [3]]"), "{}"),
            ": shapes[0]: a point is a list: expected [x, y] in pixels",
        ),
        (labelme(&shape("polygon", "cat", "[]"), "{}"), ": shapes[0]: no points: remove it, or draw it again"),
        (
            labelme(&shape("circle", "cat", "[[1, 2]]"), "{}"),
            ": shapes[0]: a circle of 1 points: expected its centre and a point on it",
        ),
        (
            labelme(&shape("polygon", "cat", "[[1, \"x\"], [3, 4]]"), "{}"),
            ": shapes[0]: a point at `x`: expected [x, y] in pixels",
        ),
        (
            labelme(&shape("polygon", "cat", "[[1, 1e300], [3, 4]]"), "{}"),
            ": shapes[0]: an edge at 1e300: expected a number of pixels",
        ),
        (labelme("7", "{}"), ": shapes[0]: 7 in place of a shape: expected a label and points"),
        (
            "{\"shapes\": {}}".into(),
            ": not read as LabelMe: no list `shapes`: expected the JSON that LabelMe writes for one image",
        ),
        (
            labelme(&shape("polygon", "cat", "[[1, NaN]]"), "{}").replace("\"shapes\"", "\n\"shapes\""),
            ":2: not read as LabelMe: not valid JSON here (expected value, column 44): export the labels again",
        ),
        (
            "[".repeat(100_000),
            ": not read as LabelMe: not an object: expected the JSON that LabelMe writes for one image",
        ),
        (
            format!("{{\"shapes\": {}", "[".repeat(100_000)),
            ":1: not read as LabelMe: not valid JSON here (recursion limit exceeded",
        ),
    ];
    for (text, expected) in cases {
        let folder = Folder::new();
        folder.images(&["a.png", "b.png", "c.png"]);
        folder.text("a.json", &text).text("b.json", &labelme(&right, "{}")).text("c.json", &labelme(&right, "{}"));
        folder.text(
            "data.yaml",
            "train: .\nval: .\ntasks:\n  objects: {type: detect, from: {labelme: .}, missing: background}\n",
        );
        let found = problems(&folder);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with(&format!("a.json{expected}")), "{found:?}");
        // The other boxes of that image are not its whole truth, and its absence is not known.
        let mut faults = crate::data::dataset::faults::Faults::Collect(Default::default());
        let options = OpenOptions::default();
        let opened = crate::data::dataset::open_declared(folder.path(), &options, &mut faults, &Progress::default());
        assert_eq!(*label(&opened.unwrap().1, "a.png", 0), Label::UNLABELLED);
        assert!(Dataset::open(folder.path(), &options).is_err());
    }
}

#[test]
fn a_label_file_that_fits_two_images_is_a_fault() {
    let folder = Folder::new();
    folder.images(&["a.png", "a.bmp", "b.png", "c.png"]);
    for name in ["a", "b", "c"] {
        folder.text(&format!("{name}.json"), &labelme(&shape("rectangle", name, "[[1, 2], [3, 4]]"), "{}"));
    }
    assert_eq!(folder.error(), "DIR/a.json: this file fits `a.bmp` and `a.png`: give each image a name of its own");
}

const CVAT: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><name>t</name><labels><label><name>cat</name></label></labels></task></meta>
  <image id="0" name="sub/a.png" width="40" height="20">
    <box label="cat &amp; dog" occluded="0" xtl="1.5" ytl="2" xbr="20" ybr="10" z_order="0"><attribute name="age">3</attribute></box>
    <polygon label="dog" points="1,1;5.5,2;3,9" z_order="0"></polygon>
    <ellipse label="dog" cx="10" cy="10" rx="4" ry="2"/>
    <box label="dog" xtl="10" ytl="5" xbr="14" ybr="9" rotation="90"/>
    <points label="dog" points="1,1"/>
    <tag label="day"/>
  </image>
  <image id="1" name="b.png" width="40" height="20"><tag label="night"/></image>
  <image id="2" name="c.png" width="40" height="20"/>
</annotations>
"#;

#[test]
fn cvat_boxes_and_tags() {
    let folder = Folder::new();
    folder.images(&["images/sub/a.png", "images/b.png", "images/c.png", "images/d.png"]);
    folder.text("annotations.xml", CVAT);
    folder.text("data.yaml", "val_fraction: 0\ntrain: images\ntasks:\n  objects: {type: detect, from: {cvat: annotations.xml}}\n  time: {type: classify, from: {cvat: annotations.xml}}\n");
    let dataset = opened(&folder);
    assert_eq!(dataset.tasks[0].classes(), ["cat & dog", "dog"]);
    let expected = [
        (0, [1.5, 2.0, 20.0, 10.0], false),
        (1, [1.0, 1.0, 5.5, 9.0], false),
        (1, [6.0, 8.0, 14.0, 12.0], false),
        (1, [10.0, 5.0, 14.0, 9.0], false),
    ];
    assert_eq!(boxes_of(label(&dataset, "images/sub/a.png", 0)), expected);
    assert_eq!(*label(&dataset, "images/c.png", 0), of_boxes(vec![]));
    assert_eq!(*label(&dataset, "images/d.png", 0), Label::UNLABELLED);
    assert_eq!(dataset.tasks[1].classes(), ["day", "night"]);
    let times = ["sub/a", "b", "c"].map(|name| label(&dataset, &format!("images/{name}.png"), 1).clone());
    assert_eq!(times, [of_class(0), of_class(1), Label::UNLABELLED]);
    assert_note(&dataset, "annotations.xml: shapes that are no boxes are left out: 1 × points");
    assert_note(&dataset, "objects: 1 of 4 images not mentioned in annotations.xml taken as unlabelled");
    std::fs::remove_file(folder.path().join("data.yaml")).unwrap();
    let found = opened(&folder);
    assert!(found.layout.starts_with("CVAT XML (annotations.xml) in "), "{}", found.layout);
    let names: Vec<&str> = found.tasks.iter().map(|task| task.name.as_str()).collect();
    assert_eq!(names, ["objects", "tags"]);
}

#[test]
fn wrong_entries_of_cvat_have_their_line() {
    let cases = [
        (CVAT.replace(r#" xtl="1.5""#, ""), ":6: this <box> has no `xtl`: export the labels again"),
        (
            CVAT.replace(r#"xtl="1.5""#, r#"xtl="NaN""#),
            ":6: this <box> has `xtl` of `NaN`: expected a number of pixels",
        ),
        (CVAT.replace(r#"xtl="1.5""#, r#"xtl="30""#), ":6: the right edge 20 is left of the left edge 30: swap them"),
        (CVAT.replace("5.5,2;", "5.5;"), ":7: this <polygon> has a point `5.5`: expected `x,y` in pixels"),
        (
            CVAT.replace(r#"label="dog" points="1,1;"#, r#"label=" " points="1,1;"#),
            ":7: this <polygon> has a blank `label`: give the class",
        ),
        (CVAT.replace(r#"name="c.png" "#, ""), ":14: no `name`: export the labels again"),
        (
            CVAT.replace(r#"name="c.png""#, r#"name="b.png""#),
            ":14: `b.png` is in this file already (line 13): list every image once",
        ),
    ];
    for (text, expected) in cases {
        let folder = Folder::new();
        folder.images(&["images/sub/a.png", "images/b.png", "images/c.png"]);
        folder.text("annotations.xml", &text);
        folder.text(
            "data.yaml",
            "train: images\nval: images\ntasks:\n  objects: {type: detect, from: {cvat: annotations.xml}}\n",
        );
        let found = problems(&folder);
        assert_eq!(found.first(), Some(&format!("annotations.xml{expected}")), "{found:?}");
    }
    let folder = Folder::new();
    folder.images(&["images/sub/a.png", "images/b.png"]);
    let refused = [
        (
            "<annotations>\n<track id=\"0\" label=\"car\"></track></annotations>".to_string(),
            ":2: not read as CVAT XML: this file has tracks of a video: export it from CVAT as `CVAT for images`",
        ),
        (
            CVAT.replace("</annotations>", ""),
            ":16: not read as CVAT XML: no whole <annotations> element: export the labels again as `CVAT for images`",
        ),
        ("<annotations><image>".to_string(), ":1: not read as CVAT XML: no whole <annotations> element"),
    ];
    for (text, expected) in refused {
        folder.text("annotations.xml", &text);
        let error = folder.error();
        assert!(error.starts_with(&format!("DIR/annotations.xml{expected}")), "{error}");
    }
}

const CREATEML: &str = r#"[{"image": "a.png", "annotations": [{"label": "cat", "coordinates": {"x": 10, "y": 8, "width": 4, "height": 6}}]},
 {"image": "b.png", "annotations": []}]"#;

#[test]
fn createml_gives_centres() {
    let folder = Folder::new();
    folder.images(&["train/a.png", "train/b.png", "train/c.png", "valid/d.png"]);
    folder.text("train/_annotations.createml.json", CREATEML);
    // Older versions of the format have other keys.
    folder.text("valid/_annotations.createml.json", r#"[{"imagefilename": "d.png", "annotation": [{"label": "cat", "coordinates": {"x": 1, "y": 1, "width": 2, "height": 2}}]}]"#);
    let dataset = opened(&folder);
    assert!(
        dataset.layout.starts_with("CreateML (train/_annotations.createml.json, valid/_annotations.createml.json) in ")
    );
    assert_eq!(boxes_of(label(&dataset, "train/a.png", 0)), [(0, [8.0, 5.0, 12.0, 11.0], false)]);
    assert_eq!(boxes_of(label(&dataset, "valid/d.png", 0)), [(0, [0.0, 0.0, 2.0, 2.0], false)]);
    assert_eq!(*label(&dataset, "train/b.png", 0), of_boxes(vec![]));
    assert_eq!(*label(&dataset, "train/c.png", 0), Label::UNLABELLED);
    let file = "train/_annotations.createml.json";
    for (from, to, expected) in [
        ("\"y\": 8, ", "", ": entries[0]: annotations[0] of `a.png`: no `y`: give a number"),
        ("\"y\": 8", "\"y\": \"8\"", ": entries[0]: annotations[0] of `a.png`: `y` is `8`: expected a number"),
        (
            "\"width\": 4",
            "\"width\": -4",
            ": entries[0]: annotations[0] of `a.png`: the right edge 8 is left of the left edge 12: swap them",
        ),
        ("\"label\": \"cat\", ", "", ": entries[0]: annotations[0] of `a.png`: no `label`: give the class"),
        (
            "\"image\": \"b.png\"",
            "\"image\": 3",
            ": entries[1]: no name of an image: give the path relative to the images",
        ),
        ("[]}]", "7}]", ": entries[1]: `annotations` of `b.png` is 7: expected a list"),
    ] {
        folder.text(file, &CREATEML.replace(from, to));
        let found = problems(&folder);
        assert_eq!(found.first(), Some(&format!("{file}{expected}")), "{found:?}");
    }
    for (text, expected) in [
        (CREATEML.replace("8,", "NaN,"), ":1: not read as CreateML: not valid JSON here (expected value"),
        (
            format!("[{{\"image\": \"a.png\", \"annotations\": {}", "[".repeat(100_000)),
            ":1: not read as CreateML: not valid JSON here (recursion limit exceeded",
        ),
    ] {
        folder.text(file, &text);
        let error = folder.error();
        assert!(error.starts_with(&format!("DIR/{file}{expected}")), "{error}");
    }
}

const KITTI: &str = "Car 0.00 0 -1.58 5.00 2.50 20.00 10.00 1.65 1.67 3.64 -0.65 1.71 46.70 -1.59
DontCare -1 -1 -10 25.00 1.00 30.00 9.00 -1 -1 -1 -1000 -1000 -1000 -10

Pedestrian 0.00 0 0.21 1 1 4 9 1.89 0.48 1.20 1.84 1.47 8.41 0.01
";

#[test]
fn kitti_rows_and_regions_that_count_for_no_class() {
    let folder = Folder::new();
    folder.images(&[
        "training/image_2/000000.png",
        "training/image_2/000001.png",
        "training/image_2/000002.png",
        "testing/image_2/000000.png",
    ]);
    folder.text("training/label_2/000000.txt", KITTI).text("training/label_2/000001.txt", "");
    folder.text("training/label_2/000002.txt", KITTI.lines().next().unwrap());
    let dataset = opened(&folder);
    assert!(
        dataset.layout.starts_with("KITTI (a .txt file for each image, in training/label_2) in "),
        "{}",
        dataset.layout
    );
    assert_eq!((dataset.train.len() + dataset.val.len(), dataset.test.len()), (3, 1));
    let first = "training/image_2/000000.png";
    assert_eq!(dataset.tasks[0].classes(), ["Car", "Pedestrian"]);
    let expected = [
        (0, [5.0, 2.5, 20.0, 10.0], false),
        (0, [25.0, 1.0, 30.0, 9.0], true),
        (1, [25.0, 1.0, 30.0, 9.0], true),
        (1, [1.0, 1.0, 4.0, 9.0], false),
    ];
    assert_eq!(boxes_of(label(&dataset, first, 0)), expected);
    assert_eq!(*label(&dataset, "training/image_2/000001.png", 0), of_boxes(vec![]));
    folder.text("data.yaml", "train: training/image_2\ntasks:\n  cars: {type: detect, from: {kitti: training/label_2}, names: [Pedestrian, Car]}\n");
    assert_eq!(boxes_of(label(&opened(&folder), first, 0))[0].0, 1);
    for (from, to, expected) in [
        (
            " -1.59",
            "",
            ":1: 14 words in this row: expected the 15 of KITTI (class, truncated, occluded, alpha, left, top, right, bottom, …)",
        ),
        (" 5.00 ", " five ", ":1: the box holds `five`: expected a number of pixels"),
        (" 5.00 ", " inf ", ":1: the box holds `inf`: expected a number of pixels"),
        (" 4 9 ", " 0 9 ", ":4: the right edge 0 is left of the left edge 1: swap them"),
    ] {
        folder.text("training/label_2/000000.txt", &KITTI.replace(from, to));
        let found = problems(&folder);
        assert_eq!(found.first(), Some(&format!("training/label_2/000000.txt{expected}")), "{found:?}");
    }
    folder.text("training/label_2/000000.txt", &KITTI.replace("-1.59", "-1.59 0.97"));
    assert_note(&folder.open(), "label_2: 1 file with a score in its rows, as predictions have: it is not used");
}

#[test]
fn kitti_in_a_folder_called_labels_is_not_yolo() {
    let folder = Folder::new();
    folder.images(&["images/a.png", "images/b.png"]);
    folder.text("labels/a.txt", KITTI).text("labels/b.txt", KITTI);
    assert!(opened(&folder).layout.starts_with("KITTI "));
}

#[test]
fn the_keys_of_a_form_are_checked() {
    let folder = Folder::new();
    folder.images(&["images/a.png", "images/b.png"]);
    folder.text("annotations.xml", CVAT).text("labels/a.txt", KITTI);
    for (task, expected) in [
        (
            "{type: detect, from: {cvatt: annotations.xml}}",
            "task `t`: `from:` is a column, `folders`, {csv: FILE, column: NAME}, {yolo: DIR}, {voc: DIR}, {coco: FILE}, {bdd: FILE}, or one of labelme, cvat, ",
        ),
        (
            "{type: detect, from: {cvat: annotations.xml, attribute: x}}",
            "task `t`: `from: {cvat: …}` has no key `attribute`",
        ),
        (
            "{type: classify, from: {kitti: labels}}",
            "task `t`: `from: {kitti: …}` fits `type: detect`, not `type: classify`",
        ),
        (
            "{type: detect, from: {kitti: label_2}}",
            "task `t`: the folder `label_2` is not there (looked for DIR/label_2): correct `kitti:`",
        ),
        (
            "{type: classify, from: {cvat: annotations.xml, attribute: tag}}",
            "task `t` reads `tag` of the CVAT XML files, but there is tags; choose with `attribute:`; did you mean `tags`?",
        ),
    ] {
        folder.text("data.yaml", &format!("train: images\nval: images\ntasks:\n  t: {task}\n"));
        let error = folder.error();
        assert!(error.starts_with(&format!("DIR/data.yaml:4: {expected}")), "{error}");
    }
}

#[test]
fn large_files_are_read_in_linear_time() {
    let folder = Folder::new();
    folder.images(&["images/0.png"]);
    let task = |form: &str, file: &str| {
        folder.text(
            "data.yaml",
            &format!("train: images\nval: images\ntasks:\n  t: {{type: detect, from: {{{form}: {file}}}}}\n"),
        );
    };
    let images = (0..20_000).map(|i| {
        format!("<image name=\"{i}.png\"><box label=\"c{i}\" xtl=\"1\" ytl=\"1\" xbr=\"2\" ybr=\"2\"/></image>")
    });
    folder.text("a.xml", &format!("<annotations>\n{}</annotations>", images.collect::<Vec<_>>().join("\n")));
    task("cvat", "a.xml");
    in_linear_time("20,000 images of CVAT", || folder.open());
    let images = (0..20_000).map(|i| CREATEML.split_once(",\n").unwrap().0[1..].replace("a.png", &format!("{i}.png")));
    folder.text("a.json", &format!("[{}]", images.collect::<Vec<_>>().join(",")));
    task("createml", "a.json");
    in_linear_time("20,000 images of CreateML", || folder.open());
}
