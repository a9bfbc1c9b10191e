//! Opens a data set: lists its images, then reads and checks the labels of each task and converts them to [`Label`]s.

use super::account::Account;
use super::faults::Faults;
use super::held_out::{Division, Properties};
use super::leftovers::{self, LabelFiles, LabelsLeft};
use super::sample::Sample;
use super::sources::Sources;
use super::splits::list_images;
use super::{Dataset, OpenOptions, evidence, groups, held_out, label_files, labels, levels, together};
use crate::data::declaration::{Declaration, LabelsFrom, TaskDeclaration, explained};
use crate::data::formats::{Cache, Images, Listed, Reader};
use crate::data::images::decode;
use crate::data::layouts;
use crate::data::progress::Progress;
use crate::error::{Error, Result, is_hidden, shown};
use crate::reading::{Missing, Place, Raw, Reading, Remark, cut, did_you_mean, list_some};
use crate::tasks::{Content, Invariances, Label, Messages, OtherTasks, Readings, Task};
use crate::threads::start_shared_pool;
use rayon::prelude::*;
use std::collections::HashSet;
use std::path::Path;

/// The data set and its declaration. Tasks that failed while faults are collected are in neither.
pub(crate) fn open_declared(
    path: &Path,
    options: &OpenOptions,
    faults: &mut Faults,
    progress: &Progress,
) -> Result<(Declaration, Dataset)> {
    start_shared_pool()?;
    progress.begin("listing images", 0);
    let read = if options.undivided { layouts::read_to_judge } else { layouts::read };
    let declared = read(path, &options.tasks, evidence::explained)?;
    let causes = declared.causes.clone();
    let open = if declared.sources.is_empty() { open } else { together::open };
    open(declared, path, options, faults, progress).map_err(|error| explained(error, &causes))
}

fn open(
    mut declared: Declaration,
    path: &Path,
    options: &OpenOptions,
    faults: &mut Faults,
    progress: &Progress,
) -> Result<(Declaration, Dataset)> {
    declared.tasks.iter().try_for_each(check_name)?;
    let (images, division) = list_images(&mut declared, options, faults, progress)?;
    let alone = declared.tasks.len() == 1;
    check_asked(declared.tasks.iter().map(|task| task.name.as_str()), &options.tasks, path)?;
    declared.notes.extend(levels::notes(&declared, &images.all));
    let mut account = account(path, &declared, &images);
    leftovers::lost_classes(&account, &declared, &images.all).map_or(Ok(()), |lost| faults.take(lost))?;
    let notes = std::mem::take(&mut declared.notes);
    let mut opening = Opening::new(faults, progress);
    opening.notes = notes;
    opening.undivided = options.undivided;
    opening.files.add_declared(&declared);
    let mut tasks = Vec::new();
    let mut per_image: Vec<Vec<Label>> = vec![Vec::new(); images.all.len()];
    per_image.iter_mut().for_each(|labels| labels.reserve_exact(declared.tasks.len()));
    let (mut read, mut others) = (Vec::new(), Vec::new());
    let mut properties = Properties::new(division.pool(&images));
    for mut task in std::mem::take(&mut declared.tasks) {
        if !options.tasks.is_empty() && !options.tasks.contains(&task.name) {
            if division.pool(&images) > 0 {
                opening.notes.extend(add_other(&task, &declared.root, &images, progress, &mut properties));
            }
            others.push(task);
            continue;
        }
        let labels = read_labels(&mut task, alone, &declared.root, &images, &mut opening);
        if let Some((resolved, labels)) = opening.faults.pass(labels)?.flatten() {
            properties.add(&labels);
            per_image.iter_mut().zip(labels).for_each(|(all, label)| all.push(label));
            tasks.push(resolved);
            read.push(task);
        }
    }
    declared.tasks = read;
    let left = leftovers::labels_left(&mut account, &opening.files);
    opening.faults.pass(leftovers::labels_beside_classes(&left, &account, &declared, &images.all))?;
    // With some of the tasks, or after a fault, files of labels were not read that training would read.
    let left = if others.is_empty() && !opening.faults.are_found() { left } else { LabelsLeft::default() };
    opening.notes.extend(leftovers::notes(&account, &left, &declared));
    let groups = groups::read(&declared, &images, &mut opening.notes)?;
    let mut held = held_out::divide(division, &images, properties, groups.as_ref(), options.seed, &declared.place)?;
    opening.notes.append(&mut held.notes);
    opening.faults.reorder(&held.order);
    let mut pairs: Vec<Option<Sample>> = images
        .all
        .into_iter()
        .zip(per_image)
        .map(|(listed, labels)| Some(Sample { image: listed.image, name: listed.name, labels }))
        .collect();
    let mut samples: Vec<Sample> = held.order.iter().filter_map(|&image| pairs[image].take()).collect();
    evidence::against_classes(path, &declared, &samples).map_or(Ok(()), |error| opening.faults.take(error))?;
    let test = samples.split_off(held.ends[1]);
    let val = samples.split_off(held.ends[0]);
    train_tasks(&declared.tasks, &mut tasks, &samples, &mut opening)?;
    let Opening { problems, mut notes, .. } = opening;
    let mut seen = HashSet::new();
    notes.retain(|note| seen.insert(note.clone()));
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
        no_test: declared.no_test.clone(),
        sources: Sources::default(),
        notes,
        problems,
    };
    // Labels that could not be read may be those of the class.
    if !opening.faults.are_found() {
        let unseen = dataset.absent_from_training();
        dataset.problems.extend(unseen);
    }
    // A declared validation split is the user's choice.
    if division != Division::Declared && !dataset.val.is_empty() {
        let absent = dataset.absent_from_validation();
        dataset.notes.extend(absent);
    }
    Ok((declared, dataset))
}

/// The account of the files below the folder that the user gave, or below the data set if that is declared to lie elsewhere.
pub(super) fn account(path: &Path, declared: &Declaration, images: &Images) -> Account {
    let holds_all = path.is_dir() && declared.root.starts_with(path);
    let root = if holds_all { path } else { &declared.root };
    let sources = declared.splits.iter().flatten().map(|source| source.path().to_path_buf());
    let named: Vec<_> = sources.chain([declared.root.clone()]).collect();
    Account::take(root, &images.all, &named)
}

/// The longest name of a task in bytes. Files such as `best_<task>.safetensors` are named after it, and the names of files have at
/// most 255 bytes.
const LONGEST_NAME: usize = 200;

/// # Errors
/// A task's name is too long, or has characters that are not shown.
pub(super) fn check_name(task: &TaskDeclaration) -> Result<()> {
    let name = &task.name;
    if name.len() > LONGEST_NAME {
        let start = cut(name);
        let message = format!(
            "the name of task `{start}` is {} bytes long: give it at most {LONGEST_NAME}, because files are named after it",
            name.len()
        );
        return Err(task.place.error(message));
    }
    if name.contains(is_hidden) {
        let message = format!("the name of task `{name}` has characters that are not shown: remove them");
        return Err(task.place.error(message));
    }
    Ok(())
}

/// # Errors
/// A name in `asked` is not that of a task.
pub(super) fn check_asked<'a>(
    known: impl Iterator<Item = &'a str> + Clone,
    asked: &[String],
    path: &Path,
) -> Result<()> {
    match asked.iter().find(|name| !known.clone().any(|known| known == name.as_str())) {
        None => Ok(()),
        Some(name) => Err(Error::Usage(format!(
            "{} has no task `{name}`; its tasks are {}{}",
            shown(path),
            known.clone().collect::<Vec<_>>().join(", "),
            did_you_mean(name, known)
        ))),
    }
}

/// State shared by all tasks while a data set is opened.
pub(super) struct Opening<'a> {
    pub faults: &'a mut Faults,
    pub progress: &'a Progress,
    pub notes: Vec<String>,
    pub problems: Vec<String>,
    pub cache: Cache,
    pub files: LabelFiles,
    /// Whether the images are only evaluated.
    pub undivided: bool,
}

impl<'a> Opening<'a> {
    pub fn new(faults: &'a mut Faults, progress: &'a Progress) -> Opening<'a> {
        let (notes, problems, cache) = (Vec::new(), Vec::new(), Cache::default());
        Opening { faults, progress, notes, problems, cache, files: LabelFiles::default(), undivided: false }
    }
}

/// Adds the labels of a task that is not asked for, in the place of the task, because they have a part in the choice of the
/// validation images: a run of some tasks has the same ones as a run of all. Returns a note if they cannot be read.
fn add_other(
    task: &TaskDeclaration,
    root: &Path,
    images: &Images,
    progress: &Progress,
    properties: &mut Properties,
) -> Option<String> {
    let mut faults = Faults::Stop;
    let mut opening = Opening::new(&mut faults, progress);
    opening.undivided = true;
    match read_labels(&mut task.clone(), false, root, images, &mut opening) {
        Ok(labels) => {
            labels.into_iter().for_each(|(_, labels)| properties.add(&labels));
            None
        }
        Err(error) => Some(unread_other(&task.name, &error)),
    }
}

/// A note about a task that is not asked for and cannot be read.
pub(super) fn unread_other(task: &str, error: &Error) -> String {
    format!(
        "the labels of the task `{task}`, which is not used here, cannot be read ({error}): they have no part in the choice of the validation images, which may differ from those of a run of all tasks"
    )
}

/// Completes the tasks by the labels of the training images.
pub(super) fn train_tasks(
    declared: &[TaskDeclaration],
    tasks: &mut [Task],
    training: &[Sample],
    Opening { faults, notes, problems, .. }: &mut Opening,
) -> Result<()> {
    for (index, (declaration, task)) in declared.iter().zip(tasks).enumerate() {
        let labels: Vec<&Label> = training.iter().map(|sample| &sample.labels[index]).collect();
        let mut messages = Messages { notes, problems, tolerate: &mut |error| faults.take(error) };
        let trained = declaration.own.trained(&declaration.context(), task.spec.clone(), &labels, &mut messages);
        if let Some(spec) = faults.pass(trained)? {
            task.spec = spec;
        }
    }
    Ok(())
}

/// Resolves a task and its label for every image; `None` if all its labels are missing and faults are collected.
fn read_labels(
    task: &mut TaskDeclaration,
    alone: bool,
    root: &Path,
    images: &Images,
    opening: &mut Opening,
) -> Result<Option<(Task, Vec<Label>)>> {
    let Some(readings) = read_files(task, alone, root, images, opening)? else { return Ok(None) };
    let Opening { faults, notes, problems, .. } = opening;
    let raw_labels = Readings { all: &readings, class_images: images.class_images() };
    let mut messages = Messages { notes, problems, tolerate: &mut |error| faults.take(error) };
    let resolved = task.own.resolve(&task.context(), &raw_labels, &mut messages);
    let Some((spec, labels)) = faults.pass(resolved)? else {
        faults.forget_task();
        return Ok(None);
    };
    Ok(Some((Task { name: task.name.clone(), spec }, labels)))
}

/// The label of every image as its file states it; `None` if all are missing and faults are collected.
pub(super) fn read_files(
    task: &mut TaskDeclaration,
    alone: bool,
    root: &Path,
    images: &Images,
    Opening { faults, progress, notes, cache, files, undivided, .. }: &mut Opening,
) -> Result<Option<Vec<Reading>>> {
    progress.begin("reading labels", images.all.len());
    let yolo = matches!(task.from, LabelsFrom::Yolo { .. });
    let declares_missing = task.missing.is_some();
    // In a data set that only has YOLO labels, a missing label file conventionally means background.
    if !declares_missing && yolo && alone {
        task.missing = Some(Missing::Background);
    }
    let mut reader = Reader::open(task, root, images, cache)?;
    reader.take_faults().into_iter().try_for_each(|fault| faults.take(fault))?;
    if task.names.is_none()
        && let Some(classes) = reader.classes()
    {
        notes.push(format!("{}: classes in the order of their file: {}", task.name, list_some(&classes, 12)));
        task.names = Some(classes);
    }
    let read_all = |reader: &Reader| -> Vec<Result<Reading>> {
        let read = |(i, image): (usize, &Listed)| {
            let reading = reader.read(task, i, image).map(|reading| measured(task, reading, image));
            progress.count(1);
            reading
        };
        images.all.par_iter().enumerate().map(read).collect()
    };
    let mut outcomes = read_all(&reader);
    if reader.reconsiders() {
        progress.begin("reading labels again", images.all.len());
        outcomes = read_all(&reader);
    }
    let mut readings = faults.readings(outcomes)?;
    notes.extend(reader.notes());
    drop(reader);
    if faults.pass(labels::check_label_files(task, &readings, declares_missing))?.is_none() {
        return Ok(None);
    }
    files.add_read(&readings, &images.all);
    label_files::shared(task, &mut readings, &images.all, root, faults)?;
    notes.extend(label_files::of_no_image(task, &readings, &images.all, root));
    if !declares_missing {
        match labels::check_splits(task, &mut readings, images) {
            // Another split may be evaluated.
            Err(error) if *undivided => notes.push(error.reason()),
            said => notes.extend(faults.pass(said)?.flatten()),
        }
    }
    faults.collect_findings(task, &mut readings, images);
    notes.extend(labels::remarks(task, &readings, root));
    Ok(Some(readings))
}

/// Adds the image's size if its label needs it. An image that cannot be read becomes unlabelled.
pub(super) fn measured(task: &TaskDeclaration, mut reading: Reading, image: &Listed) -> Reading {
    if task.own.needs_size(&reading) {
        match decode::dimensions(&image.image) {
            Ok(size) => reading.size = size.map(|side| side as u32),
            Err(_) => {
                reading.remarks.push((Remark::UnreadableImage, Place::new(&image.image, None)));
                reading.raw = Raw::Unlabelled;
            }
        }
    }
    reading
}

/// The transformations that do not change each task's labels: the default of its kind, unless the task overrides it.
pub(super) fn invariances(tasks: &[&TaskDeclaration]) -> Vec<Invariances> {
    let marks = tasks.iter().any(|task| task.kind.content == Content::Boxes);
    let others = if marks { OtherTasks::Objects } else { OtherTasks::WholeImage };
    let of_task = |task: &&TaskDeclaration| {
        let own = (task.kind.invariances)(others);
        Invariances { crop: task.crop_safe.unwrap_or(own.crop), scale: task.scale_safe.unwrap_or(own.scale), ..own }
    };
    tasks.iter().map(of_task).collect()
}
