//! Label files that ask for too much: large ones are read in linear time, huge numbers are refused before memory is taken, and
//! what is no file is not waited for.

use super::Folder;
use crate::data::dataset::{Dataset, OpenOptions};
use crate::reading::yaml::{self, Tree, Yaml};
use std::fmt::Write;
use std::time::{Duration, Instant};

/// Runs a job that takes a tenth of a second or two if its time is linear, and over ten seconds if it is quadratic.
pub fn in_linear_time<T>(what: &str, job: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let made = job();
    assert!(started.elapsed() < Duration::from_secs(5), "{what} took {:?}", started.elapsed());
    made
}

fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).fold(String::new(), |mut text, i| {
        writeln!(text, "{}", line(i)).unwrap();
        text
    })
}

#[test]
fn many_keys_have_their_lines_found() {
    let text = lines(150_000, |i| format!("key{i}: 1"));
    in_linear_time("150,000 keys", || {
        let Tree { lines, .. } = yaml::read(&text).unwrap();
        let yaml = Yaml { file: "data.yaml".into(), lines };
        for i in 0..150_000 {
            assert_eq!(yaml.lines.of(&[format!("key{i}")]), Some(i + 1));
        }
    });
}

#[test]
fn many_names_are_compared() {
    for (start, name) in [("names:\n", "- class"), ("names: {", "")] {
        let folder = Folder::new();
        let text = match name {
            "" => format!("{start}{}}}\n", lines(200_000, |i| format!(" {i}: class{i},"))),
            name => format!("{start}{}", lines(200_000, |i| format!("{name}{i}"))),
        };
        folder.images(&["images/a.png", "images/b.png"]).text("labels/a.txt", "199999 .5 .5 .2 .2\n");
        folder.text("labels/b.txt", "0 .5 .5 .2 .2\n").text("data.yaml", &text);
        let dataset = in_linear_time("200,000 names", || folder.open());
        assert_eq!(dataset.tasks[0].spec.classes().len(), 200_000);
    }
    let folder = Folder::new();
    folder.images(&["images/a.png", "images/b.png"]).text("labels/a.txt", "");
    folder.text("data.yaml", &format!("names:\n{}", lines(3, |i| format!("- class{}", i % 2))));
    assert_eq!(folder.error(), "DIR/data.yaml:1: `names:` lists `class0` twice: every class once");
}

#[test]
fn many_categories_of_coco_are_numbered() {
    let folder = Folder::new();
    folder.images(&["train/a.png", "val/b.png"]);
    let list = |entry: &dyn Fn(usize) -> String| (0..100_000).map(entry).collect::<Vec<_>>().join(",");
    // Sorted by id they are not sorted by name.
    let categories = list(&|i| format!(r#"{{"id": {i}, "name": "c{i}", "supercategory": "c{}"}}"#, i / 2));
    let boxes =
        list(&|i| format!(r#"{{"id": {i}, "image_id": 1, "category_id": {i}, "bbox": [1, 1, 9, 9], "iscrowd": 0}}"#));
    let file = |image: &str| {
        let images = format!(r#"[{{"id": 1, "file_name": "{image}", "width": 40, "height": 20}}]"#);
        format!(r#"{{"images": {images}, "categories": [{categories}], "annotations": [{boxes}]}}"#)
    };
    folder.text("train/_annotations.coco.json", &file("a.png")).text("val/_annotations.coco.json", &file("b.png"));
    let dataset = in_linear_time("100,000 categories", || folder.open());
    assert_eq!(dataset.tasks[0].spec.classes().len(), 100_000);
    let boxes = super::boxes_of(super::label(&dataset, "train/a.png", 0));
    assert_eq!((boxes.len(), boxes[99_999].0), (100_000, 99_999));
}

#[test]
fn many_columns_of_a_table_are_found() {
    let folder = Folder::new();
    folder.images(&["images/a.png", "images/b.png"]);
    let columns: Vec<String> = (0..100_000).map(|i| format!("v{i}")).collect();
    let row = |name: &str| format!("{name},{}\n", vec!["1"; columns.len()].join(","));
    folder.text("t.csv", &format!("file,{}\n{}{}", columns.join(","), row("a.png"), row("b.png")));
    let task = format!("v: {{type: regress, from: {{csv: t.csv, column: [{}]}}}}", columns.join(", "));
    folder.text("data.yaml", &format!("train: images\nval_fraction: 0.5\ntasks:\n  {task}\n"));
    let dataset = in_linear_time("100,000 columns", || folder.open());
    assert_eq!(dataset.tasks.len(), 1);
}

#[test]
fn many_rows_of_boxes_are_compared() {
    let folder = Folder::new();
    folder.images(&["images/a.png", "images/b.png"]).text("data.yaml", "names: [a]\n");
    // Every row is there twice.
    let rows = lines(300_000, |i| format!("0 {} 0.5 0.1 0.1", 0.1 + (i / 2) as f64 * 5e-6));
    folder.text("labels/a.txt", &rows).text("labels/b.txt", &rows);
    let dataset = in_linear_time("300,000 rows", || folder.open());
    assert_eq!(super::boxes_of(super::label(&dataset, "images/a.png", 0)).len(), 150_000);
}

#[test]
fn blocks_that_lie_too_deep_are_refused() {
    for (file, text) in [
        ("data.yaml", format!("names: {}\n", "[".repeat(100_000))),
        ("data.yaml", format!("names: {}{}\n", "[".repeat(100_000), "]".repeat(100_000))),
        ("data.yaml", format!("names: {}1\n", "{a: ".repeat(100_000))),
        ("images/metadata.jsonl", format!("{{\"file_name\": \"a.png\", \"x\": {}\n", "[".repeat(100_000))),
        ("train/_annotations.coco.json", format!("{{\"images\": {}", "[".repeat(100_000))),
    ] {
        let folder = Folder::new();
        let images = if file.starts_with("train") { "train" } else { "images" };
        folder.images(&[&format!("{images}/a.png"), &format!("{images}/b.png")]).text(file, &text);
        let said = Dataset::open(folder.path(), &OpenOptions::default()).err().unwrap().to_string();
        assert!(said.contains(file), "{said}");
    }
}

#[test]
fn a_huge_number_of_classes_takes_no_memory() {
    let folder = Folder::new();
    folder.images(&["images/train/a.png", "images/val/b.png"]).text("labels/train/a.txt", "1000000000 .5 .5 .2 .2\n");
    folder.text("labels/val/b.txt", "");
    assert_eq!(folder.error(), "DIR/labels/train/a.txt:1: class 1000000000: expected a number below 1048576");
    for (count, said) in [
        ("1000000000", "`nc: 1000000000`: expected at most 1048576 classes"),
        ("18446744073709551615", "`nc: 18446744073709551615`: expected at most 1048576 classes"),
        ("1e30", "`nc:` is the number of classes, a whole number"),
        ("-1", "`nc:` is the number of classes, a whole number"),
    ] {
        folder.text("data.yaml", &format!("train: images/train\nval: images/val\nnc: {count}\n"));
        assert_eq!(folder.error(), format!("DIR/data.yaml:3: {said}"));
    }
    folder.text("data.yaml", "train: images/train\nval: images/val\nnc: 3\n");
    let said = folder.error();
    assert!(said.contains("class 1000000000, but 3 classes are declared (0 to 2)"), "{said}");
}

#[cfg(unix)]
#[test]
fn a_pipe_in_place_of_labels_is_not_waited_for() {
    let pipe = |folder: &Folder, name: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    let tasks = |from: &str| format!("train: images\ntasks:\n  x: {{type: detect, from: {from}, names: [a]}}\n");
    let cases: [(&str, &str, String); 6] = [
        ("labels/a.txt", "labels/a.txt", "names: [a]\n".into()),
        ("labels/a.txt", "labels/a.txt", tasks("{yolo: labels}")),
        ("xml/a.xml", "xml/a.xml", tasks("{voc: xml}")),
        ("t.csv", "t.csv", tasks("{csv: t.csv}")),
        ("c.json", "c.json", tasks("{coco: c.json}")),
        ("list.txt", "list.txt", "train: list.txt\nnames: [a]\n".into()),
    ];
    for (name, named, yaml) in cases {
        let (done, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let folder = Folder::new();
            folder.images(&["images/a.png", "images/b.png"]).text("data.yaml", &yaml);
            pipe(&folder, name);
            let opened = Dataset::open(folder.path(), &OpenOptions::default());
            done.send(opened.map(drop).map_err(|e| e.to_string())).unwrap();
        });
        let said = ended.recv_timeout(Duration::from_secs(60)).expect("the pipe was waited for").unwrap_err();
        assert!(said.contains(named), "{said}");
    }
}
