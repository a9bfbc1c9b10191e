//! Handling of invalid labels: they stop training, but `data check` collects them as findings.

use crate::data::declaration::{TaskDeclaration, explained};
use crate::data::formats::Images;
use crate::error::{Error, Result};
use crate::reading::{Place, Raw, RawClass, Reading, Remark, Spot};
use crate::tasks::{ClassNumbers, infer_classes};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) enum Faults {
    Stop,
    Collect(Findings),
}

/// The faults found by a lenient reading, and the position of every box.
#[derive(Default)]
pub(crate) struct Findings {
    /// Each of these would stop a run.
    pub faults: Vec<Error>,
    pub remarks: Vec<(Remark, Place)>,
    /// Whether boxes with swapped corners are put right, for a repaired copy.
    pub mends: bool,
    /// Per task, then per image of all splits: the file of its boxes and the position of each box.
    pub boxes: Vec<Vec<Option<BoxPlaces>>>,
}

pub(crate) struct BoxPlaces {
    pub file: Arc<Path>,
    pub spots: Box<[Spot]>,
}

impl Faults {
    /// Returns the error, unless faults are collected.
    pub fn take(&mut self, error: Error) -> Result<()> {
        match self {
            Faults::Stop => Err(error),
            Faults::Collect(found) => {
                found.faults.push(error);
                Ok(())
            }
        }
    }

    /// Takes the first collected fault of `file` for an error that ends the reading; it says how many there are.
    pub fn take_first_of(&mut self, file: &Path) -> Option<Error> {
        let Faults::Collect(found) = self else { return None };
        let is_of = |error: &Error| matches!(error, Error::Data { file: at, .. } if at == file);
        let count = found.faults.iter().filter(|error| is_of(error)).count();
        let first = found.faults.iter().position(is_of)?;
        let error = found.faults.swap_remove(first);
        Some(match count {
            1 => error,
            n => explained(error, &[format!("this is the first of {n} such lines, and no other names an image")]),
        })
    }

    /// Whether any fault was collected.
    pub fn are_found(&self) -> bool {
        matches!(self, Faults::Collect(found) if !found.faults.is_empty())
    }

    /// The result of one step of a task; `None` if it failed but other tasks can continue.
    pub fn pass<T>(&mut self, outcome: Result<T>) -> Result<Option<T>> {
        match outcome {
            Ok(value) => Ok(Some(value)),
            Err(error) => self.take(error).map(|()| None),
        }
    }

    /// One reading per image; a fault leaves its image unlabelled, because the rest of its labels is not all there is.
    pub fn readings(&mut self, outcomes: Vec<Result<Reading>>) -> Result<Vec<Reading>> {
        let Faults::Collect(found) = self else {
            let mut readings = outcomes.into_iter().collect::<Result<Vec<_>>>()?;
            return match readings.iter_mut().find_map(|r| r.faults.drain(..).next()) {
                Some(first) => Err(first),
                None => Ok(readings),
            };
        };
        let readings = outcomes.into_iter().map(|outcome| match outcome {
            Ok(mut reading) => {
                if !reading.faults.is_empty() {
                    reading.unlabel();
                    found.faults.append(&mut reading.faults);
                } else if found.mends
                    && let Some(mended) = reading.mended.take()
                {
                    reading.raw = *mended;
                }
                reading
            }
            Err(error) => {
                let file = match &error {
                    Error::Data { file, .. } | Error::Io { path: file, .. } => file.clone(),
                    _ => PathBuf::new(),
                };
                found.faults.push(error);
                Reading::of(Raw::Unlabelled, &file, None)
            }
        });
        Ok(readings.collect())
    }

    /// If faults are collected: removes labels of unknown classes, and records remarks and the positions of boxes.
    pub fn collect_findings(&mut self, task: &TaskDeclaration, readings: &mut [Reading], images: &Images) {
        let Faults::Collect(found) = self else {
            return;
        };
        drop_unknown(task, readings, images, &mut found.faults);
        let places = readings.iter_mut().map(|reading| {
            // The check opens every image itself, so it reports the unreadable ones, too.
            let is_finding = |remark: &Remark| match remark {
                Remark::DegenerateBox | Remark::DuplicateBox | Remark::BeyondImage | Remark::UnreadableImage => true,
                Remark::SwappedX | Remark::SwappedY => true,
                Remark::NoLabelFile | Remark::PartlyBlank | Remark::NotMentioned | Remark::NoBoxLeft => false,
            };
            let (findings, notes) = reading.remarks.drain(..).partition(|(remark, _)| is_finding(remark));
            reading.remarks = notes;
            found.remarks.extend::<Vec<_>>(findings);
            match &reading.raw {
                Raw::Boxes(boxes) if !boxes.is_empty() => Some(BoxPlaces {
                    file: reading.place.file.clone(),
                    spots: boxes.iter().map(|b| b.class.spot).collect(),
                }),
                _ => None,
            }
        });
        let places = places.collect();
        found.boxes.push(places);
    }

    /// Removes the record of the last task, which turned out not to be usable.
    pub fn forget_task(&mut self) {
        if let Faults::Collect(found) = self {
            found.boxes.pop();
        }
    }

    /// Records that a part of the data set has no boxes for a task.
    pub fn no_boxes(&mut self, images: usize) {
        if let Faults::Collect(found) = self {
            found.boxes.push((0..images).map(|_| None).collect());
        }
    }

    /// Makes one record of those of all parts, where `of` is the part of each image and its index there.
    pub fn join_boxes(&mut self, of: &[(usize, usize)], parts: usize) {
        if let Faults::Collect(found) = self {
            let mut last = found.boxes.split_off(found.boxes.len() - parts);
            found.boxes.push(of.iter().map(|&(part, image)| last[part][image].take()).collect());
        }
    }

    /// Puts the records of images into another order.
    pub fn reorder(&mut self, order: &[usize]) {
        if let Faults::Collect(found) = self {
            for places in &mut found.boxes {
                *places = order.iter().map(|&image| places[image].take()).collect();
            }
        }
    }

    pub fn into_findings(self) -> Findings {
        match self {
            Faults::Stop => Findings::default(),
            Faults::Collect(found) => found,
        }
    }
}

/// A label of an unknown class makes its image unlabelled.
fn drop_unknown(task: &TaskDeclaration, readings: &mut [Reading], images: &Images, faults: &mut Vec<Error>) {
    let classes = match &task.names {
        Some(names) => names.clone(),
        None => infer_classes(readings, images.class_images()),
    };
    let context = task.context();
    let numbers = ClassNumbers::new(&context, &classes);
    for reading in readings {
        let file = reading.place.file.clone();
        let mut known = |class: &RawClass| match numbers.of(class, &file) {
            Ok(_) => true,
            Err(error) => {
                faults.push(error);
                false
            }
        };
        // Every unknown class is reported, not only the first.
        let mut all_known =
            |classes: &mut dyn Iterator<Item = &RawClass>| classes.filter(|class| !known(class)).count() == 0;
        let looked_for = all_known(&mut reading.labelled_categories.iter().flatten());
        let stays = match &reading.raw {
            Raw::Class(class) => all_known(&mut std::iter::once(class)),
            Raw::Names(words) => all_known(&mut words.iter()),
            Raw::Boxes(boxes) => all_known(&mut boxes.iter().map(|one| &one.class)),
            Raw::Unlabelled | Raw::Flags(_) | Raw::Values(_) => true,
        };
        if !(stays && looked_for) {
            reading.unlabel();
        }
    }
}
