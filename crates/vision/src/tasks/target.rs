//! Targets on their way from a label to the loss: arrays of numbers that nobody but the kind understands. A loader's thread
//! makes those of one image, a step puts a batch's side by side and writes them where the loss reads them.

use super::{Label, Standardisation, Task};
use crate::error::Result;
use crate::executor::{Executor, PlanId};
use crate::ir::{Level, ValueId};
use std::collections::HashMap;

/// The targets of one image, or of a batch, for one task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    /// In the order of the loss's [`inputs`](TaskLoss::inputs), image by image.
    pub arrays: Vec<TargetArray>,
    /// The image's part of the number that the loss is divided by, which is added up over images: labelled images by their
    /// weight, labelled values, foreground cells.
    pub denominator: f32,
    /// Whether any image is labelled: a task without labels takes no part in the step.
    pub active: bool,
}

/// Numbers of one type.
#[derive(Clone, Debug, PartialEq)]
pub enum TargetArray {
    /// Values, boxes, weights.
    F32(Vec<f32>),
    /// Classes and indices.
    I32(Vec<i32>),
}

impl TargetArray {
    fn append(&mut self, other: &TargetArray) {
        match (self, other) {
            (TargetArray::F32(all), TargetArray::F32(own)) => all.extend_from_slice(own),
            (TargetArray::I32(all), TargetArray::I32(own)) => all.extend_from_slice(own),
            (TargetArray::F32(_), TargetArray::I32(_)) | (TargetArray::I32(_), TargetArray::F32(_)) => {
                unreachable!("a kind makes the same arrays for every image")
            }
        }
    }
}

/// Puts the targets of task `index` of a batch's images side by side.
pub fn gather<'a>(images: impl Iterator<Item = &'a Vec<Target>>, index: usize) -> Target {
    let mut all = Target::default();
    for image in images.map(|image| &image[index]) {
        match all.arrays.is_empty() {
            true => all.arrays.clone_from(&image.arrays),
            false => all.arrays.iter_mut().zip(&image.arrays).for_each(|(all, own)| all.append(own)),
        }
        all.denominator += image.denominator;
        all.active |= image.active;
    }
    all
}

/// The host's side of one task's loss.
pub struct TaskLoss {
    /// `[1]`, the task's mean loss.
    pub loss: ValueId,
    /// Where each array of a target goes; `None` for one that this loss was made without.
    pub inputs: Vec<Option<ValueId>>,
    /// The inputs that are the same for every batch, with their numbers.
    pub constants: Vec<(ValueId, Vec<f32>)>,
}

impl TaskLoss {
    /// Writes a batch's targets where the loss reads them.
    ///
    /// # Errors
    /// A GPU that refuses a call.
    pub fn write(&self, executor: &mut Executor, plan: PlanId, target: &Target) -> Result<()> {
        debug_assert_eq!(self.inputs.len(), target.arrays.len());
        for (value, numbers) in &self.constants {
            executor.write_f32(plan, *value, numbers)?;
        }
        for (value, array) in self.inputs.iter().zip(&target.arrays) {
            match (value, array) {
                (Some(value), TargetArray::F32(numbers)) => executor.write_f32(plan, *value, numbers)?,
                (Some(value), TargetArray::I32(numbers)) => executor.write_i32(plan, *value, numbers)?,
                (None, _) => {}
            }
        }
        Ok(())
    }
}

/// The facts beside the label that a kind may need to make a target.
#[derive(Clone, Copy, Debug)]
pub struct Encoding<'a> {
    /// The pyramid's levels for the canvas.
    pub levels: &'a [Level],
    /// The standardisation of values, if the kind fits one.
    pub standardisation: Option<&'a Standardisation>,
}

/// Turns labels in network pixels into targets.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// The tasks, in the order of the labels.
    pub tasks: Vec<Task>,
    /// The pyramid's levels for the canvas.
    pub levels: Vec<Level>,
    /// One per task, `None` where its kind fits nothing.
    pub standardisation: Vec<Option<Standardisation>>,
}

impl Encoder {
    /// One target per task.
    pub fn encode(&self, labels: &[Label]) -> Vec<Target> {
        let encode = |((task, label), standardisation): ((&Task, &Label), &Option<Standardisation>)| {
            let encoding = Encoding { levels: &self.levels, standardisation: standardisation.as_ref() };
            task.spec.encode(label, &encoding)
        };
        self.tasks.iter().zip(labels).zip(&self.standardisation).map(encode).collect()
    }
}

/// An encoder for each side that a batch's canvases may have. Training hands it to its loader.
#[derive(Clone, Debug)]
pub struct Encoders(HashMap<usize, Encoder>);

impl Encoders {
    /// One encoder for each side in pixels.
    pub fn new(by_side: impl IntoIterator<Item = (usize, Encoder)>) -> Encoders {
        Encoders(by_side.into_iter().collect())
    }

    /// One target per task, of labels in network pixels of a canvas of `side`.
    pub fn encode(&self, labels: &[Label], side: usize) -> Vec<Target> {
        self.0[&side].encode(labels)
    }
}
