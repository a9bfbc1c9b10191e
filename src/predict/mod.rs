//! Prediction on any number of images: they are read as they are found, processed in batches, and written in the order
//! of the sources. Memory depends on the batch and the size of the images, not on their number.

mod answer;
mod batches;
mod formats;
mod highest_scores;
mod image_processor;
mod library;
mod list;
mod names;
mod output;
mod picture;
mod pipeline;
mod sources;
mod tally;
#[cfg(test)]
mod tests;
mod walk;
mod workers;

pub use formats::Format;
pub use library::{Answer, Settings};
pub use list::{Ends, List};
pub use output::Destination;
pub use picture::annotate;
pub use sources::LIST;

use crate::config::check_image_size;
use crate::data::{Dataset, Split};
use crate::device::cpu::memory::zeroed_bytes;
use crate::draw::PictureFormat;
use crate::error::{Error, Result};
use crate::evaluate::{self, Selected, Selection};
use crate::executor::DeviceChoice;
use crate::model::{Model, ModelFile};
use crate::tasks::{DecodeOptions, HeadOutput};
use formats::{Annotations, Sheet, yolo};
use highest_scores::HighestScores;
use image_processor::ImageProcessor;
use output::{Made, Outputs, Target};
use picture::Pictures;
use pipeline::{Computing, Plan, Writing, answer_all};
use sources::Sources;
use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tally::Tally;
use workers::{Ready, Work};

/// Options of a prediction.
pub struct Options {
    /// A run's folder or a file of weights.
    pub model: PathBuf,
    /// Files, folders, globs, list files and [`LIST`]; with a `split` at most one, a data set.
    pub sources: Vec<OsString>,
    /// Predicts the images of this split of a data set, by default that of the model's run.
    pub split: Option<Split>,
    /// The list behind [`LIST`].
    pub list: Option<List>,
    /// The folder or stream for the predictions.
    pub out: Destination,
    /// The formats to write; a stream only supports [`Format::Jsonl`].
    pub formats: Vec<Format>,
    /// COCO annotations whose ids the results use.
    pub coco_images: Option<PathBuf>,
    /// Whether to write each image with its predictions drawn on it. Not supported for a stream.
    pub pictures: bool,
    /// The format of those pictures.
    pub picture_format: PictureFormat,
    /// The tasks and the classes of boxes that are written.
    pub selection: Selection,
    /// A file with the class names of a plain ResNet, one per line.
    pub classes: Option<PathBuf>,
    /// Batch size, at least 1.
    pub batch: usize,
    /// Side of the network's square input in pixels; `None` for the training size.
    pub imgsz: Option<usize>,
    /// The device of the network.
    pub device: DeviceChoice,
    /// Threads that decode, draw and write; 0 counts as 1.
    pub workers: usize,
    /// Selects the boxes of a detection task that are kept.
    pub boxes: DecodeOptions,
    /// Share of unreadable images, from 0 to 1, above which prediction fails; one is always tolerated, unless this is 0.
    pub max_broken: f32,
}

/// Progress events for the caller.
pub enum Event<'a> {
    /// The number of images whose line has been written.
    Lines(u64),
    /// A sentence about a file that an earlier prediction left and that is removed.
    Removed(&'a str),
    /// An unreadable image, with the reason.
    Broken(&'a str),
    /// After an error: a file with the predictions made so far.
    Kept(&'a Path),
    /// After too many unreadable images: the older files of the same names stay, and the predictions made so far are dropped.
    OlderStay,
}

/// The outcome of a prediction.
#[derive(Debug)]
pub struct Report {
    /// Number of images with predictions, without the unreadable ones.
    pub images: u64,
    /// Number of images that could not be read.
    pub broken: u64,
    /// The written files; none if lines went to standard output.
    pub files: Vec<PathBuf>,
    /// The folders of [`Format::Yolo`]'s label files, one per detection task.
    pub labels: Vec<PathBuf>,
    /// The folder of the annotated pictures, if there are any.
    pub pictures: Option<PathBuf>,
    /// The reason for stopping.
    pub ended: Ended,
    /// Further notes for the user.
    pub remarks: Vec<String>,
}

/// The reason why a prediction stopped without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All images are done.
    Whole,
    /// The caller interrupted it; everything computed until then has been written.
    Interrupted,
    /// The reader of the lines has gone.
    Unread,
}

/// The length of a list is not known in advance, so memory for a full batch is allocated. A larger batch is assumed to be a
/// typing error.
const LARGEST_LISTED_BATCH: usize = 1 << 16;

/// The opened sources and model of a prediction that has written nothing yet.
pub struct Opened {
    options: Options,
    sources: Sources,
    annotations: Option<Arc<Annotations>>,
    sheets: Vec<Sheet>,
    selected: Selected,
    model: Model,
    notes: Vec<String>,
}

impl Opened {
    /// Notes on how the weights file was read.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// Opens what a prediction reads. This may wait for a slow disk or a pipe, and can be stopped at any moment.
///
/// # Errors
/// The sources contain no image, or the model or another file cannot be loaded.
pub fn open(mut options: Options) -> Result<Opened> {
    check(&options)?;
    if options.split.is_some() && options.list.is_some() && !options.sources.iter().any(|source| source == LIST) {
        return Err(Error::Usage(
            "--null is for a list on standard input, which --split does not read: leave it out".into(),
        ));
    }
    let sources = match options.split {
        Some(split) => split_of(&options, split)?,
        None => Sources::open(&options.sources, options.list.take())?,
    };
    if sources.may_pause() && options.batch > LARGEST_LISTED_BATCH {
        return Err(Error::Usage(format!(
            "--batch {}: with a list, every batch is computed at full size; use at most {LARGEST_LISTED_BATCH}",
            options.batch
        )));
    }
    let classes = options.classes.as_deref().map(read_classes).transpose()?;
    let annotations = options.coco_images.as_deref().map(Annotations::read).transpose()?.map(Arc::new);
    let file = ModelFile::read(&ModelFile::locate(&options.model)?, classes)?;
    let selected = options.selection.of(&file.card)?;
    let sheets = formats::sheets(&options.formats, &selected.card.architecture.tasks, annotations.as_ref())?;
    let notes = file.notes.clone();
    let model = file.start(&options.device)?;
    Ok(Opened { options, sources, annotations, sheets, selected, model, notes })
}

/// The images of a split of the given data set, or of that of the model's run.
fn split_of(options: &Options, split: Split) -> Result<Sources> {
    let given = match options.sources.as_slice() {
        [] => None,
        [one] if one != LIST => Some(Path::new(one)),
        _ => {
            return Err(Error::Usage(
                "--split takes its images from one data set: give one folder or data.yaml".into(),
            ));
        }
    };
    let run = evaluate::run_config(&options.model)?;
    let open = evaluate::open_options(run.as_ref(), given);
    let data = given.map_or_else(|| evaluate::data_of_run(&options.model, run.as_ref()), |data| Ok(data.into()))?;
    let dataset = Dataset::open(&data, &open)?;
    let images = evaluate::images_of(&dataset, split, &data)?.iter().map(|sample| sample.image.clone()).collect();
    Ok(Sources::of_images(images, &dataset.root))
}

/// Predicts for all sources, until `interrupt` is set.
///
/// # Errors
/// Too many images are unreadable, threads cannot be started, or writing fails.
pub fn predict(opened: Opened, interrupt: &AtomicBool, mut events: impl FnMut(Event) + Send) -> Result<Report> {
    let Opened { options, mut sources, annotations, sheets, selected, model, notes: _ } = opened;
    let tasks = &selected.card.architecture.tasks;
    let processor = ImageProcessor::new(&selected.card, options.imgsz, options.boxes);
    let (batch, pauses) = (options.batch, sources.may_pause());
    let mut network =
        Network { model, selected: &selected, shape: processor.shape(batch), known: !pauses, canvas: Vec::new() };
    let scores = HighestScores::new(tasks);
    let mut work = Work { processor: &processor, sheets: &sheets, labels: None, pictures: None, scores: &scores };
    let Made { target, new_folder } = options.out.make(&options.model)?;
    if let Target::Folder(folder) = &target {
        sources.leave_out(folder)?;
        if options.pictures {
            let protected = sources.protected_images(folder, options.picture_format)?;
            work.pictures = Some(Pictures::new(folder, options.picture_format, protected));
        }
        if options.formats.contains(&Format::Yolo) {
            work.labels = Some(yolo::Labels::create(folder, tasks)?);
        }
    }
    let mut outputs = Outputs::create(target, &sheets)?;
    outputs.removed.iter().for_each(|removed| events(Event::Removed(removed)));
    let mut tally = Tally::new(options.max_broken);
    let workers = options.workers.max(1);
    // One batch computes while the next is decoded; each worker has one image in progress and one waiting.
    let plan = Plan { batch, window: 2 * batch + 2 * workers, workers, pauses };
    let writing = Writing { outputs: &mut outputs, tally: &mut tally, events: &mut events };
    let answered = answer_all(&plan, sources, &work, &mut network, writing, interrupt);
    let labels = work.labels.as_ref();
    let ended = answered.and_then(|ended| tally.verdict(ended).map(|()| ended));
    let finished = ended.and_then(|ended| match ended {
        Ended::Unread => Ok((ended, Vec::new())),
        _ => Ok((ended, outputs.finish()?)),
    });
    match finished {
        Ok((ended, files)) => {
            let (images, broken) = (tally.lines - tally.broken, tally.broken);
            let mut remarks: Vec<String> = annotations.and_then(|a| a.remark()).into_iter().collect();
            if images > 0 {
                remarks.extend(scores.remarks(tasks, options.boxes.score_threshold));
            }
            remarks.extend(work.pictures.iter().flat_map(Pictures::remarks));
            let pictures =
                work.pictures.as_ref().map(|pictures| pictures.folder().to_path_buf()).filter(|_| images > 0);
            let labels = labels.map(yolo::Labels::folders).unwrap_or_default();
            Ok(Report { images, broken, files, labels, pictures, ended, remarks })
        }
        Err(e) if tally.broken == tally.lines => {
            outputs.discard();
            labels.inspect(|labels| labels.discard());
            // Only an empty folder is removed.
            new_folder.inspect(|folder| crate::data::remove_empty(folder));
            Err(e)
        }
        // Perhaps a whole disk cannot be read at the moment, so older predictions are worth more.
        Err(e) if tally.is_exceeded && outputs.would_replace() => {
            outputs.discard();
            events(Event::OlderStay);
            Err(e)
        }
        // The lines are whole, as after an interruption.
        Err(e) if tally.is_exceeded => {
            let files = outputs.finish().unwrap_or_else(|_| outputs.abandon());
            files.iter().for_each(|file| events(Event::Kept(file)));
            Err(e)
        }
        Err(e) => {
            outputs.abandon().iter().for_each(|kept| events(Event::Kept(kept)));
            Err(e)
        }
    }
}

fn check(options: &Options) -> Result<()> {
    if options.batch == 0 {
        return Err(Error::Usage("--batch 0: expected at least 1".into()));
    }
    if let Some(size) = options.imgsz {
        check_image_size(size)?;
    }
    if !(0.0..=1.0).contains(&options.max_broken) {
        return Err(Error::Usage(format!("--max-broken {}: expected a share from 0 to 1", options.max_broken)));
    }
    if matches!(options.out, Destination::Lines(_)) && options.formats != [Format::Jsonl] {
        return Err(Error::Usage(
            "--out -: standard output takes jsonl only; give --out a folder for other formats".into(),
        ));
    }
    if options.coco_images.is_some() && !options.formats.contains(&Format::Coco) {
        return Err(Error::Usage("--coco-images only works with --format coco".into()));
    }
    options.boxes.check()
}

/// The network on its device. It always computes batches of the same size; images fill a batch from the start and the
/// rest is blank. A prediction has the same bits whatever else is in the batch, so it does not depend on how images are
/// divided into batches.
struct Network<'a> {
    model: Model,
    selected: &'a Selected,
    shape: [usize; 3],
    /// Whether the number of images is known when the last of them arrives.
    known: bool,
    /// `[N, H, W, 3]`, allocated for the first batch.
    canvas: Vec<u8>,
}

impl Computing for Network<'_> {
    fn load(&mut self, batch: &[Ready], total: Option<u64>) -> Result<()> {
        let [_, height, width] = self.shape;
        let image_bytes = height * width * 3;
        if self.canvas.is_empty() {
            // The batch is no larger than the number of images. With fewer images than a batch, the first batch ends only when
            // their number is known; with more, the number changes nothing. So the batch size does not depend on timing.
            if let (Some(total), true) = (total, self.known) {
                self.shape[0] = self.shape[0].min(total as usize);
            }
            self.canvas = zeroed_bytes(self.shape[0] * image_bytes, "the images of a batch", workers::ADVICE)?;
        }
        let (images, rest) = self.canvas.split_at_mut(batch.len() * image_bytes);
        for (to, ready) in images.chunks_exact_mut(image_bytes).zip(batch) {
            to.copy_from_slice(&ready.canvas);
        }
        rest.fill(0);
        self.model.load_batch(self.shape, &self.canvas)
    }

    fn start(&mut self) -> Result<()> {
        self.model.start_batch(self.shape)
    }

    fn answers(&mut self) -> Result<Vec<HeadOutput>> {
        Ok(self.selected.outputs(self.model.batch_outputs(self.shape)?))
    }
}

fn read_classes(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let names = text.lines().map(|l| l.trim_end().to_owned()).filter(|l| !l.is_empty());
    // ImageNet has two classes called crane. Repeated names get a number, so that each keeps its probability.
    let mut seen: HashMap<String, usize> = HashMap::new();
    let numbered = names.map(|name| {
        let count = seen.entry(name.clone()).or_default();
        *count += 1;
        if *count == 1 { name } else { format!("{name} {count}") }
    });
    Ok(numbered.collect())
}
