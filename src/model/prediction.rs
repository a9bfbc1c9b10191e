//! From a head's numbers to an answer about one image, still in network pixels.

use super::card::Card;
use super::heads::decode::{self, DecodeOptions};
use super::library::HeadOutput;
use crate::boxes::Detection;
use crate::ops::box_loss::BINS;
use crate::ops::softmax;
use crate::task::TaskKind;

/// The answer to one task about one image.
#[derive(Clone, Debug, PartialEq)]
pub enum Prediction {
    /// One probability per class, summing to 1.
    Class(Vec<f32>),
    /// One probability per class, each its own.
    Classes(Vec<f32>),
    /// Boxes, best first.
    Boxes(Vec<Detection>),
    /// One value per column, in the task's own unit.
    Values(Vec<f32>),
}

/// Whether a class of a multi-label task is said to be there at this probability.
pub fn is_present(probability: f32) -> bool {
    probability >= 0.5
}

/// Answers every task about image `index` of a batch.
///
/// Units: `size` is the canvas, width and height in network pixels; boxes are clipped to it.
pub fn interpret(
    card: &Card,
    outputs: &[HeadOutput],
    index: usize,
    size: [f32; 2],
    options: &DecodeOptions,
) -> Vec<Prediction> {
    let tasks = card.architecture.tasks.iter().zip(&card.standardisation);
    tasks
        .zip(outputs)
        .map(|((task, standardisation), output)| match output {
            HeadOutput::Classify { logits } => {
                let classes = task.classes().len();
                let logits = &logits[index * classes..(index + 1) * classes];
                if let TaskKind::MultiLabel { .. } = task.kind {
                    return Prediction::Classes(logits.iter().map(|&x| decode::sigmoid(x)).collect());
                }
                let mut probabilities = logits.to_vec();
                softmax::softmax_row(&mut probabilities);
                Prediction::Class(probabilities)
            }
            HeadOutput::Regress { values } => {
                let columns = standardisation.as_ref().map_or(0, |s| s.mean.len());
                let row = &values[index * columns..(index + 1) * columns];
                let undone = row.iter().enumerate().map(|(column, &v)| match standardisation {
                    Some(s) => s.undo(v, column),
                    None => v,
                });
                Prediction::Values(undone.collect())
            }
            HeadOutput::Detect { class_logits, box_logits, levels } => {
                let cells: usize = levels.iter().map(|l| l.h * l.w).sum();
                let classes = cells * task.classes().len();
                let boxes = cells * 4 * BINS;
                Prediction::Boxes(decode::decode(
                    &class_logits[index * classes..(index + 1) * classes],
                    &box_logits[index * boxes..(index + 1) * boxes],
                    levels,
                    size,
                    options,
                ))
            }
        })
        .collect()
}
