//! Writes a repaired copy of a data set: what is certainly wrong is left out or clipped, and every change is reported.

use super::{Examined, contents};
use crate::data::convert::{self, Converted, Transfer};
use crate::data::dataset::faults::{Faults, Findings};
use crate::data::dataset::{self, Dataset, Sample};
use crate::data::declaration::{Declaration, Split};
use crate::data::progress::Progress;
use crate::error::{Error, Result};
use crate::reading::count_of;
use crate::tasks::{Clipped, Label};
use std::collections::HashMap;
use std::fmt;
use std::path::Path;

/// A repaired copy and the changes made to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Fixed {
    /// The copy.
    pub written: Converted,
    /// The changes, as sentences.
    pub changes: Vec<String>,
}

#[derive(Default)]
struct Counts {
    unreadable: usize,
    leaking: usize,
    clipped: usize,
    outside: usize,
    suspects: usize,
}

/// Writes a repaired copy of the data set to `out` in polyhead's own layout. Unreadable images, and training images
/// that are also in val or test, are left out. Boxes are clipped to their image and dropped if they have no width or height;
/// swapped corners are put right.
///
/// Errors: `Data` if none of the tasks can be read or `out` is not free.
pub fn fix(examined: &Examined, out: &Path, transfer: Transfer, progress: &Progress) -> Result<Fixed> {
    let mut counts = Counts::default();
    let count = |kind| examined.check.count(kind);
    let swapped = count(super::ProblemKind::SwappedCorners);
    let mended;
    let (declared, dataset) = match swapped {
        0 => (&examined.declared, &examined.dataset),
        _ => {
            mended = with_corners_put_right(examined, progress)?;
            (&mended.0, &mended.1)
        }
    };
    if dataset.tasks.is_empty() {
        return Err(Error::Other("no task of this data set can be read: correct the problems above first".into()));
    }
    let fixed = repair(examined, dataset, &mut counts);
    if fixed.train.is_empty() {
        return Err(Error::Other("no training image is left: nothing was written".into()));
    }
    let written = convert::write_own(declared, &fixed, out, transfer, progress)?;
    let mut changes = Vec::new();
    let mut say = |count: usize, noun: &str, what: &str| {
        if count > 0 {
            changes.push(format!("{} {what}", count_of(count, noun)));
        }
    };
    say(counts.unreadable, "image", "left out: cannot be read");
    say(counts.leaking, "training image", "left out: the same picture is in val or test");
    say(count(super::ProblemKind::DegenerateBox), "box", "without width or height left out");
    say(swapped, "box", "with swapped corners put right");
    say(count(super::ProblemKind::DuplicateBox), "repeated box", "left out");
    say(counts.outside, "box", "wholly outside left out");
    say(counts.clipped, "box", "clipped to the image");
    say(
        counts.suspects,
        "image",
        "unlabelled now: their boxes are in another scale or drawn before the picture was turned",
    );
    say(count(super::ProblemKind::Label), "label", "left out: invalid, so the image is unlabelled now");
    Ok(Fixed { written, changes })
}

/// The data set with swapped corners put right. Labels may decide which images validate, so the splits stay as they were
/// examined.
fn with_corners_put_right(examined: &Examined, progress: &Progress) -> Result<(Declaration, Dataset)> {
    let mut faults = Faults::Collect(Findings { mends: true, ..Findings::default() });
    let (declared, mended) = dataset::open_declared(&examined.path, &examined.open, &mut faults, progress)?;
    let all = Split::ALL.into_iter().flat_map(|split| mended.split(split));
    let labels: HashMap<&Path, &Vec<Label>> = all.map(|sample| (sample.image.as_path(), &sample.labels)).collect();
    let unlabelled = vec![Label::UNLABELLED; mended.tasks.len()];
    let [train, val, test] = Split::ALL.map(|split| {
        let samples = examined.dataset.split(split).iter();
        let with = |sample: &Sample| {
            let labels = labels.get(sample.image.as_path()).copied().unwrap_or(&unlabelled).clone();
            Sample { labels, ..sample.clone() }
        };
        samples.map(with).collect()
    });
    Ok((declared, Dataset { train, val, test, ..mended.clone_declared() }))
}

fn repair(examined: &Examined, dataset: &Dataset, counts: &mut Counts) -> Dataset {
    let ends = [dataset.train.len(), dataset.train.len() + dataset.val.len()];
    // Validation and test images are kept, so that metrics stay comparable with older ones.
    let mut leaks = vec![false; examined.seen.len()];
    for group in contents::groups(&examined.seen) {
        if group.iter().any(|i| *i >= ends[0]) {
            group.iter().filter(|i| **i < ends[0]).for_each(|i| leaks[*i] = true);
        }
    }
    let starts = [0, ends[0], ends[1]];
    // A task may be readable only now that its corners are put right.
    let place = |name: &str| examined.dataset.tasks.iter().position(|task| task.name == name);
    let places: Vec<Option<usize>> = dataset.tasks.iter().map(|task| place(&task.name)).collect();
    let mut keep = |split: Split| -> Vec<Sample> {
        let samples = dataset.split(split).iter().enumerate();
        let kept = samples.filter_map(|(i, sample)| {
            let index = starts[split as usize] + i;
            let Ok(seen) = &examined.seen[index] else {
                counts.unreadable += 1;
                return None;
            };
            if leaks[index] {
                counts.leaking += 1;
                return None;
            }
            let size = [seen.width as f32, seen.height as f32];
            let suspect = |task: usize| places[task].is_some_and(|task| examined.suspects.contains(&(task, index)));
            Some(repaired(sample, size, &suspect, counts))
        });
        kept.collect()
    };
    let [train, val, test] = Split::ALL.map(&mut keep);
    Dataset { train, val, test, ..dataset.clone_declared() }
}

fn repaired(sample: &Sample, size: [f32; 2], suspect: &dyn Fn(usize) -> bool, counts: &mut Counts) -> Sample {
    let mut sample = sample.clone();
    for (task, label) in sample.labels.iter_mut().enumerate() {
        let Some(Clipped { label: kept, clipped, outside }) = label.value().and_then(|v| v.clipped(size)) else {
            continue;
        };
        if suspect(task) {
            counts.suspects += 1;
            *label = Label::UNLABELLED;
            continue;
        }
        counts.clipped += clipped;
        counts.outside += outside;
        *label = kept;
    }
    sample
}

impl fmt::Display for Fixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.changes.iter().try_for_each(|change| writeln!(f, "fixed: {change}"))?;
        write!(f, "{}", self.written)
    }
}
