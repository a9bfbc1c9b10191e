//! Writes a data set in another layout. Losses are determined before anything is written, and the output folder appears
//! complete or not at all.

mod coco;
mod jsonl;
mod names;
mod voc;
mod yolo;

use crate::archives;
use crate::boxes;
use crate::data::aside;
use crate::data::dataset::faults::Faults;
use crate::data::dataset::{self, Dataset, OpenOptions, Sample};
use crate::data::declaration::{Declaration, Split, TaskDeclaration};
use crate::data::images::decode;
use crate::data::own::{self, Own};
use crate::data::progress::{Progress, Stop};
use crate::error::{Error, Result, sentence, shown};
use crate::reading::{BoxFormat, count_of, did_you_mean, list_some};
use crate::tasks::{Boxes, Content, LabelledBox, Task};
use rayon::prelude::*;
use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// The layouts that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// `annotations/instances_<split>.json` and `<split>/`.
    Coco,
    /// `images/<split>/`, `labels/<split>/` and an Ultralytics data.yaml.
    Yolo,
    /// `JPEGImages/`, `Annotations/`, `ImageSets/Main/`.
    Voc,
    /// Polyhead's own: `<split>/` with its metadata.jsonl, and a data.yaml.
    Jsonl,
}

/// The method of transferring image files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// Hard links, which take no space; copies if the file system does not support links.
    LinkOrCopy,
    /// Hard links; an error if the file system does not support them.
    Link,
    /// Copies.
    Copy,
}

/// The options of a conversion.
#[derive(Clone, Debug)]
pub struct Options {
    /// The layout.
    pub target: Target,
    /// The method of transferring image files.
    pub transfer: Transfer,
    /// Convert even if something is lost.
    pub force: bool,
    /// The detection task to write, if there are several.
    pub task: Option<String>,
    /// Options for opening the data set.
    pub open: OpenOptions,
}

/// The result of a conversion.
#[derive(Clone, Debug, PartialEq)]
pub struct Converted {
    /// The folder that was written.
    pub out: PathBuf,
    /// The number of images in train, val and test.
    pub images: [usize; 3],
    /// Labels that the layout cannot store and that are lost, as sentences.
    pub lost: Vec<String>,
    /// Further notes, as sentences.
    pub notes: Vec<String>,
}

/// Reads the data set at `path` and writes it to `out`, which must be absent or empty.
///
/// Errors: those of [`Dataset::open`]; `Usage` if something would be lost and `force` is not set, listing all losses.
pub fn convert(path: &Path, out: &Path, options: &Options, progress: &Progress) -> Result<Converted> {
    check_out(path, out)?;
    let (declared, dataset) = dataset::open_declared(path, &options.open, &mut Faults::Stop, progress)?;
    let boxes = options.target.box_task(&dataset, options.task.as_deref())?;
    let mut plan = plan(&dataset, options.target, boxes, progress);
    if !plan.lost.is_empty() && !options.force {
        let lost = plan.lost.join("; ");
        return Err(Error::Usage(format!(
            "{} cannot hold all of this: {lost}; --force writes the rest",
            options.target
        )));
    }
    if boxes.is_none() {
        plan.notes.extend(jsonl::renamed(&dataset));
    }
    write(&declared, &dataset, out, options.transfer, plan, progress)
}

/// Checks whether a data set read from `path` may be written to `out`, before anything is read.
///
/// Errors: `Data` if `out` is not free, or lies among the images to read, which would then be found twice.
pub fn check_out(path: &Path, out: &Path) -> Result<()> {
    aside::check_free(out)?;
    let (parent, _) = aside::place(out)?;
    let inside = path.is_dir() && path.canonicalize().is_ok_and(|path| parent.starts_with(path));
    if inside {
        let message =
            "is inside the source data set, which would then contain every image twice: give a folder outside it";
        return Err(Error::data(out, None, message));
    }
    Ok(())
}

/// Writes a data set that is in memory in polyhead's own layout, which loses nothing.
pub(super) fn write_own(
    declared: &Declaration,
    dataset: &Dataset,
    out: &Path,
    transfer: Transfer,
    progress: &Progress,
) -> Result<Converted> {
    let plan = plan(dataset, Target::Jsonl, None, progress);
    write(declared, dataset, out, transfer, plan, progress)
}

/// One image to write.
pub(super) struct Item<'a> {
    pub split: Split,
    pub sample: &'a Sample,
    /// The path below its split's folder, with forward slashes; for VOC, its ID and extension.
    pub to: String,
    /// Width and height of the upright picture; zero if the layout does not need them.
    pub size: [usize; 2],
}

impl Item<'_> {
    /// The boxes of task number `task`; `None` if unlabelled.
    fn boxes(&self, task: usize) -> Option<&Boxes> {
        self.sample.labels[task].boxes()
    }

    /// The box clipped to the picture.
    fn clipped(&self, xyxy: &boxes::Xyxy) -> boxes::Xyxy {
        boxes::clip(xyxy, self.size[0] as f32, self.size[1] as f32)
    }
}

struct Plan<'a> {
    target: Target,
    /// The task whose boxes are written, for a layout that stores the boxes of one task.
    boxes: Option<usize>,
    items: Vec<Item<'a>>,
    lost: Vec<String>,
    notes: Vec<String>,
}

impl Target {
    /// The task whose boxes are written; `None` for a layout that stores all tasks.
    fn box_task(self, dataset: &Dataset, wanted: Option<&str>) -> Result<Option<usize>> {
        let detections: Vec<&str> = dataset.tasks.iter().filter(|t| detects(t)).map(|t| t.name.as_str()).collect();
        let place = |name: &str| dataset.tasks.iter().position(|task| task.name == name);
        match (self, wanted, detections.as_slice()) {
            (Target::Jsonl, None, _) => Ok(None),
            (Target::Jsonl, Some(_), _) => {
                Err(Error::Usage("--task chooses the boxes of coco, yolo and voc; jsonl holds every task".into()))
            }
            (_, Some(name), names) if !names.contains(&name) => {
                let hint = did_you_mean(name, names.iter().copied());
                Err(Error::Usage(format!("--task {name}: no detection task of that name here{hint}")))
            }
            (_, Some(name), _) => Ok(place(name)),
            (_, None, []) => Err(Error::Usage(format!(
                "{self} holds boxes, and this data set has no detection task: --to jsonl holds every task"
            ))),
            (_, None, [one]) => Ok(place(one)),
            (_, None, several) => Err(Error::Usage(format!(
                "{self} holds the boxes of one task, and there are {}: choose with --task, or --to jsonl for all",
                list_some(several, 6)
            ))),
        }
    }
}

fn detects(task: &Task) -> bool {
    task.spec.kind().content == Content::Boxes
}

/// Decides the output path of every image, and what will be lost.
fn plan<'a>(dataset: &'a Dataset, target: Target, boxes: Option<usize>, progress: &Progress) -> Plan<'a> {
    let samples = Split::ALL.into_iter().flat_map(|split| dataset.split(split).iter().map(move |s| (split, s)));
    let samples: Vec<(Split, &Sample)> = samples.collect();
    let items = Vec::with_capacity(samples.len());
    let mut plan = Plan { target, boxes, items, lost: Vec::new(), notes: Vec::new() };
    let sizes: Vec<Option<[usize; 2]>> = match boxes {
        None => vec![Some([0; 2]); samples.len()],
        Some(_) => {
            progress.begin("reading image sizes", samples.len());
            let size = |(_, sample): &(Split, &Sample)| {
                progress.count(1);
                decode::dimensions(&sample.image).ok()
            };
            samples.par_iter().map(size).collect()
        }
    };
    let mut unreadable = Vec::new();
    let names = names::targets(&samples, target);
    for (((split, sample), to), size) in samples.into_iter().zip(names).zip(sizes) {
        match size {
            Some(size) => plan.items.push(Item { split, sample, to, size }),
            None => unreadable.push(sample.name.as_str()),
        }
    }
    if !unreadable.is_empty() {
        let (count, some) = (count_of(unreadable.len(), "image"), list_some(&unreadable, 3));
        plan.lost.push(format!("{count} that cannot be read ({some})"));
    }
    if let Some(at) = boxes {
        for (index, task) in dataset.tasks.iter().enumerate().filter(|(index, _)| *index != at) {
            let labelled = plan.items.iter().filter(|item| item.sample.labels[index].is_labelled()).count();
            plan.lost.push(format!("task `{}` ({}, {labelled} labelled)", task.name, task.kind_word()));
        }
        box_losses(&mut plan, at);
    }
    plan
}

/// Adds the losses of a layout that stores boxes.
fn box_losses(plan: &mut Plan, task: usize) {
    let target = plan.target;
    let labelled = || plan.items.iter().filter_map(|item| Some((item, item.boxes(task)?)));
    let all = || labelled().flat_map(|(item, boxes)| boxes.iter().map(move |b| (item, b)));
    let count = |is: &dyn Fn(&Item, &LabelledBox) -> bool| all().filter(|(item, b)| is(item, b)).count();
    let ignored = count(&|_, b| b.ignore);
    let partial = labelled().filter(|(_, boxes)| !boxes.partial.is_empty()).count();
    let thin = count(&|item, b| !voc::holds(&item.clipped(&b.xyxy)));
    let beyond = count(&|item, b| item.clipped(&b.xyxy) != b.xyxy);
    let unlabelled = plan.items.len() - labelled().count();
    let (mut lost, mut notes) = (Vec::new(), Vec::new());
    if target == Target::Yolo && ignored > 0 {
        lost.push(format!("{} marked to be ignored", count_of(ignored, "box")));
    }
    if target == Target::Voc && thin > 0 {
        lost.push(format!("{} at most one pixel wide or high", count_of(thin, "box")));
    }
    if partial > 0 {
        let images = count_of(partial, "image");
        match target {
            Target::Yolo => lost.push(format!(
                "the classes not looked for in {images} annotated for some classes only (training would treat them as absent)"
            )),
            _ => notes.push(format!(
                "{images} annotated for some classes only: each other class becomes a {} region as large as the picture, so that its absence is not trained on",
                if target == Target::Coco { "crowd" } else { "difficult" }
            )),
        }
    }
    if beyond > 0 && target != Target::Coco {
        notes.push(format!("{} reaching beyond the picture clipped to it", count_of(beyond, "box")));
    }
    let unlabelled =
        |what: &str| (unlabelled > 0).then(|| format!("{} {what}", count_of(unlabelled, "unlabelled image")));
    notes.extend(match target {
        Target::Coco => unlabelled("not mentioned in the JSON files"),
        Target::Yolo => unlabelled(
            "without a label file; data.yaml says `missing: unlabelled`, and other tools take them for background",
        ),
        Target::Voc => unlabelled("without an XML file"),
        Target::Jsonl => None,
    });
    plan.lost.extend(lost);
    plan.notes.extend(notes);
}

fn write(
    declared: &Declaration,
    dataset: &Dataset,
    out: &Path,
    transfer: Transfer,
    plan: Plan,
    progress: &Progress,
) -> Result<Converted> {
    let Plan { target, boxes, items, lost, notes } = plan;
    let images = Split::ALL.map(|split| items.iter().filter(|item| item.split == split).count());
    let stop = progress.stop()?;
    aside::write_folder(out, |dir| {
        bring_images(dir, &items, target, transfer, progress, &stop)?;
        let task = boxes.unwrap_or(0);
        match target {
            Target::Coco => coco::write(dir, &items, &declared.tasks[task], &dataset.tasks[task], task),
            Target::Yolo => yolo::write(dir, &items, dataset, task),
            Target::Voc => voc::write(dir, &items, &declared.tasks[task], &dataset.tasks[task], task),
            Target::Jsonl => jsonl::write(dir, &items, declared, dataset),
        }?;
        own::mark(dir, Own::Converted)?;
        stop.check()
    })?;
    Ok(Converted { out: out.to_path_buf(), images, lost, notes })
}

/// The declaration of a task after its labels are written out: boxes are in pixels, and each image lists its own
/// classes that were looked for.
fn as_written(declared: &TaskDeclaration, task: &Task) -> TaskDeclaration {
    let own = declared.own.rewritten(&*task.spec).unwrap_or_else(|| declared.own.clone());
    TaskDeclaration { own, missing: None, box_format: BoxFormat::XywhAbsolute, ..declared.clone() }
}

/// The folder of a split's images.
fn image_folder(target: Target, split: Split) -> String {
    match target {
        Target::Coco | Target::Jsonl => split.word().into(),
        Target::Yolo => format!("images/{}", split.word()),
        Target::Voc => "JPEGImages".into(),
    }
}

fn bring_images(
    dir: &Path,
    items: &[Item],
    target: Target,
    transfer: Transfer,
    progress: &Progress,
    stop: &Stop,
) -> Result<()> {
    progress.begin("writing images", items.len());
    // In VOC, an image listed by two splits is stored once.
    let mut once = HashSet::new();
    let items: Vec<&Item> =
        items.iter().filter(|item| once.insert((image_folder(target, item.split), item.to.as_str()))).collect();
    items.par_iter().try_for_each(|item| {
        stop.check()?;
        let to = dir.join(image_folder(target, item.split)).join(&item.to);
        make_parent(&to)?;
        bring(&item.sample.image, &to, transfer)?;
        progress.count(1);
        Ok(())
    })
}

fn bring(from: &Path, to: &Path, transfer: Transfer) -> Result<()> {
    if archives::is_member(from) {
        if transfer == Transfer::Link {
            let message = "lies in an archive, so that nothing can be linked to it: leave out --link";
            return Err(Error::data(from, None, message));
        }
        let bytes = archives::read(from).map_err(Error::io("read", from))?;
        return fs::write(to, bytes).map_err(Error::io("write", to));
    }
    // Links to the file itself, because a link to a link would break if the first is moved.
    let from = from.canonicalize().map_err(Error::io("read", from))?;
    if transfer != Transfer::Copy {
        match fs::hard_link(&from, to) {
            Ok(()) => return Ok(()),
            // Two names that this file system treats as the same.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => return Err(Error::io("create", to)(e)),
            Err(e) if transfer == Transfer::Link => return Err(Error::io("link", &from)(e)),
            Err(_) => {}
        }
    }
    fs::copy(&from, to).map(|_| ()).map_err(Error::io("copy", &from))
}

fn make_parent(file: &Path) -> Result<()> {
    let parent = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(Error::io("create", parent))
}

fn write_text(file: &Path, text: &str) -> Result<()> {
    make_parent(file)?;
    fs::write(file, text).map_err(Error::io("write", file))
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Target::Coco => "coco",
            Target::Yolo => "yolo",
            Target::Voc => "voc",
            Target::Jsonl => "jsonl",
        })
    }
}

impl fmt::Display for Converted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [train, val, test] = self.images;
        writeln!(f, "wrote {}: {train} training, {val} validation and {test} test images", shown(&self.out))?;
        self.lost.iter().try_for_each(|lost| writeln!(f, "lost: {}", sentence(lost)))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {}", sentence(note)))
    }
}
