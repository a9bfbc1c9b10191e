//! Images annotated for some classes only: the others' regions, and what is said of them.

use super::{Folder, assert_note, boxes_of, label};
use crate::task::Label;

fn federated(second: &str) -> Folder {
    let folder = Folder::new();
    folder.images(&["train/a.png", "train/b.png", "train/c.png", "val/d.png"]);
    let rows = [
        r#"{"file_name":"a.png","objects":{"bbox":[[10,2,20,4]],"categories":["car"],"labelled_categories":["car"]}}"#,
        second,
        r#"{"file_name":"c.png","objects":{"bbox":[],"categories":[],"labelled_categories":[]}}"#,
    ];
    folder.text("train/metadata.jsonl", &rows.join("\n"));
    folder.text(
        "val/metadata.jsonl",
        r#"{"file_name":"d.png","objects":{"bbox":[],"categories":[],"labelled_categories":["man"]}}"#,
    );
    folder
}

const WHOLE: &str = r#"{"file_name":"b.png","objects":[{"bbox":[1,1,5,5],"category":"man"},{"bbox":[1,1,9,9],"category":"car","iscrowd":1}]}"#;

#[test]
fn a_class_nobody_looked_for_is_ignored_everywhere() {
    let dataset = federated(WHOLE).open();
    assert_eq!(dataset.tasks[0].classes(), ["car", "man"]);
    let everywhere = [0.0, 0.0, 40.0, 20.0];
    assert_eq!(
        boxes_of(label(&dataset, "train/a.png", 0)),
        [(0, [10.0, 2.0, 30.0, 6.0], false), (1, everywhere, true)]
    );
    assert_eq!(
        boxes_of(label(&dataset, "train/b.png", 0)),
        [(1, [1.0, 1.0, 6.0, 6.0], false), (0, [1.0, 1.0, 10.0, 10.0], true)]
    );
    assert_eq!(boxes_of(label(&dataset, "train/c.png", 0)), [(0, everywhere, true), (1, everywhere, true)]);
    assert_eq!(boxes_of(label(&dataset, "val/d.png", 0)), [(0, everywhere, true)]);
    assert_note(&dataset, "objects: 3 images annotated for some classes only");
    assert!(!dataset.notes.iter().any(|note| note.contains("nothing teaches")), "{:?}", dataset.notes);
}

#[test]
fn without_one_whole_image_a_person_is_told() {
    let partly =
        r#"{"file_name":"b.png","objects":{"bbox":[[1,1,5,5]],"categories":["man"],"labelled_categories":["man"]}}"#;
    assert_note(
        &federated(partly).open(),
        "no training image is annotated for all classes, so nothing teaches what background is",
    );
}

#[test]
fn a_whole_task_and_a_class_it_does_not_have() {
    let folder = Folder::new();
    folder.images(&["images/a.png", "images/b.png"]).text("labels/a.txt", "0 0.5 0.5 0.5 0.5\n");
    let yaml = |looked_for: &str| {
        format!(
            "train: images\nval: images\nnames: [car, man]\ntasks:\n  o:\n    type: detect\n    from: {{yolo: labels}}\n    labelled_categories: [{looked_for}]\n"
        )
    };
    folder.text("data.yaml", &yaml("car"));
    let dataset = folder.open();
    let Label::Boxes(boxes) = &dataset.train[0].labels[0] else { panic!() };
    assert_eq!((boxes.len(), boxes[1].class, boxes[1].ignore), (2, 1, true));
    // Alone, a YOLO image without a file is background: of the class that was looked for.
    assert_eq!(boxes_of(&dataset.train[1].labels[0]), [(1, [0.0, 0.0, 40.0, 20.0], true)]);
    folder.text("data.yaml", &yaml("cars"));
    assert_eq!(
        folder.error(),
        "DIR/data.yaml:5: class `cars` is not known; task `o` knows car, man; correct it, or add it to `names:`; did you mean `car`?"
    );
}
