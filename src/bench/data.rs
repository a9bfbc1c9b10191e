//! Speed of the input pipeline without training: each stage on one core, and the loader with all its workers, compared with the
//! rate at which steps would take images.

use super::input::{Batches, Supply};
use crate::config::TrainConfig;
use crate::data::augment::Composer;
use crate::data::images::decode;
use crate::data::random::Random;
use crate::data::{Augment, Broken, Transforms};
use crate::device::cpu::Cpu;
use crate::error::{Error, Result};
use crate::ops::preprocess;
use crate::reading::count_of;
use crate::tasks::Encoders;
use crate::train::run::Machine;
use crate::train::setup::{self, Data};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Settings of `bench data`.
pub struct DataOptions {
    /// Configuration of the training run that the pipeline would feed.
    pub config: TrainConfig,
    /// Images timed stage by stage; the loader is timed on at least as many.
    pub images: usize,
    /// Images per second that the steps take, if given.
    pub images_per_second: Option<f64>,
}

/// The results; the schema of `bench data --json`, described in benches/README.md.
#[derive(Serialize)]
pub struct DataMeasurement {
    /// Always `data`.
    pub work: &'static str,
    /// The data set's path.
    pub data: String,
    /// Height and width of every image, in pixels.
    pub img_size: usize,
    /// Loader threads.
    pub workers: usize,
    /// Images timed stage by stage.
    pub images: usize,
    /// Whether images are changed beyond their framing; otherwise `stages.augment` is 0.
    #[serde(skip)]
    pub augments: bool,
    /// Unreadable images that were skipped while the stages were timed.
    pub unreadable: usize,
    /// The mean time of each stage.
    pub stages: Stages,
    /// Rate of one core that runs every stage except the last, one image after the other.
    pub samples_per_sec_per_core: f64,
    /// Rate of the loader with its workers when every batch is dropped at once.
    pub loader_samples_per_sec: f64,
    /// Whether the pipeline can feed the steps; present if `--images-per-second` was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wanted: Option<Wanted>,
    /// The release of Polyhead that measured, from Cargo.toml.
    pub version: &'static str,
    /// The git commit the program was built from, at least 12 hex digits, or `unknown` when it was built outside a repository.
    pub commit: &'static str,
    /// The computer the program ran on.
    pub machine: Machine,
}

/// Mean milliseconds per image on one core.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Stages {
    /// Reading the file into memory.
    pub read: f64,
    /// Decoding to pixels, as many as the next stage uses.
    pub decode: f64,
    /// Cropping or letterboxing, resizing, mirroring.
    pub resize: f64,
    /// All other augmentation: colours, geometric transformations, and the images for mosaics and mix-ups, from reading their
    /// files on. Measured as the time beyond `resize`, so it is slightly off if there is almost no augmentation;
    /// 0 if there is none.
    pub augment: f64,
    /// Turning labels into the losses' targets.
    pub encode: f64,
    /// Bytes to normalised numbers. The step does this on its device, so it is in none of the sums here.
    pub convert: f64,
}

/// Whether the pipeline keeps up with the steps.
#[derive(Serialize)]
pub struct Wanted {
    /// Images per second that the steps take, from `--images-per-second`.
    pub samples_per_sec: f64,
    /// Judged by the loader's measured rate.
    pub supply: Supply,
    /// Number of cores that would be enough, at the rate of one core.
    pub cores: u64,
}

impl Stages {
    fn total(&self) -> f64 {
        self.read + self.decode + self.resize + self.augment + self.encode
    }
}

/// # Errors
/// The data set cannot be opened, or none of its images can be read.
pub fn data(options: &DataOptions) -> Result<DataMeasurement> {
    let config = &options.config;
    for (value, flag) in [(config.workers, "workers"), (config.imgsz, "imgsz"), (options.images, "images")] {
        if value == 0 {
            return Err(Error::Usage(format!("--{flag} 0: expected at least 1")));
        }
    }
    if let Some(rate) = options.images_per_second.filter(|rate| !(*rate > 0.0 && rate.is_finite())) {
        return Err(Error::Usage(format!("--images-per-second {rate}: expected a number above 0")));
    }
    config.check()?;
    let data = Data::open(config)?;
    let (mut stages, broken) = stages(config, &data, options.images)?;
    let augments = augments(config);
    if !augments {
        // Nothing ran in this stage, so its measured time is noise.
        stages.augment = 0.0;
    }
    let loader = setup::loader(config, &data, &setup::card(config, &data), 0)?;
    let mut batches = Batches::Loaded { loader, batch: config.batch };
    let rate = batches.rate(options.images.div_ceil(config.batch))?;
    let loader_samples_per_sec = rate.unwrap_or_else(|| unreachable!("there is a loader"));
    let per_core = 1e3 / stages.total();
    let wanted = options.images_per_second.map(|wanted| Wanted {
        samples_per_sec: wanted,
        supply: Supply::of(loader_samples_per_sec, wanted),
        cores: (wanted / per_core).ceil() as u64,
    });
    Ok(DataMeasurement {
        work: "data",
        data: data.name,
        img_size: config.imgsz,
        workers: config.workers,
        images: options.images,
        augments,
        unreadable: broken.len(),
        stages,
        samples_per_sec_per_core: per_core,
        loader_samples_per_sec,
        wanted,
        version: env!("CARGO_PKG_VERSION"),
        commit: env!("POLYHEAD_COMMIT"),
        machine: Machine::this(),
    })
}

/// Whether a run with these choices changes images beyond framing and mirroring them.
fn augments(config: &TrainConfig) -> bool {
    // --close-mosaic alone changes nothing.
    let transforms = Transforms { close_mosaic: Transforms::NONE.close_mosaic, ..config.transforms };
    config.jitter > 0.0 || transforms != Transforms::NONE
}

/// Times this many readable images on this thread alone, starting over at the first image if there are fewer.
fn stages(config: &TrainConfig, data: &Data, images: usize) -> Result<(Stages, Vec<Broken>)> {
    let mut core = OneCore::new(config, data)?;
    let mut spent = [Duration::ZERO; 6];
    let mut broken: Vec<Broken> = Vec::new();
    let (mut done, mut drawn) = (0, 0u64);
    let mut samples = data.train.iter().enumerate().cycle();
    while done < images {
        let Some((index, sample)) = samples.next() else { break };
        if broken.iter().any(|b| b.index == index) {
            continue;
        }
        let random = Random::new(&[config.seed, drawn]);
        let batch = drawn / config.batch as u64;
        drawn += 1;
        match core.time(index, batch, random) {
            Ok(times) => {
                done += 1;
                spent.iter_mut().zip(times).for_each(|(all, time)| *all += time);
            }
            Err(e) => broken.push(Broken { index, name: sample.name.clone(), message: e.reason() }),
        }
        if broken.len() == data.train.len() {
            return Err(Error::Other(format!(
                "none of {} can be read: {}",
                count_of(broken.len(), "image"),
                broken[0]
            )));
        }
    }
    let [read, decode, framed, drawn, encode, convert] = spent.map(|time| time.as_secs_f64() * 1e3 / images as f64);
    let resize = framed.min(drawn);
    Ok((Stages { read, decode, resize, augment: drawn - resize, encode, convert }, broken))
}

/// Does the work of a loader's worker, stage by stage.
struct OneCore<'a> {
    data: &'a Data,
    composer: Composer,
    /// Framing only.
    framing: Augment,
    encoders: Encoders,
    cpu: Cpu,
    canvas: Vec<u8>,
    framed: Vec<u8>,
    numbers: Vec<f32>,
}

impl<'a> OneCore<'a> {
    fn new(config: &TrainConfig, data: &'a Data) -> Result<OneCore<'a>> {
        let options = data.loader_options(config);
        let card = setup::card(config, data);
        Ok(OneCore {
            data,
            composer: Composer::new(Arc::clone(&data.train), options.composing()),
            framing: Augment { brightness: 0.0, contrast: 0.0, saturation: 0.0, ..options.augment },
            encoders: setup::encoders(config, &card),
            cpu: Cpu::new(1)?,
            canvas: Vec::new(),
            framed: Vec::new(),
            numbers: Vec::new(),
        })
    }

    /// The time to read, decode, frame, draw (with all augmentation), encode and convert an image.
    fn time(&mut self, index: usize, batch: u64, mut random: Random) -> Result<[Duration; 6]> {
        let side = self.composer.side(batch);
        self.canvas.resize(side * side * 3, 0);
        self.framed.resize(side * side * 3, 0);
        self.numbers.resize(side * side * 3, 0.0);
        let path = &self.data.train[index].image;
        let mut framing_random = random.clone();
        let start = Instant::now();
        let bytes = decode::read(path)?;
        let read = Instant::now();
        let image = decode::decode_read(path, &bytes, |size| self.composer.reach(index, size, batch, &random))?;
        let decoded = Instant::now();
        let picture = self.composer.draw(index, &image, batch, &mut random, &mut self.canvas);
        let drawn = Instant::now();
        let encoded = self.encoders.encode(&picture.labels, side);
        let ended = Instant::now();
        preprocess::normalise(&self.cpu, &self.canvas, preprocess::MEAN, preprocess::DEVIATION, &mut self.numbers);
        let converted = Instant::now();
        self.framing.draw(&image, side, &mut framing_random, &mut self.framed);
        let framed = converted.elapsed();
        drop(encoded);
        Ok([read - start, decoded - read, framed, drawn - decoded, ended - drawn, converted - ended])
    }
}

impl fmt::Display for DataMeasurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stages { read, decode, resize, augment, encode, convert } = self.stages;
        writeln!(f, "{:.1} images/s per core; {} at {}²", self.samples_per_sec_per_core, self.data, self.img_size)?;
        let stages =
            [("read", read), ("decode", decode), ("crop, resize", resize), ("augment", augment), ("encode", encode)];
        let row = |name, time: f64| {
            let rate = if time > 0.0 { format!("{:9.1} images/s", 1e3 / time) } else { " ".repeat(18) };
            format!("  {name:12}  {time:8.3} ms  {rate}")
        };
        for (name, time) in stages {
            if name == "augment" && !self.augments {
                writeln!(f, "  {name:12}  none: images are only framed and mirrored")?;
                continue;
            }
            writeln!(f, "{}  {:5.1} %", row(name, time), 100.0 * time / self.stages.total())?;
        }
        writeln!(f, "{}  in the step", row("convert", convert))?;
        write!(f, "{:.1} images/s from the loader, --workers {}", self.loader_samples_per_sec, self.workers)?;
        if self.unreadable > 0 {
            write!(f, "; {} unreadable, left out", self.unreadable)?;
        }
        match &self.wanted {
            Some(Wanted { samples_per_sec, supply, cores }) => {
                let (word, cores) = (supply.word(), count_of(*cores as usize, "core"));
                write!(f, "\n{word}: steps of {samples_per_sec} images/s need {cores} of this pipeline")
            }
            None => Ok(()),
        }
    }
}
