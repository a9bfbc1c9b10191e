//! Prediction on any number of images: they are read as they are found, processed in batches, and written in the order
//! of the sources. Memory depends on the batch and the size of the images, not on their number.

mod answer;
mod batches;
mod formats;
mod image_processor;
mod library;
mod list;
mod names;
mod output;
mod picture;
mod pipeline;
mod sources;
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
use crate::data::feed::broken_allowed;
use crate::error::{Error, Result};
use crate::executor::DeviceChoice;
use crate::model::{Model, ModelFile};
use crate::reading::count_of;
use crate::tasks::{DecodeOptions, HeadOutput};
use formats::{Annotations, Sheet, yolo};
use image_processor::ImageProcessor;
use output::Outputs;
use pipeline::{Computing, Plan, Writing, answer_all};
use sources::Sources;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use workers::{Pictures, Ready, Work};

/// Options of a prediction.
pub struct Options {
    /// A run's folder or a file of weights.
    pub model: PathBuf,
    /// Files, folders, globs, and [`LIST`].
    pub sources: Vec<String>,
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
    /// An unreadable image, with the reason.
    Broken(&'a str),
    /// After an error: a file with the predictions made so far.
    Kept(&'a Path),
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
    /// A further note for the user.
    pub remark: Option<String>,
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

/// A prediction that has opened its sources and its model, and has written nothing yet.
pub struct Prediction {
    options: Options,
    sources: Sources,
    annotations: Option<Arc<Annotations>>,
    sheets: Vec<Sheet>,
    file: ModelFile,
    model: Model,
}

impl Prediction {
    /// Notes on how the weights file was read.
    pub fn notes(&self) -> &[String] {
        &self.file.notes
    }
}

/// Opens what a prediction reads. This may wait for a slow disk or a pipe, and can be stopped at any moment.
///
/// # Errors
/// The sources contain no image, or the model or another file cannot be loaded.
pub fn open(mut options: Options) -> Result<Prediction> {
    check(&options)?;
    let sources = Sources::open(&options.sources, options.list.take())?;
    if sources.has_list() && options.batch > LARGEST_LISTED_BATCH {
        return Err(Error::Usage(format!(
            "--batch {}: with a list, every batch is computed at full size; use at most {LARGEST_LISTED_BATCH}",
            options.batch
        )));
    }
    let classes = options.classes.as_deref().map(read_classes).transpose()?;
    let annotations = options.coco_images.as_deref().map(Annotations::read).transpose()?.map(Arc::new);
    let file = ModelFile::read(&ModelFile::locate(&options.model)?, classes)?;
    let sheets = formats::sheets(&options.formats, &file.card.architecture.tasks, annotations.as_ref())?;
    let model = file.start(&options.device)?;
    Ok(Prediction { options, sources, annotations, sheets, file, model })
}

/// Predicts for all sources, until `interrupt` is set.
///
/// # Errors
/// Too many images are unreadable, threads cannot be started, or writing fails.
pub fn predict(prediction: Prediction, interrupt: &AtomicBool, mut events: impl FnMut(Event) + Send) -> Result<Report> {
    let Prediction { options, mut sources, annotations, sheets, file, model } = prediction;
    let processor = ImageProcessor::new(&file.card, options.imgsz, options.boxes);
    let (batch, pauses, out) = (options.batch, sources.has_list(), options.out);
    let mut network = Network { model, shape: processor.shape(batch), known: !pauses, canvas: Vec::new() };
    let mut work = Work { processor: &processor, sheets: &sheets, labels: None, pictures: None };
    let (out, new_folder) = out.make(&options.model)?;
    if let Destination::Folder(folder) = &out {
        sources.leave_out(folder)?;
        if options.pictures {
            work.pictures = Some(Pictures { out: folder.clone(), protected: sources.protected_images(folder)? });
        }
        if options.formats.contains(&Format::Yolo) {
            work.labels = Some(yolo::Labels::create(folder, &file.card.architecture.tasks)?);
        }
    }
    let mut outputs = Outputs::create(out, &sheets)?;
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
            let remark = annotations.and_then(|a| a.remark());
            let (images, broken) = (tally.lines - tally.broken, tally.broken);
            let pictures = work.pictures.as_ref().map(|pictures| pictures.out.clone()).filter(|_| images > 0);
            let labels = labels.map(yolo::Labels::folders).unwrap_or_default();
            Ok(Report { images, broken, files, labels, pictures, ended, remark })
        }
        Err(e) if tally.broken == tally.lines => {
            outputs.discard();
            labels.inspect(|labels| labels.discard());
            // Only an empty folder is removed.
            new_folder.inspect(|folder| drop(std::fs::remove_dir(folder)));
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
struct Network {
    model: Model,
    shape: [usize; 3],
    /// Whether the number of images is known when the last of them arrives.
    known: bool,
    /// `[N, H, W, 3]`, allocated for the first batch.
    canvas: Vec<u8>,
}

impl Computing for Network {
    fn load(&mut self, batch: &[Ready], total: Option<u64>) -> Result<()> {
        let [_, height, width] = self.shape;
        let image_bytes = height * width * 3;
        if self.canvas.is_empty() {
            // The batch is no larger than the number of images. With fewer images than a batch, the first batch ends only when
            // their number is known; with more, the number changes nothing. So the batch size does not depend on timing.
            if let (Some(total), true) = (total, self.known) {
                self.shape[0] = self.shape[0].min(total as usize);
            }
            self.canvas = vec![0; self.shape[0] * image_bytes];
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
        self.model.batch_outputs(self.shape)
    }
}

/// Counts lines and unreadable images, and limits the latter.
struct Tally {
    lines: u64,
    broken: u64,
    first_broken: Option<String>,
    share: f32,
}

impl Tally {
    /// Until the number of images is known, the share of unreadable ones is computed for at least this many images.
    const EXPECTED: u64 = 1000;

    fn new(share: f32) -> Tally {
        Tally { lines: 0, broken: 0, first_broken: None, share }
    }

    /// # Errors
    /// The unreadable images exceed the share of the images seen, or of a thousand.
    fn count(&mut self, broken: Option<String>) -> Result<()> {
        self.lines += 1;
        self.broken += u64::from(broken.is_some());
        self.first_broken = self.first_broken.take().or(broken);
        self.check(self.lines.max(Tally::EXPECTED))
    }

    /// The final check on all images.
    fn verdict(&self, ended: Ended) -> Result<()> {
        match ended {
            // There are no predictions, so older files are kept.
            Ended::Interrupted if self.lines == 0 => return Err(Error::Interrupted),
            Ended::Interrupted | Ended::Unread => return Ok(()),
            Ended::Whole => {}
        }
        match &self.first_broken {
            _ if self.lines == 0 => Err(Error::Usage("no images: the sources are empty".into())),
            Some(first) if self.broken == self.lines => Err(Error::Other(match self.lines {
                1 => format!("the only image could not be read: {first}"),
                n => format!("none of the {n} images could be read; the first: {first}"),
            })),
            _ => self.check(self.lines),
        }
    }

    fn check(&self, images: u64) -> Result<()> {
        if self.broken <= broken_allowed(self.share, images as usize) as u64 {
            return Ok(());
        }
        let first = self.first_broken.as_deref().unwrap_or_default();
        let share = self.share;
        if self.broken == self.lines {
            let problem = match self.lines {
                1 => "the first image could not be read".to_owned(),
                n => format!("none of the first {n} images could be read"),
            };
            return Err(Error::Other(format!(
                "{problem}, more than --max-broken {share} allows; the first is {first}; repair or remove them, or raise --max-broken"
            )));
        }
        Err(Error::Other(format!(
            "{} of {} cannot be read, more than --max-broken {share} allows; the first is {first}; repair or remove them, or raise --max-broken",
            self.broken,
            count_of(self.lines as usize, "image"),
        )))
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
