//! Images annotated for some classes only: the regions of the other classes, and the notes about them.

use super::{Folder, assert_note, boxes_of, label};
use crate::tasks::{Label, LabelledBox, PartialRegion};
use std::sync::Arc;

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

fn partial_of(label: &Label) -> Vec<PartialRegion> {
    let Some(boxes) = label.boxes() else { panic!("{label:?} is no list of boxes") };
    boxes.partial.to_vec()
}

const WHOLE: &str = r#"{"file_name":"b.png","objects":[{"bbox":[1,1,5,5],"category":"man"},{"bbox":[1,1,9,9],"category":"car","iscrowd":1}]}"#;

#[test]
fn a_class_nobody_looked_for_is_ignored_everywhere() {
    let dataset = federated(WHOLE).open();
    assert_eq!(dataset.tasks[0].classes(), ["car", "man"]);
    assert_eq!(boxes_of(label(&dataset, "train/a.png", 0)), [(0, [10.0, 2.0, 30.0, 6.0], false)]);
    assert_eq!(
        boxes_of(label(&dataset, "train/b.png", 0)),
        [(1, [1.0, 1.0, 6.0, 6.0], false), (0, [1.0, 1.0, 10.0, 10.0], true)]
    );
    for (name, looked_for) in [("train/a.png", Some(vec![0])), ("train/b.png", None), ("train/c.png", Some(vec![]))] {
        let region =
            |looked_for: Vec<u32>| PartialRegion { xyxy: [0.0, 0.0, 40.0, 20.0], looked_for: looked_for.into() };
        assert_eq!(partial_of(label(&dataset, name, 0)), Vec::from_iter(looked_for.map(region)), "{name}");
    }
    // In the metric, a detection of a class that was not looked for is not a false positive, wherever it lies.
    let Some(boxes) = label(&dataset, "train/a.png", 0).boxes() else { panic!() };
    let everywhere = LabelledBox { class: 1, xyxy: [0.0, 0.0, 40.0, 20.0], ignore: true };
    assert_eq!(Vec::from_iter(boxes.with_regions(2)), [boxes[0].clone(), everywhere]);
    assert_note(
        &dataset,
        "objects: 3 images annotated for some classes only: the loss and the metrics ignore the other classes",
    );
    assert!(!dataset.notes.iter().any(|note| note.contains("cannot learn where")), "{:?}", dataset.notes);
}

#[test]
fn a_class_that_was_never_looked_for_gives_a_note() {
    let said = |looked_for| {
        let row = format!(
            r#"{{"file_name":"b.png","objects":{{"bbox":[[1,1,5,5]],"categories":["man"],"labelled_categories":[{looked_for}]}}}}"#
        );
        let notes = federated(&row).open().notes;
        notes.into_iter().filter(|note| note.contains("cannot learn where")).collect::<Vec<_>>()
    };
    assert_eq!(
        said(r#""car""#),
        [
            "objects: no training image was annotated for man, so the model cannot learn where it is absent: label some images for all classes"
        ]
    );
    // No image is annotated for both classes, but each class has background in some image.
    assert_eq!(said(r#""man""#), [""; 0]);
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
    let [a, b] = [0, 1].map(|i| &dataset.train[i].labels[0]);
    // With YOLO labels alone, an image without a label file is background, but only for the class that was looked for.
    assert_eq!((boxes_of(a).len(), boxes_of(b).len()), (1, 0));
    let [of_a, of_b] = [a, b].map(|label| partial_of(label)[0].looked_for.clone());
    assert_eq!((&of_a[..], &of_b[..]), ([0].as_slice(), [0].as_slice()));
    assert!(Arc::ptr_eq(&of_a, &of_b), "a million images that say the same hold it once");
    folder.text("data.yaml", &yaml("cars"));
    assert_eq!(
        folder.error(),
        "DIR/data.yaml:5: class `cars` is not known; task `o` knows car, man; correct it, or add it to `names:`; did you mean `car`?"
    );
}
