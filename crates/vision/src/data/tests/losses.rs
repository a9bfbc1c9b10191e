//! The loss options in data.yaml, and one clear sentence for each invalid one.

use super::Folder;
use crate::ir::ValueLossForm;
use crate::tasks::Task;
use crate::tasks::classify::Classify;
use crate::tasks::regress::Regress;

/// Four training images of classes a, a, a, b and one for validation; `keys` are added beside `type` and `from`.
fn folder(kind: &str, keys: &str) -> Folder {
    let folder = Folder::new();
    folder.images(&["train/1.png", "train/2.png", "train/3.png", "train/4.png", "val/5.png"]);
    folder.text("t.csv", "file,k,n\n1.png,a,1\n2.png,a,2\n3.png,b,3\n4.png,a,4\n5.png,b,5\n");
    folder.text("data.yaml", &format!("train: train\nval: val\ntasks:\n  {kind}, from: {{csv: t.csv}}{keys}}}\n"));
    folder
}

fn task(kind: &str, keys: &str) -> Task {
    folder(kind, keys).open().tasks.remove(0)
}

/// The task's loss in its card; empty if it is the kind's default.
fn loss_in_card(task: Task) -> String {
    let card: serde_json::Value = serde_json::to_value(task).unwrap();
    card.get("loss").map_or(String::new(), ToString::to_string)
}

const CLASSES: &str = "k: {type: classify";
const VALUES: &str = "n: {type: regress";

#[test]
fn losses_are_read_and_balanced_weights_are_counted_on_the_training_split() {
    assert_eq!([task(CLASSES, ""), task(VALUES, ", loss: huber")].map(loss_in_card), ["", ""]);
    assert_eq!(task(VALUES, ", loss: mse").spec.get::<Regress>().unwrap().loss, ValueLossForm::Mse);
    let given = task(CLASSES, ", class_weights: [1, 2.5], label_smoothing: 0.1");
    let given: &Classify = given.spec.get().unwrap();
    assert_eq!((given.class_weights.as_deref(), given.label_smoothing), (Some(&[1.0, 2.5][..]), 0.1));
    // Three images of a and one of b: the b of the validation split does not count.
    let folder = folder(CLASSES, ", class_weights: balanced");
    let dataset = folder.open();
    let balanced: &Classify = dataset.tasks[0].spec.get().unwrap();
    assert_eq!(balanced.class_weights, Some(vec![4.0 / 6.0, 2.0]));
    assert!(dataset.notes.contains(&"k: balanced class weights: a 0.667, b 2.000".to_owned()), "{:?}", dataset.notes);
}

#[test]
fn an_invalid_loss_says_where_and_what_to_do() {
    let numbers = "`class_weights:` is `balanced`, or a number above 0 for each class such as `[1, 2.5]`";
    let share = "`label_smoothing:` is a share from 0 to below 1, such as 0.1";
    let cases = [
        (CLASSES, ", class_weights: even", format!("task `k`: {numbers}")),
        (CLASSES, ", class_weights: [1, 0]", format!("task `k`: {numbers}")),
        (CLASSES, ", class_weights: [1, .nan]", format!("task `k`: {numbers}")),
        (CLASSES, ", class_weights: []", format!("task `k`: {numbers}")),
        (
            CLASSES,
            ", class_weights: [1, 2, 3]",
            "task `k`: `class_weights:` has 3 numbers for 2 classes (a, b): give one per class, in this order".into(),
        ),
        (CLASSES, ", label_smoothing: 1", format!("task `k`: {share}")),
        (CLASSES, ", label_smoothing: much", format!("task `k`: {share}")),
        (CLASSES, ", loss: mse", "task `k`: `loss:` belongs to `type: regress`: remove it".into()),
        (VALUES, ", loss: msa", "task `n`: `loss: msa` is neither `huber` nor `mse`; did you mean `mse`?".into()),
        (
            VALUES,
            ", label_smoothing: 0.1",
            "task `n`: `label_smoothing:` belongs to `type: classify` with one class per image: remove it".into(),
        ),
        (
            CLASSES,
            ", multi_label: true, class_weights: balanced",
            "task `k`: `class_weights:` belongs to `type: classify` with one class per image: remove it".into(),
        ),
    ];
    for (kind, keys, expected) in cases {
        assert_eq!(folder(kind, keys).error(), format!("DIR/data.yaml:4: {expected}"), "{keys}");
    }
}
