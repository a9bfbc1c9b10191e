//! Handling of invalid labels: they stop training, but `data check` collects them as findings.

use crate::data::declaration::TaskDeclaration;
use crate::data::formats::Images;
use crate::error::{Error, Result};
use crate::reading::{Place, Raw, RawClass, Reading, Remark, Spot};
use crate::tasks::{ClassNumbers, infer_classes};
use std::path::Path;
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

    /// The result of one step of a task; `None` if it failed but other tasks can continue.
    pub fn pass<T>(&mut self, outcome: Result<T>) -> Result<Option<T>> {
        match outcome {
            Ok(value) => Ok(Some(value)),
            Err(error) => self.take(error).map(|()| None),
        }
    }

    /// One reading per image; a file that cannot be interpreted leaves its image unlabelled.
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
                found.faults.append(&mut reading.faults);
                reading
            }
            Err(error) => {
                found.faults.push(error);
                Reading::of(Raw::Unlabelled, "".as_ref(), None)
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
                Remark::NoLabelFile | Remark::PartlyBlank | Remark::NotMentioned => false,
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

/// Removes boxes of unknown classes; any other label of an unknown class makes its image unlabelled.
fn drop_unknown(task: &TaskDeclaration, readings: &mut [Reading], images: &Images, faults: &mut Vec<Error>) {
    let classes = match &task.names {
        Some(names) => names.clone(),
        None => infer_classes(readings, images.class_images()),
    };
    let context = task.context();
    let numbers = ClassNumbers::new(&context, &classes);
    for Reading { raw, place, labelled_categories, .. } in readings {
        let mut known = |class: &RawClass| match numbers.of(class, &place.file) {
            Ok(_) => true,
            Err(error) => {
                faults.push(error);
                false
            }
        };
        if let Some(looked_for) = labelled_categories {
            looked_for.retain(&mut known);
        }
        let stays = match raw {
            Raw::Class(class) => known(class),
            Raw::Names(words) => words.iter().all(known),
            Raw::Boxes(boxes) => {
                boxes.retain(|b| known(&b.class));
                true
            }
            Raw::Unlabelled | Raw::Flags(_) | Raw::Values(_) => true,
        };
        if !stays {
            *raw = Raw::Unlabelled;
        }
    }
}
