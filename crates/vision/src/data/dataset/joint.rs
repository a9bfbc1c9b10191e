//! A task of several sources: its classes are matched by name, and every reading is put into the form of the whole task.

use super::open::{Opening, measured, read_files};
use super::parts::{Part, Together, nowhere};
use crate::data::declaration::TaskDeclaration;
use crate::error::{Error, Result};
use crate::reading::{Place, Raw, RawClass, Reading, Spot, Word, list_some};
use crate::tasks::{ClassNumbers, Content, Keys, Label, Messages, Readings, Task, infer_classes};
use rayon::prelude::*;
use std::sync::Arc;

/// The tasks of one name.
pub struct Joint {
    pub name: String,
    /// The task in each part, if the part has it.
    pub of: Vec<Option<TaskDeclaration>>,
}

/// A task that was read: its declaration, the task itself, and the label of every image in the order of [`Together`].
pub type Read = (TaskDeclaration, Task, Vec<Label>);

/// The tasks of all parts by name, in order of first appearance.
///
/// # Errors
/// Tasks of one name differ in kind or options.
pub fn join(parts: &mut [Part]) -> Result<Vec<Joint>> {
    let mut joints: Vec<Joint> = Vec::new();
    let count = parts.len();
    for number in 0..count {
        for task in std::mem::take(&mut parts[number].declared.tasks) {
            let at = joints.iter().position(|joint| joint.name == task.name).unwrap_or_else(|| {
                joints.push(Joint { name: task.name.clone(), of: vec![None; count] });
                joints.len() - 1
            });
            if let Some((other, first)) = joints[at].of.iter().enumerate().find_map(|(n, of)| Some((n, of.as_ref()?))) {
                check_alike(first, &parts[other].name, &task, &parts[number].name)?;
            }
            joints[at].of[number] = Some(task);
        }
    }
    Ok(joints)
}

/// # Errors
/// The two are not one task.
fn check_alike(first: &TaskDeclaration, in_first: &str, task: &TaskDeclaration, in_this: &str) -> Result<()> {
    let name = &task.name;
    let rename = format!("give one of them another name with `tasks: {{{name}: other-name}}` in `sources:`");
    if first.kind != task.kind {
        let [a, b] = [first, task].map(|task| task.kind.title);
        let message = format!("task `{name}` is a {b} in `{in_this}` and a {a} in `{in_first}`: {rename}");
        return Err(task.place.error(message));
    }
    let options = |task: &TaskDeclaration| -> Keys {
        let own = task.own.keys(Keys::new());
        own.into_iter().filter(|(key, _)| *key != "labelled_categories").collect()
    };
    let [a, b] = [options(first), options(task)];
    match a.iter().find(|(key, value)| b.iter().any(|(other, text)| other == key && text != value)) {
        Some((key, _)) => Err(task.place.error(format!(
            "task `{name}` has another `{key}:` in `{in_this}` than in `{in_first}`: give both the same, or {rename}"
        ))),
        None => Ok(()),
    }
}

/// Reads the labels of a task in all parts; `None` if it could not be read and faults are collected.
///
/// # Errors
/// A label is wrong.
pub fn read(joint: &mut Joint, parts: &[Part], together: &Together, opening: &mut Opening) -> Result<Option<Read>> {
    let mut of_parts = Vec::new();
    for (part, task) in parts.iter().zip(&mut joint.of) {
        let before = opening.notes.len();
        let readings = match task {
            Some(task) => {
                let readings = read_files(task, part.tasks == 1, &part.declared.root, &part.images, opening);
                opening.faults.pass(readings)?.flatten()
            }
            None => None,
        };
        opening.notes[before..].iter_mut().for_each(|note| *note = format!("{}: {note}", part.name));
        if readings.is_none() {
            opening.faults.no_boxes(part.images.all.len());
        }
        of_parts.push(readings);
    }
    opening.faults.join_boxes(&together.of, parts.len());
    let found = of_parts.iter().position(Option::is_some);
    let Some(first) = found.and_then(|part| joint.of[part].clone()) else {
        opening.faults.forget_task();
        return Ok(None);
    };
    let task = whole_task(first, joint, parts, &mut of_parts, opening)?;
    let readings = in_order(of_parts, together);
    let raw_labels = Readings { all: &readings, class_images: together.class_images() };
    let Opening { faults, notes, problems, .. } = opening;
    let mut messages = Messages { notes, problems, tolerate: &mut |error| faults.take(error) };
    let resolved = task.own.resolve(&task.context(), &raw_labels, &mut messages);
    let Some((spec, labels)) = opening.faults.pass(resolved)? else {
        opening.faults.forget_task();
        return Ok(None);
    };
    Ok(Some((task.clone(), Task { name: task.name.clone(), spec }, labels)))
}

/// The readings of all images in order; an image of a source without the task is unlabelled.
fn in_order(of_parts: Vec<Option<Vec<Reading>>>, together: &Together) -> Vec<Reading> {
    let place = Place::at(&nowhere(), Spot::File);
    let mut of_parts: Vec<Option<Vec<Option<Reading>>>> =
        of_parts.into_iter().map(|part| part.map(|readings| readings.into_iter().map(Some).collect())).collect();
    let take = |&(part, image): &(usize, usize)| {
        let reading = of_parts[part].as_mut().and_then(|readings| readings[image].take());
        reading.unwrap_or_else(|| Reading::at(Raw::Unlabelled, place.clone()))
    };
    together.of.iter().map(take).collect()
}

/// The task with what all parts together allow training to do to the images.
pub fn with_flags(first: TaskDeclaration, joint: &Joint) -> TaskDeclaration {
    let declared = || joint.of.iter().flatten();
    let all = |of: fn(&TaskDeclaration) -> Option<bool>| {
        let mut given = declared().filter_map(of);
        given.clone().find(|flag| !flag).or_else(|| given.next())
    };
    TaskDeclaration {
        crop_safe: all(|task| task.crop_safe),
        flip_safe: declared().all(|task| task.flip_safe),
        scale_safe: all(|task| task.scale_safe),
        ..first
    }
}

/// The declaration of the whole task; the readings are changed to its classes.
fn whole_task(
    first: TaskDeclaration,
    joint: &Joint,
    parts: &[Part],
    of_parts: &mut [Option<Vec<Reading>>],
    opening: &mut Opening,
) -> Result<TaskDeclaration> {
    let most = joint.of.iter().flatten().max_by_key(|task| task.own.keys(Keys::new()).len());
    let own = most.map_or_else(|| first.own.clone(), |task| task.own.clone());
    let mut whole = TaskDeclaration { own, ..with_flags(first, joint) };
    if whole.kind.content == Content::Values {
        return Ok(whole);
    }
    let classes: Vec<Option<Vec<String>>> = joint
        .of
        .iter()
        .zip(of_parts.iter())
        .zip(parts)
        .map(|((task, readings), part)| Some(classes_of(task.as_ref()?, readings.as_deref()?, part)))
        .collect();
    let mut names: Vec<String> = Vec::new();
    for name in classes.iter().flatten().flatten() {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    if classes.iter().flatten().any(|own| *own != names) {
        opening.notes.push(format!(
            "{}: the classes of its sources together, in order of first appearance: {}",
            joint.name,
            list_some(&names, 12)
        ));
    }
    for (number, (readings, own)) in of_parts.iter_mut().zip(classes).enumerate() {
        let (Some(readings), Some(own), Some(task)) = (readings, own, &joint.of[number]) else { continue };
        let shared: Vec<Arc<str>> = own.iter().map(|name| name.as_str().into()).collect();
        let places: Vec<usize> = own.iter().filter_map(|name| names.iter().position(|other| other == name)).collect();
        let context = task.context();
        let widen = Widen { numbers: ClassNumbers::new(&context, &own), shared, places, whole: names.len(), task };
        let changed = readings.par_iter_mut().zip(&parts[number].images.all).map(|(reading, image)| {
            widen.change(reading)?;
            if reading.labelled_categories.is_some() && reading.size == [0; 2] {
                let taken = std::mem::replace(reading, Reading::at(Raw::Unlabelled, Place::at(&nowhere(), Spot::File)));
                *reading = measured(task, taken, image);
            }
            Ok(())
        });
        for outcome in changed.collect::<Vec<Result<()>>>() {
            opening.faults.pass(outcome)?;
        }
    }
    whole.names = Some(names);
    if whole.kind.content == Content::Boxes {
        // Each reading lists the classes that were looked for.
        whole.own = (whole.kind.undeclared)();
    }
    Ok(whole)
}

/// The classes of a source: declared, or found in its labels.
fn classes_of(task: &TaskDeclaration, readings: &[Reading], part: &Part) -> Vec<String> {
    let lists = || readings.iter().any(|reading| matches!(reading.raw, Raw::Names(_)));
    match &task.names {
        Some(names) => names.clone(),
        None if task.kind.content == Content::Classes && !lists() => task.from.columns().to_vec(),
        None => infer_classes(readings, part.images.class_images()),
    }
}

/// Puts the readings of one source into the form of the whole task.
struct Widen<'a> {
    task: &'a TaskDeclaration,
    numbers: ClassNumbers<'a>,
    /// The names of the source's classes, and their places among those of the whole task.
    shared: Vec<Arc<str>>,
    places: Vec<usize>,
    /// The number of classes of the whole task.
    whole: usize,
}

impl Widen<'_> {
    fn name(&self, class: &mut RawClass, reading: &Place) -> Result<usize> {
        let number = self.numbers.of(class, &reading.file)?;
        class.word = Word::Name(self.shared[number].clone());
        Ok(number)
    }

    fn change(&self, reading: &mut Reading) -> Result<()> {
        let place = reading.place.clone();
        match &mut reading.raw {
            Raw::Unlabelled | Raw::Values(_) => {}
            Raw::Class(class) => drop(self.name(class, &place)?),
            Raw::Boxes(boxes) => {
                for one in boxes.iter_mut() {
                    self.name(&mut one.class, &place)?;
                }
                self.list_looked_for(reading)?;
            }
            Raw::Flags(flags) if flags.len() == self.places.len() => {
                let mut wide = vec![None; self.whole];
                flags.iter().zip(&self.places).for_each(|(flag, &at)| wide[at] = *flag);
                reading.raw = Raw::Flags(wide);
            }
            Raw::Flags(flags) => return Err(self.wrong_count(flags.len(), &place)),
            Raw::Names(words) => {
                // Of the classes that the source does not have, nothing is known.
                let mut wide = vec![None; self.whole];
                self.places.iter().for_each(|&at| wide[at] = Some(false));
                for word in words.iter_mut() {
                    let number = self.name(word, &place)?;
                    wide[self.places[number]] = Some(true);
                }
                reading.raw = Raw::Flags(wide);
            }
        }
        Ok(())
    }

    /// Lists the classes that were looked for, if they are not all of the task's.
    fn list_looked_for(&self, reading: &mut Reading) -> Result<()> {
        let place = reading.place.clone();
        if let Some(classes) = &mut reading.labelled_categories {
            return classes.iter_mut().try_for_each(|class| self.name(class, &place).map(drop));
        }
        let named = |name: Arc<str>| RawClass { word: Word::Name(name), spot: Spot::File };
        let declared: Option<Vec<RawClass>> =
            self.task.own.looked_for().map(|names| names.iter().map(|name| named(name.as_str().into())).collect());
        reading.labelled_categories = match declared {
            Some(classes) => Some(classes),
            None if self.shared.len() < self.whole => Some(self.shared.iter().cloned().map(named).collect()),
            None => None,
        };
        Ok(())
    }

    fn wrong_count(&self, flags: usize, place: &Place) -> Error {
        place.error(format!(
            "task `{}`: {flags} labels of 0 or 1, but {} classes: give one per class",
            self.task.name,
            self.places.len()
        ))
    }
}
