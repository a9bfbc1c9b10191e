//! `predict` on many images: their sources, order, memory limits, and how a run ends.

use crate::cli::{polyhead, text};
use crate::step::{Folder, three_tasks};
use polyhead::draw::PictureFormat;
use polyhead::evaluate::Selection;
use polyhead::executor::DeviceChoice;
use polyhead::model::{Architecture, Backbone, Card, ModelFile};
use polyhead::predict::{self, Destination, Ended, Ends, Format, List};
use polyhead::tasks::DecodeOptions;
use polyhead::tasks::{HeadOutput, Task};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const CPU: DeviceChoice = DeviceChoice::Cpu { threads: 2 };

/// An untrained network; its predictions are sufficient to follow them through the pipeline.
pub fn model(tasks: Vec<Task>) -> ModelFile {
    ModelFile::untrained(Card::new(Architecture::new(Backbone::Tiny, tasks, 64, 0.0), 64), 3).unwrap()
}

/// A folder with a model, and functions to run it.
pub struct Place {
    pub folder: Folder,
}

impl Place {
    pub fn new(name: &str) -> Place {
        Place::with(name, three_tasks())
    }

    pub fn with(name: &str, tasks: Vec<Task>) -> Place {
        let folder = Folder::new(&format!("predict-{name}"));
        model(tasks).save(&folder.path.join("model.safetensors")).unwrap();
        Place { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path.join(name)
    }

    /// The name of `file` while it grows, and after an error: `<file>.<process>-<number>.part`. There must be at most one.
    pub fn part(&self, out: &str, file: &str) -> Option<String> {
        let entries = std::fs::read_dir(self.path(out)).into_iter().flatten();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let parts: Vec<String> =
            names.filter(|name| name.starts_with(&format!("{file}.")) && name.ends_with(".part")).collect();
        assert!(parts.len() < 2, "{parts:?}");
        parts.first().map(|name| format!("{out}/{name}"))
    }

    /// The predictions that an error left, `<file>.<process>-<number>.unfinished`.
    pub fn unfinished(&self, out: &str, file: &str) -> String {
        let names = std::fs::read_dir(self.path(out)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut kept = names.filter(|name| name.starts_with(&format!("{file}.")) && name.ends_with(".unfinished"));
        format!("{out}/{}", kept.next().expect("predictions so far"))
    }

    /// A picture whose content depends on its name.
    pub fn image(&self, name: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let seed = name.bytes().fold(7usize, |h, b| h * 31 % 65_521 + usize::from(b));
        let (width, height) = (20 + seed % 60, 20 + seed / 60 % 50);
        let rgb = (0..width * height * 3).map(|i| ((i / 3 * seed + i) % 251) as u8).collect();
        // The content determines the format, not the ending.
        let image = image::RgbImage::from_raw(width as u32, height as u32, rgb).unwrap();
        image.save_with_format(&path, image::ImageFormat::Png).unwrap();
    }

    /// `predict` with this working folder, keeping boxes of any score.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = polyhead();
        command.current_dir(&self.folder.path).args(["predict", "model.safetensors", "--threads", "2", "--conf", "0"]);
        command.args(["--iou", "1", "--max-det", "5"]).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs to the end with `input` as the list.
    pub fn run(&self, args: &[&str], input: &[u8]) -> Output {
        let mut child = self.command(args).spawn().unwrap();
        // A run that refuses its flags does not read the list.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    pub fn succeed(&self, args: &[&str], input: &[u8]) -> Output {
        let output = self.run(args, input);
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        output
    }

    pub fn fail(&self, args: &[&str], input: &[u8], code: i32, words: &[&str]) {
        let output = self.run(args, input);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        let error = said.lines().last().unwrap_or_default();
        assert!(error.starts_with("error: "), "{args:?}: {said}");
        assert!(words.iter().all(|word| error.contains(word)), "{args:?}, {words:?}: {error}");
    }

    pub fn lines(&self, file: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path(file)).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "{file} ends within a line");
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn files(&self, file: &str) -> Vec<String> {
        self.lines(file).iter().map(|line| line["file"].as_str().unwrap().to_owned()).collect()
    }

    /// All files below a folder except hidden ones, sorted.
    pub fn tree(&self, folder: &str) -> Vec<String> {
        fn below(folder: &Path, root: &Path, found: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => below(&path, root, found),
                    false => found.push(path.strip_prefix(root).unwrap().to_string_lossy().into_owned()),
                }
            }
        }
        let (root, mut found) = (self.path(folder), Vec::new());
        below(&root, &root, &mut found);
        found.retain(|name| !name.rsplit('/').next().unwrap().starts_with('.'));
        found.sort();
        found
    }
}

/// The bits of row `i` of all outputs of a batch.
fn row(outputs: &[HeadOutput], batch: usize, i: usize) -> Vec<u32> {
    let part = |v: &Vec<f32>| v[v.len() / batch * i..v.len() / batch * (i + 1)].iter().map(|v| v.to_bits()).collect();
    let parts = outputs.iter().flat_map(|output| &output.values).map(part);
    parts.collect::<Vec<Vec<u32>>>().concat()
}

/// A pause or a broken image moves images within their batch, which must not change results.
#[test]
fn a_prediction_depends_on_neither_its_index_in_the_batch_nor_its_neighbours() {
    let mut model = model(three_tasks()).start(&CPU).unwrap();
    for (batch, size) in [(3, 64), (8, 96)] {
        let bytes = size * size * 3;
        let image = |seed: usize| -> Vec<u8> { (0..bytes).map(|i| ((i * 31 + i / 7 * seed) % 251) as u8).collect() };
        let mut expected = None;
        for place in 0..batch {
            for others in [0, 1, 9] {
                let mut pixels: Vec<u8> = (0..batch).flat_map(|at| image(at + 11 * others)).collect();
                if others == 0 {
                    pixels.fill(0);
                }
                pixels[place * bytes..(place + 1) * bytes].copy_from_slice(&image(5));
                let answers = row(&model.forward([batch, size, size], &pixels).unwrap(), batch, place);
                assert!(*expected.get_or_insert_with(|| answers.clone()) == answers, "{batch} × {size}², {place}");
            }
        }
    }
}

#[test]
fn a_batch_that_is_loaded_while_another_computes_gets_its_own_predictions() {
    let mut model = model(three_tasks()).start(&CPU).unwrap();
    let shape = [2, 64, 64];
    let batch = |seed: usize| -> Vec<u8> { (0..2 * 64 * 64 * 3).map(|i| ((i * seed + i / 5) % 253) as u8).collect() };
    let alone: Vec<String> = (1..4).map(|seed| format!("{:?}", model.forward(shape, &batch(seed)).unwrap())).collect();
    assert!(alone[0] != alone[1]);
    let mut ahead = Vec::new();
    for seed in 1..4 {
        model.load_batch(shape, &batch(seed)).unwrap();
        if seed > 1 {
            ahead.push(format!("{:?}", model.batch_outputs(shape).unwrap()));
        }
        model.start_batch(shape).unwrap();
    }
    ahead.push(format!("{:?}", model.batch_outputs(shape).unwrap()));
    assert!(ahead == alone);
}

#[test]
fn a_list_is_processed_in_order_with_any_number_of_workers() {
    let place = Place::new("list");
    let names: Vec<String> = (0..25).map(|i| format!("images/{:02}.png", i * 7 % 25)).collect();
    names.iter().for_each(|name| place.image(name));
    let list = names.join("\r\n");
    place.succeed(&["-", "--out", "one", "--workers", "1", "--no-images"], list.as_bytes());
    assert_eq!(place.files("one/predictions.jsonl"), names);
    place.succeed(&["-", "--out", "many", "--workers", "7", "--batch", "8"], (list + "\n\n").as_bytes());
    let lines = |out: &str| std::fs::read(place.path(out).join("predictions.jsonl")).unwrap();
    assert!(lines("one") == lines("many"));
    // The lines are the same for files, for a folder (sorted), and on standard output.
    let arguments: Vec<&str> = names.iter().map(String::as_str).collect();
    place.succeed(&[&arguments[..], &["--out", "files", "--no-images"]].concat(), b"");
    assert!(lines("one") == lines("files"));
    let shown = place.succeed(&["images", "--out", "-"], b"").stdout;
    let mut sorted: Vec<Vec<u8>> = lines("one").split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    sorted.sort();
    assert_eq!(text(&shown), text(&sorted.concat()));
    let globbed = place.succeed(&["im*/1[0-4].png", "--out", "-"], b"").stdout;
    assert_eq!(text(&globbed), text(&sorted[10..15].concat()));
}

#[cfg(unix)]
#[test]
fn names_with_line_breaks_need_nul() {
    let place = Place::new("nul");
    let names = ["images/a\nb.png", "images/ c .png", "images/d.png"];
    names.iter().for_each(|name| place.image(name));
    place.succeed(&["-", "-0", "--out", "out"], names.join("\0").as_bytes());
    assert_eq!(place.files("out/predictions.jsonl"), names);
    assert_eq!(place.tree("out").len(), 4);
    // The list is read as it arrives, so lines before the error may already be done.
    place.fail(&["-", "--out", "streamed"], names.join("\0").as_bytes(), 2, &["NUL", "--null"]);
    place.fail(&["images", "--null", "--out", "refused"], b"", 2, &["--null", "-"]);
    place.fail(&["-", "-", "--out", "refused"], b"", 2, &["once"]);
    place.fail(&["-", "--out", "refused"], b"\n\n", 2, &["no image"]);
    place.fail(&["-", "--out", "refused", "--batch", "100000"], b"", 2, &["--batch 100000", "65536"]);
    assert!(!place.path("refused").exists());
}

/// The output lines of a run in progress, each within a minute.
struct Lines {
    received: std::sync::mpsc::Receiver<String>,
}

impl Lines {
    fn of(child: &mut Child) -> Lines {
        let (send, received) = std::sync::mpsc::channel();
        let reader = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || reader.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        Lines { received }
    }

    fn next(&self) -> Value {
        let line = self.received.recv_timeout(Duration::from_secs(60)).expect("a line within a minute");
        serde_json::from_str(&line).unwrap()
    }
}

#[test]
fn a_pipe_that_pauses_gets_predictions_meanwhile() {
    let place = Place::new("pause");
    let names: Vec<String> = (0..6).map(|i| format!("{i}.png")).collect();
    names.iter().for_each(|name| place.image(name));
    let mut child = place.command(&["-", "--out", "-", "--batch", "4"]).spawn().unwrap();
    let (mut list, lines) = (child.stdin.take().unwrap(), Lines::of(&mut child));
    let mut answered = Vec::new();
    // A part of a batch; a broken image alone; more than a batch, the last path without a line break.
    for (written, expected) in [("0.png\n1.png\n2.", 2), ("png\n", 1), ("absent.png\n", 1), ("3.png\n4.png\n5.png", 2)]
    {
        list.write_all(written.as_bytes()).unwrap();
        answered.extend((0..expected).map(|_| lines.next()));
    }
    drop(list);
    answered.push(lines.next());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(answered.remove(3)["error"].as_str().unwrap().contains("cannot read"));
    // Pauses do not change results: a full batch is computed however much of it is filled.
    place.succeed(&["-", "--out", "whole", "--batch", "4", "--no-images"], names.join("\n").as_bytes());
    assert_eq!(answered, place.lines("whole/predictions.jsonl"));
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_leaves_complete_lines_for_what_it_computed() {
    let place = Place::new("signal");
    (0..3).for_each(|i| place.image(&format!("{i}.png")));
    for (signal, out) in [("INT", "int"), ("TERM", "term")] {
        let args = ["-", "--out", out, "--no-images", "--format", "jsonl,coco,csv", "--batch", "4"];
        let mut child = place.command(&args).spawn().unwrap();
        let mut list = child.stdin.take().unwrap();
        list.write_all(b"2.png\n0.png\n1.png\nabsent.png\n0.png\n").unwrap();
        let lines = || {
            let growing = place.part(out, "predictions.jsonl");
            growing.map_or(0, |file| std::fs::read_to_string(place.path(&file)).unwrap().lines().count())
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while lines() < 5 {
            assert!(Instant::now() < deadline, "five lines took over a minute");
            std::thread::sleep(Duration::from_millis(5));
        }
        // The list stays open: the run ends although more images could still arrive.
        assert!(
            Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap().success()
        );
        let output = child.wait_with_output().unwrap();
        drop(list);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{said}");
        assert!(said.contains("predicted 4 images") && !said.contains("panicked"), "{said}");
        let names = place.files(&format!("{out}/predictions.jsonl"));
        assert_eq!(names, ["2.png", "0.png", "1.png", "absent.png", "0.png"]);
        let results = std::fs::read(place.path(out).join("detections.json")).unwrap();
        let results: Value = serde_json::from_slice(&results).unwrap();
        assert_eq!(results.as_array().unwrap().len(), 4 * 5);
        assert_eq!(std::fs::read_to_string(place.path(out).join("predictions.csv")).unwrap().lines().count(), 6);
        assert!(place.tree(out).iter().all(|file| !file.ends_with(".part")));
    }
}

#[cfg(unix)]
#[test]
fn a_reader_that_stops_reading_is_no_error() {
    let place = Place::new("head");
    (0..3).for_each(|i| place.image(&format!("{i}.png")));
    let mut child = place.command(&["-", "--out", "-"]).spawn().unwrap();
    let mut list = child.stdin.take().unwrap();
    list.write_all(b"0.png\n").unwrap();
    let mut one = [0];
    child.stdout.take().unwrap().read_exact(&mut one).unwrap();
    // The reader is gone now; writing the next line detects it.
    list.write_all(b"1.png\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    let script = "exec \"$@\" >&- 2>&-";
    let mut closed = Command::new("sh");
    closed.args(["-c", script, "sh"]).arg(polyhead().get_program()).current_dir(&place.folder.path);
    closed.args(["predict", "model.safetensors", "0.png", "1.png", "--out", "out"]);
    assert_eq!(closed.status().unwrap().code(), Some(0), "nobody hears that it went well");
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_complete_lines_and_the_older_predictions() {
    let place = Place::new("full");
    (0..40).for_each(|i| place.image(&format!("images/{i}.png")));
    place.succeed(&["images", "--out", "out", "--no-images", "--format", "jsonl,coco"], b"");
    let older = place.files("out/predictions.jsonl");
    let script = "ulimit -f 20; exec \"$@\"";
    let whole = place.command(&["images", "--out", "out", "--no-images", "--format", "jsonl,coco"]);
    let mut limited = Command::new("sh");
    limited.args(["-c", script, "sh"]).arg(whole.get_program()).args(whole.get_args());
    let output = limited.current_dir(&place.folder.path).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.lines().last().unwrap().starts_with("error: cannot write"), "{said}");
    assert!(place.part("out", "predictions.jsonl").is_none());
    let part = place.unfinished("out", "predictions.jsonl");
    assert!(said.contains(&format!("the predictions made so far are in {part}")), "{said}");
    assert_eq!(place.files("out/predictions.jsonl"), older);
    let kept = place.files(&part);
    assert!(!kept.is_empty() && kept.len() < 40 && older.starts_with(&kept), "{kept:?}");
}

/// A pipe or a broken link with an image's name also gets a line, without waiting for a writer.
#[cfg(unix)]
#[test]
fn pipes_and_broken_links_in_a_folder_give_lines_with_an_error() {
    let place = Place::new("special");
    place.image("images/a.png");
    assert!(Command::new("mkfifo").arg(place.path("images/b.png")).status().unwrap().success());
    std::os::unix::fs::symlink("nowhere.png", place.path("images/c.png")).unwrap();
    let output = place.command(&["images", "--out", "out", "--no-images", "--max-broken", "1"]).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let lines = place.lines("out/predictions.jsonl");
    let errors: Vec<bool> = lines.iter().map(|line| line["error"].is_string()).collect();
    assert_eq!(errors, [false, true, true], "{said}");
}

/// Unreadable images wait for the line of the readable one before them, and fill the whole window.
#[test]
fn a_few_images_among_many_unreadable_ones_are_processed() {
    let place = Place::new("sparse");
    for (readable, unreadable) in [(1, 18), (1, 19), (7, 13), (1, 60)] {
        let folder = format!("images{readable}-{unreadable}");
        let names: Vec<String> = (0..readable + unreadable).map(|i| format!("{folder}/{i:02}.png")).collect();
        names[..readable].iter().for_each(|name| place.image(name));
        names[readable..].iter().for_each(|name| std::fs::write(place.path(name), "no image").unwrap());
        // A list's pauses also end batches, so these images are in a folder.
        for (more, code) in [(&[][..], 1), (&["--max-broken", "1"], 0)] {
            let out = format!("out{readable}-{unreadable}-{code}");
            let mut child = place.command(&[&[&folder, "--out", &out, "--no-images"], more].concat()).spawn().unwrap();
            let deadline = Instant::now() + Duration::from_secs(60);
            while child.try_wait().unwrap().is_none() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            let hangs = child.try_wait().unwrap().is_none();
            let _ = child.kill();
            let said = text(&child.wait_with_output().unwrap().stderr);
            assert!(!hangs, "{readable} + {unreadable} images hang: {said}");
            // If too many are unreadable, the predictions made so far are kept.
            let lines = place.lines(&format!("{out}/predictions.jsonl"));
            assert!(place.part(&out, "predictions.jsonl").is_none());
            assert!(code == 0 || said.contains("more than --max-broken"), "{said}");
            assert!(code == 1 || lines.len() == names.len(), "{} lines: {said}", lines.len());
            for (line, (i, name)) in lines.iter().zip(names.iter().enumerate()) {
                assert_eq!((line["file"].as_str(), line["error"].is_null()), (Some(name.as_str()), i < readable));
            }
        }
    }
}

/// A list that counts how much of it is read, and a writer that counts lines.
struct Counted {
    line: Vec<u8>,
    at: usize,
    left: usize,
    read: usize,
    written: Arc<AtomicUsize>,
    furthest: Arc<AtomicUsize>,
}

impl Read for Counted {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        unreachable!("lines are read from the buffer")
    }
}

impl BufRead for Counted {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        if self.at == 0 {
            self.read += 1;
            let ahead = self.read.saturating_sub(self.written.load(Ordering::SeqCst));
            self.furthest.fetch_max(ahead, Ordering::SeqCst);
        }
        Ok(&self.line[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
        if self.at == self.line.len() {
            (self.at, self.left) = (0, self.left - 1);
        }
    }
}

struct CountedLines {
    lines: Arc<AtomicUsize>,
    bytes: Arc<AtomicUsize>,
}

impl Write for CountedLines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes.fetch_add(bytes.len(), Ordering::SeqCst);
        self.lines.fetch_add(bytes.iter().filter(|b| **b == b'\n').count(), Ordering::SeqCst);
        // A slow reader gives other threads the chance to run ahead.
        std::thread::sleep(Duration::from_millis(1));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Memory is bounded because the number of images in the pipeline is.
#[test]
fn the_pipeline_holds_at_most_two_batches_and_the_workers_images() {
    let place = Place::new("window");
    place.image("a.png");
    let (written, furthest) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let bytes = Arc::new(AtomicUsize::new(0));
    let line = format!("{}\n", place.path("a.png").display()).into_bytes();
    let counted = Counted { line, at: 0, left: 1500, read: 0, written: written.clone(), furthest: furthest.clone() };
    let options = predict::Options {
        model: place.path("model.safetensors"),
        sources: vec!["-".into()],
        split: None,
        list: Some(List { reader: Box::new(counted), ends: Ends::Line, line: 0, file: None }),
        out: Destination::Lines(Box::new(CountedLines { lines: written.clone(), bytes: bytes.clone() })),
        formats: vec![Format::Jsonl],
        coco_images: None,
        pictures: true,
        picture_format: PictureFormat::Jpeg,
        selection: Selection::default(),
        classes: None,
        batch: 4,
        imgsz: None,
        device: CPU,
        workers: 3,
        boxes: DecodeOptions::default(),
        max_broken: 0.0,
    };
    let report = predict::predict(predict::open(options).unwrap(), &AtomicBool::new(false), |_| {}).unwrap();
    assert_eq!((report.images, report.broken, report.ended), (1500, 0, Ended::Whole));
    assert_eq!(written.load(Ordering::SeqCst), 1500);
    // Finished lines may still be buffered, up to 64 KiB of them.
    let (furthest, waiting) = (furthest.load(Ordering::SeqCst), (1 << 16) / (bytes.load(Ordering::SeqCst) / 1500));
    assert!((5..=2 * 4 + 2 * 3 + 1 + waiting).contains(&furthest), "{furthest} images at once, {waiting} may wait");
}
