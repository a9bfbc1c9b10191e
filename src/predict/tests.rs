//! Tests of the protocol between feeder, workers, batches and writer, without decoding or computing. With any pattern of
//! unreadable images it ends, keeps the order, makes the same batches, and never has more images in the pipeline than the
//! window allows.

use super::formats::{Format, sheets};
use super::names::Name;
use super::output::{Outputs, Target};
use super::pipeline::{Computing, Plan, Writing, answer_all};
use super::sources::Found;
use super::tally::Tally;
use super::workers::{Arrival, Finished, Handling, Queue, QueuedImage, Ready, feed};
use super::{Ended, Event};
use crate::data::Geometry;
use crate::error::Result;
use crate::tasks::HeadOutput;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Whether the image with this index can be read.
type Readable = Arc<dyn Fn(u64) -> bool + Send + Sync>;

struct Decoder {
    readable: Readable,
}

impl Handling for Decoder {
    fn decode(&self, queued: QueuedImage) -> Result<Ready, Finished> {
        let index = queued.index;
        if !(self.readable)(index) {
            return Err(Finished { index, pieces: Ok(vec![format!("-{index} ")]), broken: Some(String::new()) });
        }
        let geometry = Geometry { source: [1, 1], size: 1, scale: [1.0; 2], offset: [0.0; 2], flip: false };
        Ok(Ready { queued, geometry, canvas: Vec::new(), image: None })
    }

    fn finish(&self, ready: &Ready, _: &[HeadOutput], _: usize) -> Result<Vec<String>> {
        Ok(vec![format!("+{} ", ready.queued.index)])
    }
}

/// Records the batches, and the number of images that had been fed when the first batch arrived.
struct Network {
    batches: Vec<Vec<u64>>,
    fed: Arc<AtomicU64>,
    fed_at_first: Option<u64>,
}

impl Computing for Network {
    fn load(&mut self, batch: &[Ready], _: Option<u64>) -> Result<()> {
        self.fed_at_first.get_or_insert_with(|| self.fed.load(Ordering::SeqCst));
        self.batches.push(batch.iter().map(|ready| ready.queued.index).collect());
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        Ok(())
    }

    fn answers(&mut self) -> Result<Vec<HeadOutput>> {
        Ok(Vec::new())
    }
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs the pipeline for `count` images; returns the batches, and the number of images that had been fed when the first
/// batch arrived.
fn answer(plan: &Plan, count: u64, readable: Readable) -> (Vec<Vec<u64>>, Option<u64>) {
    let fed = Arc::new(AtomicU64::new(0));
    let mut network = Network { batches: Vec::new(), fed: Arc::clone(&fed), fed_at_first: None };
    let sources = (0..count).map(move |index| {
        fed.fetch_add(1, Ordering::SeqCst);
        Ok(Found { path: PathBuf::from(index.to_string()), name: Name::Mirrored(PathBuf::new()) })
    });
    let lines = Lines::default();
    let sheets = sheets(&[Format::Jsonl], &[], None).unwrap();
    let mut outputs = Outputs::create(Target::Lines(Box::new(lines.clone())), &sheets).unwrap();
    let mut tally = Tally::new(1.0);
    let mut silent = |_: Event| {};
    let writing = Writing { outputs: &mut outputs, tally: &mut tally, events: &mut silent };
    let decoder = Decoder { readable: Arc::clone(&readable) };
    let ended = answer_all(plan, sources, &decoder, &mut network, writing, &AtomicBool::new(false)).unwrap();
    outputs.finish().unwrap();
    assert_eq!((ended, tally.lines), (Ended::Whole, count));
    let expected: String = (0..count).map(|i| format!("{}{i} ", if readable(i) { '+' } else { '-' })).collect();
    assert!(String::from_utf8_lossy(&lines.0.lock().unwrap()) == expected, "the lines are not in order");
    (network.batches, network.fed_at_first)
}

/// The expected batches, computed from the images alone.
fn cut(plan: &Plan, count: u64, readable: &Readable) -> Vec<Vec<u64>> {
    let (mut batches, mut batch) = (Vec::new(), Vec::<u64>::new());
    for index in 0..count {
        if readable(index) {
            batch.push(index);
        }
        let over = batch.first().is_some_and(|first| index + 1 - first >= plan.window as u64);
        if over || batch.len() == plan.batch {
            batches.push(std::mem::take(&mut batch));
        }
    }
    batches.extend((!batch.is_empty()).then_some(batch));
    batches
}

/// Runs `work` on its own thread and prints the name of each case; fails if that takes longer than a minute.
fn watched(work: impl FnOnce(&dyn Fn(String)) + Send + 'static) {
    let (begin, begun) = channel();
    let worker = std::thread::spawn(move || work(&|what| begin.send(what).unwrap()));
    let mut last = String::new();
    loop {
        match begun.recv_timeout(Duration::from_secs(60)) {
            Ok(what) => last = what,
            Err(RecvTimeoutError::Timeout) => panic!("{last} hangs"),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    if let Err(panic) = worker.join() {
        eprintln!("in {last}:");
        std::panic::resume_unwind(panic);
    }
}

fn check(plan: &Plan, pattern: u64, count: u64) {
    let readable: Readable = Arc::new(move |index| pattern >> index & 1 == 1);
    let (batches, _) = answer(plan, count, Arc::clone(&readable));
    assert_eq!(batches, cut(plan, count, &readable));
}

#[test]
fn all_of_twelve_images_are_answered_whichever_can_be_read() {
    watched(|begin| {
        for count in 1..=12u64 {
            for pattern in 0..1u64 << count {
                // Cycles through every combination of batch, window and number of workers.
                let turn = (pattern + count) as usize;
                let (batch, window, workers) = (1 + turn % 5, 1 + turn / 5 % 7, 1 + turn / 35 % 4);
                begin(format!("{count} images, {pattern:b}: batch {batch}, window {window}, {workers} workers"));
                check(&Plan { batch, window, workers, pauses: false }, pattern, count);
            }
        }
    });
}

#[test]
fn all_images_are_answered_with_any_window_and_batch() {
    watched(|begin| {
        for pattern in 0..1u64 << 6 {
            for (batch, window) in (1..=4).flat_map(|batch| (1..=6).map(move |window| (batch, window))) {
                let workers = 1 + (pattern as usize + window) % 4;
                begin(format!("{pattern:b}: batch {batch}, window {window}, {workers} workers"));
                check(&Plan { batch, window, workers, pauses: false }, pattern, 6);
            }
        }
    });
}

/// An unreadable image keeps its place in the window until its line is written, however long the previous image takes.
#[test]
fn the_window_holds_back_images_behind_an_unanswered_one() {
    watched(|begin| {
        begin("one readable image before many that are not".into());
        let plan = Plan { batch: 8, window: 20, workers: 2, pauses: false };
        let (batches, fed_at_first) = answer(&plan, 100_000, Arc::new(|index| index == 0));
        assert_eq!((batches, fed_at_first), (vec![vec![0]], Some(20)));
    });
}

#[test]
fn a_panic_ends_the_run() {
    watched(|begin| {
        for workers in 1..=3 {
            begin(format!("one of {workers} workers panics"));
            let plan = Plan { batch: 4, window: 6, workers, pauses: false };
            let readable: Readable = Arc::new(|index| index != 3 || panic!("this panic is part of the test"));
            assert!(catch_unwind(AssertUnwindSafe(|| answer(&plan, 20, readable))).is_err());
        }
        begin("the sources panic".into());
        let (send, arrivals) = channel();
        feed(std::iter::from_fn(|| panic!("this panic is part of the test")), &Queue::new(3), &send);
        assert!(matches!(arrivals.recv().unwrap(), Arrival::End(0, Some(_))));
    });
}

/// The first file gets its name, and the second cannot.
#[test]
fn predictions_are_kept_under_the_names_that_their_files_have() {
    let folder = std::env::temp_dir().join(format!("polyhead-half-named-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let classes = crate::tasks::classify::Classify::new(vec!["a".into(), "b".into()]);
    let tasks = [crate::tasks::Task::new("kind", classes)];
    let sheets = sheets(&[Format::Jsonl, Format::Csv], &tasks, None).unwrap();
    for pieces in [["line\n", "row\n"], ["", ""]] {
        let mut outputs = Outputs::create(Target::Folder(folder.clone()), &sheets).unwrap();
        outputs.add(&pieces.map(str::to_owned)).unwrap();
        std::fs::create_dir(folder.join("predictions.csv")).unwrap();
        assert!(outputs.finish().is_err());
        let kept = outputs.abandon();
        assert!(kept.iter().all(|file| file.is_file()) && kept.len() == pieces.join("").lines().count(), "{kept:?}");
        assert!(folder.join("predictions.jsonl").is_file());
        std::fs::remove_dir(folder.join("predictions.csv")).unwrap();
        std::fs::remove_file(folder.join("predictions.jsonl")).unwrap();
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn two_runs_with_one_folder_do_not_write_into_each_others_answers() {
    let folder = std::env::temp_dir().join(format!("polyhead-outputs-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let sheets = sheets(&[Format::Jsonl], &[], None).unwrap();
    let begin = |answers: &[&str]| {
        let mut outputs = Outputs::create(Target::Folder(folder.clone()), &sheets).unwrap();
        answers.iter().for_each(|answer| outputs.add(&[format!("{{\"file\":\"{answer}\"}}\n")]).unwrap());
        outputs.flush().unwrap();
        outputs
    };
    let (mut first, mut second) = (begin(&["first", "first"]), begin(&["second"]));
    let read = |path: &PathBuf| std::fs::read_to_string(path).unwrap();
    let path = first.finish().unwrap().remove(0);
    assert_eq!((read(&path).matches("first").count(), read(&path).matches("second").count()), (2, 0));
    assert_eq!(second.finish().unwrap(), std::slice::from_ref(&path));
    assert_eq!((read(&path).matches("first").count(), read(&path).matches("second").count()), (0, 1));
    // After an error predictions are kept under the temporary name; without predictions no file is kept.
    let kept = begin(&["third"]).abandon();
    assert!(kept.len() == 1 && read(&kept[0]).contains("third") && read(&path).contains("second"), "{kept:?}");
    assert!(begin(&[]).abandon().is_empty());
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2);
    std::fs::remove_dir_all(folder).unwrap();
}
