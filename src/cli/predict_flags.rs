//! The flags of `polyhead predict`, and its progress output. All progress goes to standard error, so that standard
//! output stays free for the predictions.

use super::evaluate_flags::SplitWord;
use super::{BoxArgs, SelectionArgs, inputs};
use crate::config::TrainConfig;
use crate::console::{self, Bar};
use crate::data::ranges::{at_most, count, workers};
use crate::draw::PictureFormat;
use crate::error::{Error, Result, sentence, shown};
use crate::executor::DeviceChoice;
use crate::predict::{self, Destination, Ended, Ends, Event, Format, LIST, List, Report, Settings};
use crate::reading::count_of;
use clap::{Args, ValueEnum};
use std::ffi::OsString;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// The words for formats of pictures.
#[derive(Clone, Copy, ValueEnum)]
enum PictureWord {
    #[value(alias = "jpeg")]
    Jpg,
    Png,
}

impl From<PictureWord> for PictureFormat {
    fn from(word: PictureWord) -> PictureFormat {
        match word {
            PictureWord::Jpg => PictureFormat::Jpeg,
            PictureWord::Png => PictureFormat::Png,
        }
    }
}

#[derive(Args)]
pub struct PredictArgs {
    /// A run folder or a weights file; a plain torchvision or timm ResNet is a classifier
    model: PathBuf,
    /// Image files, folders, globs, or .txt files with one path per line; `-` reads such a list from standard input. With --split,
    /// a data set
    #[arg(required_unless_present = "split")]
    images: Vec<OsString>,
    /// Predict the images of this split of the data set that IMAGES names, a folder or a data.yaml, or else of what the run was trained
    /// on [default: all images of the sources]
    #[arg(long, value_enum)]
    split: Option<SplitWord>,
    /// Folder for the predictions and the pictures; `-` writes JSON lines to standard output and no pictures [default: a new
    /// folder in runs/predict, with the name of the model]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// jsonl (predictions.jsonl), coco (detections.json, images.json), yolo (labels/), csv (predictions.csv, boxes.csv), or
    /// several with commas
    #[arg(long, value_name = "FORMAT", default_value = "jsonl", value_delimiter = ',')]
    format: Vec<String>,
    /// Take the image and category ids of --format coco from these annotations, by file_name and name
    #[arg(long, value_name = "ANN.json")]
    coco_images: Option<PathBuf>,
    /// Paths in the list end with NUL, as written by find -print0
    #[arg(long, short = '0')]
    null: bool,
    /// Do not write the annotated pictures
    #[arg(long)]
    no_images: bool,
    /// Format of the annotated pictures: jpg (quality 90), or png, which keeps every pixel and is two to five times as large
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "jpg")]
    image_format: PictureWord,
    #[command(flatten)]
    selection: SelectionArgs,
    /// Class names of a plain ResNet, one per line
    #[arg(long, value_name = "FILE")]
    classes: Option<PathBuf>,
    /// Images per batch
    #[arg(long, value_name = "IMAGES", value_parser = batch, default_value_t = Settings::BATCH)]
    batch: usize,
    /// Side in pixels [default: the training size]
    #[arg(long)]
    imgsz: Option<usize>,
    /// `auto`, `cpu`, `cuda`, or the GPU's number as `cuda:N` or `N`
    #[arg(long, default_value = "auto")]
    device: String,
    /// Threads that decode, draw and write
    #[arg(long, value_parser = workers, default_value_t = 2)]
    workers: usize,
    /// Threads that compute; 0 is one per core
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Minimum score of a box
    #[arg(long, default_value_t = Settings::SCORE)]
    conf: f32,
    #[command(flatten)]
    boxes: BoxArgs,
    /// Share of unreadable images above which predict fails; one is always tolerated, unless this is 0. Checked at the end,
    /// and during the run as if there were at least 1,000 images
    #[arg(long, default_value_t = 0.01)]
    max_broken: f32,
}

/// Parses the size of a batch. Batches are never larger than the number of images, so one that no memory could hold may be given.
fn batch(text: &str) -> Result<usize, String> {
    at_most(count(text)?, 1 << 30, "images")
}

/// Predicts and prints a summary.
pub fn command(args: PredictArgs) -> Result<()> {
    let to_stdout = args.writes_lines();
    let options = args.options()?;
    let bar = Bar::new("{spinner} {pos} images, {per_sec}, {elapsed}");
    // Nothing is written while files are opened, so a signal may end the process then.
    let opened = predict::open(options)?;
    opened.notes().iter().for_each(|note| bar.say(&format!("note: {}", sentence(note))));
    let interrupt = console::interrupt_flag("finishing the images that were computed; Ctrl-C again stops at once")?;
    let say = |line: String| bar.say(&line);
    let report = predict::predict(opened, &interrupt, |event| match event {
        Event::Lines(lines) => bar.set_position(lines),
        Event::Removed(removed) => say(format!("note: {removed}")),
        Event::Broken(broken) => say(format!("unreadable, left out: {broken}")),
        Event::OlderStay => say("the older predictions stay; those made now are not kept".to_owned()),
        Event::Kept(file) => say(format!("the predictions made so far are in {}", shown(file))),
    });
    bar.clear();
    if matches!(report, Err(Error::Interrupted)) {
        say("stopped before the first prediction; nothing was written".to_owned());
    }
    let report = report?;
    report.remarks.iter().for_each(|remark| say(remark.clone()));
    let summary = summary(&report);
    if report.ended == Ended::Unread {
        return Ok(());
    }
    if to_stdout || report.ended != Ended::Whole {
        say(summary);
    } else {
        console::print(&format!("{summary}\n"))?;
    }
    match report.ended {
        Ended::Interrupted => Err(Error::Interrupted),
        // `| head` closes the pipe once it has enough.
        Ended::Whole | Ended::Unread => Ok(()),
    }
}

impl PredictArgs {
    /// Whether the predictions go to standard output.
    fn writes_lines(&self) -> bool {
        self.out.as_deref() == Some(Path::new(LIST))
    }

    fn options(self) -> Result<predict::Options> {
        let device = DeviceChoice::parse(&self.device, self.threads)?;
        inputs::MODEL.check(Some(&self.model))?;
        inputs::CLASSES.check(self.classes.as_deref())?;
        inputs::COCO_IMAGES.check(self.coco_images.as_deref())?;
        let data = self.split.and(self.images.first()).filter(|word| *word != LIST);
        inputs::DATA.check(data.map(Path::new))?;
        let listed = self.images.iter().any(|source| source == LIST);
        let list = (listed || self.null).then(|| List {
            reader: Box::new(BufReader::new(std::io::stdin())),
            ends: if self.null { Ends::Nul } else { Ends::Line },
            line: 0,
            file: None,
        });
        let out = match self.out.clone() {
            Some(_) if self.writes_lines() => Destination::Lines(console::output()),
            Some(folder) => Destination::Folder(folder),
            None => Destination::NewFolder(TrainConfig::default().shared_folder().to_path_buf()),
        };
        Ok(predict::Options {
            device,
            model: self.model,
            sources: self.images,
            split: self.split.map(Into::into),
            list,
            pictures: !self.no_images,
            picture_format: self.image_format.into(),
            selection: self.selection.into(),
            out,
            formats: self
                .format
                .iter()
                .map(|word| word.trim().to_lowercase().parse())
                .collect::<Result<Vec<Format>>>()?,
            coco_images: self.coco_images,
            classes: self.classes,
            batch: self.batch,
            imgsz: self.imgsz,
            workers: self.workers,
            boxes: self.boxes.options(self.conf),
            max_broken: self.max_broken,
        })
    }
}

/// `predicted 2 images; predictions in a/predictions.jsonl; pictures in a; 1 unreadable`.
fn summary(report: &Report) -> String {
    let places = report.files.iter().chain(&report.labels).map(|place| shown(place));
    let places = places.collect::<Vec<_>>().join(", ");
    let mut parts = vec![format!("predicted {}", count_of(report.images as usize, "image"))];
    if !places.is_empty() {
        parts.push(format!("predictions in {places}"));
    }
    parts.extend(report.pictures.iter().map(|folder| format!("pictures in {}", shown(folder))));
    parts.extend((report.broken > 0).then(|| format!("{} unreadable", report.broken)));
    parts.join("; ")
}
