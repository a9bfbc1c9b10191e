//! Several classes at once: which classes the labels speak of, and what each image says of them.

use super::dataset::Images;
use super::declaration::{LabelsFrom, TaskDeclaration};
use super::formats::{Raw, Reading};
use super::labels::{class_number, infer_classes, note_inferred};
use super::list_some;
use crate::error::Result;
use crate::tasks::Label;
use crate::tasks::multi_label::MultiLabel;

/// The task's classes are its columns, or the words in the lists of its one column; `names:` replaces both.
pub fn resolve(
    task: &TaskDeclaration,
    readings: &[Reading],
    images: &Images,
    notes: &mut Vec<String>,
) -> Result<(MultiLabel, Vec<Label>)> {
    let taught = if images.seeded_split { images.ends[1] } else { images.ends[0] };
    if readings[..taught].iter().all(|r| r.raw == Raw::Unlabelled) {
        let message =
            format!("task `{}`: no label in the training split: label some images, or remove the task", task.name);
        return Err(task.place.error(message));
    }
    let columns = match &task.from {
        LabelsFrom::Columns(columns) | LabelsFrom::Csv { columns, .. } => columns.as_slice(),
        _ => &[],
    };
    let lists = readings.iter().any(|r| matches!(r.raw, Raw::Names(_)));
    let classes = match &task.names {
        Some(names) => names.clone(),
        None if lists => {
            let words = infer_classes(readings, images);
            note_inferred(&task.name, &words, notes);
            words
        }
        None => columns.to_vec(),
    };
    if classes.is_empty() {
        let message = format!("task `{}`: no label names a class: list them in `names:`", task.name);
        return Err(task.place.error(message));
    }
    let labels = readings.iter().map(|reading| label(task, &classes, reading)).collect::<Result<_>>()?;
    Ok((MultiLabel::new(classes), labels))
}

fn label(task: &TaskDeclaration, classes: &[String], reading: &Reading) -> Result<Label> {
    match &reading.raw {
        Raw::Flags(flags) if flags.len() == classes.len() => Ok(Label::Classes(flags.clone())),
        Raw::Flags(flags) => {
            let message = format!(
                "task `{}`: {} labels of 0 or 1 for its classes, which are {}: one each, in this order",
                task.name,
                flags.len(),
                list_some(classes, 12)
            );
            Err(reading.place.error(message))
        }
        Raw::Names(words) => {
            let mut there = vec![Some(false); classes.len()];
            for word in words {
                there[class_number(task, classes, word, &reading.place.file)?] = Some(true);
            }
            Ok(Label::Classes(there))
        }
        _ => Ok(Label::Unlabelled),
    }
}
