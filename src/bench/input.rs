//! Where a bench's batches come from: one synthetic batch again and again, or a data set through the loader that training uses.

use super::Options;
use crate::config::TrainConfig;
use crate::data::{Augment, LoaderOptions, TrainLoader};
use crate::error::Result;
use crate::losses::Encoded;
use crate::model::{Card, init};
use crate::recipe::Recipe;
use crate::task::Label;
use crate::train::setup::{self, Data};
use crate::train::step::Trainer;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// A data set to feed from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub data: PathBuf,
    /// Threads that decode and augment.
    pub workers: usize,
}

/// How the input pipeline did; the schema of `input` in `--json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Input {
    pub data: String,
    pub workers: usize,
    /// Images per second of the loader when every batch is dropped at once and nothing else runs.
    pub samples_per_sec: f64,
    pub supply: Supply,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Supply {
    /// The loader alone is clearly faster than the steps: what they take is their own time.
    Fed,
    /// It is not: the steps wait for images.
    Starved,
}

/// Of the steps' rate, what the loader's must be more: less cannot be told from a loader that sets the pace.
const CLEARLY: f64 = 1.05;

impl Supply {
    /// Both in images per second.
    pub fn of(loader: f64, steps: f64) -> Supply {
        if loader >= CLEARLY * steps { Supply::Fed } else { Supply::Starved }
    }

    pub fn word(self) -> &'static str {
        match self {
            Supply::Fed => "fed",
            Supply::Starved => "starved",
        }
    }
}

/// Batches without end. `T` is what a step wants to know of an image.
pub(super) enum Batches<T> {
    Synthetic { images: Vec<u8>, targets: Vec<T> },
    Loaded { loader: TrainLoader<T>, options: LoaderOptions },
}

impl<T: Send + 'static> Batches<T> {
    /// Hands the next batch over: its images and what is known of each.
    pub fn next(&mut self, take: &mut dyn FnMut(&[u8], &[T]) -> Result<()>) -> Result<()> {
        match self {
            Batches::Synthetic { images, targets } => take(images, targets),
            Batches::Loaded { loader, .. } => {
                let batch = loader.next()?;
                for broken in &batch.broken {
                    eprintln!("unreadable, left out: {}: {}", broken.name, broken.message);
                }
                let targets: Vec<T> = batch.items.into_iter().map(|item| item.encoded).collect();
                take(&batch.images, &targets)?;
                loader.recycle(batch.images);
                Ok(())
            }
        }
    }

    /// Images per second of the loader alone over so many batches; `None` where there is none. No batch waits afterwards, so
    /// that what is timed next does not live on what was made before.
    pub fn rate(&mut self, batches: usize) -> Result<Option<f64>> {
        let Batches::Loaded { options, .. } = self else { return Ok(None) };
        let (batch, ahead) = (options.batch, options.prefetch + 2);
        for _ in 0..ahead {
            self.next(&mut |_, _| Ok(()))?;
        }
        let start = Instant::now();
        for _ in 0..batches {
            self.next(&mut |_, _| Ok(()))?;
        }
        Ok(Some((batches * batch) as f64 / start.elapsed().as_secs_f64()))
    }
}

/// The trainer that `polyhead train` would make for the data set, and its loader.
pub(super) fn training(options: &Options, source: &Source) -> Result<(Trainer, Batches<Vec<Encoded>>)> {
    let config = config(options, source);
    config.check()?;
    let data = Data::open(&config)?;
    let card = setup::card(&config, &data);
    let mut trainer = setup::trainer(&config, &options.device, &data, &card)?;
    trainer.executor.edit_store(|store| init::initialise(store, config.seed))?;
    let loader = setup::loader(&config, &data, &card, 0)?;
    Ok((trainer, Batches::Loaded { loader, options: data.loader_options(&config) }))
}

/// The card of an untrained network for the data set, and a loader that frames images as evaluation does.
pub(super) fn inference(options: &Options, source: &Source) -> Result<(Card, Batches<()>)> {
    let config = config(options, source);
    let data = Data::open(&config)?;
    let options = LoaderOptions { augment: Augment::NONE, ..data.loader_options(&config) };
    let encode = Arc::new(|_: &[Label]| ());
    let loader = TrainLoader::new(Arc::clone(&data.train), options.clone(), encode, 0)?;
    Ok((setup::card(&config, &data), Batches::Loaded { loader, options }))
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
    fn a_loader_that_sets_the_pace_starves_the_steps() {
        // As fast as the steps, because they wait for it; slower, as rates measured one after the other may come out.
        for loader in [100.0, 90.0, 104.9] {
            assert_eq!(Supply::of(loader, 100.0), Supply::Starved);
        }
        assert_eq!(Supply::of(105.1, 100.0), Supply::Fed);
        assert_eq!(Supply::Fed.word(), serde_json::to_value(Supply::Fed).unwrap());
        assert_eq!(Supply::Starved.word(), serde_json::to_value(Supply::Starved).unwrap());
    }
}
