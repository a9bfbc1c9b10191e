//! Several data sets in one: tasks and classes matched by name, labels that a source does not have, splits, and shares.

use super::{Folder, assert_note, boxes_of, label};
use crate::data::dataset::{Dataset, OpenOptions};
use crate::data::declaration::Split;
use crate::tasks::multi_label::Classes;
use std::collections::BTreeSet;

/// YOLO with cats and dogs, COCO-like metadata with dogs and owls, and class folders of another task.
fn three() -> Folder {
    let folder = Folder::new();
    for i in 0..10 {
        folder.images(&[&format!("yolo/images/{i}.png"), &format!("table/{i}.png"), &format!("scenes/city/{i}.png")]);
        folder.images(&[&format!("scenes/sea/{i}.png")]);
        folder.text(&format!("yolo/labels/{i}.txt"), &format!("{} 0.5 0.5 0.5 0.5\n", i % 2));
    }
    folder.text("yolo/classes.txt", "cat\ndog\n");
    let rows: String = (0..10)
        .map(|i| {
            let class = ["owl", "dog"][i % 2];
            format!(
                "{{\"file_name\":\"{i}.png\",\"objects\":{{\"bbox\":[[1,2,10,8]],\"categories\":[\"{class}\"]}}}}\n"
            )
        })
        .collect();
    folder.text("table/metadata.jsonl", &rows);
    folder.text("data.yaml", "sources:\n- yolo\n- {path: table}\n- {path: scenes, tasks: {class: scene}}\n");
    folder
}

fn sources_of(dataset: &Dataset, split: Split) -> Vec<usize> {
    let names = dataset.sources.names().len();
    let of = |number| dataset.split(split).iter().filter(|s| dataset.sources.of_image(s) == Some(number)).count();
    (0..names).map(of).collect()
}

#[test]
fn tasks_and_classes_are_matched_by_name() {
    let folder = three();
    let dataset = folder.open();
    let tasks: Vec<(&str, Vec<String>)> =
        dataset.tasks.iter().map(|task| (task.name.as_str(), task.classes().to_vec())).collect();
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(tasks, [("objects", words("cat dog owl")), ("scene", words("city sea"))]);
    assert_note(&dataset, "objects: the classes of its sources together, in order of first appearance: cat, dog, owl");
    // Every source has its own share of validation.
    assert_eq!(sources_of(&dataset, Split::Train), [8, 8, 16]);
    assert_eq!(sources_of(&dataset, Split::Val), [2, 2, 4]);
    assert_note(&dataset, "source scenes: 16 images for training, 4 for validation, 0 for test");
    let names: BTreeSet<&str> = dataset.train.iter().chain(&dataset.val).map(|s| s.name.as_str()).collect();
    assert!(names.len() == 40 && names.contains("yolo/images/0.png") && names.contains("table/0.png"), "{names:?}");
    // The same class has the same number in both, and an image of one source says nothing about the task of another.
    let class = |name: &str| boxes_of(label(&dataset, name, 0))[0].0;
    assert_eq!(["yolo/images/1.png", "table/1.png", "table/0.png"].map(class), [1, 1, 2]);
    assert!(
        !label(&dataset, "yolo/images/1.png", 1).is_labelled() && label(&dataset, "scenes/sea/1.png", 1).is_labelled()
    );
    assert!(!label(&dataset, "scenes/sea/1.png", 0).is_labelled());
    // Nobody looked for owls in the first source, nor for cats in the second.
    let looked_for = |name: &str| label(&dataset, name, 0).boxes().unwrap().partial[0].looked_for.to_vec();
    assert_eq!([looked_for("yolo/images/0.png"), looked_for("table/0.png")], [vec![0, 1], vec![1, 2]]);
    let region = &label(&dataset, "yolo/images/0.png", 0).boxes().unwrap().partial[0];
    assert_eq!(region.xyxy, [0.0, 0.0, 40.0, 20.0]);
}

#[test]
fn sources_of_the_same_classes_need_no_regions() {
    let folder = three();
    folder.text("data.yaml", "sources:\n- yolo\n- {path: yolo}\n");
    let dataset = folder.open();
    assert_eq!((dataset.train.len(), dataset.sources.names()), (16, &["yolo".to_owned(), "yolo-2".to_owned()][..]));
    let all = dataset.train.iter().chain(&dataset.val);
    assert!(all.clone().all(|sample| sample.labels[0].boxes().unwrap().partial.is_empty()));
    let names: BTreeSet<&str> = all.map(|sample| sample.name.as_str()).collect();
    assert_eq!(names.len(), 20, "names stay unique");
}

#[test]
fn classes_that_a_source_does_not_have_are_unlabelled_among_several() {
    let folder = Folder::new();
    folder.images(&["a/train/1.png", "a/train/2.png", "b/train/1.png", "b/train/2.png"]);
    folder.text("a/train/_classes.csv", "filename,sun,rain\n1.png,1,0\n2.png,0,1\n");
    folder.text("b/train/_classes.csv", "filename,rain,snow\n1.png,1,0\n2.png,0,1\n");
    folder.text("data.yaml", "sources: [a, b]\nval_fraction: 0\n");
    let dataset = folder.open();
    assert_eq!(dataset.tasks[0].classes(), ["sun", "rain", "snow"]);
    let flags = |name: &str| label(&dataset, name, 0).get::<Classes>().unwrap().to_vec();
    assert_eq!(flags("a/train/1.png"), [Some(true), Some(false), None]);
    assert_eq!(flags("b/train/2.png"), [None, Some(false), Some(true)]);
}

#[test]
fn a_source_has_its_own_splits_or_those_that_are_given() {
    let folder = three();
    for i in 0..4 {
        folder.images(&[
            &format!("split/train/city/{i}.png"),
            &format!("split/train/hill/{i}.png"),
            &format!("split/val/hill/{i}.png"),
        ]);
    }
    let list = |second: &str| {
        folder.text("data.yaml", &format!("sources:\n- {{path: scenes}}\n- {{path: split{second}}}\n"));
        let dataset = folder.open();
        assert_eq!(dataset.tasks[0].classes(), ["city", "sea", "hill"]);
        [Split::Train, Split::Val, Split::Test].map(|split| sources_of(&dataset, split))
    };
    assert_eq!(list(""), [[16, 8], [4, 4], [0, 0]].map(Vec::from));
    assert_eq!(list(", use: train"), [[16, 12], [4, 0], [0, 0]].map(Vec::from));
    assert_eq!(list(", use: test"), [[16, 0], [4, 0], [0, 12]].map(Vec::from));
    assert_eq!(list(", split: {train: train, test: val}"), [[16, 6], [4, 2], [0, 4]].map(Vec::from));
    // What is described is the same data set, from anywhere.
    let text = crate::data::describe::data_yaml(folder.path(), &OpenOptions::default(), &Default::default()).unwrap();
    let elsewhere = Folder::new();
    elsewhere.text("data.yaml", &text);
    let (own, other) = (folder.open(), elsewhere.open());
    assert_eq!(
        (own.tasks, own.train.len(), own.val.len()),
        (other.tasks, other.train.len(), other.val.len()),
        "{text}"
    );
}

#[test]
fn wrong_sources_are_refused_with_the_entry() {
    let folder = three();
    let refused = |text: &str| {
        folder.text("data.yaml", text);
        folder.error().replace("DIR/data.yaml:1: ", "")
    };
    for (text, expected) in [
        ("sources: {path: yolo}\n", "`sources:` is a list of data sets, each with `path:`"),
        ("sources: [gone]\n", "source 1 (`gone`): it is not there (looked for DIR/gone)"),
        ("sources: [{tasks: [a]}]\n", "source 1 (``): expected `path:`, a folder in any layout or a data.yaml"),
        ("sources: [yolo, {path: table, ratoi: 0.1}]\n", "source 2 (`table`): `ratoi` is not a key of a source"),
        ("sources: [{path: yolo, ratio: 0.5, repeat: 2}]\n", "`ratio:` and `repeat:` exclude each other"),
        ("sources: [{path: yolo, ratio: 2}]\n", "`ratio:` is the share of its images in every batch"),
        ("sources: [{path: yolo, repeat: 0}]\n", "`repeat:` is a number above 0"),
        ("sources: [{path: yolo, ratio: 0.6}, {path: table, ratio: 0.6}]\n", "add up to 1.2: expected at most 1"),
        ("sources: [{path: yolo, ratio: 1}, table]\n", "which leaves nothing for `table`"),
        (
            "sources: [{path: yolo, ratio: 0.5}, {path: table, ratio: 0.4}]\n",
            "every source has a `ratio:`, and together they are 0.9",
        ),
        ("sources: [{path: yolo, tasks: [cells]}]\n", "it has no task `cells`; its tasks are objects"),
        ("sources: [{path: yolo, use: both}]\n", "`use:` is train, val or test"),
        ("sources: [{path: yolo, use: val, split: {train: images}}]\n", "`split:` and `use:` exclude each other"),
        ("sources: [{path: yolo, split: {train: gone}}]\n", "`train: gone` is neither a folder nor a list file"),
    ] {
        let said = refused(text);
        assert!(said.contains(expected), "{text}: {said}");
    }
    let beside = refused("sources: [yolo]\nnames: [a]\n");
    assert!(beside.contains("`names:` stands beside `sources:`, and every source has its own"), "{beside}");
    let kinds = refused("sources: [{path: yolo}, {path: scenes, tasks: {class: objects}}]\n");
    assert!(
        kinds.contains(
            "task `objects` is a classification in `scenes` and a detection in `yolo`: give one of them another name"
        ),
        "{kinds}"
    );
    folder.text("both/data.yaml", "sources: [../yolo]\n");
    for itself in ["both/data.yaml", "both", "data.yaml", "."] {
        assert!(refused(&format!("sources: [{itself}]\n")).contains("it lists `sources:` itself"), "{itself}");
    }
}

#[test]
fn a_run_of_some_tasks_has_the_images_of_all() {
    let folder = three();
    let names = |dataset: &Dataset| dataset.val.iter().map(|s| s.name.clone()).collect::<Vec<_>>();
    let whole = folder.open();
    for task in ["objects", "scene"] {
        let options = OpenOptions { tasks: vec![task.into()], ..Default::default() };
        let alone = Dataset::open(folder.path(), &options).unwrap();
        assert_eq!((alone.tasks.len(), names(&alone), alone.crop_safe), (1, names(&whole), whole.crop_safe), "{task}");
    }
}

#[test]
fn sources_can_be_checked() {
    use crate::data::check::{CheckOptions, check};
    let folder = three();
    folder.text(
        "table/metadata.jsonl",
        "{\"file_name\":\"0.png\",\"objects\":{\"bbox\":[[1,2,100,8]],\"categories\":[\"owl\"]}}\n",
    );
    let options = CheckOptions { open: OpenOptions::default(), max_broken: 0.0 };
    let found = check(folder.path(), &options, &Default::default()).unwrap().check;
    assert!(found.stops.is_empty(), "{found}");
    let text = found.to_string();
    assert!(text.contains("metadata.jsonl:1: the box [1, 2, 101, 10] reaches beyond table/0.png"), "{text}");
    assert!(text.contains("data.yaml with 3 sources\n"), "{text}");
}
