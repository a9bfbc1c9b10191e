//! The group of each image, as `group:` declares it.

use crate::data::declaration::{Declaration, GroupedBy, Grouping};
use crate::data::formats::{Cache, Images, Listed, Reader};
use crate::error::{Error, Result};
use crate::reading::{Raw, Word, count_of, list_some};
use rayon::prelude::*;
use std::collections::HashMap;

/// The groups of all images.
pub struct Groups {
    /// For each image, the number of its group.
    pub of: Vec<usize>,
}

/// Finds the groups; `None` if none are declared. An image without a group is one of its own.
///
/// # Errors
/// The column cannot be read, or no image has a group.
pub fn read(declared: &Declaration, images: &Images, notes: &mut Vec<String>) -> Result<Option<Groups>> {
    let Some(grouping) = &declared.group else { return Ok(None) };
    let names = names(grouping, declared, images, notes)?;
    let written = &grouping.written;
    if !names.is_empty() && names.iter().all(Option::is_none) {
        let example = &images.all[0].name;
        let message = format!(
            "`group: {written}` gives none of {} a group, such as `{example}`: correct it",
            count_of(names.len(), "image")
        );
        return Err(grouping.place.error(message));
    }
    let mut numbers = HashMap::new();
    let mut count = 0;
    let mut alone = Vec::new();
    let of = names.iter().enumerate().map(|(image, name)| {
        let mut new = || {
            count += 1;
            count - 1
        };
        match name {
            Some(name) => *numbers.entry(name.as_str()).or_insert_with(new),
            None => {
                alone.push(images.all[image].name.as_str());
                new()
            }
        }
    });
    let of = of.collect();
    if !alone.is_empty() {
        notes.push(format!(
            "group: {} without a group may be in training or validation by itself ({})",
            count_of(alone.len(), "image"),
            list_some(&alone, 3)
        ));
    }
    Ok(Some(Groups { of }))
}

fn names(
    grouping: &Grouping,
    declared: &Declaration,
    images: &Images,
    notes: &mut Vec<String>,
) -> Result<Vec<Option<String>>> {
    let task = match &grouping.by {
        GroupedBy::Name(pattern) => {
            return Ok(images.all.iter().map(|image| pattern.group_of(&image.name).map(str::to_owned)).collect());
        }
        GroupedBy::Column(task) => task,
    };
    let mut reader = Reader::open(task, &declared.root, images, &mut Cache::default()).map_err(called_group)?;
    reader.take_faults().into_iter().try_for_each(Err)?;
    let name = |(index, image): (usize, &Listed)| {
        let reading = reader.read(task, index, image).map_err(called_group)?;
        Ok(match reading.raw {
            Raw::Class(class) => Some(match class.word {
                Word::Name(name) => name.to_string(),
                Word::Index(number) => number.to_string(),
            }),
            Raw::Unlabelled | Raw::Names(_) | Raw::Flags(_) | Raw::Boxes(_) | Raw::Values(_) => None,
        })
    };
    let names = images.all.par_iter().enumerate().map(name).collect::<Result<Vec<_>>>()?;
    notes.extend(reader.notes());
    Ok(names)
}

/// The readers of labels speak of a task.
fn called_group(error: Error) -> Error {
    match error {
        Error::Data { file, line, message } => {
            Error::Data { file, line, message: message.replace("task `group`", "`group:`") }
        }
        other => other,
    }
}
