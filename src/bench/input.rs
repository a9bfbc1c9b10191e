//! The source of a benchmark's batches: one synthetic batch repeated, or a data set through the loader that training uses.

use super::Options;
use crate::balance::METHODS;
use crate::config::TrainConfig;
use crate::console;
use crate::data::{Augment, LoaderOptions, TrainLoader};
use crate::error::Result;
use crate::model::{Card, init};
use crate::recipe::Recipe;
use crate::tasks::Target;
use crate::train::setup::{self, Data};
use crate::train::step::Trainer;
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// A data set to read batches from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The data set: a folder or its data.yaml.
    pub data: PathBuf,
    /// Threads that decode and augment.
    pub workers: usize,
}

/// Measurements of the input pipeline; the schema of `input` in `--json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Input {
    /// The data set's path.
    pub data: String,
    /// Threads that decode and augment.
    pub workers: usize,
    /// Images per second of the loader alone, when every batch is dropped at once.
    pub loader_samples_per_sec: f64,
    /// Images per second of the same steps on one repeated batch, with the loader stopped.
    pub step_samples_per_sec: f64,
    /// Whether the steps with the loader are as fast as without it.
    pub supply: Supply,
}

/// Whether the loader supplies images as fast as the steps take them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Supply {
    /// The steps run as fast as without the loader.
    Fed,
    /// The steps are slower: they wait for images, or share the cores with the loader.
    Starved,
}

/// Share of the rate without the loader that a fed step reaches at least. A larger drop is more than noise.
const REACHED: f64 = 0.95;

impl Supply {
    /// Both rates are in images per second.
    pub fn of(with_loader: f64, without: f64) -> Supply {
        if with_loader >= REACHED * without { Supply::Fed } else { Supply::Starved }
    }

    /// The name in reports and in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Supply::Fed => "fed",
            Supply::Starved => "starved",
        }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {:.1} images/s without the loader; the loader alone {:.1} images/s of {} (--workers {})",
            self.supply.word(),
            self.step_samples_per_sec,
            self.loader_samples_per_sec,
            self.data,
            self.workers
        )
    }
}

/// An endless sequence of batches, with the targets of each image for training.
pub(super) enum Batches {
    Same { images: Vec<u8>, targets: Vec<Vec<Target>> },
    Loaded { loader: TrainLoader, batch: usize },
}

impl Batches {
    /// Passes the next batch to `take`: its images and the targets of each.
    pub fn next(&mut self, take: impl FnOnce(&[u8], &[Vec<Target>]) -> Result<()>) -> Result<()> {
        match self {
            Batches::Same { images, targets } => take(images, targets),
            Batches::Loaded { loader, .. } => {
                let batch = loader.next()?;
                for broken in &batch.broken {
                    console::say(&format!("unreadable, left out: {broken}"));
                }
                let targets: Vec<Vec<Target>> = batch.items.into_iter().map(|item| item.targets).collect();
                take(&batch.images, &targets)?;
                loader.recycle(batch.images);
                Ok(())
            }
        }
    }

    /// Images per second of the loader alone over this many batches; `None` without a loader. Leaves no batch waiting, so
    /// that the next measurement does not profit from batches made before.
    pub fn rate(&mut self, batches: usize) -> Result<Option<f64>> {
        let Batches::Loaded { loader, batch } = self else { return Ok(None) };
        let (batch, backlog) = (*batch, loader.backlog());
        for _ in 0..backlog {
            self.next(|_, _| Ok(()))?;
        }
        let start = Instant::now();
        for _ in 0..batches {
            self.next(|_, _| Ok(()))?;
        }
        Ok(Some((batches * batch) as f64 / start.elapsed().as_secs_f64()))
    }

    /// Stops the loader; its next batch is repeated from here on.
    pub fn freeze(&mut self) -> Result<()> {
        let mut kept = None;
        self.next(|images, targets| {
            kept = Some(Batches::Same { images: images.to_vec(), targets: targets.to_vec() });
            Ok(())
        })?;
        *self = kept.unwrap_or_else(|| unreachable!("a batch was handed over"));
        Ok(())
    }
}

/// The trainer that `polyhead train` would make for the data set, and its loader.
pub(super) fn training(options: &Options, source: &Source) -> Result<(Trainer, Batches)> {
    let config = config(options, source);
    let data = Data::open(&config)?;
    let card = setup::card(&config, &data);
    let mut trainer = setup::trainer(&config, &METHODS[0], &options.device, &data, &card)?;
    trainer.executor.edit_store(|store| init::initialise(store, config.seed))?;
    let loader = setup::loader(&config, &data, &card, 0)?;
    Ok((trainer, Batches::Loaded { loader, batch: config.batch }))
}

/// The card of an untrained network for the data set, and a loader that frames images as evaluation does.
pub(super) fn inference(options: &Options, source: &Source) -> Result<(Card, Batches)> {
    let config = config(options, source);
    let data = Data::open(&config)?;
    let unaltered = LoaderOptions { augment: Augment::NONE, ..data.loader_options(&config) };
    let loader = TrainLoader::new(Arc::clone(&data.train), unaltered, 0)?;
    Ok((setup::card(&config, &data), Batches::Loaded { loader, batch: config.batch }))
}

fn config(options: &Options, source: &Source) -> TrainConfig {
    TrainConfig {
        data: Some(source.data.clone()),
        batch: options.batch,
        imgsz: options.imgsz,
        backbone: options.backbone,
        workers: source.workers,
        ..Recipe::choose(Some(&source.data), false).config()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_that_the_loader_slows_are_starved() {
        // A rate above the one without the loader is noise, and so may be 5 % less.
        for with_loader in [101.0, 100.0, 95.0] {
            assert_eq!(Supply::of(with_loader, 100.0), Supply::Fed);
        }
        assert_eq!(Supply::of(94.9, 100.0), Supply::Starved);
        assert_eq!(Supply::Fed.word(), serde_json::to_value(Supply::Fed).unwrap());
        assert_eq!(Supply::Starved.word(), serde_json::to_value(Supply::Starved).unwrap());
    }
}
