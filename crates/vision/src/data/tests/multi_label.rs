//! Multi-label tasks: 0/1 columns, lists of names, blanks, and one clear sentence for anything else.

use super::{Folder, label, of_classes};
use crate::data::check;
use crate::tasks::Label;
use crate::tasks::multi_label::MultiLabel;

const IMAGES: [&str; 4] = ["train/1.png", "train/2.png", "train/3.png", "val/4.png"];

fn with_table(table: &str, task: &str) -> Folder {
    let folder = Folder::new();
    folder.images(&IMAGES).text("t.csv", table);
    folder.text("data.yaml", &format!("train: train\nval: val\ntasks:\n  sky: {{type: classify, {task}}}\n"));
    folder
}

fn with_lists(lists: [&str; 4], task: &str) -> Folder {
    let folder = Folder::new();
    folder.images(&IMAGES);
    let line = |(name, list): (&&str, &str)| format!("{{\"file_name\": \"{name}\", \"sky\": {list}}}\n");
    folder.text("metadata.jsonl", &IMAGES.iter().zip(lists).map(line).collect::<String>());
    let keys = format!("type: classify, multi_label: true{task}");
    folder.text("data.yaml", &format!("train: train\nval: val\ntasks:\n  sky: {{{keys}}}\n"));
    folder
}

const TABLE: &str = "file,sun,rain\n1.png,1,0\n2.png,,true\n3.png,0,0.0\n4.png,,\n";
const COLUMNS: &str = "multi_label: true, from: {csv: t.csv, column: [sun, rain]}";

#[test]
fn columns_of_0_and_1_are_classes_and_a_blank_cell_is_unlabelled_for_one() {
    let dataset = with_table(TABLE, COLUMNS).open();
    let classes = vec!["sun".to_owned(), "rain".to_owned()];
    assert_eq!(dataset.tasks[0].spec.get(), Some(&MultiLabel::new(classes)));
    let said = |name| label(&dataset, name, 0).clone();
    assert_eq!(said("train/1.png"), of_classes(vec![Some(true), Some(false)]));
    assert_eq!(said("train/2.png"), of_classes(vec![None, Some(true)]));
    assert_eq!(said("train/3.png"), of_classes(vec![Some(false); 2]));
    assert_eq!(said("val/4.png"), Label::UNLABELLED);
    let blank = "sky: 1 row with some of the columns blank, so unlabelled for these classes (t.csv:3)";
    assert!(dataset.notes.contains(&blank.to_owned()), "{:?}", dataset.notes);
    assert!(dataset.crop_safe);

    let report = check::coverage::check(&dataset);
    let (task, train) = (&report.tasks[0], report.tasks[0].splits[0]);
    assert_eq!((task.kind, train.labelled, train.empty, train.unlabelled), ("multi-label", 2, 1, 0));
    assert_eq!(task.classes, [("sun".to_owned(), [1, 0, 0]), ("rain".to_owned(), [1, 0, 0])]);
}

#[test]
fn names_rename_columns_and_one_column_is_one_class() {
    let renamed = with_table(TABLE, &format!("{COLUMNS}, names: [bright, wet]")).open();
    assert_eq!(renamed.tasks[0].classes(), ["bright", "wet"]);
    let one = with_table(TABLE, "multi_label: true, from: {csv: t.csv, column: rain}").open();
    assert_eq!(one.tasks[0].classes(), ["rain"]);
    assert_eq!(*label(&one, "train/2.png", 0), of_classes(vec![Some(true)]));
}

#[test]
fn a_column_of_lists_holds_the_classes_that_are_there() {
    let lists = [r#"["rain", "sun"]"#, "[]", r#"["sun"]"#, "null"];
    let dataset = with_lists(lists, "").open();
    assert_eq!(dataset.tasks[0].classes(), ["rain", "sun"]);
    let said = |name| label(&dataset, name, 0).clone();
    assert_eq!(said("train/1.png"), of_classes(vec![Some(true); 2]));
    assert_eq!(said("train/2.png"), of_classes(vec![Some(false); 2]));
    assert_eq!(said("train/3.png"), of_classes(vec![Some(false), Some(true)]));
    assert_eq!(said("val/4.png"), Label::UNLABELLED);

    let numbers = with_lists(["[1, 0, null]", "[0, 0, 1]", "[1, 1, 1]", "null"], ", names: [a, b, c]").open();
    assert_eq!(*label(&numbers, "train/1.png", 0), of_classes(vec![Some(true), Some(false), None]));
}

#[test]
fn what_is_no_label_says_where_and_what_to_do() {
    let table = |table: &str, task: &str| with_table(table, task).error();
    assert_eq!(
        table("file,sun,rain\n1.png,1,0\n2.png,2,1\n", COLUMNS),
        "DIR/t.csv:3: column `sun` holds `2`; expected 1 (present) or 0 (absent), or a blank cell for unlabelled"
    );
    assert_eq!(
        table(TABLE, &format!("{COLUMNS}, names: [bright]")),
        "DIR/t.csv:2: task `sky`: 2 labels of 0 or 1, but the classes are bright: give one per class, in this order"
    );
    assert_eq!(
        table(TABLE, "from: {csv: t.csv, column: [sun, rain]}"),
        "DIR/data.yaml:4: task `sky`: several columns fit `type: classify` with `multi_label: true` or `type: regress`; name one"
    );
    assert_eq!(
        table(TABLE, "multi_label: true, from: folders"),
        "DIR/data.yaml:4: task `sky`: `from: folders` gives an image one class: remove `multi_label`, or name the columns of 0 and 1"
    );
    assert_eq!(table(TABLE, "multi_label: yes"), "DIR/data.yaml:4: `multi_label:` is `true` or `false`");
    assert_eq!(
        table("file,sun,rain\n1.png,,\n4.png,1,0\n", COLUMNS),
        "DIR/data.yaml:4: task `sky`: no label in the training split: label some images, or remove the task"
    );
    assert_eq!(
        with_lists([r#"["sun"]"#, r#"["sum"]"#, "[]", "[]"], ", names: [sun, rain]").error(),
        "DIR/metadata.jsonl:2: class `sum` is not known; task `sky` knows sun, rain; correct it, or add it to `names:`; did you mean `sun`?"
    );
    let folder = with_table(TABLE, COLUMNS);
    folder.text("data.yaml", "train: train\ntasks:\n  n: {type: regress, multi_label: true, from: {csv: t.csv}}\n");
    assert_eq!(folder.error(), "DIR/data.yaml:3: task `n`: `multi_label: true` belongs to `type: classify`: remove it");
}
