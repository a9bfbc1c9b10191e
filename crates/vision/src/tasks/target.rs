//! Targets: labels converted to arrays of numbers for the loss; only the kind knows their meaning. Loader threads make
//! the target of each image; a step concatenates those of a batch and writes them to the loss's inputs.

use super::{Label, Standardisation, Task};
use crate::error::Result;
use crate::executor::{Executor, PlanId};
use crate::ir::{Level, ValueId};
use std::collections::HashMap;

/// The target of one image or of a batch, for one task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    /// One array per input, in the order of the loss's [`inputs`](TaskLoss::inputs), image by image.
    pub arrays: Vec<TargetArray>,
    /// The image's contribution to the loss's denominator, summed over images: the weight of labelled images, the
    /// number of labelled values, or the number of foreground cells.
    pub denominator: f32,
    /// Whether any image is labelled. A task without labels takes no part in the step.
    pub active: bool,
}

/// An array of numbers of one type.
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

/// Concatenates the targets of task `index` over a batch's images.
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

/// One task's loss, as the host uses it.
pub struct TaskLoss {
    /// `[1]`, the task's mean loss.
    pub loss: ValueId,
    /// The input for each array of a target; `None` for an array that this loss does not use.
    pub inputs: Vec<Option<ValueId>>,
    /// Inputs that are the same for every batch, with their values.
    pub constants: Vec<(ValueId, Vec<f32>)>,
    /// The least divisor of the summed loss: a smaller denominator counts as this.
    pub least_denominator: f32,
}

impl TaskLoss {
    /// Copies a batch's targets to the loss's inputs.
    ///
    /// # Errors
    /// A GPU call fails.
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

/// The context that a kind may need to encode a label.
#[derive(Clone, Copy, Debug)]
pub struct Encoding<'a> {
    /// The pyramid's levels for the canvas.
    pub levels: &'a [Level],
    /// The standardisation of values, if the kind uses one.
    pub standardisation: Option<&'a Standardisation>,
}

/// Encodes labels in network pixels as targets.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// The tasks, in the order of the labels.
    pub tasks: Vec<Task>,
    /// The pyramid's levels for the canvas.
    pub levels: Vec<Level>,
    /// One per task; `None` if the kind uses none.
    pub standardisation: Vec<Option<Standardisation>>,
}

impl Encoder {
    /// Encodes an image's labels as one target per task.
    pub fn encode(&self, labels: &[Label]) -> Vec<Target> {
        let encode = |((task, label), standardisation): ((&Task, &Label), &Option<Standardisation>)| {
            let encoding = Encoding { levels: &self.levels, standardisation: standardisation.as_ref() };
            task.spec.encode(label, &encoding)
        };
        self.tasks.iter().zip(labels).zip(&self.standardisation).map(encode).collect()
    }
}

/// One encoder per canvas side that batches may have; passed to the loader.
#[derive(Clone, Debug)]
pub struct Encoders(HashMap<usize, Encoder>);

impl Encoders {
    /// One encoder for each side in pixels.
    pub fn new(by_side: impl IntoIterator<Item = (usize, Encoder)>) -> Encoders {
        Encoders(by_side.into_iter().collect())
    }

    /// Encodes labels, in network pixels of a canvas of `side`, as one target per task.
    pub fn encode(&self, labels: &[Label], side: usize) -> Vec<Target> {
        self.0[&side].encode(labels)
    }
}
