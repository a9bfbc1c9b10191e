//! Output and files of `evaluate`, and the files that a run leaves for it: metrics by class, pictures, prediction
//! intervals, and scores of COCO results files.

use crate::cli::{SMALL, digits, fail, path, session, succeed, train};
use crate::step::Folder;
use polyhead::data::built_in::digits::{DigitsOptions, write_digits};
use polyhead::data::{Dataset, OpenOptions};
use polyhead::model::ModelFile;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn json(file: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn is_picture(file: &Path) -> bool {
    std::fs::read(file).is_ok_and(|bytes| bytes.starts_with(b"\x89PNG"))
}

/// A small run on digits with enough validation images for intervals.
fn trained(folder: &Folder) -> (String, String) {
    let data = path(folder, "digits");
    let options = DigitsOptions { train: 24, val: 29, test: 11, size: 64, seed: 1 };
    write_digits(data.as_ref(), &options).unwrap();
    let project = path(folder, "runs/train");
    succeed(&[&["train", &data, "--project", &project, "--name", "r", "--epochs", "2"], &SMALL[..]].concat());
    (data, path(folder, "runs/train/r"))
}

#[test]
fn a_run_leaves_pictures_and_intervals_for_evaluate_and_predict() {
    let folder = Folder::new("intervals");
    let (data, run) = trained(&folder);
    let run_folder = Path::new(&run);
    assert!(is_picture(&run_folder.join("confusion_paper.png")) && is_picture(&run_folder.join("scatter_sum.png")));

    // The log says where a negative R² counts as 0 in the overall figure.
    let log = std::fs::read_to_string(run_folder.join("log.txt")).unwrap();
    let lines = log.lines().filter(|line| line.contains("  sum (regression") || line.starts_with("  overall"));
    let lines: Vec<&str> = lines.collect();
    assert_eq!(lines.len(), 4, "{log}");
    for pair in lines.chunks(2) {
        assert_eq!(pair[0].contains("R2 -"), pair[1].contains("; a negative R² counts as 0"), "{pair:?}");
    }

    let card = ModelFile::read(&run_folder.join("weights/best.safetensors"), None).unwrap().card;
    let sum = card.architecture.tasks.iter().position(|t| t.name == "sum").unwrap();
    let half_width = card.intervals_of(sum)[0].unwrap();
    assert!(half_width > 0.0);
    assert!((0..card.architecture.tasks.len()).all(|task| (task != sum) == card.intervals_of(task).is_empty()));

    let (out, file) = (folder.path.join("out/below"), path(&folder, "figures.json"));
    let args = ["evaluate", &run, "--batch", "8", "--json", &file, "--out", &out.to_string_lossy()];
    let said = succeed(&args);
    for words in ["class", "precision", "support", "AP50", "ECE", "as expected"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let figures = json(file.as_ref());
    assert_eq!(figures, json(&out.join("report.json")));
    assert!(is_picture(&out.join("confusion_paper.png")) && is_picture(&out.join("scatter_sum.png")));
    let interval = &figures["tasks"]["sum"]["intervals"][0];
    assert_eq!(interval["half_width"].as_f64(), Some(half_width));
    // The width is the 27th of 29 residuals; a sum that is rounded differently may put it outside.
    let coverage = interval["coverage"].as_f64().unwrap();
    assert!((25.5 / 29.0..27.5 / 29.0).contains(&coverage), "{coverage}");
    assert_eq!(figures["set_intervals"], true);
    let paper = &figures["tasks"]["paper"];
    let supports = paper["per_class"].as_object().unwrap().values().map(|c| c["support"].as_u64().unwrap());
    assert_eq!(supports.sum::<u64>(), 29);
    assert!(paper["metrics"]["ECE"].is_number() && figures["tasks"]["sum"]["metrics"]["spearman"].is_number());

    let part = succeed(&["evaluate", &run, "--tasks", "digits", "--only-classes", "7,1", "--json", &file]);
    assert!(part.contains("only boxes of these classes: 1, 7") && !part.contains("paper"), "{part}");
    let part = json(file.as_ref());
    assert_eq!(part["tasks"].as_object().unwrap().keys().collect::<Vec<_>>(), ["digits"]);
    assert_eq!(part["only_classes"], Value::from(vec!["1", "7"]));
    let rows = part["tasks"]["digits"]["per_class"].as_object().unwrap();
    assert_eq!(rows.keys().collect::<Vec<_>>(), ["1", "7"]);
    let whole = &figures["tasks"]["digits"]["per_class"];
    assert!(rows.iter().all(|(class, row)| row["count"] == whole[class]["count"]), "{rows:?}");
    let two = succeed(&["evaluate", &run, "--tasks", "sum,paper", "--batch", "8", "--json", &file]);
    assert!(two.contains("as expected"), "{two}");
    assert_eq!(json(file.as_ref())["tasks"]["sum"]["metrics"], figures["tasks"]["sum"]["metrics"]);
    fail(&["evaluate", &run, "--tasks", "digit"], 2, &["--tasks digit", "`digits`?"]);
    fail(&["evaluate", &run, "--classes", "7"], 2, &["--only-classes"]);

    let other = succeed(&["evaluate", &run, "--split", "test"]);
    assert!(other.contains("90 % intervals contain") && !other.contains("as expected"), "{other}");

    let answers = path(&folder, "answers");
    succeed(&["predict", &run, &format!("{data}/test"), "--out", &answers, "--no-images"]);
    for line in std::fs::read_to_string(Path::new(&answers).join("predictions.jsonl")).unwrap().lines() {
        let sum = &serde_json::from_str::<Value>(line).unwrap()["tasks"]["sum"];
        let [value, low, high] =
            [&sum["values"][0], &sum["interval"][0][0], &sum["interval"][0][1]].map(|v| v.as_f64().unwrap());
        // Written with five decimal places; f32 has seven digits.
        assert!((value - low - half_width).abs() < 1e-4 && (high - value - half_width).abs() < 1e-4, "{line}");
    }

    // Files that polyhead did not write are not replaced; its own are.
    let other = folder.path.join("other");
    std::fs::create_dir(&other).unwrap();
    for (name, flag) in [("report.json", "--out"), ("confusion_paper.png", "--out"), ("report.json", "--json")] {
        std::fs::write(other.join(name), "mine").unwrap();
        let file = other.join(name).to_string_lossy().into_owned();
        let place = if flag == "--out" { other.to_string_lossy().into_owned() } else { file.clone() };
        fail(&["evaluate", &run, flag, &place], 2, &[&format!("{file} would be replaced")]);
        assert_eq!(std::fs::read(other.join(name)).unwrap(), b"mine");
        assert_eq!(std::fs::read_dir(&other).unwrap().count(), 1);
        std::fs::remove_file(other.join(name)).unwrap();
    }
    succeed(&["evaluate", &run, "--out", &out.to_string_lossy(), "--json", &file]);

    // A file of another program, or an empty one, does not count as a run on the built-in digits.
    for text in ["{}\n", "task: detect\nmode: train\nepochs: 3\n"] {
        std::fs::write(run_folder.join("args.yaml"), text).unwrap();
        let weights = run_folder.join("weights/best.safetensors").to_string_lossy().into_owned();
        let advice = format!("name {weights} instead of the folder, and the data set after it");
        fail(&["evaluate", &run], 1, &["args.yaml", "not a run's configuration", &advice]);
        // It does not concern weights that are named themselves.
        succeed(&["evaluate", &weights, &data]);
        assert!(!succeed(&["card", &weights]).contains("Trained with these choices"));
    }
    std::fs::write(run_folder.join("args.yaml"), "command: polyhead train\nversion: 0.1.0\n").unwrap();
    fail(
        &["evaluate", &format!("{run}/weights/best.safetensors"), &data],
        1,
        &["args.yaml", "not a run's configuration"],
    );
}

/// What a run shares with others is where the run lies now, also for `evaluate`.
#[test]
fn a_moved_run_is_evaluated_where_it_lies() {
    let folder = Folder::new("moved-run");
    let run = train(&folder, &digits(&folder, 8), "r", &["--epochs", "1"]);
    let project = |run: &str| polyhead::evaluate::run_config(Path::new(run)).unwrap().unwrap().project;
    assert_eq!(project(&run), Path::new(&path(&folder, "runs/train")));
    std::fs::create_dir_all(folder.path.join("elsewhere/train")).unwrap();
    let moved = path(&folder, "elsewhere/train/r");
    std::fs::rename(&run, &moved).unwrap();
    let expected = folder.path.join("elsewhere/train").canonicalize().unwrap();
    assert_eq!(project(&moved), expected);
    assert_eq!(project(&format!("{moved}/weights/best.safetensors")), expected);
}

#[test]
fn what_differs_between_a_model_and_a_data_set_is_named() {
    let folder = Folder::new("differs");
    let (data, run) = trained(&folder);
    let yaml = Path::new(&data).join("data.yaml");
    let text = std::fs::read_to_string(&yaml).unwrap();
    // The built-in set lists its classes of paper in this order.
    let swapped = text.replace("[plain, ruled, ", "[ruled, plain, ");
    assert_ne!(swapped, text);
    std::fs::write(&yaml, swapped.replace("  sum:", "  total:")).unwrap();
    let words = [
        "only the model has `sum` (regression)",
        "only the data set has `total` (regression)",
        "the classes of `paper` have another order: the first that differ are `plain` in the model and `ruled` in the data set",
        "evaluate what is the same with --tasks digits",
    ];
    fail(&["evaluate", &run, &data], 2, &words);
    // Other tasks of the data set are only noted.
    std::fs::write(&yaml, text.replace("  sum:", "  total:")).unwrap();
    let output = crate::cli::run(&["evaluate", &run, &data, "--tasks", "digits,paper"]);
    assert!(output.status.success(), "{}", crate::cli::text(&output.stderr));
    let alone = path(&folder, "runs/train");
    succeed(
        &[&["train", &data, "--project", &alone, "--name", "one", "--task", "paper", "--epochs", "1"], &SMALL[..]]
            .concat(),
    );
    let output = crate::cli::run(&["evaluate", &path(&folder, "runs/train/one"), &data]);
    let said = crate::cli::text(&output.stderr);
    assert!(
        said.contains("that the model does not have are not evaluated: `digits` (detection), `total` (regression)"),
        "{said}"
    );
}

#[test]
fn coco_results_are_scored_as_by_pycocotools() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let file = |name: &str| golden.join(name).to_string_lossy().into_owned();
    let folder = Folder::new("coco");
    let out = path(&folder, "scores.json");
    for case in json(&golden.join("coco.json"))["cases"].as_array().unwrap() {
        let [annotations, results] = ["annotations", "results"].map(|key| file(case[key].as_str().unwrap()));
        let printed = succeed(&["evaluate", "--coco", &annotations, "--detections", &results, "--json", &out]);
        assert_eq!(printed.trim_end(), case["printed"].as_str().unwrap());
        let scores = json(out.as_ref());
        for (got, expected) in scores["metrics"].as_object().unwrap().values().zip(case["stats"].as_array().unwrap()) {
            assert!((got.as_f64().unwrap_or(-1.0) - expected.as_f64().unwrap()).abs() < 1e-6, "{scores}");
        }
        std::fs::remove_file(&out).unwrap();
    }

    std::fs::copy(file("coco_annotations.json"), folder.path.join("annotations.json")).unwrap();
    std::fs::write(
        folder.path.join("results.json"),
        r#"[{"image_id": 99, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}]"#,
    )
    .unwrap();
    session(&folder, "coco");
    assert!(!Path::new(&out).exists(), "figures of what was refused");
}

#[test]
fn a_run_is_evaluated_on_its_held_out_images_and_resumed_with_its_images() {
    let folder = Folder::new("split");
    let data = folder.path.join("kinds");
    let digits = digits(&folder, 24);
    let images: Vec<PathBuf> =
        std::fs::read_dir(Path::new(&digits).join("train")).unwrap().map(|e| e.unwrap().path()).collect();
    for (i, image) in images.iter().enumerate() {
        let class = data.join(["a", "b"][i % 2]);
        std::fs::create_dir_all(&class).unwrap();
        std::fs::copy(image, class.join(image.file_name().unwrap())).unwrap();
    }
    let data = data.to_string_lossy().into_owned();
    let run_folder = train(&folder, &data, "half", &["--epochs", "1", "--seed", "7", "--val-fraction", "0.5"]);
    // The images that the run holds out, by its own seed and share.
    let options = OpenOptions { val_fraction: Some(0.5), seed: 7, ..OpenOptions::default() };
    let dataset = Dataset::open(Path::new(&data), &options).unwrap();
    let held_out: Vec<String> = dataset.val.iter().map(|sample| sample.image.to_string_lossy().into_owned()).collect();
    assert_eq!(held_out.len(), 12);
    for source in [&[][..], &[data.as_str()]] {
        let judged = succeed(&[&["evaluate", &run_folder], source].concat());
        assert!(judged.contains("(val split, 12 images)"), "{judged}");
        let lines = succeed(&[&["predict", &run_folder], source, &["--split", "val", "--out", "-"]].concat());
        let file = |line: &str| serde_json::from_str::<Value>(line).unwrap()["file"].as_str().unwrap().to_owned();
        assert_eq!(lines.lines().map(file).collect::<Vec<_>>(), held_out);
    }
    // One more image changes the split and the length of an epoch.
    std::fs::copy(&images[0], Path::new(&data).join("a/new.png")).unwrap();
    fail(&["train", "--resume", &run_folder], 2, &["not those this run was started with"]);
}

/// Pictures of 32 pixels in the folders `red` and `green`, as many in each.
fn class_folders(folder: &Path, of_each: u32) {
    for (class, colour) in [("red", [200, 40, 40]), ("green", [40, 200, 40])] {
        std::fs::create_dir_all(folder.join(class)).unwrap();
        for i in 0..of_each {
            let shade = |x: u32| image::Rgb(colour.map(|c: u8| c.wrapping_add((x * (i + 1) % 50) as u8)));
            let picture = image::RgbImage::from_fn(32, 32, |x, _| shade(x));
            picture.save(folder.join(class).join(format!("{i:02}.png"))).unwrap();
        }
    }
}

#[test]
fn another_folder_is_judged_whole_and_the_runs_own_by_its_fold() {
    let folder = Folder::new("judged");
    let [data, other, test] = ["data", "other", "only"].map(|name| path(&folder, name));
    class_folders(data.as_ref(), 10);
    class_folders(other.as_ref(), 6);
    class_folders(&Path::new(&test).join("test"), 3);
    let run = train(&folder, &data, "r", &["--epochs", "1", "--fold", "2/5"]);
    let log = std::fs::read_to_string(Path::new(&run).join("log.txt")).unwrap();
    assert!(log.contains("4 images of 20 held out, with the same share of every class (fold 2/5, seed 0)"), "{log}");
    let file = path(&folder, "figures.json");
    let judged = |args: &[&str]| {
        let said = succeed(&[&["evaluate", &run], args, &["--json", &file]].concat());
        let images = said.lines().find_map(|line| line.rsplit_once(" (")).unwrap().1.trim_end_matches(')').to_owned();
        (images, json(file.as_ref())["split"].as_str().unwrap().to_owned())
    };
    let expect = |args: &[&str], images: &str, split: &str| {
        assert_eq!(judged(args), (images.to_owned(), split.to_owned()), "{args:?}");
    };
    expect(&[], "val split, 4 images", "val");
    expect(&[&data], "val split, 4 images", "val");
    expect(&[&other], "all 12 images", "all");
    expect(&[&other, "--split", "val"], "val split, 2 images", "val");
    expect(&[&other, "--val-fraction", "0.5"], "val split, 6 images", "val");
    expect(&[&test], "test split, 6 images", "test");
    expect(&[&test, "--split", "test"], "test split, 6 images", "test");
    // Training needs more than a test split; a fold is resumed as it was.
    fail(&["train", &test], 1, &["test"]);
    fail(
        &["train", &data, "--fold", "2/5", "--val-fraction", "0.2"],
        2,
        &["--fold 2/5 and --val-fraction exclude each other"],
    );
    fail(&["train", &data, "--fold", "6/5"], 2, &["--fold 6/5: expected the number of a fold and of all folds"]);
    succeed(&["train", "--resume", &run, "--epochs", "2"]);
    let args = std::fs::read_to_string(Path::new(&run).join("args.yaml")).unwrap();
    assert!(args.contains("fold: ") && args.contains("2/5"), "{args}");
}

#[test]
fn sources_are_trained_on_by_their_shares_and_judged_one_by_one() {
    let folder = Folder::new("sources");
    let [near, far] = ["data/near", "data/far"].map(|name| path(&folder, name));
    class_folders(near.as_ref(), 10);
    class_folders(far.as_ref(), 5);
    let yaml = folder.path.join("data/data.yaml");
    let declare =
        |ratio: f32| std::fs::write(&yaml, format!("sources:\n- near\n- {{path: far, ratio: {ratio}}}\n")).unwrap();
    declare(0.5);
    let data = path(&folder, "data");
    let run = crate::cli::train(&folder, &data, "r", &["--epochs", "1"]);
    let log = std::fs::read_to_string(Path::new(&run).join("log.txt")).unwrap();
    assert!(
        log.contains("source far: 8 images for training, 2 for validation, 0 for test; 50.0 % of every training batch"),
        "{log}"
    );
    let file = path(&folder, "figures.json");
    let said = succeed(&["evaluate", &run, "--json", &file]);
    assert!(
        said.contains("(val split, 6 images)")
            && said.contains("  source   images  class (balanced accuracy)  overall\n"),
        "{said}"
    );
    let figures = json(file.as_ref());
    let images = |name: &str| figures["sources"][name]["images"].as_u64();
    assert_eq!([images("near"), images("far")], [Some(4), Some(2)]);
    // Balanced accuracy is a mean of shares of each class, and both sources have as many images of each.
    let figure = |of: &Value| of["overall"].as_f64().unwrap();
    let mean = (4.0 * figure(&figures["sources"]["near"]) + 2.0 * figure(&figures["sources"]["far"])) / 6.0;
    assert!((figure(&figures) - mean).abs() < 1e-9, "{figures}");
    let sampled = ["train", &data, "--sampling", "class-balanced"];
    fail(&sampled, 2, &["`ratio:` and `repeat:` of its sources decide how often images are shown"]);
    declare(0.25);
    fail(
        &["train", "--resume", &run, "--epochs", "2"],
        2,
        &["the shares of its sources (`ratio:`, `repeat:`) have changed since"],
    );
    declare(0.5);
    succeed(&["train", "--resume", &run, "--epochs", "2"]);
}
