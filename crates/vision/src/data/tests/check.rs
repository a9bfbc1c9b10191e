//! All problems of a data set are found with their positions; a repaired copy has none of them.

use super::Folder;
use super::pixels::jpeg;
use crate::data::check::{CheckOptions, Examined, ProblemKind, check, fix};
use crate::data::convert::Transfer;
use crate::data::dataset::{Dataset, OpenOptions};
use crate::data::images::Image;
use crate::data::progress::Progress;
use crate::tasks::Label;
use std::fs;

fn examined(folder: &Folder) -> Examined {
    let options = CheckOptions { open: OpenOptions::default(), max_broken: 0.01 };
    check(&folder.path().join("in"), &options, &Progress::default()).unwrap()
}

/// `kind file:line` of every problem.
fn found(folder: &Folder, examined: &Examined) -> Vec<String> {
    let root = folder.path().join("in");
    let place = |p: &crate::data::check::Problem| {
        let file = p.file.strip_prefix(&root).unwrap().display().to_string();
        format!("{:?} {file}:{}", p.kind, p.line.unwrap_or(0))
    };
    examined.check.problems.iter().map(place).collect()
}

/// A PNG of 40 × 20 pixels that differs for every number.
fn picture(folder: &Folder, name: &str, number: u8) {
    let file = folder.path().join("in").join(name);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    image::RgbImage::from_pixel(40, 20, image::Rgb([number, 120, 150])).save(file).unwrap();
}

fn yolo(train: &str) -> Folder {
    let folder = Folder::new();
    for (number, name) in ["train/a.png", "train/b.png", "train/c.png", "val/d.png"].iter().enumerate() {
        picture(&folder, &format!("images/{name}"), number as u8);
    }
    folder.text("in/data.yaml", "train: images/train\nval: images/val\nnames: [cat, dog]\n");
    folder.text("in/labels/train/a.txt", train).text("in/labels/val/d.txt", "0 0.5 0.5 0.2 0.2\n");
    folder
}

#[test]
fn every_wrong_row_is_named_and_the_rest_is_counted() {
    let rows =
        "0 0.5 0.5 0.2 0.2\n2 0.5 0.5 0.2 0.2\n0 20 10 4 4\n1 0.5 0.5 0 0.5\n0 0.5 0.5 0.2 0.2\n1 0.98 0.5 0.2 0.2\n";
    let folder = yolo(rows);
    let examined = examined(&folder);
    let expected = [
        "Label labels/train/a.txt:2",
        "Label labels/train/a.txt:3",
        "BoxOutside labels/train/a.txt:6",
        "DegenerateBox labels/train/a.txt:4",
        "DuplicateBox labels/train/a.txt:5",
    ];
    let found = found(&folder, &examined);
    assert_eq!(found, expected);
    assert!(examined.check.problems[1].message.contains("not pixels"), "{}", examined.check);
    // With two rows that cannot be read, nobody knows what is in the picture.
    let coverage = &examined.check.coverage.tasks[0].splits[0];
    assert_eq!((coverage.boxes, coverage.unlabelled), (0, 1));
    let verdict = examined.check.verdict().unwrap_err().to_string();
    assert_eq!(verdict, "training would not start: 2 problems in the declaration or the labels, listed in the report");
    assert!(Dataset::open(&folder.path().join("in"), &OpenOptions::default()).is_err());

    let out = folder.path().join("out");
    let said = fix(&examined, &out, Transfer::LinkOrCopy, &Progress::default()).unwrap().to_string();
    for part in ["1 box without width or height left out", "1 repeated box left out", "2 labels left out: invalid, so"]
    {
        assert!(said.contains(part), "{part} of {said}");
    }
    let fixed = Dataset::open(&out, &OpenOptions::default()).unwrap();
    assert!(!fixed.train[0].labels[0].is_labelled());
    assert_eq!((fixed.train.len(), fixed.val.len()), (3, 1));
}

#[test]
fn words_numbers_and_lists_that_fit_nothing_are_each_a_problem() {
    let folder = yolo("");
    folder
        .text("in/train.txt", "images/train/a.png\nimages/train/b.png\nimages/train/nowhere.png\nimages/train/c.png\n");
    folder.text("in/t.csv", "file,kind,speed\na.png,cat,1\nb.png,dogg,fast\nc.png,dog,2\nd.png,cow,3\n");
    folder.text(
        "in/data.yaml",
        "train: train.txt\nval: images/val\ntasks:
  kind: {type: classify, names: [cat, dog], from: {csv: t.csv, column: kind}}
  speed: {type: regress, from: {csv: t.csv, column: speed}}
  none: {type: regress, from: {csv: t.csv, column: nothing}}
",
    );
    let examined = examined(&folder);
    let found = found(&folder, &examined);
    let expected = ["Label train.txt:3", "Label t.csv:3", "Label t.csv:5", "Label t.csv:3", "Label data.yaml:6"];
    assert_eq!(found, expected);
    // The other images are still read: two have a class, three a speed.
    let tasks = &examined.check.coverage.tasks;
    assert_eq!(
        tasks.iter().map(|t| (t.splits[0].labelled, t.splits[1].labelled)).collect::<Vec<_>>(),
        [(2, 0), (2, 1)]
    );
    let hint = &examined.check.problems[1].message;
    assert!(hint.contains("did you mean `dog`?"), "{hint}");
}

#[test]
fn copies_are_found_by_pixels_and_leaks_removed_from_training() {
    let folder = yolo("0 0.5 0.5 0.2 0.2\n1 0.2 0.2 0.1 0.1\n");
    // The same pixels in other files: b repeats val's d, c repeats a with other labels.
    image::open(folder.path().join("in/images/val/d.png"))
        .unwrap()
        .save(folder.path().join("in/images/train/b.bmp"))
        .unwrap();
    fs::remove_file(folder.path().join("in/images/train/b.png")).unwrap();
    fs::copy(folder.path().join("in/images/train/a.png"), folder.path().join("in/images/train/c.png")).unwrap();
    let examined = examined(&folder);
    assert_eq!(found(&folder, &examined), ["Leak images/val/d.png:0", "Duplicate images/train/c.png:0"]);
    let [leak, copy] = [0, 1].map(|i| examined.check.problems[i].message.as_str());
    assert_eq!(leak, "the same picture as images/train/b.bmp of train, with other labels");
    assert_eq!(copy, "the same picture as images/train/a.png of train, with other labels");
    examined.check.verdict().unwrap();

    let out = folder.path().join("out");
    let fixed = fix(&examined, &out, Transfer::Copy, &Progress::default()).unwrap();
    assert_eq!(fixed.changes, ["1 training image left out: the same picture is in val or test"]);
    let again =
        check(&out, &CheckOptions { open: OpenOptions::default(), max_broken: 0.0 }, &Progress::default()).unwrap();
    assert_eq!(again.check.count(ProblemKind::Leak), 0);
    assert_eq!(again.check.coverage.images, [2, 1, 0]);
}

#[test]
fn an_unreadable_image_stops_training_beyond_its_share() {
    let folder = yolo("0 0.5 0.5 0.2 0.2\n1 0.2 0.2 0.1 0.1\n");
    fs::write(folder.path().join("in/images/train/b.png"), "no picture").unwrap();
    let one = examined(&folder);
    assert_eq!(found(&folder, &one), ["UnreadableImage images/train/b.png:0"]);
    one.check.verdict().unwrap();
    fs::write(folder.path().join("in/images/train/c.png"), "").unwrap();
    let two = examined(&folder);
    let verdict = two.check.verdict().unwrap_err().to_string();
    assert!(verdict.ends_with("2 of 3 train images unreadable, more than --max-broken 0.01 allows"), "{verdict}");
    fix(&two, &folder.path().join("out"), Transfer::Copy, &Progress::default()).unwrap();
    let options = CheckOptions { open: OpenOptions::default(), max_broken: 0.0 };
    let again = check(&folder.path().join("out"), &options, &Progress::default()).unwrap();
    assert!(again.check.problems.is_empty() && again.check.coverage.images == [1, 1, 0]);
}

#[test]
fn boxes_are_held_against_the_picture_and_its_exif() {
    let folder = Folder::new();
    for (number, name) in ["train/a.png", "train/b.png", "train/c.png", "val/d.png"].iter().enumerate() {
        picture(&folder, name, number as u8);
    }
    let upright = Image { width: 60, height: 40, rgb: (0..60 * 40 * 3).map(|v| v as u8).collect() };
    fs::write(folder.path().join("in/train/turned.jpg"), jpeg(&upright, Some(6))).unwrap();
    fs::write(folder.path().join("in/train/turned_well.jpg"), jpeg(&upright, Some(8))).unwrap();
    let row = |name: &str, boxes: &str| {
        let classes = vec!["\"x\""; boxes.matches('[').count()].join(", ");
        format!("{{\"file_name\": \"{name}\", \"o\": {{\"bbox\": [{boxes}], \"categories\": [{classes}]}}}}\n")
    };
    let table = row("train/a.png", "[5, 5, 10, 10], [35, 5, 10, 10], [50, 5, 10, 10]")
        + &row("train/b.png", "[0.1, 0.2, 0.5, 0.6], [0.5, 0.5, 0.2, 0.1]")
        + &row("train/c.png", "[0, 0, 41, 21]")
        + &row("train/turned.jpg", "[0, 0, 10, 10], [45, 5, 10, 10]")
        + &row("train/turned_well.jpg", "[0, 45, 10, 10]");
    folder.text("in/metadata.jsonl", &table);
    folder.text("in/data.yaml", "train: train\nval: val\ntasks:\n  o: {type: detect, from: o}\n");
    let examined = examined(&folder);
    let expected = [
        "Exif metadata.jsonl:4",
        "Scale metadata.jsonl:2",
        "BoxOutside metadata.jsonl:1",
        "BoxOutside metadata.jsonl:1",
    ];
    assert_eq!(found(&folder, &examined), expected, "{}", examined.check);
    let message = &examined.check.problems[2].message;
    assert_eq!(message, "the box [35, 5, 45, 15] reaches beyond train/a.png, which is 40 × 20");
    assert!(examined.check.problems[3].message.contains("lies outside"));

    let out = folder.path().join("out");
    let said = fix(&examined, &out, Transfer::LinkOrCopy, &Progress::default()).unwrap();
    let unlabelled = "2 images unlabelled now: their boxes are in another scale or drawn before the picture was turned";
    assert_eq!(said.changes, ["1 box wholly outside left out", "2 boxes clipped to the image", unlabelled]);
    let fixed = Dataset::open(&out, &OpenOptions::default()).unwrap();
    let Some(boxes) = fixed.train[0].labels[0].boxes() else { panic!() };
    assert_eq!(boxes.iter().map(|b| b.xyxy).collect::<Vec<_>>(), [[5.0, 5.0, 15.0, 15.0], [35.0, 5.0, 40.0, 15.0]]);
    assert_eq!(fixed.train.iter().filter(|s| s.labels[0] == Label::UNLABELLED).count(), 2);
}

#[test]
fn every_problem_is_said_once() {
    let folder = yolo("7 0.5 0.5 0.2 0.2\n");
    fs::write(folder.path().join("in/images/train/b.png"), "").unwrap();
    folder.text("in/labels/train/b.txt", "0 0.5 0.5 0.2 0.2\n");
    let check = examined(&folder).check;
    let said = format!("{check}\n{}", check.verdict().unwrap_err());
    for words in ["class 7, but 2 classes are declared", "images/train/b.png"] {
        assert_eq!(said.matches(words).count(), 1, "{words}: {said}");
    }
    assert!(
        said.ends_with("would not start: 1 problem in the declaration or the labels, listed in the report"),
        "{said}"
    );
}

#[test]
fn boxes_are_counted_only_for_tasks_that_have_them() {
    let folder = yolo("1 0.5 0.5 0.2 0.2\n");
    folder.text("in/t.csv", "file,speed\na.png,1\nb.png,2\nd.png,3\n");
    let speed = "speed: {type: regress, from: {csv: t.csv}}";
    let table = |tasks: &str| {
        folder.text("in/data.yaml", &format!("train: images/train\nval: images/val\ntasks:\n{tasks}"));
        let text = examined(&folder).check.to_string();
        let rows: Vec<String> = text.lines().skip(2).take_while(|line| !line.is_empty()).map(str::to_string).collect();
        rows
    };
    let both = table(&format!("  o: {{type: detect, names: [cat, dog], from: {{yolo: labels}}}}\n  {speed}\n"));
    assert!(both[0].ends_with("  unlabelled     boxes"), "{both:#?}");
    let last: Vec<&str> = both[1..].iter().map(|row| row.split_whitespace().last().unwrap()).collect();
    assert_eq!(last, ["1", "1", "–", "–"]);
    assert!(both.iter().all(|row| row.chars().count() == both[0].chars().count()), "{both:#?}");
    let none = table(&format!("  {speed}\n"));
    assert!(none[0].ends_with("  unlabelled") && none[1].ends_with("         1"), "{none:#?}");
}
