//! Converts table cells to multi-label labels. The kind has no data.yaml keys of its own.

use super::{Classes, MultiLabel};
use crate::error::Result;
use crate::reading::{Raw, Reading, list_some};
use crate::tasks::Label;
use crate::tasks::classes::{ClassNumbers, infer_classes, note_inferred};
use crate::tasks::declare::{Block, Declared, Messages, Readings, Resolved, TaskContext};
use std::sync::Arc;

#[derive(Debug)]
struct Plain;

pub fn declare(_: &Block) -> Result<Arc<dyn Declared>> {
    Ok(undeclared())
}

pub fn undeclared() -> Arc<dyn Declared> {
    Arc::new(Plain)
}

impl Declared for Plain {
    /// The task's classes are its columns or, for a single column of lists, the words in the lists; `names:` overrides
    /// both.
    fn resolve(&self, context: &TaskContext, readings: &Readings, messages: &mut Messages) -> Result<Resolved> {
        readings.check_labelled(context)?;
        let lists = readings.all.iter().any(|r| matches!(r.raw, Raw::Names(_)));
        let classes = match context.names {
            Some(names) => names.to_vec(),
            None if lists => {
                let words = infer_classes(readings.all, readings.class_images);
                note_inferred(context.name, &words, messages.notes);
                words
            }
            None => context.columns.to_vec(),
        };
        if classes.is_empty() {
            return Err(context.error("no label names a class: list them in `names:`"));
        }
        let numbers = ClassNumbers::new(context, &classes);
        let labels = readings.all.iter().map(|reading| label(context, &classes, &numbers, reading));
        let labels = labels.collect::<Result<_>>()?;
        Ok((Arc::new(MultiLabel::new(classes)), labels))
    }
}

fn label(context: &TaskContext, classes: &[String], numbers: &ClassNumbers, reading: &Reading) -> Result<Label> {
    match &reading.raw {
        Raw::Flags(flags) if flags.len() == classes.len() => Ok(Label::of(Classes::from(flags.clone()))),
        Raw::Flags(flags) => {
            let message = format!(
                "task `{}`: {} labels of 0 or 1, but the classes are {}: give one per class, in this order",
                context.name,
                flags.len(),
                list_some(classes, 12)
            );
            Err(reading.place.error(message))
        }
        Raw::Names(words) => {
            let mut there = vec![Some(false); classes.len()];
            for word in words {
                there[numbers.of(word, &reading.place.file)?] = Some(true);
            }
            Ok(Label::of(Classes::from(there)))
        }
        Raw::Unlabelled | Raw::Class(_) | Raw::Boxes(_) | Raw::Values(_) => Ok(Label::UNLABELLED),
    }
}
