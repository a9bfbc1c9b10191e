//! Which images `predict` takes from a data set or a list file, which part of its predictions it writes, its pictures, and what a
//! killed prediction leaves.

use crate::cli::{digits, path, polyhead, succeed, text};
use crate::predict::Place;
use crate::step::Folder;
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

#[test]
fn only_the_selected_tasks_and_classes_are_written() {
    let place = Place::new("selected");
    place.image("a.png");
    let of = |out: &str| place.lines(&format!("{out}/predictions.jsonl"))[0]["tasks"].clone();
    place.succeed(&["a.png", "--out", "all", "--format", "jsonl,yolo"], b"");
    place.succeed(&["a.png", "--out", "two", "--tasks", "things,kind"], b"");
    let (all, two) = (of("all"), of("two"));
    assert_eq!(two.as_object().unwrap().len(), 2);
    assert_eq!((&two["kind"], &two["things"]), (&all["kind"], &all["things"]));
    let last = all["things"]["boxes"][0]["class"].as_str().unwrap();
    place.succeed(&["a.png", "--out", "boxes", "--only-classes", last, "--format", "jsonl,yolo"], b"");
    let boxes = of("boxes");
    assert_eq!((&boxes["kind"], &boxes["amount"]), (&all["kind"], &all["amount"]));
    let found = boxes["things"]["boxes"].as_array().unwrap();
    // The limit of five boxes counts these only.
    assert!(found.len() == 5 && found.iter().all(|found| found["class"] == last), "{found:?}");
    // Classes keep their numbers, which select them as well.
    let read = |out: &str| std::fs::read_to_string(place.path(&format!("{out}/labels/a.txt"))).unwrap();
    let number = read("all").split(' ').next().unwrap().to_owned();
    let labels = read("boxes");
    assert!(
        labels.lines().count() == 5 && labels.lines().all(|line| line.starts_with(&format!("{number} "))),
        "{labels}"
    );
    place.succeed(&["a.png", "--out", "number", "--only-classes", &number], b"");
    assert_eq!(of("number"), boxes);

    place.fail(&["a.png", "--out", "no", "--tasks", "thing"], b"", 2, &["--tasks thing", "`things`?"]);
    place.fail(
        &["a.png", "--out", "no", "--tasks", "kind", "--only-classes", last],
        b"",
        2,
        &["finds none: leave it out"],
    );
    place.fail(&["a.png", "--out", "no", "--classes", "0,2"], b"", 2, &["--only-classes"]);
    place.fail(&["a.png", "--out", "no", "--tasks", "kind", "--format", "yolo"], b"", 2, &["it holds boxes", "`kind`"]);
    assert!(!place.path("no").exists());
}

#[test]
fn the_images_of_a_split_are_those_that_the_run_held_out() {
    let folder = Folder::new("split");
    let data = digits(&folder, 24);
    // Without a split of its own, the run draws its validation images.
    let yaml = Path::new(&data).join("data.yaml");
    let whole = std::fs::read_to_string(&yaml).unwrap();
    std::fs::write(&yaml, whole.replace("val: val\n", "")).unwrap();
    let run = crate::cli::train(&folder, &data, "r", &["--epochs", "1", "--seed", "5", "--val-fraction", "0.25"]);
    let files = |args: &[&str]| -> Vec<String> {
        let said = succeed(&[&["predict", &run], args, &["--out", "-"]].concat());
        let file = |line: &str| serde_json::from_str::<Value>(line).unwrap()["file"].as_str().unwrap().to_owned();
        said.lines().map(file).collect()
    };
    let [train, val, test] = ["train", "val", "test"].map(|split| files(&[&data, "--split", split]));
    assert_eq!([train.len(), val.len(), test.len()], [18, 6, 5]);
    assert!(val.iter().all(|file| !train.contains(file)) && test.iter().all(|file| file.contains("/test/")), "{val:?}");
    let evaluated = succeed(&["evaluate", &run]);
    assert!(evaluated.contains("val split, 6 images"), "{evaluated}");
    // The data set of the run is the default, and its data.yaml stands for its folder.
    assert_eq!(files(&["--split", "val"]), val);
    assert_eq!(files(&[&yaml.to_string_lossy(), "--split", "val"]), val);

    let out = path(&folder, "out");
    succeed(&["predict", &run, "--split", "test", "--out", &out]);
    assert!(Path::new(&out).join("test/00000.jpg").is_file());
    let fail = |args: &[&str], words: &[&str]| crate::cli::fail(&[&["predict", &run], args].concat(), 2, words);
    fail(&[&yaml.to_string_lossy()], &["data.yaml: is not an image", "--split"]);
    fail(&[&data, &data, "--split", "val"], &["--split", "one data set"]);
    fail(&["-", "--split", "val"], &["--split", "one data set"]);
    fail(&[&data, "--split", "val", "--null"], &["--null", "which --split does not read: leave it out"]);
    fail(&[&data, "--split", "dev"], &["--split dev", "train, val or test"]);
    fail(&[], &["IMAGES"]);
    fail(&[&data, "--split", "val", "--out", &data], &["would be overwritten", "--out"]);
    let weights = Path::new(&run).join("weights/best.safetensors");
    std::fs::copy(weights, folder.path.join("alone.safetensors")).unwrap();
    crate::cli::fail(&["predict", &path(&folder, "alone.safetensors"), "--split", "val"], 2, &["name the data set"]);
}

#[test]
fn a_list_file_names_images_beside_it() {
    let place = Place::new("listed");
    ["set/images/a.png", "set/b c.png", "here.png"].iter().for_each(|name| place.image(name));
    let whole = place.path("here.png").to_string_lossy().into_owned();
    let list =
        format!("\u{feff}./images/a.png\r\n\r\n  b c.png \nhere.png\n{whole}\nimages/a.png\nabsent.png\n# a.png");
    std::fs::write(place.path("set/list.txt"), list).unwrap();
    let output = place.succeed(&["set/list.txt", "--out", "out", "--max-broken", "1"], b"");
    let files = place.files("out/predictions.jsonl");
    let expected =
        ["set/images/a.png", "set/b c.png", "here.png", &whole, "set/images/a.png", "set/absent.png", "set/# a.png"];
    assert_eq!(files, expected);
    assert!(text(&output.stderr).contains("unreadable, left out: set/absent.png: "), "{}", text(&output.stderr));
    let mut pictures = vec![format!("_{}", whole.replace(".png", ".jpg"))];
    pictures.extend(["b c.jpg", "here.jpg", "images/a.jpg", "predictions.jsonl"].map(String::from));
    pictures.sort();
    assert_eq!(place.tree("out"), pictures);
    // A list file does not pause, so it may be used with any batch size and beside other sources.
    place.succeed(
        &["set/list.txt", "here.png", "--out", "more", "--max-broken", "1", "--batch", "100000", "--no-images"],
        b"",
    );
    assert_eq!(place.files("more/predictions.jsonl").len(), 8);

    place.fail(&["set/list.txt", "--out", "set"], b"", 2, &["would be overwritten"]);
    std::fs::write(place.path("empty.txt"), "\n \n").unwrap();
    place.fail(&["empty.txt", "--out", "no"], b"", 2, &["empty.txt: no images", "one per line"]);
    std::fs::write(place.path("nul.txt"), "a\n\0b\n").unwrap();
    place.fail(&["nul.txt", "--out", "nul"], b"", 2, &["nul.txt:2: it holds a NUL byte"]);
    assert!(!place.path("no").exists());
}

#[test]
fn an_image_of_a_list_is_not_overwritten_by_its_picture() {
    let place = Place::new("listed-over");
    place.image("img/a.png");
    std::fs::create_dir(place.path("lists")).unwrap();
    std::fs::write(place.path("lists/train.txt"), "img/a.png\n").unwrap();
    let before = std::fs::read(place.path("img/a.png")).unwrap();
    let expected = ["img/a.png would be overwritten by an annotated picture"];
    place.fail(&["lists/train.txt", "--out", ".", "--image-format", "png"], b"", 2, &expected);
    assert_eq!(std::fs::read(place.path("img/a.png")).unwrap(), before);
}

#[test]
fn no_file_of_the_user_is_replaced() {
    let place = Place::new("replaced");
    ["a.png", "sub/a.png", "b/x.png", "b/b/x.png", "c/x.png", "sub/more/a.png"]
        .iter()
        .for_each(|name| place.image(name));
    let others = ["boxes.csv", "predictions.csv", "images.json", "detections.json", "predictions.jsonl"];
    for name in others {
        std::fs::create_dir_all(place.path("mine")).unwrap();
        std::fs::write(place.path("mine").join(name), "[{\"mine\": 1}]\n").unwrap();
    }
    let all = || -> Vec<_> {
        ["a.png", "sub/a.png", "b/x.png", "b/b/x.png", "c/x.png", "sub/more/a.png"]
            .into_iter()
            .map(str::to_owned)
            .chain(others.iter().map(|name| format!("mine/{name}")))
            .map(|name| std::fs::read(place.path(&name)).unwrap())
            .collect()
    };
    let before = all();
    let png = |args: &[&'static str]| -> Vec<&'static str> { [args, &["--image-format", "png"]].concat() };
    // An image of a list, under the name of another one's picture.
    std::fs::write(place.path("list.txt"), "a.png\nsub/a.png\n").unwrap();
    let words = ["sub/a.png would be replaced, and polyhead did not write this file"];
    place.fail(&png(&["list.txt", "--out", "sub"]), b"", 2, &words);
    place.fail(&png(&["-", "--out", "sub"]), b"a.png\nsub/a.png\n", 2, &words);
    // The folder of one source among several.
    place.fail(&png(&["c", "b", "--out", "b"]), b"", 2, &["b would be overwritten", "--out"]);
    place.fail(&["sub", "a.png", "--out", "sub"], b"", 2, &["sub would be overwritten", "--out"]);
    // A folder of images among the images would be left out.
    let words = ["--out sub/more", "sub/more/a.png, which would be left out"];
    place.fail(&png(&["sub", "--out", "sub/more"]), b"", 2, &words);
    for (format, file) in [("csv", "predictions.csv"), ("coco", "detections.json"), ("jsonl", "predictions.jsonl")] {
        let words = format!("mine/{file} would be replaced");
        place.fail(&["a.png", "--out", "mine", "--no-images", "--format", format], b"", 2, &[&words]);
    }
    assert_eq!(place.tree("mine").len(), others.len());
    for (gone, format, left) in [("predictions.csv", "csv", "boxes.csv"), ("detections.json", "coco", "images.json")] {
        let kept = std::fs::read(place.path("mine").join(gone)).unwrap();
        std::fs::remove_file(place.path("mine").join(gone)).unwrap();
        let words = format!("mine/{left} would be replaced");
        place.fail(&["a.png", "--out", "mine", "--no-images", "--format", format], b"", 2, &[&words]);
        std::fs::write(place.path("mine").join(gone), kept).unwrap();
    }
    assert!(all() == before);
    // What polyhead wrote is replaced.
    for _ in 0..2 {
        place.succeed(&["a.png", "--out", "own", "--format", "csv,coco,jsonl,yolo"], b"");
        place.succeed(&png(&["a.png", "--out", "own"]), b"");
    }
}

#[test]
fn two_images_of_a_list_do_not_share_a_picture() {
    let place = Place::new("shared-name");
    let whole = place.path("in/a.png").to_string_lossy().into_owned();
    let relative = whole.trim_start_matches('/').to_owned();
    ["in/a.png", "in/__/b.png", "b.png", &format!("in{whole}")].iter().for_each(|name| place.image(name));
    std::fs::write(place.path("in/list.txt"), format!("{whole}\n{relative}\n../b.png\n__/b.png\n")).unwrap();
    place.succeed(&["in/list.txt", "--out", "out", "--format", "yolo"], b"");
    let files = |ending: &str| place.tree("out").iter().filter(|name| name.ends_with(ending)).count();
    assert_eq!((files(".jpg"), files(".txt")), (4, 4));
}

#[test]
fn pictures_are_jpeg_unless_png_is_asked_for() {
    let place = Place::new("picture-format");
    ["images/a.png", "images/b.jpg", "images/b.png"].iter().for_each(|name| place.image(name));
    let start = |file: &str| std::fs::read(place.path(file)).unwrap()[..4].to_vec();
    let said = |args: &[&str]| text(&place.succeed(args, b"").stderr);
    assert_eq!(said(&["images", "--out", "out"]), "");
    assert_eq!(place.tree("out"), ["a.jpg", "b.jpg.jpg", "b.png.jpg", "predictions.jsonl"]);
    assert_eq!(start("out/a.jpg")[..3], *b"\xff\xd8\xff");
    // Pictures of an earlier prediction in the other format are not removed, but named.
    let older = said(&["images", "--out", "out", "--image-format", "png"]);
    assert!(
        older.contains(
            "3 pictures of the same images in another format, such as out/a.jpg, remain from an earlier prediction"
        ),
        "{older}"
    );
    assert_eq!(start("out/a.png"), *b"\x89PNG");
    assert_eq!(place.tree("out").len(), 7);
    // An image is not a picture.
    assert_eq!(said(&["images/a.png", "--out", "images"]), "");
    place.fail(&["images", "--out", "no", "--image-format", "gif"], b"", 2, &["gif", "jpg or png"]);
}

/// The image is higher than JPEG allows.
#[test]
fn a_picture_that_jpeg_cannot_hold_is_a_png() {
    let place = Place::new("tall");
    std::fs::create_dir(place.path("images")).unwrap();
    image::RgbImage::new(2, 65_600).save(place.path("images/tall.png")).unwrap();
    let said = text(&place.succeed(&["images", "--out", "out"], b"").stderr);
    assert!(said.contains("1 picture in PNG, such as out/tall.png, because JPEG cannot hold a side"), "{said}");
    assert_eq!(place.tree("out"), ["predictions.jsonl", "tall.png"]);
}

#[test]
fn if_no_box_passes_the_threshold_its_flag_and_the_highest_score_are_named() {
    let place = Place::new("below");
    (0..3).for_each(|i| place.image(&format!("images/{i}.png")));
    assert_eq!(text(&place.succeed(&["images", "--out", "all", "--no-images"], b"").stderr), "");
    let scores = place.lines("all/predictions.jsonl");
    let scores = scores.iter().flat_map(|line| line["tasks"]["things"]["boxes"].as_array().unwrap());
    let highest = scores.map(|found| found["score"].as_f64().unwrap()).fold(0.0, f64::max);
    let said = |more: &[&str]| {
        let args = ["predict", "model.safetensors", "images", "--out", "none", "--no-images", "--conf", "0.9"];
        let output = polyhead().args(args).args(more).current_dir(&place.folder.path).output().unwrap();
        assert!(output.status.success());
        text(&output.stderr)
    };
    let line = said(&[]);
    let words = "things: no box has a score above --conf 0.9; the highest score is ";
    let shown: f64 = line.trim().strip_prefix(words).unwrap().split(':').next().unwrap().parse().unwrap();
    assert!(
        (shown / highest - 1.0).abs() < 1e-3 && line.ends_with(": lower --conf to see boxes\n"),
        "{line} {highest}"
    );
    assert_eq!(said(&["--tasks", "kind,amount"]), "");
    let args = ["predict", "model.safetensors", "images", "--max-det", "0"];
    let output = polyhead().args(args).current_dir(&place.folder.path).output().unwrap();
    assert!(text(&output.stderr).contains("--max-det 0: expected at least 1"), "{}", text(&output.stderr));
}

#[cfg(unix)]
#[test]
fn what_a_killed_prediction_left_is_removed_and_named_by_the_next() {
    let place = Place::new("killed");
    place.image("a.png");
    let mut child = place.command(&["-", "--out", "out", "--no-images"]).spawn().unwrap();
    let mut list = child.stdin.take().unwrap();
    list.write_all(b"a.png\n").unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let left = loop {
        let grown = place.part("out", "predictions.jsonl").filter(|part| !place.files(part).is_empty());
        match grown {
            Some(part) => break part,
            None => assert!(Instant::now() < deadline, "no line within a minute"),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    // A file that another process still writes is kept.
    let said = text(&place.succeed(&["a.png", "--out", "out", "--no-images"], b"").stderr);
    assert!(place.path(&left).is_file() && !said.contains("left unfinished"), "{said}");
    child.kill().unwrap();
    child.wait().unwrap();
    drop(list);
    std::fs::write(place.path("out/predictions.jsonl.1-2.unfinished"), "kept on purpose").unwrap();
    let said = text(&place.succeed(&["a.png", "--out", "out", "--no-images"], b"").stderr);
    assert!(said.contains(&format!("note: {left} was left unfinished by a process that was killed")), "{said}");
    let mut names = place.tree("out");
    names.sort();
    assert_eq!(names, ["predictions.jsonl", "predictions.jsonl.1-2.unfinished"]);
}
