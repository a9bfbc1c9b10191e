//! The order of classes: if polyhead chooses it, a note says that other tools may differ; the order in a file is kept.

use super::Folder;
use crate::data::dataset::Dataset;

const IMAGES: [&str; 3] = ["train/p.png", "train/q.png", "val/r.png"];

/// Creates a folder in some layout with the classes A and B.
type Make = fn([&str; 2]) -> Folder;

fn with(images: &[&str], files: &[(&str, &str)], [a, b]: [&str; 2]) -> Folder {
    let folder = Folder::new();
    folder.images(images);
    for (name, text) in files {
        folder.text(name, &text.replace("<A>", a).replace("<B>", b));
    }
    folder
}

fn class_folders([a, b]: [&str; 2]) -> Folder {
    let names = [format!("train/{a}/p.png"), format!("train/{b}/q.png"), format!("val/{a}/r.png")];
    with(&names.each_ref().map(String::as_str), &[], [a, b])
}

const OURS: [(&str, Make); 8] = [
    ("class folders", class_folders),
    ("class folders of a data.yaml", |names| {
        let folder = class_folders(names);
        folder.text("data.yaml", "train: train\nval: val\ntasks:\n  c: {type: classify, from: folders}\n");
        folder
    }),
    ("VOC", |names| {
        const XML: &str = "<annotation>\n<object><name><A></name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>\n<object><name><B></name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>\n</annotation>\n";
        let images = ["JPEGImages/p.png", "JPEGImages/q.png"];
        let lists = [("ImageSets/Main/train.txt", "p\n"), ("ImageSets/Main/val.txt", "q\n")];
        with(&images, &[lists[0], lists[1], ("Annotations/p.xml", XML), ("Annotations/q.xml", XML)], names)
    }),
    ("rows of boxes", |names| {
        let rows =
            "filename,width,height,class,xmin,ymin,xmax,ymax\np.png,40,20,<A>,4,2,14,8\nq.png,40,20,<B>,30,2,39,8\n";
        with(&IMAGES, &[("train/_annotations.csv", rows)], names)
    }),
    ("metadata.csv", |names| with(&IMAGES, &[("train/metadata.csv", "file_name,kind\np.png,<A>\nq.png,<B>\n")], names)),
    ("boxes in metadata.jsonl", |names| {
        let line = |image, class| {
            format!(
                "{{\"file_name\": \"{image}\", \"objects\": {{\"bbox\": [[1, 1, 5, 5]], \"categories\": [\"{class}\"]}}}}\n"
            )
        };
        with(&IMAGES, &[("train/metadata.jsonl", &(line("p.png", "<A>") + &line("q.png", "<B>")))], names)
    }),
    ("lists of several classes", |names| {
        let lists = "{\"file_name\": \"train/p.png\", \"sky\": [\"<A>\", \"<B>\"]}\n{\"file_name\": \"train/q.png\", \"sky\": []}\n";
        let yaml = "train: train\nval: val\ntasks:\n  sky: {type: classify, multi_label: true}\n";
        with(&IMAGES, &[("metadata.jsonl", lists), ("data.yaml", yaml)], names)
    }),
    ("BDD100K", |names| {
        let frame = |image, class| {
            format!(
                "{{\"name\": \"{image}\", \"labels\": [{{\"category\": \"{class}\", \"box2d\": {{\"x1\": 0, \"y1\": 0, \"x2\": 5, \"y2\": 5}}}}]}}"
            )
        };
        let train = format!("[{}, {}]", frame("p.png", "<A>"), frame("q.png", "<B>"));
        let val = format!("[{}]", frame("r.png", "<A>"));
        let labels = [("labels/det_20/det_train.json", train.as_str()), ("labels/det_20/det_val.json", &val)];
        with(&IMAGES.map(|name| format!("images/100k/{name}")).each_ref().map(String::as_str), &labels, names)
    }),
];

fn notes(dataset: &Dataset) -> Vec<&String> {
    dataset.notes.iter().filter(|note| note.contains("natural order")).collect()
}

#[test]
fn a_sorted_order_that_differs_from_natural_order_gives_one_note() {
    for (layout, make) in OURS {
        let dataset = make(["class2", "class10"]).open();
        let task = &dataset.tasks[0];
        assert_eq!(task.classes(), ["class10", "class2"], "{layout}");
        let start = format!("{}: classes are numbered in lexicographic order (class10, class2)", task.name);
        assert!(matches!(notes(&dataset)[..], [note] if note.starts_with(&start)), "{layout}: {:?}", dataset.notes);
        for names in [["class1", "class2"], ["cat", "dog"]] {
            assert_eq!(notes(&make(names).open()), [""; 0], "{layout}");
        }
    }
}

#[test]
fn an_order_given_by_a_file_or_the_user_is_kept_without_a_note() {
    let table = "filename, class2, class10\np.png, 1, 0\nq.png, 0, 1\n";
    let header = with(&IMAGES, &[("train/_classes.csv", table)], ["", ""]);
    let named = class_folders(["class2", "class10"]);
    named.text(
        "data.yaml",
        "train: train\nval: val\ntasks:\n  c: {type: classify, from: folders, names: [class10, class2]}\n",
    );
    let coco = r#"{"images": [{"id": 1, "file_name": "p.png", "width": 40, "height": 20}], "annotations": [{"id": 1, "image_id": 1, "category_id": 2, "bbox": [1, 1, 5, 5]}], "categories": [{"id": 1, "name": "class10"}, {"id": 2, "name": "class2"}]}"#;
    let coco = with(&IMAGES, &[("train/_annotations.coco.json", coco)], ["", ""]);
    for (folder, classes) in
        [(header, ["class2", "class10"]), (named, ["class10", "class2"]), (coco, ["class10", "class2"])]
    {
        let dataset = folder.open();
        assert_eq!(dataset.tasks[0].classes(), classes);
        assert_eq!(notes(&dataset), [""; 0]);
    }
}

/// Numeric class names are sorted by value, 2 before 10 and −2 before −1, without a note.
#[test]
fn numbers_are_sorted_by_value() {
    for (names, classes) in [(["10", "2"], ["2", "10"]), (["-1", "-2"], ["-2", "-1"])] {
        let dataset = OURS[1].1(names).open();
        assert_eq!((dataset.tasks[0].classes(), notes(&dataset).len()), (classes.map(String::from).as_slice(), 0));
    }
}
