//! The data set: its splits, tasks and labels, read from whatever layout it has. Images are listed, not opened.

use super::declaration::{Declaration, LabelsFrom, TaskDeclaration};
use super::faults::Faults;
use super::formats::{Cache, Reader};
use super::listing::{self, Listed, Source};
use super::progress::Progress;
use super::random::hash_text;
use super::{Place, count_of, decode, discovery, labels, list_some};
use crate::error::{Error, Result};
use crate::reading::{Missing, Raw, Reading, Remark};
use crate::tasks::{Bears, Beside, Content, Heard, Label, Readings, Task};
use rayon::prelude::*;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    Train,
    Val,
    Test,
}

impl Split {
    pub const ALL: [Split; 3] = [Split::Train, Split::Val, Split::Test];

    pub fn word(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Val => "val",
            Split::Test => "test",
        }
    }

    /// What people call the split's folder or file, whatever the case.
    pub(crate) fn called(word: &str) -> Option<Split> {
        match word.to_ascii_lowercase().as_str() {
            "train" | "training" => Some(Split::Train),
            "val" | "valid" | "validation" => Some(Split::Val),
            "test" | "testing" => Some(Split::Test),
            _ => None,
        }
    }
}

/// One image and what is known about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub image: PathBuf,
    /// Relative to the data set, for people.
    pub name: String,
    /// One per task, boxes in pixels of the original image (EXIF orientation applied).
    pub labels: Vec<Label>,
}

impl Sample {
    /// An image of which nothing is known, for prediction.
    pub fn unlabelled(image: &Path, tasks: usize) -> Sample {
        Sample {
            image: image.to_path_buf(),
            name: image.to_string_lossy().into_owned(),
            labels: vec![Label::UNLABELLED; tasks],
        }
    }
}

#[derive(Clone, Debug)]
pub struct Dataset {
    pub root: PathBuf,
    /// A sentence: which layout was taken.
    pub layout: String,
    pub tasks: Vec<Task>,
    /// What each task's truth can bear.
    pub bears: Vec<Bears>,
    /// Whether random crops leave every task's truth as it is.
    pub crop_safe: bool,
    /// Whether a left-right flip leaves every task's truth as it is.
    pub flip_safe: bool,
    /// Whether no task says that the size things are seen at is part of its truth.
    pub scale_safe: bool,
    pub train: Vec<Sample>,
    pub val: Vec<Sample>,
    pub test: Vec<Sample>,
    /// What a person should hear before the run: sentences.
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// The part of the training images that validates where the data set has no validation split; default its own
    /// `val_fraction`, else 0.2.
    pub val_fraction: Option<f32>,
    /// Decides which those are.
    pub seed: u64,
}

pub(super) const DEFAULT_VAL_FRACTION: f32 = 0.2;

/// Images of the three splits in one list, so that labels are read in one parallel pass.
pub(super) struct Images {
    pub all: Vec<Listed>,
    /// Where each split ends in `all`.
    pub ends: [usize; 3],
    /// Whether validation was cut from training here, so that classes may be counted over both.
    pub seeded_split: bool,
}

impl Images {
    /// The first so many images may name classes.
    pub fn taught(&self) -> usize {
        if self.seeded_split { self.ends[1] } else { self.ends[0] }
    }

    /// Whether image number `index` is one of what the data set itself calls `split`.
    pub fn belongs(&self, index: usize, split: Split) -> bool {
        let own = Split::ALL[self.ends.iter().filter(|end| index >= **end).count().min(2)];
        own == split || (self.seeded_split && own == Split::Val && split == Split::Train)
    }
}

impl Dataset {
    /// Opens a data.yaml or a folder in any known layout and reads all labels.
    ///
    /// Errors: `Data` with file and line for a declaration or a label that is wrong, `Io` where a file cannot be read.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Dataset> {
        Ok(open_declared(path, options, &mut Faults::Stop, &Progress::default())?.1)
    }

    /// What is said of the data set as a whole, without its images.
    pub(super) fn clone_declared(&self) -> Dataset {
        Dataset {
            root: self.root.clone(),
            layout: self.layout.clone(),
            tasks: self.tasks.clone(),
            bears: self.bears.clone(),
            notes: self.notes.clone(),
            train: Vec::new(),
            val: Vec::new(),
            test: Vec::new(),
            ..*self
        }
    }

    pub fn split(&self, split: Split) -> &[Sample] {
        match split {
            Split::Train => &self.train,
            Split::Val => &self.val,
            Split::Test => &self.test,
        }
    }

    /// Keeps a seeded `fraction` of the training images, at least one; the other splits stay whole.
    pub fn keep_fraction(&mut self, fraction: f32, seed: u64) {
        let keep = ((self.train.len() as f32 * fraction).round() as usize).max(1);
        let mut order: Vec<(u64, usize)> =
            self.train.iter().enumerate().map(|(i, s)| (hash_text(seed, &s.name), i)).collect();
        order.sort_unstable();
        let kept: HashSet<usize> = order.into_iter().take(keep).map(|(_, i)| i).collect();
        let mut index = 0;
        self.train.retain(|_| {
            index += 1;
            kept.contains(&(index - 1))
        });
    }
}

/// The data set with the declaration it was read by; a task that `faults` let go is in neither.
pub(super) fn open_declared(
    path: &Path,
    options: &OpenOptions,
    faults: &mut Faults,
    progress: &Progress,
) -> Result<(Declaration, Dataset)> {
    progress.begin("listing images", 0);
    let mut declared = discovery::read(path)?;
    let images = list_images(&mut declared, options, faults, progress)?;
    let alone = declared.tasks.len() == 1;
    let notes = std::mem::take(&mut declared.notes);
    let mut opening = Opening { faults, progress, notes, cache: Cache::default() };
    let mut tasks = Vec::new();
    let mut per_image: Vec<Vec<Label>> = vec![Vec::new(); images.all.len()];
    per_image.iter_mut().for_each(|labels| labels.reserve_exact(declared.tasks.len()));
    let mut read = Vec::new();
    for mut task in std::mem::take(&mut declared.tasks) {
        let labels = read_labels(&mut task, alone, &declared.root, &images, &mut opening);
        if let Some((resolved, labels)) = opening.faults.pass(labels)?.flatten() {
            per_image.iter_mut().zip(labels).for_each(|(all, label)| all.push(label));
            tasks.push(resolved);
            read.push(task);
        }
    }
    declared.tasks = read;
    let pairs = images.all.into_iter().zip(per_image);
    let mut samples: Vec<Sample> =
        pairs.map(|(listed, labels)| Sample { image: listed.image, name: listed.name, labels }).collect();
    let test = samples.split_off(images.ends[1]);
    let val = samples.split_off(images.ends[0]);
    let mut notes = opening.notes;
    let mut seen = HashSet::new();
    notes.retain(|note| seen.insert(note.clone()));
    let bears = bears(&declared.tasks);
    let dataset = Dataset {
        root: declared.root.clone(),
        layout: declared.layout.clone(),
        crop_safe: bears.iter().all(|bears| bears.crop),
        bears,
        flip_safe: declared.tasks.iter().all(|task| task.flip_safe),
        scale_safe: declared.tasks.iter().all(|task| task.scale_safe != Some(false)),
        tasks,
        train: samples,
        val,
        test,
        notes,
    };
    Ok((declared, dataset))
}

/// What is carried along while a data set is opened.
struct Opening<'a> {
    faults: &'a mut Faults,
    progress: &'a Progress,
    notes: Vec<String>,
    cache: Cache,
}

/// A task with its label of every image; `None` where its labels are missing one and all and faults do not stop.
fn read_labels(
    task: &mut TaskDeclaration,
    alone: bool,
    root: &Path,
    images: &Images,
    Opening { faults, progress, notes, cache }: &mut Opening,
) -> Result<Option<(Task, Vec<Label>)>> {
    progress.begin("reading labels", images.all.len());
    let yolo = matches!(task.from, LabelsFrom::Yolo { .. });
    let asked = task.missing.is_some();
    // A data set of YOLO labels alone follows its users' habit: no file, nothing there.
    if !asked && yolo && alone {
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
    let read = |(i, image): (usize, &Listed)| {
        let reading = reader.read(task, i, image).map(|reading| measured(task, reading, image));
        progress.count(1);
        reading
    };
    let outcomes: Vec<_> = images.all.par_iter().enumerate().map(read).collect();
    let mut readings = faults.readings(outcomes)?;
    notes.extend(reader.notes());
    drop(reader);
    if faults.pass(labels::check_label_files(task, &readings, asked))?.is_none() {
        return Ok(None);
    }
    faults.sift(task, &mut readings, images);
    notes.extend(labels::remarks(task, &readings, root));
    let said = Readings { all: &readings, training: images.ends[0], taught: images.taught() };
    let mut heard = Heard { notes, tolerate: &mut |error| faults.take(error) };
    let resolved = task.own.resolve(&task.asked(), &said, &mut heard);
    let Some((spec, labels)) = faults.pass(resolved)? else {
        faults.forget_task();
        return Ok(None);
    };
    Ok(Some((Task { name: task.name.clone(), spec }, labels)))
}

/// With the image's size where its label needs that; an image that cannot be read is unlabelled then.
fn measured(task: &TaskDeclaration, mut reading: Reading, image: &Listed) -> Reading {
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

/// What a kind's truth can bear, unless the task says otherwise.
fn bears(tasks: &[TaskDeclaration]) -> Vec<Bears> {
    let marks = tasks.iter().any(|task| task.kind.content == Content::Boxes);
    let beside = if marks { Beside::Objects } else { Beside::Nothing };
    let of_task = |task: &TaskDeclaration| {
        let own = (task.kind.bears)(beside);
        Bears { crop: task.crop_safe.unwrap_or(own.crop), scale: task.scale_safe.unwrap_or(own.scale), ..own }
    };
    tasks.iter().map(of_task).collect()
}

fn list_images(
    declared: &mut Declaration,
    options: &OpenOptions,
    faults: &mut Faults,
    progress: &Progress,
) -> Result<Images> {
    let root = &declared.root;
    if declared.splits[0].is_empty() {
        let folders = ["images", "JPEGImages"].map(|name| root.join(name));
        let folder = folders.into_iter().find(|dir| dir.is_dir()).unwrap_or_else(|| root.clone());
        declared.splits[0].push(Source::Folder(folder));
    }
    let mut splits = Vec::new();
    for split in Split::ALL {
        let sources = &declared.splits[split as usize];
        let (found, aliases) = listing::list(root, sources, faults, progress)?;
        let by_folder = declared.tasks.iter().find(|task| task.from == LabelsFrom::Folders);
        for alias in aliases {
            let [name, same_as] = [&alias.path, &alias.same_as].map(|path| listing::relative_name(path, root));
            let class = |path: &Path| {
                let below = sources.iter().find_map(|source| path.strip_prefix(source.path()).ok())?;
                below.components().next().map(|class| class.as_os_str().to_os_string())
            };
            match by_folder.filter(|_| class(&alias.path) != class(&alias.same_as)) {
                Some(task) => {
                    let message = format!(
                        "the same folder as {same_as}/, which is another class of task `{}`: remove one of the two",
                        task.name
                    );
                    faults.take(Error::data(&alias.path, None, message))?;
                }
                None => {
                    declared.notes.push(format!(
                        "{name}/ is {same_as}/ under another name: its images are there twice; remove the one that the labels do not go by"
                    ))
                }
            }
        }
        if found.is_empty()
            && let Some(source) = sources.first()
        {
            let message = format!(
                "the {} split holds no image ({} are read): put images there or correct the declaration",
                split.word(),
                super::decode::EXTENSIONS.join(", ")
            );
            return Err(Error::data(source.path(), None, message));
        }
        splits.push(found);
    }
    let [mut train, mut val, test]: [Vec<Listed>; 3] =
        splits.try_into().map_err(|_| Error::Other("three splits go in, three come out".into()))?;
    let seeded_split = declared.splits[1].is_empty();
    if seeded_split {
        // Where training is the whole folder, the test split may lie within it.
        let tested: HashSet<&str> = test.iter().map(|image| image.name.as_str()).collect();
        train.retain(|image| !tested.contains(image.name.as_str()));
        let fraction = options.val_fraction.or(declared.val_fraction).unwrap_or(DEFAULT_VAL_FRACTION);
        (train, val) = split_off(train, fraction, options.seed, &declared.place)?;
        declared.notes.push(format!(
            "no validation split: {} of {} held out by path (val_fraction {fraction}, seed {})",
            count_of(val.len(), "image"),
            train.len() + val.len(),
            options.seed
        ));
    } else if options.val_fraction.is_some() {
        declared.notes.push("val_fraction changes nothing: the data set has its own validation split".into());
    }
    note_overlap(&train, &val, "val", &mut declared.notes);
    note_overlap(&train, &test, "test", &mut declared.notes);
    let ends = [train.len(), train.len() + val.len(), train.len() + val.len() + test.len()];
    let mut all = train;
    all.extend(val);
    all.extend(test);
    Ok(Images { all, ends, seeded_split })
}

/// Each path's seeded hash decides, so that an image stays where it is when others are added. Neither side stays empty.
fn split_off(images: Vec<Listed>, fraction: f32, seed: u64, place: &Place) -> Result<(Vec<Listed>, Vec<Listed>)> {
    if !(fraction > 0.0 && fraction < 1.0) {
        return Err(Error::Usage(format!(
            "the validation fraction is {fraction}: expected a number between 0 and 1, such as 0.2"
        )));
    }
    if images.len() < 2 {
        let message =
            format!("{} found: training and validation need at least one each", count_of(images.len(), "image"));
        return Err(place.error(message));
    }
    let hash = |image: &Listed| hash_text(seed, &image.name);
    let bound = (f64::from(fraction) * u64::MAX as f64) as u64;
    let least = images.iter().map(hash).min().unwrap_or(0);
    let greatest = images.iter().map(hash).max().unwrap_or(0);
    let (val, train) = images.into_iter().partition(|image| {
        let hash = hash(image);
        hash == least || (hash < bound && hash != greatest)
    });
    Ok((train, val))
}

fn note_overlap(train: &[Listed], other: &[Listed], word: &str, notes: &mut Vec<String>) {
    let names: HashSet<&str> = train.iter().map(|image| image.name.as_str()).collect();
    let both: Vec<&str> = other.iter().map(|image| image.name.as_str()).filter(|name| names.contains(name)).collect();
    if !both.is_empty() {
        notes.push(format!(
            "{} in train and {word} both ({}): {word} figures will flatter",
            count_of(both.len(), "image"),
            list_some(&both, 3)
        ));
    }
}
