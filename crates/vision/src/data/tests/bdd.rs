//! BDD100K's JSON: attributes of the picture as classes, boxes, and "undefined" and null as unlabelled.

use super::{Folder, assert_note, boxes_of, label, of_boxes, of_class};
use crate::tasks::Label;

const TRAIN: &str = r#"[
 {"name": "a.png", "attributes": {"weather": "rainy", "scene": "city street", "timeofday": "night"}, "timestamp": 10000, "labels": [
  {"id": 0, "category": "car", "attributes": {"occluded": false, "truncated": false, "trafficLightColor": "NA"}, "box2d": {"x1": 1.5, "y1": 2, "x2": 20, "y2": 10}},
  {"id": 1, "category": "bus", "attributes": {"crowd": true}, "box2d": {"x1": 20, "y1": 2, "x2": 30, "y2": 10}},
  {"id": 2, "category": "car", "box2d": {"x1": 9, "y1": 9, "x2": 9, "y2": 12}},
  {"id": 3, "category": "lane", "poly2d": [{"vertices": [[1, 2], [3, 4]], "types": "LL", "closed": false}]}]},
 {"name": "b.png", "attributes": {"weather": "undefined", "scene": "city street", "timeofday": "daytime"}, "labels": null},
 {"name": "c.png", "attributes": {"weather": "clear", "scene": "city street"}, "labels": []}]"#;
const VAL: &str = r#"{"config": {}, "frames": [{"name": "d.png", "attributes": {"weather": "clear"}, "labels": [
  {"category": "car", "box2d": {"x1": 0, "y1": 0, "x2": 5, "y2": 5}}]}]}"#;

fn bdd() -> Folder {
    let folder = Folder::new();
    let images = ["train/a.png", "train/b.png", "train/c.png", "train/e.png", "val/d.png"];
    folder.images(&images.map(|name| format!("images/100k/{name}")).each_ref().map(String::as_str));
    folder.text("labels/det_20/det_train.json", TRAIN).text("labels/det_20/det_val.json", VAL);
    folder.text("labels/lane/lane_train.json", r#"[{"name": "a.png", "labels": []}]"#);
    folder
}

#[test]
fn boxes_and_attributes_from_the_same_files() {
    let dataset = bdd().open();
    let names: Vec<&str> = dataset.tasks.iter().map(|task| task.name.as_str()).collect();
    assert_eq!(names, ["objects", "timeofday", "weather"]);
    assert!(dataset.layout.starts_with("BDD100K (labels/det_20/det_train.json, labels/det_20/det_val.json) in"));
    assert_eq!((dataset.train.len(), dataset.val.len()), (4, 1));
    assert_eq!(dataset.tasks[0].classes(), ["bus", "car"]);
    assert_eq!(dataset.tasks[2].classes(), ["clear", "rainy"]);
    let of = |name: &str, task| label(&dataset, &format!("images/100k/{name}"), task).clone();
    assert_eq!(
        boxes_of(&of("train/a.png", 0)),
        [(1, [1.5, 2.0, 20.0, 10.0], false), (0, [20.0, 2.0, 30.0, 10.0], true)]
    );
    // Null means unlabelled, an empty list means no objects, and a picture without a frame is unlabelled.
    let states = ["b", "c", "e"].map(|name| of(&format!("train/{name}.png"), 0));
    assert_eq!(states, [Label::UNLABELLED, of_boxes(vec![]), Label::UNLABELLED]);
    let weather = ["a", "b", "c", "e"].map(|name| of(&format!("train/{name}.png"), 2));
    assert_eq!(weather, [of_class(1), Label::UNLABELLED, of_class(0), Label::UNLABELLED]);
    assert_eq!(of("val/d.png", 1), Label::UNLABELLED);
    assert_note(&dataset, "attribute `scene` left out: all its values are the same");
    assert_note(&dataset, "1 box without width or height left out (labels/det_20/det_train.json frames[0])");
    assert_note(&dataset, "objects: 2 of 5 images not mentioned in labels/det_20/det_train.json taken as unlabelled");
}

#[test]
fn chosen_in_a_data_yaml() {
    let folder = bdd();
    let files = "{train: labels/det_20/det_train.json, val: labels/det_20/det_val.json}";
    folder.text(
        "data.yaml",
        &format!(
            "train: images/100k/train\nval: images/100k/val\ntasks:\n  cars: {{type: detect, from: {{bdd: {files}}}, names: [car, bus], missing: background}}\n  sky: {{type: classify, from: {{bdd: {files}, attribute: weather}}}}\n"
        ),
    );
    let dataset = folder.open();
    assert_eq!(boxes_of(label(&dataset, "images/100k/train/a.png", 0))[0].0, 0);
    for unlabelled in ["b", "e"] {
        assert_eq!(*label(&dataset, &format!("images/100k/train/{unlabelled}.png"), 0), of_boxes(vec![]));
    }
    assert_eq!(*label(&dataset, "images/100k/val/d.png", 1), of_class(0));
}

#[test]
fn wrong_frames_say_which_and_what_to_do() {
    let cases = [
        (
            TRAIN.replace("\"x1\": 1.5, ", ""),
            "not a list of BDD100K frames: frames[0]: missing field `x1` at line 3 column ",
        ),
        (TRAIN.replace("\"b.png\"", "\"a.png\""), "frames[1]: `a.png` is frames[0] already: list every image once"),
        (
            TRAIN.replace("\"category\": \"bus\", ", ""),
            "frames[0]: labels[1] has a box and no `category`: give its class",
        ),
        (
            TRAIN.replace("\"rainy\"", "{}"),
            "frames[0]: column `weather` holds {}; expected a class name or number, or null for unlabelled",
        ),
    ];
    for (text, expected) in cases {
        let folder = bdd();
        folder.text("labels/det_20/det_train.json", &text);
        let error = folder.error();
        assert!(error.starts_with(&format!("DIR/labels/det_20/det_train.json: {expected}")), "{error}");
    }
    let folder = bdd();
    let task = |task: &str| {
        folder.text("data.yaml", &format!("train: images/100k/train\ntasks:\n  sky: {task}\n"));
        folder.error()
    };
    assert_eq!(
        task("{type: classify, from: {bdd: labels/det_20/det_train.json, attribute: wether}}"),
        "DIR/data.yaml:3: task `sky` reads the attribute `wether`, which no frame of DIR/labels/det_20/det_train.json has; they have scene, timeofday, weather; did you mean `weather`?"
    );
    assert_eq!(
        task("{type: detect, from: {bdd: labels/lane/lane_train.json}}"),
        "DIR/labels/lane/lane_train.json: no label has a `box2d`: lanes and areas (`poly2d`) are no boxes; name the file with boxes"
    );
}
