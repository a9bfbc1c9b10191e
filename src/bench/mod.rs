//! Measures the speed of training and inference on this machine: whole steps, timed one by one, and the time of each kind of
//! node. This file holds the shared parts: the options, the synthetic network and its batch.

mod balance;
mod check;
mod clocks;
mod data;
mod input;
mod kernels;
mod ops;
mod steps;

pub use balance::{BalanceMeasurement, MethodTime, Place, Spread, balance};
pub use check::{Checked, Pair, check_kernels};
pub use clocks::Readings;
pub use data::{DataMeasurement, DataOptions, Stages, Wanted, data};
pub use input::{Input, Source, Supply};
pub use kernels::kernels;
pub use ops::{OpsMeasurement, ops};
pub use steps::{Measurement, infer, markdown, timm, train};

use crate::balance::METHODS;
use crate::config::check_image_size;
use crate::error::{Error, Result};
use crate::executor::DeviceChoice;
use crate::graph::fuse::Fusion;
use crate::model::{Architecture, Backbone, Card, Freeze, Model, ModelFile, Probe, Stage, TrainingNetwork, init};
use crate::optim::schedule::{Decline, Schedule};
use crate::optim::{OptimizerConfig, OptimizerKind};
use crate::tasks::{Content, Encoder, Label, LabelFeatures, Target, Task};
use crate::train::step::Trainer;
use clap::ValueEnum;
use serde::Serialize;

/// Which heads the timed network has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Heads {
    /// One classification head of 1000 classes, as in other ResNet benchmarks.
    #[value(name = "classify")]
    #[serde(rename = "classify")]
    One,
    /// One head each for a class, for boxes and for values.
    All,
    /// The heads of the data set's tasks.
    #[value(skip)]
    Data,
}

/// Options that `bench train`, `bench infer` and `bench ops` share.
#[derive(Clone)]
pub struct Options {
    /// Height and width of every image, in pixels; a multiple of 32.
    pub imgsz: usize,
    /// Images in a batch.
    pub batch: usize,
    /// The device to measure.
    pub device: DeviceChoice,
    /// The backbone of the timed network.
    pub backbone: Backbone,
    /// Heads of the synthetic network; a data set defines its own.
    pub heads: Heads,
    /// Number of timed steps, without the warm-up.
    pub repeats: usize,
    /// Source of the images; `None` repeats one synthetic batch.
    pub source: Option<Source>,
}

/// A trainer on a fixed batch: the images, and each image's targets.
fn training(options: &Options, fusion: Fusion) -> Result<(Trainer, Vec<u8>, Vec<Vec<Target>>)> {
    check(options)?;
    trainer(options, &architecture(options), fusion, &Freeze::default(), Probe::None)
}

/// The same with a network that can compare the tasks' gradients.
fn probed(options: &Options, fusion: Fusion) -> Result<(Trainer, Vec<u8>, Vec<Vec<Target>>)> {
    check(options)?;
    trainer(options, &architecture(options), fusion, &Freeze::default(), Probe::Layer)
}

/// A trainer for the nodes that only exist with frozen layers, with dropout, and for multi-label tasks.
fn frozen(options: &Options) -> Result<(Trainer, Vec<u8>, Vec<Vec<Target>>)> {
    let tasks = vec![(Content::Classes.kind().synthetic)()];
    let architecture = Architecture::new(options.backbone, tasks, options.imgsz, 0.2);
    let freeze = Freeze { stages: vec![Stage::Stem], batch_norm: true };
    trainer(options, &architecture, Fusion::On, &freeze, Probe::None)
}

fn trainer(
    options: &Options,
    architecture: &Architecture,
    fusion: Fusion,
    freeze: &Freeze,
    probe: Probe,
) -> Result<(Trainer, Vec<u8>, Vec<Vec<Target>>)> {
    let shape = [options.batch, options.imgsz, options.imgsz];
    let optimizer = OptimizerConfig {
        kind: OptimizerKind::Sgd,
        schedule: Schedule { lr: 1e-3, decline: Decline::Constant, warmup_steps: 0, total_steps: 1 },
        rate_factors: Vec::new(),
        momentum: 0.9,
        weight_decay: 1e-4,
        clip_norm: None,
        average_decay: 0.999,
    };
    let balance = METHODS[0].for_tasks(&architecture.tasks, &[])?;
    let network = TrainingNetwork::for_labels(architecture, shape, freeze, LabelFeatures::default(), probe)?;
    let mut trainer = Trainer::of(network, &architecture.tasks, &options.device, optimizer, balance, fusion)?;
    trainer.executor.edit_store(|store| init::initialise(store, 0))?;
    let images = synthetic_images(options);
    let encoder = Encoder {
        levels: architecture.levels(options.imgsz, options.imgsz),
        standardisation: architecture.tasks.iter().map(|_| None).collect(),
        tasks: architecture.tasks.clone(),
    };
    let label = |task: &Task, image| task.spec.synthetic_label(options.imgsz, image);
    let labels = |image| architecture.tasks.iter().map(|task| label(task, image)).collect::<Vec<Label>>();
    let targets = (0..options.batch).map(|image| encoder.encode(&labels(image))).collect();
    Ok((trainer, images, targets))
}

/// Checks the options before anything is built for them.
///
/// # Errors
/// A size or count is invalid.
pub fn check(options: &Options) -> Result<()> {
    if options.source.as_ref().is_some_and(|source| source.workers == 0) {
        return Err(Error::Usage("--workers 0: expected at least 1".into()));
    }
    for (value, flag) in [(options.batch, "batch"), (options.repeats, "repeats")] {
        if value == 0 {
            return Err(Error::Usage(format!("--{flag} 0: expected at least 1")));
        }
    }
    check_image_size(options.imgsz)
}

/// The content of each head of [`Heads::All`].
const ALL_HEADS: [Content; 3] = [Content::Class, Content::Boxes, Content::Values];

fn architecture(options: &Options) -> Architecture {
    let heads: &[Content] = match options.heads {
        Heads::All => &ALL_HEADS,
        Heads::One | Heads::Data => &[Content::Class],
    };
    let tasks = heads.iter().map(|content| (content.kind().synthetic)()).collect();
    Architecture::new(options.backbone, tasks, options.imgsz, 0.0)
}

/// The untrained network on its device.
fn initial_model(card: Card, options: &Options) -> Result<Model> {
    ModelFile::untrained(card, 0)?.start(&options.device)
}

/// Bytes of a fixed pattern. The time of a step does not depend on them.
fn synthetic_images(options: &Options) -> Vec<u8> {
    let len = options.batch * options.imgsz * options.imgsz * 3;
    (0..len as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}
