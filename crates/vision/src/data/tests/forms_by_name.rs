//! More label files of annotation tools, all of which list images by name: VIA, VoTT, Label Studio and Datumaro.

use super::forms::{opened, problems};
use super::{Folder, assert_note, boxes_of, label, of_boxes, of_class, of_classes, of_values};
use crate::tasks::Label;

/// Asserts the first problem of a data set whose label file is changed.
fn assert_faults(folder: &Folder, file: &str, text: &str, cases: &[(&str, &str, &str)]) {
    for (from, to, expected) in cases {
        assert!(text.contains(from), "{from}");
        folder.text(file, &text.replacen(from, to, 1));
        let found = problems(folder);
        assert_eq!(found.first(), Some(&format!("{file}: {expected}")), "{found:?}");
    }
    // A number that is none, and a list without an end, are refused with a sentence.
    for (text, expected) in [
        (text.replacen("10", "NaN", 1), "not valid JSON here (expected value"),
        (text.replacen("10", "1e999", 1), "not valid JSON here (number out of range"),
        // Where entries are only skipped, no depth is too much, but the lists have no end.
        (text.replacen("10", &"[".repeat(100_000), 1), "not valid JSON here ("),
        (text[..text.len() - 1].to_string(), "not valid JSON here (EOF while parsing"),
    ] {
        folder.text(file, &text);
        let error = folder.error();
        assert!(error.starts_with(&format!("DIR/{file}:")) && error.contains(expected), "{error}");
    }
}

const VIA: &str = r#"{"a.png1234": {"filename": "a.png", "size": 1234, "regions": [
  {"shape_attributes": {"name": "rect", "x": 10, "y": 2, "width": 5, "height": 6}, "region_attributes": {"animal": "cat", "note": ""}},
  {"shape_attributes": {"name": "polygon", "all_points_x": [1, 5, 3], "all_points_y": [1, 2, 9]}, "region_attributes": {"animal": {"dog": true}, "note": "old"}},
  {"shape_attributes": {"name": "circle", "cx": 20, "cy": 10, "r": 3.5}, "region_attributes": {"animal": "cat"}},
  {"shape_attributes": {"name": "ellipse", "cx": 20, "cy": 10, "rx": 4, "ry": 2, "theta": 0}, "region_attributes": {"animal": "cat"}},
  {"shape_attributes": {"name": "point", "cx": 20, "cy": 10}, "region_attributes": {"animal": "cat"}}],
  "file_attributes": {"light": {"day": true, "lamp": true}, "caption": "x", "score": "1.5"}},
 "b.png99": {"filename": "b.png", "size": 99, "regions": {}, "file_attributes": {"light": {}, "caption": "y", "score": "2"}},
 "c.png7": {"filename": "c.png", "size": 7, "regions": {"0": {"shape_attributes": {"name": "rect", "x": 1, "y": 1, "width": 2, "height": 2},
  "region_attributes": {"animal": "dog"}}}, "file_attributes": {"light": {"day": true}, "caption": "z", "score": "2"}}}"#;

#[test]
fn via_annotations_and_projects() {
    let project = format!(
        r#"{{"_via_settings": {{"ui": {{}}}}, "_via_img_metadata": {VIA}, "_via_attributes": {{"region": {{}}}}}}"#
    );
    for text in [VIA, &project] {
        let folder = Folder::new();
        folder.images(&["images/a.png", "images/b.png", "images/c.png"]);
        folder.text("via_export.json", text);
        folder.text("data.yaml", "val_fraction: 0\ntrain: images\ntasks:\n  objects: {type: detect, from: {via: via_export.json}}\n  light: {type: classify, multi_label: true, from: {via: via_export.json}}\n  score: {type: regress, from: {via: via_export.json}}\n");
        let dataset = opened(&folder);
        assert_eq!(dataset.tasks[0].classes(), ["cat", "dog"]);
        let expected = [
            (0, [10.0, 2.0, 15.0, 8.0], false),
            (1, [1.0, 1.0, 5.0, 9.0], false),
            (0, [16.5, 6.5, 23.5, 13.5], false),
            (0, [16.0, 8.0, 24.0, 12.0], false),
        ];
        assert_eq!(boxes_of(label(&dataset, "images/a.png", 0)), expected);
        assert_eq!(*label(&dataset, "images/b.png", 0), of_boxes(vec![]));
        assert_eq!(boxes_of(label(&dataset, "images/c.png", 0)), [(1, [1.0, 1.0, 3.0, 3.0], false)]);
        let light = ["a", "b", "c"].map(|name| label(&dataset, &format!("images/{name}.png"), 1).clone());
        let both = |day, lamp| of_classes(vec![Some(day), Some(lamp)]);
        assert_eq!(light, [both(true, true), both(false, false), both(true, false)]);
        assert_eq!(*label(&dataset, "images/a.png", 2), of_values(vec![1.5]));
        assert_note(
            &dataset,
            "via_export.json: the class is the region attribute `animal`, which 6 regions have; others are not read: note",
        );
        assert_note(&dataset, "via_export.json: shapes that are no boxes are left out: 1 × point");
        std::fs::remove_file(folder.path().join("data.yaml")).unwrap();
        let found = opened(&folder);
        assert!(found.layout.starts_with("VIA (via_export.json) in "), "{}", found.layout);
        let names: Vec<&str> = found.tasks.iter().map(|task| task.name.as_str()).collect();
        assert_eq!(names, ["objects", "light", "score"]);
        assert_note(&found, "`caption` of the images left out: every image has a value of its own");
    }
}

#[test]
fn wrong_regions_of_via_are_named() {
    let folder = Folder::new();
    folder.images(&["a.png", "b.png", "c.png"]);
    folder.text("data.yaml", "train: .\nval: .\ntasks:\n  objects: {type: detect, from: {via: via.json}}\n");
    let cases = [
        ("\"x\": 10, ", "", "entries[0]: regions[0] of `a.png`: no `x`: give a number"),
        (
            "\"width\": 5",
            "\"width\": -5",
            "entries[0]: regions[0] of `a.png`: the right edge 5 is left of the left edge 10: swap them",
        ),
        (
            "{\"animal\": \"cat\", \"note\": \"\"}",
            "{}",
            "entries[0]: regions[0] of `a.png`: no `animal` among its attributes: give the class",
        ),
        (
            "{\"dog\": true}",
            "{\"dog\": true, \"cat\": true}",
            "entries[0]: regions[1] of `a.png`: 2 values of `animal`: choose one",
        ),
        ("[1, 5, 3]", "[1, 5]", "entries[0]: regions[1] of `a.png`: 2 x and 3 y: expected one of each per point"),
        ("\"regions\": {},", "\"regions\": 3,", "entries[1]: `regions` of `b.png` is 3: expected a list"),
        (
            "\"filename\": \"b.png\"",
            "\"filename\": \"a.png\"",
            "entries[1]: `a.png` is in this file already (entries[0]): list every image once",
        ),
    ];
    assert_faults(&folder, "via.json", VIA, &cases);
    folder.text("via.json", r#"{"a": {"filename": "a.png", "regions": [{"shape_attributes": {"name": "rect", "x": 1, "y": 1, "width": 2, "height": 2}, "region_attributes": {}}]}}"#);
    let dataset = folder.open();
    assert_eq!(dataset.tasks[0].classes(), ["object"]);
    assert_note(&dataset, "via.json: no region has an attribute, so all are of the class `object`");
}

const VOTT: &str = r##"{"name": "pets", "tags": [{"name": "cat", "color": "#5db300"}], "version": "2.1.0", "assets": {
 "1f": {"asset": {"format": "png", "id": "1f", "name": "a.png", "path": "file:/home/me/a.png", "size": {"width": 40, "height": 20}, "state": 2, "type": 1},
  "regions": [{"id": "x", "type": "RECTANGLE", "tags": ["cat", "pet"], "boundingBox": {"left": 10, "top": 2, "width": 5, "height": 6}, "points": [{"x": 10, "y": 2}, {"x": 15, "y": 8}]},
   {"id": "y", "type": "POLYGON", "tags": ["cat"], "points": [{"x": 1, "y": 2}, {"x": 4, "y": 8}]}], "version": "2.1.0"},
 "2f": {"asset": {"id": "2f", "name": "b.png", "state": 1}, "regions": []},
 "3f": {"asset": {"id": "3f", "name": "c.png", "state": 0}, "regions": []}}}"##;

#[test]
fn vott_exports() {
    let folder = Folder::new();
    folder.images(&["a.png", "b.png", "c.png", "vott-json-export/extra.png"]);
    folder.text("vott-json-export/pets-export.json", VOTT);
    let dataset = opened(&folder);
    assert!(dataset.layout.starts_with("VoTT (vott-json-export/pets-export.json) in "), "{}", dataset.layout);
    let expected =
        [(0, [10.0, 2.0, 15.0, 8.0], false), (1, [10.0, 2.0, 15.0, 8.0], false), (0, [1.0, 2.0, 4.0, 8.0], false)];
    assert_eq!(boxes_of(label(&dataset, "a.png", 0)), expected);
    assert_eq!(*label(&dataset, "b.png", 0), of_boxes(vec![]));
    assert_eq!(*label(&dataset, "c.png", 0), Label::UNLABELLED);
    folder.text(
        "data.yaml",
        "train: .\nval: .\ntasks:\n  objects: {type: detect, from: {vott: vott-json-export/pets-export.json}}\n",
    );
    let cases = [
        ("\"left\": 10, ", "", "entries[0]: regions[0] of `a.png`: no `left`: give a number"),
        ("[\"cat\", \"pet\"]", "[]", "entries[0]: regions[0] of `a.png`: no tag: give its class"),
        (
            "[\"cat\", \"pet\"]",
            "[{}]",
            "entries[0]: regions[0] of `a.png`: `tags` is an object: expected the name of a class",
        ),
        ("{\"x\": 1, \"y\": 2}", "7", "entries[0]: regions[1] of `a.png`: a point without x and y: expected pixels"),
        ("\"name\": \"b.png\", ", "", "entries[1]: no name of an image: give the path relative to the images"),
    ];
    assert_faults(&folder, "vott-json-export/pets-export.json", VOTT, &cases);
}

const LABEL_STUDIO: &str = r#"[{"id": 1, "data": {"image": "/data/upload/1/3fa85f64-a.png"}, "annotations": [{"id": 5, "was_cancelled": false, "ground_truth": false, "result": [
  {"original_width": 40, "original_height": 20, "image_rotation": 0, "value": {"x": 10, "y": 50, "width": 25, "height": 25, "rotation": 0, "rectanglelabels": ["cat"]}, "id": "r1", "from_name": "label", "to_name": "image", "type": "rectanglelabels"},
  {"original_width": 40, "original_height": 20, "value": {"points": [[5, 5], [20, 10], [10, 50]], "polygonlabels": ["dog"]}, "id": "r2", "from_name": "poly", "to_name": "image", "type": "polygonlabels"},
  {"original_width": 40, "original_height": 20, "value": {"x": 50, "y": 50, "radiusX": 5, "radiusY": 10, "rotation": 0, "ellipselabels": ["dog"]}, "id": "r3", "type": "ellipselabels"},
  {"original_width": 40, "original_height": 20, "value": {"x": 1, "y": 1, "width": 0.5, "keypointlabels": ["eye"]}, "id": "r4", "type": "keypointlabels"},
  {"value": {"choices": ["day"]}, "from_name": "light", "to_name": "image", "type": "choices"},
  {"value": {"number": 2.5}, "from_name": "weight", "to_name": "image", "type": "number"},
  {"value": {"rating": 4}, "from_name": "stars", "to_name": "image", "type": "rating"},
  {"value": {"text": ["fine"]}, "from_name": "remark", "to_name": "image", "type": "textarea"}]}]},
 {"id": 2, "data": {"image": "/data/local-files/?d=sub/b%20b.png"}, "annotations": [
  {"was_cancelled": true, "result": [{"type": "rectanglelabels", "value": {"x": "wrong"}}]},
  {"result": [{"value": {"choices": ["night"]}, "from_name": "light", "type": "choices"}]},
  {"ground_truth": true, "result": [{"value": {"choices": ["night"]}, "from_name": "light", "type": "choices"}, {"value": {"number": 3}, "from_name": "weight", "type": "number"},
   {"value": {"x": 50, "y": 50, "width": 50, "height": 50}, "id": "p", "type": "rectangle"},
   {"value": {"x": 50, "y": 50, "width": 50, "height": 50, "labels": ["cat"]}, "id": "p", "type": "labels"}]}]},
 {"id": 3, "data": {"image": "https://example.org/pictures/c.png?key=1"}, "annotations": []}]"#;

#[test]
fn label_studio_shapes_choices_and_numbers() {
    let folder = Folder::new();
    folder.images(&["images/a.png", "images/sub/b b.png", "images/c.png"]);
    folder.text("project.json", LABEL_STUDIO);
    folder.text("data.yaml", "val_fraction: 0\ntrain: images\ntasks:\n  objects: {type: detect, from: {label_studio: project.json}}\n  light: {type: classify, from: {label_studio: project.json}}\n  mass: {type: regress, from: {label_studio: project.json, attribute: weight}}\n");
    let dataset = opened(&folder);
    assert_eq!(dataset.tasks[0].classes(), ["cat", "dog"]);
    let expected =
        [(0, [4.0, 10.0, 14.0, 15.0], false), (1, [2.0, 1.0, 8.0, 10.0], false), (1, [18.0, 8.0, 22.0, 12.0], false)];
    assert_eq!(boxes_of(label(&dataset, "images/a.png", 0)), expected);
    // Without a stated size, the picture's counts.
    assert_eq!(boxes_of(label(&dataset, "images/sub/b b.png", 0)), [(0, [20.0, 10.0, 40.0, 20.0], false)]);
    assert_eq!(*label(&dataset, "images/c.png", 0), Label::UNLABELLED);
    assert_eq!(
        [label(&dataset, "images/a.png", 1), label(&dataset, "images/sub/b b.png", 1)],
        [&of_class(0), &of_class(1)]
    );
    assert_eq!(*label(&dataset, "images/a.png", 2), of_values(vec![2.5]));
    for words in [
        "project.json: shapes that are no boxes are left out: 1 × keypoint",
        "project.json: 1 image with several annotations, of which one is used: the ground truth, or the first",
    ] {
        assert_note(&dataset, words);
    }
    std::fs::remove_file(folder.path().join("data.yaml")).unwrap();
    let found = folder.open();
    assert!(found.layout.starts_with("Label Studio (project.json) in "), "{}", found.layout);
    let names: Vec<&str> = found.tasks.iter().map(|task| task.name.as_str()).collect();
    assert_eq!(names, ["objects", "light", "weight"]);
    assert_note(&found, "`stars` of the images left out: all its values are the same");
}

#[test]
fn wrong_results_of_label_studio_are_named() {
    let folder = Folder::new();
    folder.images(&["a.png", "sub/b b.png", "c.png"]);
    folder.text("data.yaml", "train: .\nval: .\ntasks:\n  objects: {type: detect, from: {label_studio: ls.json}}\n  light: {type: classify, from: {label_studio: ls.json}}\n");
    let of = "of `3fa85f64-a.png`";
    let cases = [
        ("\"x\": 10, ", "\"x\": null, ", format!("entries[0]: result[0] {of}: `x` is null: expected a number")),
        ("[\"cat\"]", "[]", format!("entries[0]: result[0] {of}: no label: give its class")),
        ("[\"cat\"]", "[\"cat\", \"dog\"]", format!("entries[0]: result[0] {of}: 2 labels: give it one")),
        ("[20, 10]", "[20]", format!("entries[0]: result[1] {of}: a point is a list: expected [x, y] in pixels")),
        (
            "\"width\": 25",
            "\"width\": -25",
            format!("entries[0]: result[0] {of}: the right edge -6 is left of the left edge 4: swap them"),
        ),
        ("[\"day\"]", "3", format!("entries[0]: result[4] {of}: `choices` is 3: expected a list")),
        (
            "\"/data/upload/1/3fa85f64-a.png\"",
            "5",
            "entries[0]: no name of an image: give the path relative to the images".into(),
        ),
    ];
    let cases: Vec<_> = cases.iter().map(|(from, to, expected)| (*from, *to, expected.as_str())).collect();
    assert_faults(&folder, "ls.json", LABEL_STUDIO, &cases);
}

const DATUMARO: &str = r#"{"dm_format_version": "1.0", "media_type": 2, "info": {}, "categories": {"label": {"labels": [{"name": "cat", "parent": ""}, {"name": "dog", "parent": ""}], "attributes": []}},
 "items": [{"id": "a", "annotations": [{"id": 0, "type": "bbox", "attributes": {"is_crowd": true}, "group": 0, "label_id": 1, "z_order": 0, "bbox": [10, 2, 5, 6]},
   {"type": "polygon", "label_id": 0, "points": [1, 1, 5, 2, 3, 9]}, {"type": "label", "label_id": 1}, {"type": "mask", "label_id": 0, "rle": {}}, {"type": "caption", "caption": "x"}],
   "image": {"path": "a.png", "size": [20, 40]}},
  {"id": "b", "annotations": [{"type": "label", "label_id": 0}], "image": {"path": "", "size": [20, 40]}}, {"id": "c", "annotations": []}]}"#;

#[test]
fn datumaro_boxes_and_labels() {
    let folder = Folder::new();
    folder.images(&["images/train/a.png", "images/train/b.png", "images/train/d.png", "images/val/c.png"]);
    folder.text("annotations/train.json", &DATUMARO.replace(", {\"id\": \"c\", \"annotations\": []}", ""));
    folder.text(
        "annotations/val.json",
        &format!("{}{{\"id\": \"c\", \"annotations\": []}}]}}", &DATUMARO[..DATUMARO.find("{\"id\": \"a\"").unwrap()]),
    );
    let dataset = opened(&folder);
    assert!(
        dataset.layout.starts_with("Datumaro (annotations/train.json, annotations/val.json) in "),
        "{}",
        dataset.layout
    );
    let names: Vec<&str> = dataset.tasks.iter().map(|task| task.name.as_str()).collect();
    assert_eq!(names, ["objects", "labels"]);
    assert_eq!(dataset.tasks[0].classes(), ["cat", "dog"]);
    let expected = [(1, [10.0, 2.0, 15.0, 8.0], true), (0, [1.0, 1.0, 5.0, 9.0], false)];
    assert_eq!(boxes_of(label(&dataset, "images/train/a.png", 0)), expected);
    assert_eq!(*label(&dataset, "images/train/b.png", 0), of_boxes(vec![]));
    assert_eq!(*label(&dataset, "images/train/d.png", 0), Label::UNLABELLED);
    assert_eq!(*label(&dataset, "images/val/c.png", 0), of_boxes(vec![]));
    assert_eq!(
        [label(&dataset, "images/train/a.png", 1), label(&dataset, "images/train/b.png", 1)],
        [&of_class(1), &of_class(0)]
    );
    assert_note(&dataset, "train.json: shapes that are no boxes are left out: 1 × mask");
}

#[test]
fn wrong_annotations_of_datumaro_are_named() {
    let folder = Folder::new();
    folder.images(&["a.png", "b.png", "c.png"]);
    folder.text("data.yaml", "train: .\nval: .\ntasks:\n  objects: {type: detect, from: {datumaro: d.json}}\n  labels: {type: classify, from: {datumaro: d.json}}\n");
    let cases = [
        (
            "[10, 2, 5, 6]",
            "[10, 2, 5]",
            "items[0]: annotations[0] of `a`: `bbox` has other than four numbers: expected left, top, width, height",
        ),
        (
            "[10, 2, 5, 6]",
            "[10, 2, -5, 6]",
            "items[0]: annotations[0] of `a`: the right edge 5 is left of the left edge 10: swap them",
        ),
        (
            "[1, 1, 5, 2, 3, 9]",
            "[1, 1, 5]",
            "items[0]: annotations[1] of `a`: an odd number of `points`: expected x, y, x, y, …",
        ),
        (
            "\"label_id\": 1, \"z_order\"",
            "\"label_id\": 9, \"z_order\"",
            "items[0]: annotations[0] of `a`: label 9 is not among the 2 of `categories`: correct it, or list it there",
        ),
        ("\"label\", \"label_id\": 1", "\"label\"", "items[0]: annotations[2] of `a`: no `label_id`: give the class"),
    ];
    assert_faults(&folder, "d.json", DATUMARO, &cases);
    folder.text("d.json", r#"{"items": []}"#);
    assert_eq!(
        folder.error(),
        "DIR/d.json: not read as Datumaro: no `categories` with a `label` list: expected what Datumaro exports"
    );
}

/// COCO's and BDD100K's files have some keys in common with these.
#[test]
fn other_json_files_keep_their_format() {
    let folder = Folder::new();
    folder.images(&["a.png", "b.png"]);
    folder.text("_annotations.coco.json", r#"{"info": {}, "licenses": [], "categories": [{"id": 0, "name": "cat"}], "images": [{"id": 0, "file_name": "a.png"}, {"id": 1, "file_name": "b.png"}], "annotations": [{"id": 0, "image_id": 0, "category_id": 0, "bbox": [1, 2, 3, 4], "segmentation": []}]}"#);
    assert!(folder.open().layout.starts_with("COCO "));
}

#[test]
fn label_files_may_have_any_usual_encoding() {
    let xml = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\r\n<annotations><version>1.1</version>\r\n<image name=\"a.png\"><box label=\"猫\" xtl=\"1\" ytl=\"1\" xbr=\"2\" ybr=\"2\"/></image></annotations>";
    let json = r#"[{"image": "a.png", "annotations": [{"label": "猫", "coordinates": {"x": 2, "y": 2, "width": 2, "height": 2}}]}]"#;
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    for (file, text) in [("annotations.xml", xml), ("annotations.json", json)] {
        for bytes in [format!("\u{feff}{text}").into_bytes(), utf16(&format!("\u{feff}{text}")), utf16(text)] {
            let folder = Folder::new();
            folder.images(&["images/a.png", "images/b.png"]);
            std::fs::write(folder.path().join(file), bytes).unwrap();
            assert_eq!(folder.open().tasks[0].classes(), ["猫"], "{file}");
        }
    }
}
