//! Recognises the folders that polyhead wrote, by their content. The pictures in them are not training images.

use crate::files;
use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;

/// A hidden file that marks a folder of runs. The pictures below it are not training images.
pub const RUNS_MARKER: &str = ".polyhead-runs";
/// A hidden file in a folder of label files that `predict` wrote.
pub const LABELS_MARKER: &str = ".polyhead-predictions";

/// A word for the content of a folder that polyhead wrote, such as `predictions`; `None` for any other folder. A folder with written
/// labels and with their images in `images/` is a data set.
pub fn written_here(folder: &Path) -> Option<&'static str> {
    let names = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.file_name());
    let names: Vec<_> = names.filter(|name| is_candidate(name)).collect();
    let has = |name: &str| names.iter().any(|found| found == name);
    if has("args.yaml") && is_args(&folder.join("args.yaml")) {
        return Some("a run");
    }
    if has("compare.json") && begins(&folder.join("compare.json"), 4096, |text| text.contains("\"paired t over seeds"))
    {
        return Some("a comparison");
    }
    let keys = ["\"model\":", "\"data\":", "\"split\":", "\"unreadable\":"];
    if has("report.json")
        && begins(&folder.join("report.json"), 1 << 16, |text| keys.iter().all(|key| text.contains(key)))
    {
        return Some("an evaluation");
    }
    let labels = names.iter().any(|name| folder.join(name).join(LABELS_MARKER).is_file());
    if labels && !folder.join("images").is_dir() || names.iter().any(|name| is_predictions(folder, name)) {
        return Some("predictions");
    }
    None
}

/// Whether a name may be one that polyhead writes: most folders of images are dismissed without opening a file.
fn is_candidate(name: &OsStr) -> bool {
    let starts = ["args.yaml", "compare.json", "report.json", "predictions.", "boxes", "detections", "labels"];
    name.to_str().is_some_and(|name| starts.iter().any(|start| name.starts_with(start)))
}

/// Whether a file is the args.yaml of a run, not that of another program.
fn is_args(file: &Path) -> bool {
    let keys = ["command:", "version:", "commit:", "machine:"];
    begins(file, 1 << 16, |text| keys.iter().all(|key| text.lines().any(|line| line.starts_with(key))))
}

/// Whether a file holds predictions, in any format but text files of boxes.
fn is_predictions(folder: &Path, name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let begins = |fits: fn(&str) -> bool| begins(&folder.join(name), 4096, fits);
    // With several detection tasks there is a file of boxes for each, `boxes_<task>.csv`.
    let is = |stem: &str, ending: &str| {
        let task = name.strip_prefix(stem).and_then(|rest| rest.strip_suffix(ending));
        task.is_some_and(|task| task.is_empty() || task.starts_with('_'))
    };
    let is_table =
        |text: &str| text.lines().next().is_some_and(|line| line.starts_with("file,") && line.ends_with(",error"));
    let is_coco = |text: &str| text.starts_with('[') && (text.contains("\"score\"") || text.trim_end() == "[]");
    name == "predictions.jsonl"
        || name == "predictions.csv" && begins(is_table)
        || is("boxes", ".csv") && begins(|text| text.starts_with("file,class,score,x1,y1,x2,y2"))
        || is("detections", ".json") && begins(is_coco)
}

/// Whether the first `most` bytes of a file fit.
fn begins(file: &Path, most: u64, fits: impl Fn(&str) -> bool) -> bool {
    let mut start = Vec::new();
    let read = files::open(file).and_then(|file| file.take(most).read_to_end(&mut start));
    read.is_ok() && fits(&String::from_utf8_lossy(&start))
}
