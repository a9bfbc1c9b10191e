//! Longer rows of YOLO files: keypoints, oriented boxes, polygons and predictions, told apart by all rows together.

use super::{Folder, assert_note, boxes_of, label, of_boxes};
use crate::data::describe::data_yaml;
use crate::data::{OpenOptions, Progress};
use crate::tasks::Label;

/// A data set of two training images and one validation image with these rows.
fn rows(first: &str, second: &str, third: &str) -> Folder {
    let folder = Folder::new();
    folder.images(&["images/train/a.png", "images/train/b.png", "images/val/c.png"]);
    folder.text("data.yaml", "train: images/train\nval: images/val\nnames: [cat, dog]\n");
    folder.text("labels/train/a.txt", first).text("labels/train/b.txt", second).text("labels/val/c.txt", third);
    folder
}

fn box_in(folder: &Folder, name: &str) -> [f32; 4] {
    boxes_of(label(&folder.open(), name, 0))[0].1
}

const BOX: &str = "0.5 0.5 0.2 0.4";
/// The pixels of `BOX` in a picture of 40 × 20.
const PIXELS: [f32; 4] = [16.0, 6.0, 24.0, 14.0];

#[test]
fn rows_whose_first_numbers_are_a_box_around_the_others_have_keypoints() {
    for (points, count) in [
        ("0.45 0.4 0.5 0.5 0.55 0.6", "1 row"),
        // With visibility; hidden points are zeros, and one lies a little outside.
        ("0.45 0.4 2 0 0 0 0.61 0.6 1", "2 rows"),
        ("0.5 0.5 1", "1 row"),
    ] {
        let row = format!("1 {BOX} {points}\n");
        let folder = rows(&row, if count == "2 rows" { &row } else { "" }, "0 0.5 0.5 0.2 0.2\n");
        assert_eq!(box_in(&folder, "images/train/a.png"), PIXELS, "{points}");
        assert_note(&folder.open(), &format!("objects: {count} of"));
        assert_note(&folder.open(), "read as a box and");
    }
    let folder = rows(&format!("1 {BOX} 0.45 0.4 0.5 0.5 0.55 0.6\n"), "", "");
    let of_polygon = |folder: &Folder| box_in(folder, "images/train/a.png");
    folder.text("data.yaml", "train: images/train\nval: images/val\nnames: [cat, dog]\ntasks:\n  pets: {type: detect, from: {yolo: labels, rows: polygons}}\n");
    assert_eq!(of_polygon(&folder), [8.0, 8.0, 22.0, 12.0]);
    let text = data_yaml(folder.path(), &OpenOptions::default(), &Progress::default()).unwrap();
    assert!(text.contains("rows: polygons"), "{text}");
}

#[test]
fn rows_of_other_lengths_or_points_elsewhere_are_polygons() {
    let pose = format!("1 {BOX} 0.45 0.4 0.5 0.5 0.55 0.6\n");
    // Another row has a different length.
    let folder = rows(&pose, "0 0.1 0.1 0.3 0.1 0.3 0.3\n", "");
    assert_eq!(box_in(&folder, "images/train/a.png"), [8.0, 8.0, 22.0, 12.0]);
    // Another row has a point far from its box.
    let folder = rows(&pose, &format!("1 {BOX} 0.05 0.1 0.5 0.5 0.55 0.6\n"), "");
    assert_eq!(box_in(&folder, "images/train/a.png"), [8.0, 8.0, 22.0, 12.0]);
}

#[test]
fn four_corners_are_an_oriented_box() {
    // The first row alone could be a box with two keypoints.
    let folder = rows("0 0.5 0.4 0.6 0.5 0.5 0.6 0.4 0.5\n", "1 0.1 0.1 0.3 0.1 0.3 0.3 0.1 0.3\n", "");
    assert_eq!(box_in(&folder, "images/train/a.png"), [16.0, 8.0, 24.0, 12.0]);
    assert_note(
        &folder.open(),
        "objects: 2 rows of 9 numbers read as the four corners of an oriented box or a polygon",
    );
    // Two keypoints are not corners that go around a shape.
    let folder = rows(&format!("0 {BOX} 0.5 0.45 0.55 0.6\n"), &format!("0 {BOX} 0.45 0.4 0.46 0.4\n"), "");
    assert_eq!(box_in(&folder, "images/train/a.png"), PIXELS);
}

#[test]
fn predictions_are_named_and_their_boxes_read_if_asked_for() {
    for (tail, numbers, what) in [
        ("0.87", 6, "a confidence after the box"),
        ("0.87 1", 7, "a confidence and the number of a track after the box"),
        ("0.87 14", 7, "a confidence and the number of a track after the box"),
        // A polygon with its confidence.
        ("0.1 0.2 0.7 0.7 0.9", 10, "a single number, such as a confidence, after a polygon"),
    ] {
        let folder = rows(&format!("0 {BOX} {tail}\n"), "", "");
        let error = folder.error();
        let start = format!("DIR/labels/train/a.txt:1: {numbers} numbers: {what} makes this a prediction, not a label");
        assert!(error.starts_with(&start), "{error}");
        assert_eq!(error.contains("rows: predictions"), numbers < 8, "{error}");
        if numbers < 8 {
            folder.text("data.yaml", "train: images/train\nval: images/val\nnames: [cat, dog]\ntasks:\n  pets: {type: detect, from: {yolo: labels, rows: predictions}}\n");
            assert_eq!(box_in(&folder, "images/train/a.png"), PIXELS);
        }
    }
    let folder = rows("", "", "");
    folder.text(
        "data.yaml",
        "train: images/train\ntasks:\n  pets:\n    type: detect\n    from: {yolo: labels, rows: prediction}\n",
    );
    assert_eq!(
        folder.error(),
        "DIR/data.yaml:5: task `pets`: `rows: prediction` is none of polygons, keypoints, predictions; did you mean `predictions`?"
    );
}

#[test]
fn a_picture_of_boxes_that_are_all_left_out_is_not_background() {
    let folder = rows("0 0.5 0.5 0 0.2\n", "0 0.5 0.5 0.2 0.2\n", "");
    let dataset = folder.open();
    assert_eq!(*label(&dataset, "images/train/a.png", 0), Label::UNLABELLED);
    assert_eq!(*label(&dataset, "images/val/c.png", 0), of_boxes(vec![]));
    assert_note(&dataset, "1 image without any other box, so unlabelled and not background (labels/train/a.txt)");
}
