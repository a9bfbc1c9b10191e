//! Hundreds of damaged images and label files, made from valid ones with a seed. Decoding, `data check` and a dry run must read
//! each one or refuse it with an error, within limits of time and memory. Inputs that once failed this belong here.

use crate::cli::{SMALL, polyhead, results, succeed, text};
use crate::step::Folder;
use polyhead::data::check::{CheckOptions, check};
use polyhead::data::images::decode;
use polyhead::data::random::Random;
use polyhead::data::{Dataset, OpenOptions, Progress};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Damaged copies per image.
const COPIES: u64 = 14;
/// Far more time than any case takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);
/// Address space limit of a process, in KiB.
const MEMORY: usize = 4 << 20;

fn seeds() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/images");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Applies one kind of damage after another.
fn damaged(bytes: &[u8], other: &[u8], copy: u64, random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let head = bytes.len().min(96);
    match copy % 7 {
        0 => bytes.truncate(random.below(bytes.len())),
        1 => bytes.truncate(bytes.len() - 1 - random.below(8)),
        2 => flip(&mut bytes[..head], 1, random),
        3 => flip(&mut bytes, 5, random),
        // An absurd number: a field in the header gets its largest or smallest value.
        4 => {
            let at = random.below(head - 4);
            bytes[at..at + 4].fill(if random.below(2) == 0 { 0xFF } else { 0 });
        }
        5 => {
            let at = 12 + random.below(bytes.len() - 12);
            bytes[at..].rotate_left(random.below(7));
        }
        // The end of another file.
        _ => {
            bytes.truncate(random.below(bytes.len()).max(8));
            bytes.extend_from_slice(&other[other.len() / 3..]);
        }
    }
    bytes
}

fn flip(bytes: &mut [u8], count: usize, random: &mut Random) {
    for _ in 0..count {
        let at = random.below(bytes.len());
        bytes[at] ^= 1 << random.below(8);
    }
}

/// Writes the damaged images in two classes, with some intact ones; returns their number.
fn write_images(folder: &Path) -> usize {
    let seeds = seeds();
    let mut count = 0;
    for class in ["a", "b"] {
        fs::create_dir_all(folder.join(class)).unwrap();
    }
    for (i, file) in seeds.iter().enumerate() {
        let (bytes, name) = (fs::read(file).unwrap(), file.file_name().unwrap().to_string_lossy().into_owned());
        let other = fs::read(&seeds[(i + 7) % seeds.len()]).unwrap();
        fs::write(folder.join("ab".get(i % 2..=i % 2).unwrap()).join(format!("whole-{name}")), &bytes).unwrap();
        for copy in 0..COPIES {
            let mut random = Random::new(&[i as u64, copy]);
            let class = if copy % 2 == 0 { "a" } else { "b" };
            fs::write(folder.join(class).join(format!("{copy}-{name}")), damaged(&bytes, &other, copy, &mut random))
                .unwrap();
            count += 1;
        }
    }
    count
}

/// Runs with a limited address space.
fn run_within_memory(args: &[&str]) -> Output {
    let script = format!("ulimit -v {MEMORY}; exec \"$@\"");
    let binary = polyhead().get_program().to_os_string();
    Command::new("sh").args(["-c", &script, "sh"]).arg(binary).args(args).output().unwrap()
}

#[test]
fn damaged_images_are_read_or_refused() {
    let folder = Folder::new("corpus-images");
    let count = write_images(&folder.path);
    assert!(count >= 300, "{count}");
    let (mut read, mut refused) = (0, 0);
    for class in ["a", "b"] {
        for entry in fs::read_dir(folder.path.join(class)).unwrap() {
            let file = entry.unwrap().path();
            let start = Instant::now();
            let decoded = decode::decode(&file);
            let size = decode::dimensions(&file);
            assert!(start.elapsed() < PATIENCE, "{} took {:?}", file.display(), start.elapsed());
            match decoded {
                Ok(image) => {
                    assert_eq!(image.rgb.len(), image.width * image.height * 3);
                    assert_eq!(size.unwrap(), [image.width, image.height], "{}", file.display());
                    read += 1;
                }
                Err(e) => {
                    let said = e.to_string();
                    assert!(said.lines().count() == 1 && !said.contains("panicked"), "{said}");
                    refused += 1;
                }
            }
        }
    }
    // Damage to pixels alone cannot be detected; damage to headers is.
    assert!(read > 60 && refused > 150, "{read} read, {refused} refused");

    let data = folder.path.to_string_lossy().into_owned();
    let strict = run_within_memory(&["data", "check", &data]);
    assert_eq!(strict.status.code(), Some(1), "{}", text(&strict.stdout));
    let report = folder.path.with_extension("json").to_string_lossy().into_owned();
    let checked = run_within_memory(&["data", "check", &data, "--max-broken", "1", "--json", &report]);
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    let report: serde_json::Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    let problems = report["problems"].as_array().unwrap();
    assert_eq!(problems.iter().filter(|p| p["kind"] == "unreadable_image").count(), refused, "{problems:?}");
    let project = Folder::new("corpus-runs");
    let small = ["--backbone", "tiny", "--imgsz", "32", "--batch", "32", "--threads", "2", "--max-broken", "1"];
    let to = ["--project", project.path.to_str().unwrap()];
    let tried = run_within_memory(&[&["train", &data, "--dry-run"], &small[..], &to].concat());
    assert!(tried.status.success(), "{}", text(&tried.stderr));
    let strict =
        run_within_memory(&[&["train", &data, "--dry-run"], &small[..8], &["--max-broken", "0"], &to].concat());
    let said = text(&strict.stderr);
    assert_eq!(strict.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot be read, more than --max-broken 0 allows"), "{said}");
}

const VOC: &str = "<annotation><size><width>40</width><height>20</height></size><object><name>cat</name><bndbox>
<xmin>1</xmin><ymin>2</ymin><xmax>20</xmax><ymax>18</ymax></bndbox></object></annotation>";
const ROWS: &str = r#"{"file_name": "1.png", "scene": "city", "speed": 7}
{"file_name": "2.png", "scene": "wood", "speed": 6.5}
"#;
const TABLE: &str = "file,kind,size\nimages/1.png,cat,12.5\nimages/2.png,dog,-3e2\nimages/3.png,cat,\n";
const TASKS: &str = "train: images\ntasks:
  kind: {type: classify, from: {csv: labels.csv, column: kind}}
  size: {type: regress, from: {csv: labels.csv, column: size}, unit: mm}\n";

#[test]
fn a_run_has_the_same_numbers_with_any_cache() {
    let folder = Folder::new("corpus-cache");
    let (images, project) = (folder.path.join("images"), folder.path.join("runs"));
    write_images(&images);
    let [images, to] = [&images, &project].map(|path| path.to_string_lossy().into_owned());
    let run = |name: &str, more: &[&str]| {
        let start = ["train", &images, "--project", &to, "--name", name, "--max-broken", "1", "--epochs", "2"];
        succeed(&[&start, &SMALL[..], more].concat());
        let mut rows = results(&project.join(name).to_string_lossy());
        rows.iter_mut().for_each(|row| drop(row.remove("time")));
        rows
    };
    let expected = run("none", &[]);
    assert!(run("ram", &["--cache", "ram"]) == expected);
    assert!(run("disk", &["--cache", "disk"]) == expected);
    let kept = || fs::read_dir(project.join("cache")).unwrap().count();
    let all = kept();
    assert!(all > 60, "{all}");
    assert!(run("again", &["--cache", "disk", "--cache-gib", "0.00001"]) == expected);
    assert_eq!(kept(), all);
}

/// Valid label files, one layout each: the file to damage, and all files.
const LAYOUTS: [(&str, &[(&str, &str)]); 5] = [
    (
        "labels/1.txt",
        &[("labels/1.txt", "0 0.5 0.5 0.25 0.5\n1 0.25 0.25 0.125 0.125\n"), ("labels/2.txt", "1 0.5 0.5 1 1\n")],
    ),
    ("labels.csv", &[("labels.csv", TABLE), ("data.yaml", TASKS)]),
    ("data.yaml", &[("labels.csv", TABLE), ("data.yaml", TASKS)]),
    ("Annotations/1.xml", &[("Annotations/1.xml", VOC)]),
    ("train/metadata.jsonl", &[("train/metadata.jsonl", ROWS)]),
];

fn damaged_text(text: &str, copy: u64, random: &mut Random) -> Vec<u8> {
    let absurd = ["-1", "1e999", "NaN", "99999999999999999999", "", "\0", "'", "{", "\u{feff}", "é", "../../..", "*a"];
    let mut bytes = text.as_bytes().to_vec();
    let words: Vec<(usize, &str)> = text.match_indices(|c: char| c.is_ascii_digit() || c == ':').collect();
    match copy % 6 {
        0 => bytes.truncate(random.below(bytes.len())),
        1 => flip(&mut bytes, 3, random),
        2 => {
            let (at, _) = words[random.below(words.len())];
            bytes.splice(at..at + 1, absurd[random.below(absurd.len())].bytes());
        }
        3 => bytes = text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        4 => bytes = text.replace('\n', "\r").repeat(1 + random.below(3)).into_bytes(),
        _ => {
            let at = random.below(bytes.len());
            bytes.splice(at..at, absurd[random.below(absurd.len())].bytes());
        }
    }
    bytes
}

#[test]
fn damaged_labels_are_read_or_refused() {
    let (mut read, mut refused) = (Vec::new(), 0);
    for (layout, (target, files)) in LAYOUTS.iter().enumerate() {
        for copy in 0..=24u64 {
            let folder = Folder::new(&format!("corpus-labels-{layout}-{copy}"));
            let images = match *target {
                "Annotations/1.xml" => "JPEGImages",
                "train/metadata.jsonl" => "train",
                _ => "images",
            };
            for (name, content) in [("1", 200u8), ("2", 90), ("3", 20)] {
                let file = folder.path.join(images).join(format!("{name}.png"));
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                image::RgbImage::from_pixel(40, 20, image::Rgb([content; 3])).save(file).unwrap();
            }
            for (name, content) in *files {
                let file = folder.path.join(name);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                let mut random = Random::new(&[layout as u64, copy]);
                let bytes = match name == target && copy > 0 {
                    true => damaged_text(content, copy, &mut random),
                    false => content.as_bytes().to_vec(),
                };
                fs::write(file, bytes).unwrap();
            }
            let start = Instant::now();
            let opened = Dataset::open(&folder.path, &OpenOptions::default());
            assert!(start.elapsed() < PATIENCE, "{target} {copy} took {:?}", start.elapsed());
            // The check names exactly what training would refuse.
            let options = CheckOptions { open: OpenOptions::default(), max_broken: 0.01 };
            let start = Instant::now();
            let checked = check(&folder.path, &options, &Progress::default());
            assert!(start.elapsed() < PATIENCE, "{target} {copy} took {:?}", start.elapsed());
            let stops = checked.map_or_else(|e| vec![e.to_string()], |examined| examined.check.stops);
            assert_eq!(stops.is_empty(), opened.is_ok(), "{target} {copy}: {stops:?}, {:?}", opened.err());
            match opened {
                Ok(_) => read.push(folder),
                Err(e) => {
                    let said = e.to_string();
                    assert!(copy > 0, "nothing is damaged, but {said}");
                    assert!(said.len() > 20 && said.len() < 2000, "{target} {copy}: {said}");
                    refused += 1;
                }
            }
        }
    }
    assert!(read.len() > 20 && refused > 30, "{} read, {refused} refused", read.len());
    // A training step for each would take minutes; every sixth case covers all layouts.
    let project = Folder::new("corpus-label-runs");
    for folder in read.iter().step_by(6) {
        let data = folder.path.to_string_lossy().into_owned();
        let small = ["--backbone", "tiny", "--imgsz", "32", "--batch", "2", "--threads", "2"];
        let to = ["--project", project.path.to_str().unwrap(), "--dry-run"];
        let tried = run_within_memory(&[&["train", &data], &small[..], &to].concat());
        let said = text(&tried.stderr);
        assert!(matches!(tried.status.code(), Some(0..=2)) && !said.contains("panicked"), "{data}: {said}");
        assert!(tried.status.success() || said.lines().last().is_some_and(|l| l.starts_with("error: ")), "{said}");
    }
}
