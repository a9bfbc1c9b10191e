//! The default recipe: what a run does when nothing else is said. The README's table is this file; both were chosen by
//! runs on the digits and the blood cells.

use crate::balance::Method;
use crate::config::{BatchNormMode, CacheChoice, OnNan, TrainConfig};
use crate::data::{Sampling, Transforms};
use crate::model::Backbone;
use crate::model::HeadSize;
use crate::optim::OptimizerKind;
use crate::optim::schedule::ScheduleKind;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// The built-in digits: ready in minutes on two cores.
    QuickStart,
    /// One's own data, weights at random.
    FromScratch,
    /// One's own data, the trunk from a published file.
    FromWeights,
}

impl Recipe {
    pub fn choose(data: Option<&Path>, pretrained: bool) -> Recipe {
        match (data, pretrained) {
            (_, true) => Recipe::FromWeights,
            (None, false) => Recipe::QuickStart,
            (Some(_), false) => Recipe::FromScratch,
        }
    }

    pub fn config(self) -> TrainConfig {
        let own_data = TrainConfig {
            data: None,
            epochs: 100,
            batch: 8,
            imgsz: 320,
            device: "auto".into(),
            workers: 2,
            threads: 0,
            seed: 0,
            backbone: Backbone::Resnet50,
            head: HeadSize::Lite,
            weights: None,
            fraction: 1.0,
            val_fraction: None,
            project: PathBuf::from("runs"),
            name: "run".into(),
            exist_ok: false,
            balance: Method::Uncertainty,
            task_weights: BTreeMap::new(),
            optimizer: OptimizerKind::AdamW,
            lr0: 1e-3,
            schedule: ScheduleKind::Cosine,
            lrf: 0.01,
            milestones: Vec::new(),
            gamma: 0.1,
            lr_trunk: 1.0,
            lr_heads: BTreeMap::new(),
            momentum: 0.9,
            weight_decay: 0.05,
            warmup_epochs: 3.0,
            clip_norm: 10.0,
            ema: 0.998,
            dropout: 0.0,
            fliplr: 0.5,
            jitter: 0.0,
            scale: 0.75,
            multi_scale: 0.0,
            transforms: Transforms::NONE,
            sampling: Sampling::Uniform,
            repeat_factor: 0.0,
            max_broken: 0.01,
            cache: CacheChoice::None,
            cache_gib: 8.0,
            accumulate: 1,
            freeze: Vec::new(),
            batch_norm: BatchNormMode::Train,
            patience: 0,
            time: None,
            overfit: 0,
            on_nan: OnNan::Stop,
            save_minutes: 10.0,
        };
        match self {
            Recipe::FromScratch => own_data,
            Recipe::FromWeights => TrainConfig { epochs: 50, lr0: 3e-4, ..own_data },
            Recipe::QuickStart => TrainConfig {
                epochs: 5,
                batch: 32,
                imgsz: 96,
                backbone: Backbone::Resnet18,
                lr0: 2e-3,
                warmup_epochs: 1.0,
                // A mirrored 2 is no 2.
                fliplr: 0.0,
                jitter: 0.2,
                scale: 1.0,
                ..own_data
            },
        }
    }
}
