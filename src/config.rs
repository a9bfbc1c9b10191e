//! A training run's choices, resolved: what is written into its folder and its checkpoints, and what resume reads back.

use crate::balance::Method;
use crate::error::{Error, Result};
use crate::model::Backbone;
use crate::model::heads::detection::HeadSize;
use crate::optim::OptimizerKind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Every choice of a run. Field names are the flags'.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainConfig {
    /// A folder or a data.yaml; none is the built-in digits.
    pub data: Option<PathBuf>,
    pub epochs: u64,
    pub batch: usize,
    pub imgsz: usize,
    pub device: String,
    /// Threads that decode and augment.
    pub workers: usize,
    /// Threads that compute; 0 is one per core.
    pub threads: usize,
    pub seed: u64,
    pub backbone: Backbone,
    /// Of detection.
    #[serde(default)]
    pub head: HeadSize,
    pub weights: Option<PathBuf>,
    /// Share of the training images that is used.
    pub fraction: f32,
    pub val_fraction: Option<f32>,
    pub project: PathBuf,
    pub name: String,
    pub exist_ok: bool,
    pub balance: Method,
    pub task_weights: BTreeMap<String, f32>,
    pub optimizer: OptimizerKind,
    pub lr0: f32,
    pub lrf: f32,
    pub momentum: f32,
    pub weight_decay: f32,
    pub warmup_epochs: f32,
    pub clip_norm: f32,
    pub ema: f32,
    pub dropout: f32,
    /// Probability of a mirror image.
    pub fliplr: f32,
    /// Strength of brightness, contrast and saturation jitter.
    pub jitter: f32,
    /// Smallest share of the canvas a letterboxed image is scaled to.
    pub scale: f32,
    pub max_broken: f32,
}

impl TrainConfig {
    /// # Errors
    /// A value outside its range, with what was expected.
    pub fn check(&self) -> Result<()> {
        let positive = |value: f64, flag: &str| match value > 0.0 && value.is_finite() {
            true => Ok(()),
            false => Err(Error::Usage(format!("--{flag} {value}: expected a number above 0"))),
        };
        let at_least_0 = |value: f32, flag: &str| match value >= 0.0 && value.is_finite() {
            true => Ok(()),
            false => Err(Error::Usage(format!("--{flag} {value}: expected a number of at least 0"))),
        };
        let share = |value: f32, flag: &str| match (0.0..=1.0).contains(&value) {
            true => Ok(()),
            false => Err(Error::Usage(format!("--{flag} {value}: expected a share from 0 to 1"))),
        };
        positive(self.epochs as f64, "epochs")?;
        positive(self.batch as f64, "batch")?;
        positive(f64::from(self.lr0), "lr0")?;
        positive(f64::from(self.fraction), "fraction")?;
        at_least_0(self.weight_decay, "weight-decay")?;
        at_least_0(self.warmup_epochs, "warmup-epochs")?;
        at_least_0(self.clip_norm, "clip-norm")?;
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::Usage(format!("--dropout {}: expected a number from 0 to below 1", self.dropout)));
        }
        if self.name.is_empty() || self.name.contains(['/', '\\']) {
            return Err(Error::Usage(format!("--name `{}`: expected the name of one folder", self.name)));
        }
        for (value, flag) in [
            (self.fraction, "fraction"),
            (self.lrf, "lrf"),
            (self.momentum, "momentum"),
            (self.ema, "ema"),
            (self.fliplr, "fliplr"),
            (self.jitter, "jitter"),
            (self.scale, "scale"),
            (self.max_broken, "max-broken"),
            (self.val_fraction.unwrap_or(0.0), "val-fraction"),
        ] {
            share(value, flag)?;
        }
        check_image_size(self.imgsz)?;
        if self.batch == 1 {
            return Err(Error::Usage("--batch 1: batch norm needs at least 2 images to normalise over".into()));
        }
        for (name, weight) in &self.task_weights {
            if !(weight.is_finite() && *weight >= 0.0) {
                return Err(Error::Usage(format!("--task-weight {name}={weight}: expected a number of at least 0")));
            }
        }
        if self.balance != Method::Fixed && !self.task_weights.is_empty() {
            return Err(Error::Usage(format!(
                "--task-weight is heeded by --balance fixed only, and --balance is {}: leave one of them out",
                self.balance.name()
            )));
        }
        Ok(())
    }
}

/// # Errors
/// A size that the network cannot take.
pub fn check_image_size(size: usize) -> Result<()> {
    if size > 0 && size.is_multiple_of(32) {
        return Ok(());
    }
    let next = size.next_multiple_of(32).max(32);
    Err(Error::Usage(format!("--imgsz {size}: expected a multiple of 32; {next} is the next")))
}
