//! Checks a data set: which images are labelled, which problems there are and where, and whether training would start.
//! Everything is read as in training, except that a wrong label is recorded and reading continues.

mod contents;
pub mod coverage;
mod fix;
mod frames;
mod pixels;
mod report;

pub use fix::{Fixed, fix};
pub use report::Check;

use crate::data::dataset::faults::{Faults, Findings};
use crate::data::dataset::{self, Dataset, OpenOptions, Sample};
use crate::data::declaration::{Declaration, Split};
use crate::data::feed::broken_allowed;
use crate::data::progress::Progress;
use crate::error::{Error, Result};
use crate::reading::{Place, Remark, count_of};
use pixels::Seen;
use serde::Serialize;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// A problem that the user should look at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Problem {
    /// The kind of problem, used for counting and in JSON.
    pub kind: ProblemKind,
    /// The image or the label file.
    pub file: PathBuf,
    /// The line of the file, from 1, if the position is a line.
    pub line: Option<usize>,
    /// The message, without the position.
    pub message: String,
}

/// The kinds of problem, starting with those that stop a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// A declaration or a label that stops training.
    Label,
    /// Targets without spread, or a class that no training image has.
    Unlearnable,
    /// An image that cannot be decoded.
    UnreadableImage,
    /// A picture of 12 or fewer bits stored in 16, which is nearly black.
    FaintImage,
    /// The same picture in train and in val or test.
    Leak,
    /// A picture that occurs more than once without being a leak.
    Duplicate,
    /// Boxes that fit the stored picture but not the picture as rotated by its EXIF orientation.
    Exif,
    /// Fractions of the image where pixels are expected, or the reverse.
    Scale,
    /// A box that extends beyond the image.
    BoxOutside,
    /// A box without width or height.
    DegenerateBox,
    /// A box whose right edge is left of its left edge, or whose lower edge is above its upper edge.
    SwappedCorners,
    /// The same box twice on one image.
    DuplicateBox,
}

/// Options of a check.
#[derive(Clone, Debug)]
pub struct CheckOptions {
    /// Options for opening the data set, as in training.
    pub open: OpenOptions,
    /// The share of unreadable images above which a run stops.
    pub max_broken: f32,
}

/// The findings, and the data set as far as it could be read, for [`fix`].
pub struct Examined {
    /// The findings.
    pub check: Check,
    declared: Declaration,
    dataset: Dataset,
    /// Where the data set is and how it was opened.
    path: PathBuf,
    open: OpenOptions,
    /// One entry per image of train, val and test: its size and content hash, or the reason it could not be read.
    seen: Vec<Result<Seen, String>>,
    suspects: frames::Suspects,
}

/// Checks the whole data set at `path`, including every image.
///
/// Errors: `Io` if a file cannot be read at all; `Data` if there is no usable data set.
pub fn check(path: &Path, options: &CheckOptions, progress: &Progress) -> Result<Examined> {
    let mut faults = Faults::Collect(Findings::default());
    let (declared, dataset) = dataset::open_declared(path, &options.open, &mut faults, progress)?;
    let found = faults.into_findings();
    let samples: Vec<(Split, &Sample)> =
        Split::ALL.into_iter().flat_map(|split| dataset.split(split).iter().map(move |s| (split, s))).collect();
    let seen = pixels::look(&samples, progress);
    let mut problems: Vec<Problem> = found.faults.iter().map(fault).collect();
    // Two tasks may read the same table; report its faults once.
    let mut reported = HashSet::new();
    problems.retain(|problem| reported.insert(problem.to_string()));
    let faults = (!problems.is_empty()).then(|| {
        format!("{} in the declaration or the labels, listed in the report", count_of(problems.len(), "problem"))
    });
    problems.extend(dataset.problems.iter().map(|message| Problem {
        kind: ProblemKind::Unlearnable,
        file: PathBuf::new(),
        line: None,
        message: message.clone(),
    }));
    problems.extend(samples.iter().zip(&seen).filter_map(|((_, sample), seen)| {
        let message = seen.as_ref().err()?.clone();
        Some(Problem { kind: ProblemKind::UnreadableImage, file: sample.image.clone(), line: None, message })
    }));
    let faint = samples.iter().zip(&seen).filter(|(_, seen)| seen.as_ref().is_ok_and(|seen| seen.is_faint));
    problems.extend(faint.map(|((_, sample), _)| {
        let message = "16 bits per sample, but every value is below 4,096 of 65,535: multiply the values by 16, or save it with 8 bits";
        Problem { kind: ProblemKind::FaintImage, file: sample.image.clone(), line: None, message: message.into() }
    }));
    problems.extend(contents::repeated(&samples, &seen));
    problems.extend(found.remarks.iter().filter_map(|(remark, place)| {
        let (kind, message) = match remark {
            Remark::DegenerateBox => (ProblemKind::DegenerateBox, "a box without width or height"),
            Remark::SwappedX => (ProblemKind::SwappedCorners, "xmax is left of xmin, so the image is unlabelled"),
            Remark::SwappedY => (ProblemKind::SwappedCorners, "ymax is above ymin, so the image is unlabelled"),
            Remark::DuplicateBox => (ProblemKind::DuplicateBox, "the same box a second time"),
            Remark::BeyondImage => (ProblemKind::BoxOutside, "a box reaching beyond the image"),
            _ => return None,
        };
        Some(Problem::at(kind, place, message))
    }));
    let suspects = frames::examine(&declared, &samples, &seen, &found, &mut problems);
    problems.sort_by_key(|problem| problem.kind);
    let stops = stops(&dataset, &seen, faults, options.max_broken);
    let coverage = coverage::check(&dataset);
    let check = Check { coverage, problems, stops };
    Ok(Examined { check, declared, dataset, path: path.to_path_buf(), open: options.open.clone(), seen, suspects })
}

impl Problem {
    fn at(kind: ProblemKind, place: &Place, message: &str) -> Self {
        let line = place.spot.line_number();
        Problem { kind, file: place.file.to_path_buf(), line, message: place.spot.said(message) }
    }
}

fn fault(error: &Error) -> Problem {
    let (file, line, message) = match error {
        Error::Data { file, line, message } => (file.clone(), *line, message.clone()),
        Error::Io { path, .. } => (path.clone(), None, error.reason()),
        other => (PathBuf::new(), None, other.to_string()),
    };
    Problem { kind: ProblemKind::Label, file, line, message }
}

/// The reasons why training would not start, or would stop within its first epoch; empty if there are none.
fn stops(dataset: &Dataset, seen: &[Result<Seen, String>], faults: Option<String>, max_broken: f32) -> Vec<String> {
    let mut stops = Vec::from_iter(faults);
    if dataset.train.is_empty() {
        stops.push("no image to train on".into());
    }
    let mut start = 0;
    for split in [Split::Train, Split::Val] {
        let images = dataset.split(split).len();
        let broken = seen[start..start + images].iter().filter(|seen| seen.is_err()).count();
        start += images;
        // The same rule as in the loader.
        let allowed = broken_allowed(max_broken, images);
        if broken > allowed {
            let word = split.word();
            stops.push(format!(
                "{broken} of {images} {word} images unreadable, more than --max-broken {max_broken} allows"
            ));
        }
    }
    stops
}
