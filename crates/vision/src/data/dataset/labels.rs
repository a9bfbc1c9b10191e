//! Checks on all label files of a task: oddities become notes, faults become errors.

use crate::data::declaration::{Split, TaskDeclaration};
use crate::data::formats::Images;
use crate::data::walk::relative_name;
use crate::error::Result;
use crate::reading::{Missing, Raw, Reading, Remark, Spot, count_of, list_some};
use crate::tasks::Content;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// If every label file is missing, the path is wrong; the data set is not one of background images.
pub fn check_label_files(task: &TaskDeclaration, readings: &[Reading], declares_missing: bool) -> Result<()> {
    let absent = |reading: &Reading| reading.remarks.iter().any(|(remark, _)| *remark == Remark::NoLabelFile);
    if declares_missing || readings.is_empty() || !readings.iter().all(absent) {
        return Ok(());
    }
    let message = format!(
        "task `{}`: none of {} has a label file (looked for {}): put the label files there, correct `from:`, or say `missing: background` if that is meant",
        task.name,
        count_of(readings.len(), "image"),
        readings[0].place.file.display()
    );
    Err(task.place.error(message))
}

/// Whether a remark says that nothing was found for an image, so that its label follows from `missing:`.
fn is_said(remark: &Remark) -> bool {
    matches!(remark, Remark::NoLabelFile | Remark::NotMentioned)
}

/// Whether a label was found for an image.
pub fn has_label(reading: &Reading) -> bool {
    !matches!(reading.raw, Raw::Unlabelled) && !reading.remarks.iter().any(|(remark, _)| is_said(remark))
}

/// A declared split without any label for the task: an error for training and validation, because the task would learn or be
/// judged on nothing. The images of such a test split become unlabelled, and a note says so.
pub fn check_splits(task: &TaskDeclaration, readings: &mut [Reading], images: &Images) -> Result<Option<String>> {
    let [train, val, test] = images.ends;
    let ranges = [0..train, train..val, val..test];
    // Without any label, the task's kind says what is wrong.
    if !readings.iter().any(has_label) {
        return Ok(None);
    }
    for (split, range) in Split::ALL.into_iter().zip(ranges) {
        let readings = &mut readings[range];
        if readings.is_empty() || readings.iter().any(|reading| has_label(reading) || !reading.faults.is_empty()) {
            continue;
        }
        let absent = readings[0].remarks.iter().any(|(remark, _)| *remark == Remark::NoLabelFile);
        // The task's kind says what is wrong without labels to learn from, but a missing file would be background.
        if split == Split::Train && !absent {
            continue;
        }
        let looked = if absent { format!(" (looked for {})", readings[0].place.file.display()) } else { String::new() };
        let none = format!(
            "task `{}`: none of {} of the {} split has a label{looked}",
            task.name,
            count_of(readings.len(), "image"),
            split.word()
        );
        if split == Split::Test {
            readings.iter_mut().for_each(|reading| {
                reading.raw = Raw::Unlabelled;
                reading.remarks.retain(|(remark, _)| !is_said(remark));
            });
            return Ok(Some(none));
        }
        // A single image may be unlabelled by chance.
        if readings.len() == 1 {
            return Ok(Some(none));
        }
        let message = format!("{none}: label them, correct `from:`, or leave the split out");
        return Err(task.place.error(message));
    }
    Ok(None)
}

/// One sentence for each kind of remark, with the first places.
pub fn remarks(task: &TaskDeclaration, readings: &[Reading], root: &Path) -> Vec<String> {
    let mut grouped: BTreeMap<u8, (&Remark, Vec<String>)> = BTreeMap::new();
    for (remark, place) in readings.iter().flat_map(|r| &r.remarks) {
        let name = relative_name(&place.file, root);
        let shown = match place.spot {
            Spot::Line(line) => format!("{name}:{line}"),
            Spot::Entry(..) => format!("{name} {}", place.spot),
            Spot::File => name,
        };
        let order = match remark {
            Remark::SwappedX => 7,
            Remark::SwappedY => 8,
            Remark::DegenerateBox => 0,
            Remark::NoBoxLeft => 9,
            Remark::DuplicateBox => 1,
            Remark::BeyondImage => 2,
            Remark::NoLabelFile => 3,
            Remark::UnreadableImage => 4,
            Remark::PartlyBlank => 5,
            Remark::NotMentioned => 6,
        };
        grouped.entry(order).or_insert((remark, Vec::new())).1.push(shown);
    }
    let sentence = |(remark, places): (&Remark, Vec<String>)| {
        let (n, some) = (places.len(), list_some(&places, 3));
        let text = match remark {
            Remark::DegenerateBox => format!("{} without width or height left out ({some})", count_of(n, "box")),
            Remark::NoBoxLeft => {
                format!("{} without any other box, so unlabelled and not background ({some})", count_of(n, "image"))
            }
            Remark::SwappedX | Remark::SwappedY => format!(
                "{} whose {}, so {} unlabelled ({some}); `polyhead data check DATA --fix DIR` writes a copy with the corners put right",
                count_of(n, "box"),
                remark.swapped_corners().unwrap_or_default(),
                if n == 1 { "the image is" } else { "the images are" }
            ),
            Remark::DuplicateBox => {
                format!("{} repeated and counted once ({some})", count_of(n, "box"))
            }
            Remark::BeyondImage => {
                format!("{} reaching beyond the stated image size, clipped to the picture ({some})", count_of(n, "box"))
            }
            Remark::NoLabelFile | Remark::NotMentioned => {
                let (taken, other) = match task.missing {
                    Some(Missing::Background) => ("background", "unlabelled"),
                    _ => ("unlabelled", "background"),
                };
                let why = match remark {
                    Remark::NoLabelFile => "without a label file".to_string(),
                    _ => format!("not mentioned in {}", list_some(&distinct(&places), 3)),
                };
                let all = count_of(readings.len(), "image");
                format!("{n} of {all} {why} taken as {taken} (`missing: {other}` changes this)")
            }
            Remark::UnreadableImage => format!("{} that cannot be read, so unlabelled ({some})", count_of(n, "image")),
            Remark::PartlyBlank if task.kind.content == Content::Classes => {
                format!(
                    "{} with some of the columns blank, so unlabelled for these classes ({some})",
                    count_of(n, "row")
                )
            }
            Remark::PartlyBlank => {
                format!("{} with some of the columns blank, so unlabelled ({some})", count_of(n, "row"))
            }
        };
        format!("{}: {text}", task.name)
    };
    grouped.into_values().map(sentence).collect()
}

fn distinct(places: &[String]) -> Vec<&String> {
    places.iter().collect::<BTreeSet<_>>().into_iter().collect()
}
