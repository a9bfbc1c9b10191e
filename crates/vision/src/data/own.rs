//! Marks the folders that polyhead writes, and recognises them: by the marker, or by their content if an older version wrote them.
//! The pictures in them are not training images.

use crate::error::{Error, Result};
use crate::files;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

/// A hidden file in a folder that polyhead wrote. Its first line says what the folder holds.
const MARKER: &str = ".polyhead";

/// A hidden file that marks a folder of runs. The pictures below it are not training images.
pub const RUNS_MARKER: &str = ".polyhead-runs";
/// A hidden file in a folder of label files that `predict` wrote.
pub const LABELS_MARKER: &str = ".polyhead-predictions";

/// The content of a folder that polyhead writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// A run of `train`.
    Run,
    /// The output of `predict`.
    Predictions,
    /// A data set that `data convert` or `data check --fix` wrote. It is one if it is named itself.
    Converted,
    /// Decoded images, kept for later epochs.
    Cache,
}

impl Own {
    const ALL: [Own; 4] = [Own::Run, Own::Predictions, Own::Converted, Own::Cache];

    /// The word in the marker and in messages.
    fn word(self) -> &'static str {
        match self {
            Own::Run => "a run",
            Own::Predictions => "predictions",
            Own::Converted => "a converted data set",
            Own::Cache => "cached images",
        }
    }
}

/// Marks `folder` as written by polyhead. A folder that had other files before must not be marked, because it would no longer be
/// read as data.
///
/// Errors: `Io` if the marker cannot be written.
pub fn mark(folder: &Path, own: Own) -> Result<()> {
    let marker = folder.join(MARKER);
    let text =
        format!("{}\nwritten by polyhead, which does not read this folder as images unless it is named\n", own.word());
    // The file is not followed or truncated if it is there, because it might be a link.
    match File::options().write(true).create_new(true).open(&marker) {
        Ok(mut file) => file.write_all(text.as_bytes()).map_err(Error::io("write", &marker)),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(Error::io("write", &marker)(e)),
    }
}

/// A word for the content of a marked folder; no other file is looked at.
pub fn marked(folder: &Path) -> Option<&'static str> {
    let mut start = Vec::new();
    if let Ok(file) = files::open(&folder.join(MARKER)) {
        file.take(256).read_to_end(&mut start).ok()?;
        let first = String::from_utf8_lossy(&start);
        let first = first.lines().next().unwrap_or_default().trim();
        return Own::ALL.into_iter().map(Own::word).find(|word| *word == first);
    }
    folder.join(RUNS_MARKER).exists().then_some("runs")
}

/// Removes a folder that holds nothing but the marker.
pub fn remove_empty(folder: &Path) {
    let only =
        std::fs::read_dir(folder).is_ok_and(|entries| entries.flatten().all(|entry| entry.file_name() == MARKER));
    if only {
        let _ = std::fs::remove_file(folder.join(MARKER));
        let _ = std::fs::remove_dir(folder);
    }
}

/// Whether `folder` may be marked: it has no file, or is marked already.
pub fn may_mark(folder: &Path) -> bool {
    let is_empty = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    is_empty || folder.join(MARKER).is_file()
}

/// A word for the content of a folder that polyhead wrote, such as `predictions`; `None` for any other folder. A folder with written
/// labels and with their images in `images/` is a data set.
pub fn written_here(folder: &Path) -> Option<&'static str> {
    if let Some(word) = marked(folder) {
        return Some(word);
    }
    let names = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.file_name());
    let names: Vec<_> = names.filter(|name| is_candidate(name)).collect();
    written_among(folder, &names)
}

/// Like [`written_here`] for a folder without a marker, whose names that are candidates are known.
pub fn written_among(folder: &Path, names: &[OsString]) -> Option<&'static str> {
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
pub fn is_candidate(name: &OsStr) -> bool {
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
