//! Prediction on images a person names: one JSON line per image, and annotated pictures.

use crate::boxes::Detection;
use crate::config::check_image_size;
use crate::data::random::Random;
use crate::data::{Augment, Geometry, Image, decode, walk};
use crate::draw::{self, Canvas, LabelledFrame};
use crate::error::{Error, Result};
use crate::evaluate::to_image_pixels;
use crate::executor::DeviceChoice;
use crate::model::card::Framing;
use crate::model::heads::decode::DecodeOptions;
use crate::model::prediction::{interpret, is_present};
use crate::model::{Card, Model, Prediction, Runner};
use crate::task::{Task, TaskKind};
use rayon::prelude::*;
use serde_json::{Map, Value, json};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// What a person asked for.
pub struct Options {
    pub model: PathBuf,
    /// Files, folders, globs.
    pub sources: Vec<String>,
    pub out: PathBuf,
    pub pictures: bool,
    pub classes: Option<PathBuf>,
    pub batch: usize,
    pub imgsz: Option<usize>,
    pub device: DeviceChoice,
    pub boxes: DecodeOptions,
    pub max_broken: f32,
}

/// How many images were answered, and which could not be read.
pub struct Report {
    pub images: usize,
    pub broken: Vec<String>,
    pub lines: PathBuf,
}

/// Answers for all sources.
///
/// # Errors
/// Sources without an image, a model that cannot be loaded, too many unreadable images, a disk that refuses.
pub fn predict(options: &Options, mut progress: impl FnMut(usize, usize)) -> Result<Report> {
    if options.batch == 0 {
        return Err(Error::Usage("--batch 0: expected at least 1".into()));
    }
    if let Some(size) = options.imgsz {
        check_image_size(size)?;
    }
    options.boxes.check()?;
    let files = find_images(&options.sources)?;
    let classes = options.classes.as_deref().map(read_classes).transpose()?;
    let model = Model::load(&Model::locate(&options.model)?, classes)?;
    let size = options.imgsz.unwrap_or(model.card.image_size);
    let mut runner = model.start(&options.device)?;
    std::fs::create_dir_all(&options.out).map_err(Error::io("create", &options.out))?;
    if options.pictures {
        spare_sources(&files, &options.out)?;
    }
    let lines = options.out.join("predictions.jsonl");
    let aside = options.out.join("predictions.jsonl.part");
    let answered = answer_all(options, &files, &model.card, &mut runner, size, &aside, &mut progress);
    let moved = answered.and_then(|broken| {
        std::fs::rename(&aside, &lines).map_err(Error::io("write", &lines))?;
        Ok(broken)
    });
    match moved {
        Ok(broken) => Ok(Report { images: files.len() - broken.len(), broken, lines }),
        Err(e) => {
            // What a person must hear of is the error; an older predictions.jsonl is untouched.
            let _ = std::fs::remove_file(&aside);
            Err(e)
        }
    }
}

/// Answers for all files, a line each into `aside`; returns the unreadable ones.
fn answer_all(
    options: &Options,
    files: &[PathBuf],
    card: &Card,
    runner: &mut Runner,
    size: usize,
    aside: &Path,
    progress: &mut impl FnMut(usize, usize),
) -> Result<Vec<String>> {
    let batch = options.batch.min(files.len());
    let mut writer = BufWriter::new(File::create(aside).map_err(Error::io("write", aside))?);
    let mut broken = BrokenCount::new(files.len(), options.max_broken);
    let mut pictures = PictureNames::default();
    let mut done = 0;
    for chunk in files.chunks(batch) {
        let decoded: Vec<(&PathBuf, Result<Image>)> = chunk.par_iter().map(|f| (f, decode::decode(f))).collect();
        let mut images = Vec::new();
        for (file, image) in decoded {
            match image {
                Ok(image) => images.push((file, image)),
                Err(e) => broken.count(e)?,
            }
        }
        for (answer, (file, image)) in answer(card, runner, [batch, size], &images, options)?.iter().zip(&images) {
            let line = describe(card, file, image, answer);
            writeln!(writer, "{line}").map_err(Error::io("write", aside))?;
            if options.pictures {
                let picture = annotate(&card.architecture.tasks, image, answer);
                draw::write_png(&options.out.join(pictures.of(file)), &picture)?;
            }
        }
        done += chunk.len();
        progress(done, files.len());
    }
    writer.flush().map_err(Error::io("write", aside))?;
    if broken.names.len() == files.len() {
        let first = &broken.names[0];
        return Err(Error::Other(format!("none of the {} images could be read; the first: {first}", files.len())));
    }
    Ok(broken.names)
}

/// Refuses to draw a picture over an image that was asked about.
fn spare_sources(files: &[PathBuf], out: &Path) -> Result<()> {
    let sources: HashSet<PathBuf> = files.iter().filter_map(|f| f.canonicalize().ok()).collect();
    let mut pictures = PictureNames::default();
    for file in files {
        let picture = out.join(pictures.of(file));
        if picture.canonicalize().is_ok_and(|p| sources.contains(&p)) {
            return Err(Error::Usage(format!(
                "{} would be overwritten by a picture of its answers: give another folder to --out, or --no-images",
                picture.display()
            )));
        }
    }
    Ok(())
}

fn answer(
    card: &Card,
    runner: &mut Runner,
    [batch, size]: [usize; 2],
    images: &[(&PathBuf, Image)],
    options: &Options,
) -> Result<Vec<Vec<Prediction>>> {
    if images.is_empty() {
        return Ok(Vec::new());
    }
    let framing = match card.framing {
        Framing::Letterbox => Augment::NONE,
        Framing::ResizeCenterCrop => Augment::centre_crop(size),
    };
    // A full batch always: the plan of one shape serves them all, the rest of the canvas is blank.
    let mut canvas = vec![0u8; batch * size * size * 3];
    let geometries: Vec<Geometry> = canvas
        .par_chunks_mut(size * size * 3)
        .zip(images)
        .map(|(canvas, (_, image))| framing.draw(image, size, &mut Random::new(&[0]), canvas))
        .collect();
    let outputs = runner.run([batch, size, size], &canvas)?;
    let answers = geometries.iter().enumerate().map(|(i, geometry)| {
        let mut answer = interpret(card, &outputs, i, [size as f32; 2], &options.boxes);
        for prediction in &mut answer {
            to_image_pixels(prediction, geometry);
        }
        answer
    });
    Ok(answers.collect())
}

/// The line of `predictions.jsonl` about one image.
fn describe(card: &Card, file: &Path, image: &Image, answer: &[Prediction]) -> Value {
    let tasks = card.architecture.tasks.iter().zip(answer).enumerate();
    let answers: Map<String, Value> =
        tasks.map(|(i, (task, a))| (task.name.clone(), describe_task(task, card.intervals_of(i), a))).collect();
    json!({"file": file.to_string_lossy(), "width": image.width, "height": image.height, "tasks": answers})
}

fn describe_task(task: &Task, half_widths: &[Option<f64>], answer: &Prediction) -> Value {
    match answer {
        Prediction::Class(probabilities) => {
            let named = task.classes().iter().zip(probabilities);
            let all: Map<String, Value> = named.map(|(class, p)| (class.clone(), round(*p, 1e6))).collect();
            json!({"class": task.classes()[best(probabilities)], "probabilities": all})
        }
        Prediction::Classes(probabilities) => {
            let named = task.classes().iter().zip(probabilities);
            let labels: Vec<&String> = named.clone().filter(|(_, p)| is_present(**p)).map(|(class, _)| class).collect();
            let all: Map<String, Value> = named.map(|(class, p)| (class.clone(), round(*p, 1e6))).collect();
            json!({"labels": labels, "probabilities": all})
        }
        Prediction::Boxes(found) => {
            let boxes: Vec<Value> = found
                .iter()
                .map(|b| {
                    let corners: Vec<Value> = b.xyxy.iter().map(|&v| round(v, 1e2)).collect();
                    json!({"class": task.classes()[b.class], "score": round(b.score, 1e6), "box": corners})
                })
                .collect();
            json!({"boxes": boxes})
        }
        Prediction::Values(values) => {
            let units = match &task.kind {
                TaskKind::Regress { units, .. } => units.clone(),
                _ => Vec::new(),
            };
            let rounded: Vec<Value> = values.iter().map(|&v| round(v, 1e5)).collect();
            let mut all = json!({"values": rounded, "units": units});
            if half_widths.iter().any(Option::is_some) {
                let ends = |v: &f32, half: f64| [f64::from(*v) - half, f64::from(*v) + half];
                let interval =
                    |(v, half): (&f32, &Option<f64>)| half.map(|half| ends(v, half).map(|end| round(end as f32, 1e5)));
                all["interval"] = json!(values.iter().zip(half_widths).map(interval).collect::<Vec<_>>());
            }
            all
        }
    }
}

fn round(value: f32, per_unit: f64) -> Value {
    json!((f64::from(value) * per_unit).round() / per_unit)
}

/// Index of the largest.
pub fn best(probabilities: &[f32]) -> usize {
    let largest = |a: &(usize, &f32), b: &(usize, &f32)| a.1.total_cmp(b.1).then(b.0.cmp(&a.0));
    probabilities.iter().enumerate().max_by(largest).map_or(0, |p| p.0)
}

/// The image with its boxes drawn and a line per other task.
pub fn annotate(tasks: &[Task], image: &Image, answer: &[Prediction]) -> Canvas {
    let plain = Canvas { width: image.width, height: image.height, rgb: image.rgb.clone() };
    let (mut canvas, scale) = plain.enlarged(384);
    let mut lines = Vec::new();
    for (task, prediction) in tasks.iter().zip(answer) {
        match prediction {
            Prediction::Boxes(found) => {
                let label = |b: &Detection| format!("{} {:.2}", task.classes()[b.class], b.score);
                let labels: Vec<String> = found.iter().map(label).collect();
                let boxes = found.iter().zip(&labels);
                let frames: Vec<LabelledFrame> = boxes
                    .map(|(b, label)| LabelledFrame { xyxy: b.xyxy.map(|v| v * scale), class: b.class, label })
                    .collect();
                draw::frames(&mut canvas, &frames);
            }
            Prediction::Class(p) => {
                let class = best(p);
                lines.push(format!("{}: {} {:.2}", task.name, task.classes()[class], p[class]));
            }
            Prediction::Classes(p) => lines.push(describe_labels(task, p)),
            Prediction::Values(values) => lines.push(describe_values(task, values)),
        }
    }
    draw::caption(&mut canvas, &lines);
    canvas
}

fn describe_labels(task: &Task, probabilities: &[f32]) -> String {
    let there = task.classes().iter().zip(probabilities).filter(|(_, p)| is_present(**p));
    let there: Vec<String> = there.map(|(class, p)| format!("{class} {p:.2}")).collect();
    format!("{}: {}", task.name, if there.is_empty() { "none".into() } else { there.join(", ") })
}

fn describe_values(task: &Task, values: &[f32]) -> String {
    let TaskKind::Regress { units, .. } = &task.kind else {
        return task.name.clone();
    };
    let parts = values.iter().zip(units).map(|(v, unit)| format!("{v:.2} {unit}"));
    format!("{}: {}", task.name, parts.collect::<Vec<_>>().join(", "))
}

fn read_classes(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let names = text.lines().map(|l| l.trim_end().to_owned()).filter(|l| !l.is_empty());
    // ImageNet has two cranes: a second one is numbered, so that each keeps its probability.
    let mut seen: HashMap<String, usize> = HashMap::new();
    let numbered = names.map(|name| {
        let count = seen.entry(name.clone()).or_default();
        *count += 1;
        if *count == 1 { name } else { format!("{name} {count}") }
    });
    Ok(numbered.collect())
}

/// Unreadable images so far, and how many may be.
struct BrokenCount {
    names: Vec<String>,
    images: usize,
    share: f32,
}

impl BrokenCount {
    fn new(images: usize, share: f32) -> BrokenCount {
        BrokenCount { names: Vec::new(), images, share }
    }

    /// # Errors
    /// One more than the share of all images, or than one image, allows.
    fn count(&mut self, error: Error) -> Result<()> {
        self.names.push(error.to_string());
        let allowed = if self.share <= 0.0 { 0 } else { ((self.share * self.images as f32) as usize).max(1) };
        if self.names.len() <= allowed {
            return Ok(());
        }
        Err(Error::Other(format!(
            "{} of {} images cannot be read, more than --max-broken {} allows: {}; repair or remove them, or raise --max-broken",
            self.names.len(),
            self.images,
            self.share,
            self.names.join("; ")
        )))
    }
}

/// The picture's name: the image's stem, with a number where two images share it.
#[derive(Default)]
struct PictureNames {
    taken: HashSet<String>,
}

impl PictureNames {
    fn of(&mut self, file: &Path) -> String {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut name = format!("{stem}.png");
        let mut number = 2;
        while !self.taken.insert(name.clone()) {
            name = format!("{stem}-{number}.png");
            number += 1;
        }
        name
    }
}

/// Files as they are, the images below folders, what globs match; sorted within each source.
fn find_images(sources: &[String]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for source in sources {
        let path = Path::new(source);
        let before = files.len();
        if path.is_dir() {
            files.extend(walk(path)?);
        } else if path.is_file() {
            files.push(path.to_path_buf());
        } else {
            let pattern = glob::glob(source)
                .map_err(|e| Error::Usage(format!("{source}: neither a file nor a folder nor a glob ({e})")))?;
            files.extend(pattern.filter_map(|p| p.ok()).filter(|p| p.is_file() && decode::is_image(p)));
        }
        if files.len() == before {
            return Err(Error::Usage(format!(
                "{source}: no image there; name image files, folders with images, or a glob in quotes"
            )));
        }
    }
    Ok(files)
}
