//! data.yaml and folders: accepted declarations, and one clear sentence for each rejected one.

use super::Folder;
use crate::data::dataset::{Dataset, OpenOptions};

fn with_tasks(tasks: &str) -> Folder {
    let folder = Folder::new();
    folder.images(&["train/cat/a.png", "train/dog/b.png", "val/cat/c.png"]);
    folder.text("t.csv", "file,n\na.png,1\nb.png,2\nc.png,3\n");
    folder.text("data.yaml", &format!("# comment: tasks\ntrain: train\nval: val\ntasks:\n{tasks}"));
    folder
}

#[test]
fn wrong_declarations_say_where_and_what_to_do() {
    let cases = [
        (
            "  kind: {typ: classify}\n",
            "DIR/data.yaml:5: task `kind` has no key `typ` (known: type, from, names, missing, crop_safe, flip_safe, flip_invariant, scale_invariant, per, class_weights, label_smoothing, multi_label, bbox_format, labelled_categories, unit, units, range, loss); did you mean `type`?",
        ),
        (
            "  kind:\n    type: clasify\n",
            "DIR/data.yaml:6: task `kind`: `type: clasify` is none of classify, detect, regress; did you mean `classify`?",
        ),
        ("  kind: {from: folders}\n", "DIR/data.yaml:5: task `kind` needs `type: classify`, `detect` or `regress`"),
        (
            "  kind: classify\n",
            "DIR/data.yaml:5: task `kind` is declared as `kind: {type: classify|detect|regress, from: …}`",
        ),
        (
            "  n: {type: regress, from: folders}\n",
            "DIR/data.yaml:5: task `n`: `from: folders` fits `type: classify` with one class per image, not `type: regress`",
        ),
        (
            "  n:\n    type: regress\n    from: {csv: u.csv, column: n}\n",
            "DIR/data.yaml:7: task `n`: the file `u.csv` is not there (looked for DIR/u.csv): correct `csv:`",
        ),
        (
            "  n: {type: regress, from: {csv: t.csv, colum: n}}\n",
            "DIR/data.yaml:5: task `n`: `from: {csv: …}` has no key `colum`; did you mean `column`?",
        ),
        (
            "  o: {type: detect, from: {coco: a.json}}\n",
            "DIR/data.yaml:5: task `o`: the file `a.json` is not there (looked for DIR/a.json): correct `coco:`",
        ),
        (
            "  o: {type: regress, from: {coco: a.json}}\n",
            "DIR/data.yaml:5: task `o`: `from: {coco: …}` fits `type: detect`, not `type: regress`",
        ),
        (
            "  o: {type: regress, from: {bdd: a.json}}\n",
            "DIR/data.yaml:5: task `o`: `from: {bdd: …}` fits `type: classify` with one class per image or `type: detect`, not `type: regress`",
        ),
        (
            "  o: {type: detect, from: {csv: t.csv, column: n}}\n",
            "DIR/data.yaml:5: task `o`: `from: {csv: …}` of boxes has no key `column`",
        ),
        (
            "  o: {type: detect, from: {csv: {trian: t.csv}}}\n",
            "DIR/data.yaml:5: task `o`: `csv: {trian: …}` names no split: the keys are train, val and test",
        ),
        (
            "  n: {type: regress, from: {csv: t.csv}, missing: background}\n",
            "DIR/data.yaml:5: task `n`: `missing: background` belongs to `type: detect`: remove it",
        ),
        (
            "  n: {type: regress, from: {csv: t.csv}, labelled_categories: [a]}\n",
            "DIR/data.yaml:5: task `n`: `labelled_categories:` belongs to `type: detect`: remove it",
        ),
        (
            "  n: {type: regress, from: {csv: t.csv}, bbox_format: xyxy_abs}\n",
            "DIR/data.yaml:5: task `n`: `bbox_format:` belongs to `type: detect`: remove it",
        ),
        (
            "  o: {type: detect, from: {csv: t.csv}, range: [0, 1]}\n",
            "DIR/data.yaml:5: task `o`: `range:` belongs to `type: regress`: remove it",
        ),
        (
            "  o: {type: classify, multi_label: true, from: {csv: t.csv}, range: [0, 1]}\n",
            "DIR/data.yaml:5: task `o`: `range:` belongs to `type: regress`: remove it",
        ),
        (
            "  o: {type: detect, from: {yola: labels}}\n",
            "DIR/data.yaml:5: task `o`: `from:` is a column, `folders`, {csv: FILE, column: NAME}, {yolo: DIR}, {voc: DIR}, {coco: FILE}, {bdd: FILE}, or one of labelme, cvat, createml, kitti, via, vott, label_studio, datumaro with its file or folder, not `yola`; did you mean `yolo`?",
        ),
        (
            "  k: {type: regress, per: objects}\n",
            "DIR/data.yaml:5: task `k`: `per: objects` (a value per box) is not supported yet: remove this task",
        ),
        (
            "  k: {type: classify, names: [a, a], from: folders}\n",
            "DIR/data.yaml:5: `names:` lists `a` twice: every class once",
        ),
        (
            "  k: {type: classify, names: {0: a, 2: b}, from: folders}\n",
            "DIR/data.yaml:5: `names:` has no class 1: number the classes 0, 1, 2, … without a gap",
        ),
        (
            "  n: {type: regress, from: {csv: t.csv}, range: [0, 2]}\n",
            "DIR/t.csv:4: 3 is outside the declared `range: [0, 2]`: correct the value or the range",
        ),
        (
            "  n: {type: regress, from: n}\n",
            "DIR/data.yaml:5: task `n` reads the column `n` of a metadata.jsonl or metadata.csv, and none lies beside the images: add one, or say `from: {csv: FILE, column: NAME}`",
        ),
    ];
    for (tasks, expected) in cases {
        assert_eq!(with_tasks(tasks).error(), expected);
    }
}

#[test]
fn wrong_top_keys_say_where_and_what_to_do() {
    let cases = [
        (
            "train: trian\nnames: [a]\n",
            "DIR/data.yaml:1: `train: trian` is neither a folder nor a list file (looked for DIR/trian): correct it, or leave it out",
        ),
        (
            "path: nowhere\nnames: [a]\n",
            "DIR/data.yaml:1: `path: nowhere` is not a folder (looked for DIR/nowhere and for nowhere in the current folder): give it relative to this file, or leave it out",
        ),
        (
            "names: [a, b]\nnc: 3\n",
            "DIR/data.yaml:2: `nc: 3`, but `names:` lists 2 classes: make them agree, or leave `nc` out",
        ),
        (
            "train: images\n",
            "DIR/data.yaml: neither `tasks:` nor `names:`: list the class names of the YOLO labels as `names: [cat, dog]`, or declare tasks",
        ),
        (
            "names: [a]\nval_fraction: 2\n",
            "DIR/data.yaml:2: `val_fraction:` is a number from 0 to less than 1, such as 0.2",
        ),
        ("names: [a]\nmissing: no\n", "DIR/data.yaml:2: `missing: no` is neither `background` nor `unlabelled`"),
        (
            "train: images\nval: empty\nnames: [a]\n",
            "DIR/empty: the val split holds no image (jpg, jpeg, jfif, png, bmp, webp, tif, tiff, gif, ppm, pgm, pbm, pnm are read): put images there or correct the declaration",
        ),
    ];
    for (yaml, expected) in cases {
        let folder = Folder::new();
        folder.images(&["images/a.png", "images/b.png"]).text("labels/a.txt", "").text("empty/readme.txt", "");
        folder.text("data.yaml", yaml);
        assert_eq!(folder.error(), expected);
    }
    let folder = Folder::new();
    folder.text("data.yaml", "names: [a\ntrain: b\n");
    let error = folder.error();
    assert!(error.starts_with("DIR/data.yaml:2: not valid YAML"), "{error}");
}

#[test]
fn unknown_top_keys_are_a_note() {
    let folder = with_tasks("  kind: {type: classify, from: folders}\nnmaes: [a]\ndownload: x\n");
    assert_eq!(
        folder.open().notes[0].replace(&*folder.path().to_string_lossy(), "DIR"),
        "DIR/data.yaml:6: the key `nmaes` is not known and is ignored; did you mean `names`?"
    );
}

#[test]
fn a_class_number_where_no_class_is_declared_is_named() {
    let folder = Folder::new();
    folder.images(&["images/a.png", "images/b.png"]).text("labels/a.txt", "0 0.5 0.5 0.5 0.5\n");
    folder.text("data.yaml", "train: images\nval: images\nnc: 0\n");
    assert_eq!(
        folder.error(),
        "DIR/labels/a.txt:1: class 0, but no class is declared: correct the row or add the class to `names:`"
    );
}

#[test]
fn an_error_names_the_unknown_keys_that_may_be_its_cause() {
    let of_names = "DIR/data.yaml: neither `tasks:` nor `names:`: list the class names of the YOLO labels as `names: [cat, dog]`, or declare tasks";
    let of_labels = "DIR/labels/a.txt:1: class 2, but 2 classes are declared (0 to 1): correct the row or add the class to `names:`";
    let cases = [
        (
            "train: images\nname: [a, b, c]\n",
            of_names,
            "2: the key `name` is not known and is ignored; did you mean `names`?",
        ),
        (
            "task: {o: {type: detect}}\ntrain: images\n",
            of_names,
            "1: the key `task` is not known and is ignored; did you mean `tasks`?",
        ),
        // The error lies in another file and is found later.
        (
            "train: images\nnc: 2\nnmaes: [a, b, c]\n",
            of_labels,
            "3: the key `nmaes` is not known and is ignored; did you mean `names`?",
        ),
    ];
    for (yaml, error, key) in cases {
        let folder = Folder::new();
        folder.images(&["images/a.png", "images/b.png"]).text("labels/a.txt", "2 0.5 0.5 0.5 0.5\n");
        folder.text("data.yaml", &format!("{yaml}unrelated: 1\n"));
        assert_eq!(folder.error(), format!("{error}; DIR/data.yaml:{key}"));
    }
}

#[test]
fn folders_that_are_no_data_set() {
    let open = |folder: &Folder| folder.error();
    let folder = Folder::new();
    assert_eq!(
        open(&folder),
        "DIR: the folder is empty: expected images in class folders, images/ + labels/, or a data.yaml"
    );
    folder.text("notes/a.txt", "");
    assert!(open(&folder).starts_with("DIR: no layout recognised (it holds notes): expected class folders"));
    let absent = Dataset::open(&folder.path().join("absent"), &OpenOptions::default()).unwrap_err();
    assert!(absent.to_string().ends_with("absent: does not exist: give a data.yaml or a folder of images"));
}

#[test]
fn crops_and_flips_only_where_every_task_allows_them() {
    let safe = |tasks: &str| {
        let dataset = with_tasks(tasks).open();
        (dataset.crop_safe, dataset.flip_safe)
    };
    assert_eq!(safe("  k: {type: classify, from: folders}\n"), (true, true));
    assert_eq!(safe("  k: {type: classify, from: folders}\n  n: {type: regress, from: {csv: t.csv}}\n"), (false, true));
    assert_eq!(
        safe(
            "  k: {type: classify, from: folders}\n  n: {type: regress, from: {csv: t.csv}, crop_safe: true, flip_safe: false}\n"
        ),
        (true, false)
    );
    assert_eq!(
        safe("  k: {type: classify, from: folders}\n  n: {type: regress, from: {csv: t.csv}}\ncrop_safe: true\n"),
        (true, true)
    );
}

#[test]
fn each_task_has_its_own_invariances_or_those_of_its_kind() {
    let invariances = |tasks: &str| {
        let dataset = with_tasks(tasks).open();
        let each: Vec<[bool; 2]> = dataset.invariances.iter().map(|b| [b.crop, b.scale]).collect();
        (each, dataset.flip_safe, dataset.scale_safe)
    };
    let k = "  k: {type: classify, from: folders}\n";
    let n = |says: &str| format!("{k}  n: {{type: regress, from: {{csv: t.csv}}{says}}}\n");
    assert_eq!(invariances(k), (vec![[true, true]], true, true));
    // A regression without declared flags keeps its mild default scaling.
    assert_eq!(invariances(&n("")), (vec![[true, true], [false, false]], true, true));
    assert_eq!(invariances(&n(", scale_invariant: true")).0[1], [false, true]);
    assert_eq!(invariances(&n(", scale_invariant: false")), (vec![[true, true], [false, false]], true, false));
    assert!(!invariances(&n(", flip_invariant: false")).1);
    assert!(!invariances(&n(", flip_invariant: true, flip_safe: false")).1);
    let top = invariances(&format!("{}scale_invariant: false\nflip_invariant: false\n", n("")));
    assert_eq!(top, (vec![[true, false], [false, false]], false, false));
    let said = with_tasks("  k: {type: classify, from: folders, scale_invariant: perhaps}\n").error();
    assert!(said.contains("scale_invariant") && said.contains("true"), "{said}");
}
