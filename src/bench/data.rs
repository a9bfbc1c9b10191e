//! What images cost before any step: each stage of the input pipeline on one core, and the loader with all its workers, against the rate at
//! which steps would take them.

use super::input::{Batches, Supply};
use crate::config::TrainConfig;
use crate::data::random::Random;
use crate::data::{Broken, Sample, decode};
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::train::run::Machine;
use crate::train::setup::{self, Data};
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub struct DataOptions {
    /// A folder or a data.yaml; none is the built-in digits.
    pub data: Option<PathBuf>,
    pub workers: usize,
    pub imgsz: usize,
    /// Images timed stage by stage, and at least as many by the loader.
    pub images: usize,
    /// The steps' rate, where one is asked about.
    pub images_per_second: Option<f64>,
}

/// What was measured; the schema of `bench data --json`, described in benches/README.md.
#[derive(Serialize)]
pub struct DataMeasurement {
    pub work: &'static str,
    pub data: String,
    pub img_size: usize,
    pub workers: usize,
    /// Timed stage by stage.
    pub images: usize,
    pub unreadable: usize,
    pub stages: Stages,
    /// Of one core that does every stage, one image after the other.
    pub samples_per_sec_per_core: f64,
    /// Of the loader with its workers, every batch dropped at once.
    pub loader_samples_per_sec: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wanted: Option<Wanted>,
    pub version: &'static str,
    pub commit: &'static str,
    pub machine: Machine,
}

/// Milliseconds an image takes on one core, the mean.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Stages {
    /// The file into memory.
    pub read: f64,
    /// To pixels, as many as the next stage looks at.
    pub decode: f64,
    /// Cropped or letterboxed, resized, mirrored, colours jittered.
    pub augment: f64,
    /// Labels moved with the pixels and made the losses' targets.
    pub encode: f64,
}

/// Whether the steps are fed.
#[derive(Serialize)]
pub struct Wanted {
    pub samples_per_sec: f64,
    /// By the loader as it was measured.
    pub supply: Supply,
    /// Cores that would do, at the rate of one.
    pub cores: u64,
}

impl Stages {
    fn total(&self) -> f64 {
        self.read + self.decode + self.augment + self.encode
    }
}

/// # Errors
/// A data set that cannot be opened, or of which no image can be read.
pub fn data(options: &DataOptions) -> Result<DataMeasurement> {
    for (value, flag) in [(options.workers, "workers"), (options.imgsz, "imgsz"), (options.images, "images")] {
        if value == 0 {
            return Err(Error::Usage(format!("--{flag} 0: expected at least 1")));
        }
    }
    if options.images_per_second.is_some_and(|rate| !(rate > 0.0 && rate.is_finite())) {
        return Err(Error::Usage("--images-per-second: expected a number above 0".into()));
    }
    crate::config::check_image_size(options.imgsz)?;
    let config = TrainConfig {
        data: options.data.clone(),
        workers: options.workers,
        imgsz: options.imgsz,
        ..Recipe::choose(options.data.as_deref(), false).config()
    };
    let data = Data::open(&config)?;
    let (stages, broken) = stages(&config, &data, options.images)?;
    let loader = setup::loader(&config, &data, &setup::card(&config, &data), 0)?;
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
        img_size: options.imgsz,
        workers: options.workers,
        images: options.images,
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

/// So many readable images, from the first on and again from the first, by this thread alone.
fn stages(config: &TrainConfig, data: &Data, images: usize) -> Result<(Stages, Vec<Broken>)> {
    let augment = data.loader_options(config).augment;
    let encoder = setup::encoder(config, data, &setup::card(config, data));
    let mut canvas = vec![0; config.imgsz * config.imgsz * 3];
    let mut spent = [Duration::ZERO; 4];
    let mut broken: Vec<Broken> = Vec::new();
    let (mut done, mut drawn) = (0, 0u64);
    let mut samples = data.train.iter().enumerate().cycle();
    while done < images {
        let Some((index, sample)) = samples.next() else { break };
        if broken.iter().any(|b| b.index == index) {
            continue;
        }
        let mut random = Random::new(&[config.seed, drawn]);
        drawn += 1;
        match stage_by_stage(sample, &augment, config.imgsz, &mut random, &mut canvas, &encoder) {
            Ok(times) => {
                done += 1;
                spent.iter_mut().zip(times).for_each(|(all, time)| *all += time);
            }
            Err(e) => broken.push(Broken { index, name: sample.name.clone(), message: e.reason() }),
        }
        if broken.len() == data.train.len() {
            return Err(Error::Other(format!("none of {} images can be read: {}", broken.len(), broken[0])));
        }
    }
    let [read, decode, augment, encode] = spent.map(|time| time.as_secs_f64() * 1e3 / images as f64);
    Ok((Stages { read, decode, augment, encode }, broken))
}

fn stage_by_stage(
    sample: &Sample,
    augment: &crate::data::Augment,
    imgsz: usize,
    random: &mut Random,
    canvas: &mut [u8],
    encoder: &crate::losses::Encoder,
) -> Result<[Duration; 4]> {
    let start = Instant::now();
    let bytes = decode::read(&sample.image)?;
    let read = Instant::now();
    let part = |size| augment.reach(size, imgsz, &mut random.clone());
    let image = decode::decode_read(&sample.image, &bytes, part)?;
    let decoded = Instant::now();
    let geometry = augment.draw(&image, imgsz, random, canvas);
    let augmented = Instant::now();
    let encoded = encoder.encode(&geometry.apply_labels(&sample.labels));
    let end = Instant::now();
    drop(encoded);
    Ok([read - start, decoded - read, augmented - decoded, end - augmented])
}

impl fmt::Display for DataMeasurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stages { read, decode, augment, encode } = self.stages;
        writeln!(f, "{:.1} images/s per core; {} at {}²", self.samples_per_sec_per_core, self.data, self.img_size)?;
        for (name, time) in [("read", read), ("decode", decode), ("resize, augment", augment), ("encode", encode)] {
            writeln!(f, "  {name:15}  {time:8.3} ms  {:5.1} %", 100.0 * time / self.stages.total())?;
        }
        write!(f, "{:.1} images/s from the loader, --workers {}", self.loader_samples_per_sec, self.workers)?;
        if self.unreadable > 0 {
            write!(f, "; {} unreadable, left out", self.unreadable)?;
        }
        match &self.wanted {
            Some(Wanted { samples_per_sec, supply, cores }) => {
                let (word, noun) = (supply.word(), if *cores == 1 { "core" } else { "cores" });
                write!(f, "\n{word}: steps of {samples_per_sec} images/s take {cores} {noun} of this pipeline")
            }
            None => Ok(()),
        }
    }
}
