//! Hashes of what a run's data set holds, so that a resumed run can tell what has changed since it was started.

use super::setup::Data;
use crate::data::Sample;
use crate::random::mix;
use crate::tasks::Task;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Hashes of the training and validation split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Content {
    /// [`FORM`] of the version that made the hashes.
    form: u32,
    /// The number of images.
    images: [usize; 2],
    /// The sizes of the image files in bytes.
    files: [u64; 2],
    /// The labels of each task.
    labels: Vec<[u64; 2]>,
    /// `None` in files of older versions.
    #[serde(default)]
    declared: Option<Declared>,
}

/// The transformations that do not change labels, as data.yaml declares them. They decide how images are shown in training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Declared {
    crop_safe: bool,
    flip_safe: bool,
    scale_invariant: bool,
    /// For each task: crops, scaling, joining and mixing of images.
    tasks: Vec<[bool; 4]>,
    /// The share of each source in every batch, if shares are declared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    shares: Vec<f64>,
}

impl Declared {
    fn of(data: &Data) -> Declared {
        Declared {
            crop_safe: data.crop_safe,
            flip_safe: data.flip_safe,
            scale_invariant: data.scale_safe,
            tasks: data.invariances.iter().map(|task| [task.crop, task.scale, task.joining, task.mixing]).collect(),
            shares: data.mixture.as_ref().map_or_else(Vec::new, |mixture| mixture.shares.clone()),
        }
    }

    /// Names the first key that has another value in `now`.
    fn difference(&self, now: &Declared, tasks: &[Task]) -> Option<String> {
        // The first two are keys of data.yaml; the others follow from the kind of task, and so change with the version only.
        let keys = ["`crop_safe`", "`scale_invariant`", "whether mosaics are allowed", "whether mixing is allowed"];
        let of_tasks = tasks.iter().zip(self.tasks.iter().zip(&now.tasks));
        let own = of_tasks.flat_map(|(task, (then, now))| {
            (0..keys.len()).map(move |i| (format!("{} of the task {}", keys[i], task.name), then[i], now[i]))
        });
        let whole = [
            ("`flip_safe`", self.flip_safe, now.flip_safe),
            ("`crop_safe`", self.crop_safe, now.crop_safe),
            ("`scale_invariant`", self.scale_invariant, now.scale_invariant),
        ];
        if self.shares != now.shares {
            return Some("the shares of its sources (`ratio:`, `repeat:`) have".to_owned());
        }
        let mut all = own.chain(whole.into_iter().map(|(key, then, now)| (key.to_owned(), then, now)));
        let (key, then, now) = all.find(|(_, then, now)| then != now)?;
        Some(format!("{key}, which was {then} and is {now}, has"))
    }
}

/// The form in which labels are hashed. Hashes of different forms are not compared; raise it if `TaskSpec::to_json` changes.
const FORM: u32 = 1;
const SPLITS: [&str; 2] = ["training", "validation"];

impl Content {
    /// Asks the file system for the size of every image, but opens none.
    pub(super) fn of(data: &Data) -> Content {
        let splits = [&data.train, &data.val];
        let size = |sample: &Sample| crate::archives::length(&sample.image).unwrap_or(0);
        let label = |index: usize, task: &Task, sample: &Sample| {
            let label = &sample.labels[index];
            if !label.is_labelled() {
                return 0;
            }
            let values = task.spec.to_json(label).unwrap_or_default();
            values.iter().fold(1, |hash, value| mix(hash ^ crate::random::fnv(value.to_string())))
        };
        Content {
            form: FORM,
            images: splits.map(|split| split.len()),
            files: splits.map(|split| joined(&split.par_iter().map(size).collect::<Vec<_>>())),
            labels: data
                .tasks
                .iter()
                .enumerate()
                .map(|(index, task)| {
                    splits.map(|split| {
                        joined(&split.par_iter().map(|sample| label(index, task, sample)).collect::<Vec<_>>())
                    })
                })
                .collect(),
            declared: Some(Declared::of(data)),
        }
    }

    /// The number of images, as in `31 and 5`.
    pub(super) fn images(&self) -> String {
        let [training, validation] = self.images;
        format!("{training} and {validation}")
    }

    /// Names what `now` has other than these; `None` if nothing.
    pub(super) fn difference(&self, now: &Content, tasks: &[Task]) -> Option<String> {
        let of_task = |(task, (then, now)): (&Task, (&[u64; 2], &[u64; 2]))| {
            let split = (0..2).find(|&split| then[split] != now[split])?;
            Some(format!("the labels of the task {} in the {} images have", task.name, SPLITS[split]))
        };
        if self.form != now.form {
            return None;
        }
        let labels = tasks.iter().zip(self.labels.iter().zip(&now.labels)).find_map(of_task);
        let files = || {
            let split = (0..2).find(|&split| self.files[split] != now.files[split])?;
            Some(format!("the sizes of files of {} images have", SPLITS[split]))
        };
        let declared = || self.declared.as_ref()?.difference(now.declared.as_ref()?, tasks);
        labels.or_else(files).or_else(declared)
    }
}

/// One hash of all numbers in order.
fn joined(numbers: &[u64]) -> u64 {
    numbers.iter().fold(1, |hash, number| mix(hash.rotate_left(1) ^ mix(*number)))
}
