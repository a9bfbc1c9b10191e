//! Files written by `predict`: reading each format back, names of pictures, broken images, and files that must not be
//! overwritten.

use crate::predict::Place;
use polyhead::tasks::Task;
use polyhead::tasks::classify::Classify;
use polyhead::tasks::detect::Detect;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn table(path: &Path) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    reader.deserialize().map(|row| row.unwrap()).collect()
}

fn close(a: f64, b: f64, by: f64) -> bool {
    (a - b).abs() <= by
}

#[test]
fn every_format_agrees_with_the_lines() {
    let place = Place::new("formats");
    let names = ["000000000139.png", "7.png", "b,\"c\".png"];
    names.iter().for_each(|name| place.image(&format!("images/{name}")));
    place.succeed(&["images", "--out", "out", "--format", "csv,jsonl,yolo,coco", "--no-images"], b"");
    let lines = place.lines("out/predictions.jsonl");
    assert_eq!(lines.len(), 3);
    let read = |file: &str| -> Value { serde_json::from_slice(&std::fs::read(place.path(file)).unwrap()).unwrap() };
    let (results, images) = (read("out/detections.json"), read("out/images.json"));
    let (rows, boxes) = (table(&place.path("out/predictions.csv")), table(&place.path("out/boxes.csv")));
    let things = images["categories"].as_array().unwrap();
    let mut results = results.as_array().unwrap().iter();
    let mut boxes = boxes.iter();
    for ((line, image), row) in lines.iter().zip(images["images"].as_array().unwrap()).zip(&rows) {
        assert_eq!((&image["file_name"], &row["file"][..]), (&line["file"], line["file"].as_str().unwrap()));
        assert_eq!((&image["width"], &image["height"]), (&line["width"], &line["height"]));
        let kind = &line["tasks"]["kind"];
        assert_eq!(row["kind"], kind["class"].as_str().unwrap());
        for (class, probability) in kind["probabilities"].as_object().unwrap() {
            assert_eq!(row[&format!("kind.{class}")].parse::<f64>().unwrap(), probability.as_f64().unwrap());
        }
        let amounts = numbers(&line["tasks"]["amount"]["values"]);
        let columns: Vec<f64> =
            row.iter().filter(|(k, _)| k.starts_with("amount.")).map(|(_, v)| v.parse().unwrap()).collect();
        assert_eq!(columns.len(), 2);
        assert!(columns.iter().all(|v| amounts.contains(v)) && row["error"].is_empty());
        let stem = Path::new(line["file"].as_str().unwrap()).file_stem().unwrap().to_string_lossy().into_owned();
        let labels = std::fs::read_to_string(place.path(&format!("out/labels/{stem}.txt"))).unwrap();
        let mut labels = labels.lines();
        let size = [&line["width"], &line["height"]].map(|v| v.as_f64().unwrap());
        let found = line["tasks"]["things"]["boxes"].as_array().unwrap();
        assert_eq!(found.len(), 5);
        for found in found {
            let corners = numbers(&found["box"]);
            let result = results.next().unwrap();
            assert_eq!((&result["image_id"], &result["score"]), (&image["id"], &found["score"]));
            let category = things.iter().find(|c| c["id"] == result["category_id"]).unwrap();
            assert_eq!((&category["name"], &category["supercategory"]), (&found["class"], &json!("things")));
            let [x, y, w, h] = numbers(&result["bbox"])[..] else { panic!("{result}") };
            // Each is rounded to a hundredth of a pixel.
            for (a, b) in [x, y, x + w, y + h].into_iter().zip(&corners) {
                assert!(close(a, *b, 0.0151), "{result} {found}");
            }
            let row = boxes.next().unwrap();
            assert_eq!((&row["file"], &row["class"][..]), (&rows_file(line), found["class"].as_str().unwrap()));
            for (column, corner) in ["x1", "y1", "x2", "y2"].into_iter().zip(&corners) {
                assert_eq!(row[column].parse::<f64>().unwrap(), *corner);
            }
            let label = labels.next().unwrap();
            let [class, cx, cy, w, h, score] =
                label.split(' ').map(|v| v.parse::<f64>().unwrap()).collect::<Vec<_>>()[..]
            else {
                panic!("{label}")
            };
            assert_eq!(things[class as usize]["name"], found["class"]);
            assert!(close(score, found["score"].as_f64().unwrap(), 1e-6), "{label} {found}");
            let back = [
                (cx - w / 2.0) * size[0],
                (cy - h / 2.0) * size[1],
                (cx + w / 2.0) * size[0],
                (cy + h / 2.0) * size[1],
            ];
            assert!(back.iter().zip(&corners).all(|(a, b)| close(*a, *b, 0.0051)), "{label} {found}");
        }
        assert!(labels.next().is_none());
    }
    assert!(results.next().is_none() && boxes.next().is_none());
    let ids: Vec<u64> = images["images"].as_array().unwrap().iter().map(|i| i["id"].as_u64().unwrap()).collect();
    // Stems that are numbers; a stem that is not gets an id that no stem has.
    assert_eq!(ids, [139, (1 << 40) + 2, (1 << 40) + 3]);
    place.succeed(&["images/b*", "images/7.png", "--out", "lines", "--format", "coco", "--no-images"], b"");
    let images = read("lines/images.json");
    assert_eq!([&images["images"][0]["id"], &images["images"][1]["id"]], [1, 2]);
    assert_eq!(place.tree("lines"), ["detections.json", "images.json"]);
}

fn rows_file(line: &Value) -> String {
    line["file"].as_str().unwrap().to_owned()
}

#[test]
fn results_use_the_ids_of_an_annotation_file() {
    let place = Place::new("coco");
    ["a.png", "b.png", "sub/a.png", "c.png"].iter().for_each(|name| place.image(&format!("images/{name}")));
    let classes: Vec<String> = crate::step::three_tasks()[0].classes().to_vec();
    let categories: Vec<Value> =
        classes.iter().rev().zip([90, 5, 33]).map(|(name, id)| json!({"id": id, "name": name})).collect();
    let annotations = |categories: &[Value]| {
        let images = json!([
            {"id": 10.0, "file_name": "a.png"}, {"id": 20, "file_name": "elsewhere/b.png"}, {"id": 30, "file_name": "sub/a.png"},
        ]);
        let boxes = json!([{"id": 1, "image_id": 10.0, "category_id": 5, "bbox": [1, 2, 3, 4]}]);
        let file = json!({"info": {}, "images": images, "annotations": boxes, "categories": categories});
        std::fs::write(place.path("ann.json"), file.to_string()).unwrap();
    };
    annotations(&categories);
    let args = ["images", "--out", "out", "--no-images", "--format", "coco,jsonl", "--coco-images", "ann.json"];
    let said = place.succeed(&args, b"").stderr;
    // c.png is not annotated, so it cannot be compared.
    assert!(crate::cli::text(&said).contains("without a detection in the COCO results: 1"));
    assert_eq!(place.tree("out"), ["detections.json", "predictions.jsonl"]);
    let results: Vec<Value> =
        serde_json::from_slice(&std::fs::read(place.path("out/detections.json")).unwrap()).unwrap();
    let ids: Vec<u64> = results.iter().map(|r| r["image_id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [[10; 5], [20; 5], [30; 5]].concat());
    let lines = place.lines("out/predictions.jsonl");
    let found = lines.iter().filter(|l| l["file"] != "images/c.png");
    let found = found.flat_map(|l| l["tasks"]["things"]["boxes"].as_array().unwrap());
    for (result, found) in results.iter().zip(found) {
        let name = &categories.iter().find(|c| c["id"] == result["category_id"]).unwrap()["name"];
        assert_eq!(*name, found["class"]);
    }
    annotations(&categories[1..]);
    place.fail(&args, b"", 2, &["ann.json", &classes[2], "`things`"]);
    std::fs::write(place.path("ann.json"), "{\"images\":\n[}").unwrap();
    place.fail(&args, b"", 1, &["ann.json", "line 2", "COCO"]);
    let twice = json!({"images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "a.png"}], "annotations": [], "categories": []});
    std::fs::write(place.path("ann.json"), twice.to_string()).unwrap();
    place.fail(&args, b"", 1, &["ann.json", "the ids 1 and 2 have the same file_name, `a.png`"]);
    place.fail(&["images", "--out", "out", "--coco-images", "ann.json"], b"", 2, &["--format coco"]);
}

#[test]
fn each_detection_task_gets_its_own_file_and_a_model_without_one_is_refused() {
    let classes = |words: &[&str]| words.iter().map(|&w| w.to_owned()).collect::<Vec<_>>();
    let detect = |names: &[&str]| Detect::new(classes(names));
    let both = Place::with("two", vec![Task::new("cells", detect(&["x", "y"])), Task::new("big/ones", detect(&["x"]))]);
    both.image("a.png");
    both.succeed(&["a.png", "--out", "out", "--format", "coco,yolo,csv", "--no-images"], b"");
    let tree = both.tree("out");
    let of = |start: &str| tree.iter().filter(|f| f.starts_with(start)).cloned().collect::<Vec<_>>();
    assert_eq!(of("detections_").len(), 2, "{tree:?}");
    assert_eq!(of("boxes_")[1], "boxes_cells.csv");
    assert_eq!(of("labels_").len(), 2, "{tree:?}");
    assert!(of("detections_")[0].starts_with("detections_big_ones-"), "{tree:?}");
    assert!(of("predictions").is_empty(), "no task has a row an image");
    let results: Vec<Value> =
        serde_json::from_slice(&std::fs::read(both.path("out").join(&of("detections_")[0])).unwrap()).unwrap();
    assert!(results.iter().all(|r| r["category_id"] == 3), "numbers run on from task to task");

    let kind = Classify::new(classes(&["p", "q"]));
    let none = Place::with("none", vec![Task::new("kind", kind)]);
    none.image("a.png");
    for format in ["coco", "yolo", "jsonl,yolo"] {
        none.fail(&["a.png", "--out", "out", "--format", format], b"", 2, &["no detection task", "`kind`"]);
    }
    none.fail(&["a.png", "--out", "out", "--format", "voc"], b"", 2, &["voc", "jsonl, coco, yolo or csv"]);
    none.fail(&["a.png", "--out", "-", "--format", "csv"], b"", 2, &["--out -", "jsonl"]);
    assert!(!none.path("out").exists());
    none.succeed(&["a.png", "--out", "out", "--format", "csv"], b"");
    assert_eq!(none.tree("out"), ["a.jpg", "predictions.csv"]);
}

#[test]
fn a_broken_image_keeps_its_line_and_is_named() {
    let place = Place::new("broken");
    (0..12).for_each(|i| place.image(&format!("images/{i:02}.png")));
    std::fs::write(place.path("images/05.png"), "no image").unwrap();
    let args = ["images", "--out", "out", "--format", "jsonl,csv,yolo,coco", "--no-images"];
    let output = place.succeed(&args, b"");
    let said = crate::cli::text(&output.stderr);
    assert!(said.contains("unreadable, left out: images/05.png: "), "{said}");
    assert!(crate::cli::text(&output.stdout).starts_with("predicted 11 images; predictions in out/"));
    let lines = place.lines("out/predictions.jsonl");
    assert_eq!((lines.len(), &lines[5]["file"]), (12, &json!("images/05.png")));
    assert!(lines[5]["error"].is_string() && lines[5].get("tasks").is_none());
    assert!(lines.iter().enumerate().all(|(i, line)| (i == 5) == line.get("error").is_some()));
    let rows = table(&place.path("out/predictions.csv"));
    assert_eq!((rows.len(), rows[5]["error"].is_empty(), rows[5]["kind"].is_empty()), (12, false, true));
    assert_eq!(place.tree("out/labels").len(), 11);
    // Other images do not depend on it.
    std::fs::remove_file(place.path("images/05.png")).unwrap();
    place.succeed(&["images", "--out", "without"], b"");
    let mut rest = lines;
    rest.remove(5);
    assert_eq!(place.lines("without/predictions.jsonl"), rest);
}

#[test]
fn too_many_broken_images_are_an_error_that_keeps_the_lines() {
    let place = Place::new("many");
    (0..9).for_each(|i| place.image(&format!("{i}.png")));
    let list = |whole: usize, broken: usize| -> Vec<u8> {
        let whole = (0..whole).map(|i| format!("{}.png\n", i % 9));
        whole.chain((0..broken).map(|i| format!("absent{i}.png\n"))).collect::<String>().into_bytes()
    };
    let args = |share: &'static str, out: &'static str| ["-", "--no-images", "--max-broken", share, "--out", out];
    place.succeed(&args("0.01", "one"), &list(3, 1));
    place.succeed(&args("0.5", "half"), &list(4, 4));
    // At the end the share is exceeded, even for a small number: all images are done, and the lines are kept.
    place.fail(&args("0.01", "two"), &list(30, 2), 1, &["2 of 32", "--max-broken 0.01", "absent0.png"]);
    assert_eq!((place.tree("two"), place.lines("two/predictions.jsonl").len()), (vec!["predictions.jsonl".into()], 32));
    // Older predictions stay, and no other file is left beside them.
    let output = place.run(&args("0.01", "two"), &list(3, 2));
    assert!(crate::cli::text(&output.stderr).contains("the older predictions stay; those made now are not kept"));
    assert_eq!((place.tree("two"), place.lines("two/predictions.jsonl").len()), (vec!["predictions.jsonl".into()], 32));
    let coco = ["-", "--no-images", "--out", "coco", "--format", "coco"];
    place.fail(&coco, &list(3, 2), 1, &["2 of 5"]);
    let results = std::fs::read(place.path("coco/detections.json")).unwrap();
    assert_eq!(serde_json::from_slice::<Vec<Value>>(&results).unwrap().len(), 3 * 5);
    // With none tolerated, the first ends the run.
    place.fail(&args("0", "none"), &list(0, 300), 1, &["the first image could not be read", "--max-broken 0"]);
    // Counted as if there were a thousand images, eleven exceed one per cent; the remaining ones are not tried.
    place.fail(&args("0.01", "stop"), &list(0, 5000), 1, &["none of the first 11 images", "--max-broken 0.01"]);
    place.fail(&args("1", "all"), &list(0, 3), 1, &["none of the 3 images", "absent0.png: cannot"]);
    place.fail(&args("1", "single"), &list(0, 1), 1, &["the only image could not be read: absent0.png"]);
    place.fail(&args("2", "share"), &list(1, 0), 2, &["--max-broken 2"]);
}

/// Nothing useful was made, so nothing is kept and nothing is said about predictions so far; older predictions stay.
#[test]
fn if_no_image_can_be_read_no_file_is_left() {
    let place = Place::new("unreadable");
    std::fs::create_dir(place.path("images")).unwrap();
    (0..3).for_each(|i| std::fs::write(place.path(&format!("images/{i}.png")), "no image").unwrap());
    for args in [&["images"][..], &["images", "--out", "out", "--format", "yolo,csv"]] {
        let output = place.run(args, b"");
        let said = crate::cli::text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("none of the 3 images could be read; the first: images/0.png: "), "{said}");
        assert!(!said.contains(".part") && !said.contains("so far"), "{said}");
    }
    assert!(!place.path("out").exists() && std::fs::read_dir(place.path("runs/predict")).unwrap().next().is_none());
    place.image("0.png");
    place.succeed(&["0.png", "--out", "out"], b"");
    let (before, tree) = (std::fs::read(place.path("out/predictions.jsonl")).unwrap(), place.tree("out"));
    place.fail(&["images", "--out", "out", "--max-broken", "1"], b"", 1, &["none of the 3 images"]);
    assert_eq!((std::fs::read(place.path("out/predictions.jsonl")).unwrap(), place.tree("out")), (before, tree));
}

/// Pictures of earlier predictions are no images of later ones, whatever the files beside them.
#[test]
fn predicting_again_into_the_source_answers_the_same_images() {
    let place = Place::new("again");
    ["a.png", "b.png", "deep/c.png"].iter().for_each(|name| place.image(&format!("images/{name}")));
    for number in 0..3 {
        for formats in ["jsonl", "csv", "yolo", "coco"] {
            let out = format!("images/{formats}{number}");
            let said = crate::cli::text(&place.succeed(&["images", "--out", &out, "--format", formats], b"").stdout);
            assert!(said.starts_with("predicted 3 images"), "{out}: {said}");
            assert!(place.path(&out).join(".polyhead").is_file());
        }
    }
    // A folder with a file of the user keeps its images, and its predictions are known by their content.
    std::fs::create_dir(place.path("images/mine")).unwrap();
    std::fs::write(place.path("images/mine/notes.txt"), "mine").unwrap();
    for _ in 0..2 {
        let said = crate::cli::text(&place.succeed(&["images", "--out", "images/mine"], b"").stdout);
        assert!(said.starts_with("predicted 3 images"), "{said}");
    }
    assert!(!place.path("images/mine/.polyhead").exists());
    // A folder that is named is read.
    let said = crate::cli::text(&place.succeed(&["images/jsonl0", "--out", "named"], b"").stdout);
    assert!(said.starts_with("predicted 3 images"), "{said}");
}

#[test]
fn without_out_every_prediction_gets_a_new_folder_and_is_told_where_it_went() {
    let place = Place::new("fresh");
    place.image("images/a.png");
    let first = crate::cli::text(&place.succeed(&["images"], b"").stdout);
    let folder = "runs/predict/model";
    assert_eq!(first, format!("predicted 1 image; predictions in {folder}/predictions.jsonl; pictures in {folder}\n"));
    let second = crate::cli::text(&place.succeed(&["images", "--format", "yolo", "--no-images"], b"").stdout);
    assert_eq!(second, "predicted 1 image; predictions in runs/predict/model-2/labels\n");
    assert_eq!(place.tree("runs/predict"), ["model-2/labels/a.txt", "model/a.jpg", "model/predictions.jsonl"]);
    // A run's weights have the run's name. The folder of all runs is marked, so that no data set around it reads the pictures.
    std::fs::create_dir_all(place.path("mine/weights")).unwrap();
    std::fs::rename(place.path("model.safetensors"), place.path("mine/weights/best.safetensors")).unwrap();
    let args = |model: &'static str| ["predict", model, "images", "--no-images"];
    for (model, name) in [("mine", "mine"), ("mine/weights/best.safetensors", "mine-2")] {
        let output = crate::cli::polyhead().args(args(model)).current_dir(&place.folder.path).output().unwrap();
        assert!(crate::cli::text(&output.stdout).contains(&format!("in runs/predict/{name}/predictions.jsonl")));
    }
    assert!(place.path("runs").join(polyhead::data::RUNS_MARKER).exists());
}

#[test]
fn pictures_mirror_the_folders_of_their_images() {
    let place = Place::new("names");
    for name in ["a.png", "b.jpg", "b.PNG", "b.png.webp", "deep/er/a.png", "deep/a.jpeg", "c.d.bmp"] {
        place.image(&format!("images/{name}"));
    }
    let pictures =
        |out: &str| -> Vec<String> { place.tree(out).into_iter().filter(|file| file != "predictions.jsonl").collect() };
    // Two images that differ only in the ending keep it.
    let own = ["a.jpg", "b.PNG.jpg", "b.jpg.jpg", "b.png.jpg", "c.d.jpg", "deep/a.jpg", "deep/er/a.jpg"];
    place.succeed(&["images", "--out", "folder"], b"");
    assert_eq!(pictures("folder"), own);
    // A second run writes the same files.
    place.succeed(&["images", "--out", "folder"], b"");
    assert_eq!(pictures("folder"), own);
    place.succeed(&["images/**/a.*", "--out", "glob"], b"");
    assert_eq!(pictures("glob"), ["a.jpg", "deep/a.jpg", "deep/er/a.jpg"]);
    // Images named one by one get their stems, with numbers; several folders each get their own.
    place.succeed(&["images/a.png", "images/deep/a.jpeg", "images/a.png", "--out", "files"], b"");
    assert_eq!(pictures("files"), ["a-2.jpg", "a-3.jpg", "a.jpg"]);
    place.succeed(&["images/deep", "images/deep/er", "images/a.png", "--out", "several"], b"");
    assert_eq!(pictures("several"), ["a.jpg", "deep/a.jpg", "deep/er/a.jpg", "er/a.jpg"]);
    let whole = place.path("images/a.png").to_string_lossy().into_owned();
    let list =
        format!("./images/c.d.bmp\nimages/deep/a.jpeg\nimages/../images/a.png\n{whole}\nimages/a.png\nimages/a.png\n");
    place.succeed(&["-", "--out", "list"], list.as_bytes());
    let mut listed = vec![format!("_{}", whole.replace(".png", ".jpg"))];
    listed.extend(["images/__/images/a.jpg", "images/a.jpg", "images/c.d.jpg", "images/deep/a.jpg"].map(String::from));
    listed.sort();
    assert_eq!(pictures("list"), listed);
}

#[test]
fn outputs_among_the_images_are_not_read_and_nothing_is_overwritten() {
    let place = Place::new("among");
    ["a.png", "deep/a.png", "labels/a.png"].iter().for_each(|name| place.image(&format!("images/{name}")));
    let before = place.tree("images");
    for _ in 0..2 {
        place.succeed(&["images", "--out", "images/answers"], b"");
        assert_eq!(
            place.files("images/answers/predictions.jsonl"),
            before.iter().map(|f| format!("images/{f}")).collect::<Vec<_>>()
        );
    }
    let bytes = |name: &str| std::fs::read(place.path(name)).unwrap();
    let image = bytes("images/a.png");
    place.fail(&["images", "--out", "images"], b"", 2, &["would be overwritten", "--out"]);
    let png = ["images/a.png", "--out", "images", "--image-format", "png"];
    place.fail(&png, b"", 2, &["would be overwritten", "--out"]);
    place.fail(&["-", "--out", "."], b"images/a.png\n", 2, &["would be overwritten", "--out"]);
    // The picture of images/images/a.png would be images/a.png.
    place.image("images/images/a.png");
    let png = ["images", "--out", ".", "--image-format", "png"];
    place.fail(&png, b"", 2, &["images/a.png would be overwritten", "--out"]);
    place.image("images/j.jpg");
    place.fail(&["images/j.jpg", "--out", "images"], b"", 2, &["images/j.jpg would be overwritten", "--out"]);
    assert!(bytes("images/a.png") == image);
    // Other label folders are not overwritten; our own are.
    std::fs::create_dir_all(place.path("set/labels")).unwrap();
    std::fs::write(place.path("set/labels/a.txt"), "0 .5 .5 1 1\n").unwrap();
    let args = ["images/a.png", "--out", "set", "--no-images", "--format", "yolo"];
    place.fail(&args, b"", 2, &["set/labels", "--out"]);
    assert_eq!(bytes("set/labels/a.txt"), b"0 .5 .5 1 1\n");
    std::fs::remove_file(place.path("set/labels/a.txt")).unwrap();
    for _ in 0..2 {
        place.succeed(&args, b"");
    }
    assert_eq!(place.tree("set"), ["labels/a.txt"]);
}
