//! Opens several data sets as one: each source lists its images and keeps its splits, and tasks of one name are one task.

use super::faults::Faults;
use super::held_out::{self, Division, HeldOut, Properties};
use super::joint::{self, Joint};
use super::open::{Opening, account, check_asked, check_name, invariances, train_tasks, unread_other};
use super::parts::{self, Part, Together};
use super::sample::Sample;
use super::sources::Sources;
use super::{Dataset, OpenOptions, groups, leftovers};
use crate::data::declaration::{Declaration, TaskDeclaration};
use crate::data::formats::Listed;
use crate::data::progress::Progress;
use crate::error::Result;
use crate::tasks::Label;
use std::collections::HashSet;
use std::path::Path;

/// The data set that the sources are together, and its declaration.
///
/// # Errors
/// Those of a single data set, and tasks of one name that differ.
pub fn open(
    mut declared: Declaration,
    path: &Path,
    options: &OpenOptions,
    faults: &mut Faults,
    progress: &Progress,
) -> Result<(Declaration, Dataset)> {
    let mut parts = parts::list(&declared, options, faults, progress)?;
    let mut joints = joint::join(&mut parts)?;
    let declarations = || joints.iter().flat_map(|joint| joint.of.iter().flatten());
    declarations().try_for_each(check_name)?;
    check_asked(joints.iter().map(|joint| joint.name.as_str()), &options.tasks, path)?;
    let together = Together::new(&parts);
    let mut opening = Opening::new(faults, progress);
    opening.notes = declared.notes.clone();
    opening.undivided = options.undivided;
    for part in &parts {
        opening.files.add_declared(&part.declared);
    }
    opening.notes.extend(parts.iter().flat_map(notes_of));
    let mut properties: Vec<Properties> =
        parts.iter().map(|part| Properties::new(part.division.pool(&part.images))).collect();
    let is_divided = parts.iter().any(|part| part.division.pool(&part.images) > 0);
    let (mut read, mut tasks, mut others) = (Vec::new(), Vec::new(), Vec::new());
    let mut per_image: Vec<Vec<Label>> = vec![Vec::new(); together.of.len()];
    per_image.iter_mut().for_each(|labels| labels.reserve_exact(joints.len()));
    for joint in &mut joints {
        if !options.tasks.is_empty() && !options.tasks.contains(&joint.name) {
            if is_divided {
                let note = add_other(joint, &parts, &together, progress, &mut properties);
                opening.notes.extend(note);
            }
            let first = joint.of.iter().flatten().next().cloned();
            others.extend(first.map(|first| joint::with_flags(first, joint)));
            continue;
        }
        if let Some((declaration, task, labels)) = joint::read(joint, &parts, &together, &mut opening)? {
            add_labels(&mut properties, &parts, &together, &labels);
            per_image.iter_mut().zip(labels).for_each(|(all, label)| all.push(label));
            tasks.push(task);
            read.push(declaration);
        }
    }
    for part in &parts {
        let mut account = account(&part.declared.root, &part.declared, &part.images);
        let left = leftovers::labels_left(&mut account, &opening.files);
        let notes = leftovers::notes(&account, &left, &part.declared);
        opening.notes.extend(notes.into_iter().map(|note| format!("{}: {note}", part.name)));
    }
    let held = divide(&parts, &together, properties, options.seed, &mut opening)?;
    opening.faults.reorder(&held.order);
    let sources = Sources::of(&declared, &parts);
    let (mut samples, ends) = (samples(&mut parts, &together, per_image, &held.order), held.ends);
    let test = samples.split_off(ends[1]);
    let val = samples.split_off(ends[0]);
    train_tasks(&read, &mut tasks, &samples, &mut opening)?;
    let is_sound = !opening.faults.are_found();
    let Opening { mut notes, problems, .. } = opening;
    let mut seen = HashSet::new();
    notes.retain(|note| seen.insert(note.clone()));
    let no_test = parts.iter().find_map(|part| part.declared.no_test.clone());
    let made = parts.iter().any(|part| part.division != Division::Declared);
    declared.tasks = read;
    // Framing considers all declared tasks, so that a run on some of them sees the same pictures as a run on all.
    let all: Vec<&TaskDeclaration> = declared.tasks.iter().chain(&others).collect();
    let mut invariances = invariances(&all);
    let crop_safe = invariances.iter().all(|invariances| invariances.crop);
    invariances.truncate(declared.tasks.len());
    let mut dataset = Dataset {
        root: declared.root.clone(),
        layout: declared.layout.clone(),
        crop_safe,
        invariances,
        flip_safe: all.iter().all(|task| task.flip_safe),
        scale_safe: all.iter().all(|task| task.scale_safe != Some(false)),
        tasks,
        train: samples,
        val,
        test,
        no_test,
        sources,
        notes,
        problems,
    };
    // Labels that could not be read may be those of the class.
    if is_sound {
        let unseen = dataset.absent_from_training();
        dataset.problems.extend(unseen);
    }
    let shares = dataset.source_notes();
    dataset.notes.extend(shares);
    // A declared validation split is the user's choice.
    if made && !dataset.val.is_empty() {
        let absent = dataset.absent_from_validation();
        dataset.notes.extend(absent);
    }
    Ok((declared, dataset))
}

/// The notes on the declaration of a part, with the name of the source.
fn notes_of(part: &Part) -> Vec<String> {
    part.declared.notes.iter().map(|note| format!("{}: {note}", part.name)).collect()
}

/// Adds the labels of a task to the properties of the images that are divided.
fn add_labels(properties: &mut [Properties], parts: &[Part], together: &Together, labels: &[Label]) {
    for ((properties, part), places) in properties.iter_mut().zip(parts).zip(&together.places) {
        let pool = part.division.pool(&part.images);
        if let Some(start) = places.first().filter(|_| pool > 0) {
            // The images of a part that are divided are its first and lie together.
            properties.add(&labels[*start..start + pool]);
        }
    }
}

/// Splits validation off the training images of each part. The order is that of all images together.
fn divide(
    parts: &[Part],
    together: &Together,
    properties: Vec<Properties>,
    seed: u64,
    opening: &mut Opening,
) -> Result<HeldOut> {
    let mut splits: [Vec<usize>; 3] = Default::default();
    for ((part, places), properties) in parts.iter().zip(&together.places).zip(properties) {
        let before = opening.notes.len();
        let groups = groups::read(&part.declared, &part.images, &mut opening.notes)?;
        let held =
            held_out::divide(part.division, &part.images, properties, groups.as_ref(), seed, &part.declared.place)?;
        opening.notes.extend(held.notes);
        opening.notes[before..].iter_mut().for_each(|note| *note = format!("{}: {note}", part.name));
        for (at, image) in held.order.iter().enumerate() {
            let split = held.ends.iter().filter(|end| at >= **end).count();
            splits[split].push(places[*image]);
        }
    }
    let ends = [splits[0].len(), splits[0].len() + splits[1].len()];
    Ok(HeldOut { order: splits.concat(), ends, notes: Vec::new() })
}

/// The samples in order, each with the labels of all tasks.
fn samples(parts: &mut [Part], together: &Together, labels: Vec<Vec<Label>>, order: &[usize]) -> Vec<Sample> {
    let mut listed: Vec<Vec<Option<Listed>>> = Vec::new();
    for part in parts.iter_mut() {
        let images = std::mem::take(&mut part.images.all);
        listed.push(images.into_iter().map(|image| Some(parts::named(part, image))).collect());
    }
    let mut labels: Vec<Option<Vec<Label>>> = labels.into_iter().map(Some).collect();
    let sample = |&place: &usize| {
        let (part, image) = together.of[place];
        let listed = listed[part][image].take()?;
        Some(Sample { image: listed.image, name: listed.name, labels: labels[place].take()? })
    };
    order.iter().filter_map(sample).collect()
}

/// Adds the labels of a task that is not asked for, in the place of the task, because they have a part in the choice of the
/// validation images: a run of some tasks has the same ones as a run of all. Returns a note if they cannot be read.
fn add_other(
    joint: &mut Joint,
    parts: &[Part],
    together: &Together,
    progress: &Progress,
    properties: &mut [Properties],
) -> Option<String> {
    let mut faults = Faults::Stop;
    let mut opening = Opening::new(&mut faults, progress);
    opening.undivided = true;
    match joint::read(joint, parts, together, &mut opening) {
        Ok(read) => {
            read.into_iter().for_each(|(_, _, labels)| add_labels(properties, parts, together, &labels));
            None
        }
        Err(error) => Some(unread_other(&joint.name, &error)),
    }
}
