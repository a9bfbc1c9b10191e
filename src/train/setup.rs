//! What a run is made of before its first step: its images, its card, its trainer, its starting weights.

use super::step::Trainer;
use crate::config::TrainConfig;
use crate::data::random::hash_text;
use crate::data::{Augment, Dataset, Framing, OpenOptions, Sample, digits};
use crate::error::{Error, Result};
use crate::executor::DeviceChoice;
use crate::model::{Architecture, Card, Standardisation, weights};
use crate::optim::OptimizerConfig;
use crate::optim::schedule::Schedule;
use crate::task::{Label, Task, TaskKind};
use std::path::Path;
use std::sync::Arc;

/// The images a run trains and judges on.
pub(super) struct Data {
    pub name: String,
    pub tasks: Vec<Task>,
    pub crop_safe: bool,
    pub flip_safe: bool,
    pub train: Arc<[Sample]>,
    pub val: Arc<[Sample]>,
    pub notes: Vec<String>,
}

impl Data {
    pub fn open(config: &TrainConfig) -> Result<Data> {
        let path = match &config.data {
            Some(path) => path.clone(),
            None => digits::digits_dataset(&config.project.join("datasets"))?,
        };
        let options = OpenOptions { val_fraction: config.val_fraction, seed: config.seed };
        let mut dataset = Dataset::open(&path, &options)?;
        if dataset.train.is_empty() {
            return Err(Error::data(&path, None, "the training split has no images"));
        }
        for name in config.task_weights.keys() {
            if !dataset.tasks.iter().any(|t| &t.name == name) {
                let names: Vec<&str> = dataset.tasks.iter().map(|t| t.name.as_str()).collect();
                return Err(Error::Usage(format!("--task-weight {name}: the tasks are {}", names.join(", "))));
            }
        }
        dataset.keep_fraction(config.fraction, config.seed);
        let mut notes = vec![dataset.layout];
        notes.append(&mut dataset.notes);
        for (index, task) in dataset.tasks.iter().enumerate() {
            if !dataset.train.iter().any(|s| s.labels[index].is_labelled()) {
                notes
                    .push(format!("{}: no labelled image among those trained on: this task is not trained", task.name));
            }
        }
        if !dataset.flip_safe && config.fliplr > 0.0 {
            notes.push("mirror images are off: the data set says flip_safe: false".into());
        }
        if dataset.val.is_empty() {
            notes.push("no validation images: nothing is judged, and `best` is the last epoch".into());
        }
        Ok(Data {
            name: path.display().to_string(),
            tasks: dataset.tasks,
            crop_safe: dataset.crop_safe,
            flip_safe: dataset.flip_safe,
            train: dataset.train.into(),
            val: dataset.val.into(),
            notes,
        })
    }

    pub fn augment(&self, config: &TrainConfig) -> Augment {
        let mut augment = Augment::training(self.crop_safe, self.flip_safe);
        if self.flip_safe {
            augment.flip = config.fliplr;
        }
        if let Framing::Scatter { least_scale } = &mut augment.framing {
            *least_scale = config.scale;
        }
        augment.brightness = config.jitter;
        augment.contrast = config.jitter;
        augment.saturation = config.jitter;
        augment
    }

    /// Of the images' names, in order: what a run that goes on must find again.
    pub fn fingerprint(&self) -> u64 {
        let names =
            self.train.iter().map(|s| s.name.as_str()).chain(["|"]).chain(self.val.iter().map(|s| s.name.as_str()));
        names.fold(0, hash_text)
    }

    pub fn steps_per_epoch(&self, batch: usize) -> u64 {
        self.train.len().div_ceil(batch) as u64
    }
}

pub(super) fn card(config: &TrainConfig, data: &Data) -> Card {
    let mut architecture = Architecture::new(config.backbone, data.tasks.clone(), config.imgsz, config.dropout);
    architecture.detection = config.head.on(config.backbone);
    let mut card = Card::new(architecture, config.imgsz);
    for (index, task) in data.tasks.iter().enumerate() {
        let TaskKind::Regress { columns, .. } = &task.kind else { continue };
        let rows = data.train.iter().filter_map(move |s| match &s.labels[index] {
            Label::Values(values) => Some(values.as_slice()),
            _ => None,
        });
        card.standardisation[index] = Some(Standardisation::fit(columns.len(), rows));
    }
    card
}

pub(super) fn trainer(config: &TrainConfig, data: &Data, card: &Card) -> Result<Trainer> {
    let per_epoch = data.steps_per_epoch(config.batch);
    let total_steps = config.epochs * per_epoch;
    let optimizer = OptimizerConfig {
        kind: config.optimizer,
        schedule: Schedule {
            lr: config.lr0,
            final_share: config.lrf,
            warmup_steps: ((config.warmup_epochs * per_epoch as f32) as u64).min(total_steps / 2),
            total_steps,
        },
        momentum: config.momentum,
        weight_decay: config.weight_decay,
        clip_norm: (config.clip_norm > 0.0).then_some(config.clip_norm),
        average_decay: config.ema,
    };
    let task_weights: Vec<f32> =
        data.tasks.iter().map(|t| config.task_weights.get(&t.name).copied().unwrap_or(1.0)).collect();
    let shape = [config.batch, config.imgsz, config.imgsz];
    let device = DeviceChoice::parse(&config.device, config.threads)?;
    Trainer::new(&card.architecture, shape, &device, optimizer, config.balance.start(&task_weights))
}

/// Starts the trunk from a published file and says what was and was not in it.
pub(super) fn start_from(trainer: &mut Trainer, path: &Path) -> Result<Vec<String>> {
    let file = weights::read(path)?;
    let report = trainer.executor.edit_store(|store| weights::start_from(store, &file, path))??;
    let list = |keys: &[String]| {
        let shown: Vec<&str> = keys.iter().take(8).map(String::as_str).collect();
        let tail = if keys.len() > 8 { ", …" } else { "" };
        format!("{}{tail}", shown.join(", "))
    };
    let mut notes = Vec::new();
    if !report.missing.is_empty() {
        notes.push(format!(
            "{} tensors start at random, not in {}: {}",
            report.missing.len(),
            path.display(),
            list(&report.missing)
        ));
    }
    if !report.unexpected.is_empty() {
        notes.push(format!(
            "{} tensors of {} are not used: {}",
            report.unexpected.len(),
            path.display(),
            list(&report.unexpected)
        ));
    }
    Ok(notes)
}
