//! A training run's choices, resolved: what is written into its folder and its checkpoints, and what resume reads back.

use crate::balance::Method;
use crate::data::{Sampling, Transforms};
use crate::error::{Error, Result};
use crate::model::HeadSize;
use crate::model::{Backbone, Freeze, Stage};
use crate::optim::OptimizerKind;
use crate::optim::schedule::ScheduleKind;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Pixels of the network's coarsest feature map's step: sides are multiples of it.
pub const STRIDE: usize = 32;

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
    #[serde(default)]
    pub schedule: ScheduleKind,
    /// Of the cosine.
    pub lrf: f32,
    /// Of the steps, in epochs; none are at 60 % and 85 % of the run.
    #[serde(default)]
    pub milestones: Vec<f32>,
    #[serde(default = "default_gamma")]
    pub gamma: f32,
    /// What the trunk's learning rate is multiplied by, and a head's.
    #[serde(default = "one")]
    pub lr_trunk: f32,
    #[serde(default)]
    pub lr_heads: BTreeMap<String, f32>,
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
    /// Each training batch has a side drawn from the multiples of the network's stride within this share of `imgsz`.
    #[serde(default)]
    pub multi_scale: f32,
    #[serde(flatten)]
    pub transforms: Transforms,
    #[serde(default)]
    pub sampling: Sampling,
    /// Classes in a smaller share of the images are repeated; 0 repeats none.
    #[serde(default)]
    pub repeat_factor: f32,
    pub max_broken: f32,
    /// Batches whose gradients one update takes together.
    #[serde(default = "one_batch")]
    pub accumulate: usize,
    /// Stages of the trunk that stay as they are.
    #[serde(default)]
    pub freeze: Vec<Stage>,
    #[serde(default)]
    pub batch_norm: BatchNormMode,
    /// Epochs without a better one after which the run ends; 0 is never.
    #[serde(default)]
    pub patience: u64,
    /// Hours after which the run ends; how many epochs that is, is found out on the way.
    #[serde(default)]
    pub time: Option<f64>,
    /// Train and judge on the first so many images; 0 is all.
    #[serde(default)]
    pub overfit: usize,
    #[serde(default)]
    pub on_nan: OnNan,
    /// Within an epoch the state is saved this often.
    #[serde(default = "default_save_minutes")]
    pub save_minutes: f32,
    /// Where decoded images are kept for later epochs, and how much of them at most, in GiB.
    #[serde(default)]
    pub cache: CacheChoice,
    #[serde(default = "default_cache_gib")]
    pub cache_gib: f64,
}

/// What files from before the choice existed mean.
fn one_batch() -> usize {
    1
}

fn default_save_minutes() -> f32 {
    10.0
}

fn default_cache_gib() -> f64 {
    8.0
}

/// Where decoded images are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum CacheChoice {
    /// Every epoch decodes anew, and only what it looks at.
    #[default]
    None,
    Ram,
    Disk,
}

/// What batch norms of layers that learn normalise by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum BatchNormMode {
    /// The batch's statistics; the running ones follow.
    #[default]
    Train,
    /// The running statistics, which stay, and so do scale and shift.
    Frozen,
}

/// What a run does when a loss is no number any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum OnNan {
    #[default]
    Stop,
    /// Goes on from the last checkpoint with half the learning rate and another order of images, at most three times.
    Retry,
}

/// Checkpoints from before there was a choice were trained with these.
fn default_gamma() -> f32 {
    0.1
}

fn one() -> f32 {
    1.0
}

impl TrainConfig {
    /// What of the trunk stays as it is.
    pub fn frozen(&self) -> Freeze {
        Freeze { stages: self.freeze.clone(), batch_norm: self.batch_norm == BatchNormMode::Frozen }
    }

    /// The sides a training batch may have, ascending: the multiples of the network's stride within the share `multi_scale` of
    /// `imgsz`, that one among them.
    pub fn sides(&self) -> Vec<usize> {
        if self.overfit > 0 {
            return vec![self.imgsz];
        }
        let [least, most] = self.side_bounds();
        (STRIDE..=most as usize).step_by(STRIDE).filter(|&side| side as f64 >= least).collect()
    }

    /// Single precision keeps a share as it was written to 1e-7 of it: no more than this part of a pixel, of sides there may be.
    fn side_bounds(&self) -> [f64; 2] {
        let (middle, share) = (self.imgsz as f64, f64::from(self.multi_scale));
        [middle * (1.0 - share) - 0.01, middle * (1.0 + share) + 0.01]
    }

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
        at_least_0(self.lr_trunk, "lr-trunk")?;
        for (name, factor) in &self.lr_heads {
            at_least_0(*factor, &format!("lr-head {name}"))?;
        }
        self.check_milestones()?;
        for (value, flag) in [(self.dropout, "dropout"), (self.multi_scale, "multi-scale")] {
            if !(0.0..1.0).contains(&value) {
                return Err(Error::Usage(format!("--{flag} {value}: expected a number from 0 to below 1")));
            }
        }
        if self.name.is_empty() || self.name.contains(['/', '\\']) {
            return Err(Error::Usage(format!("--name `{}`: expected the name of one folder", self.name)));
        }
        for (value, flag) in [
            (self.fraction, "fraction"),
            (self.lrf, "lrf"),
            (self.gamma, "gamma"),
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
        self.check_variety()?;
        check_image_size(self.imgsz)?;
        positive(self.accumulate as f64, "accumulate")?;
        positive(f64::from(self.save_minutes), "save-minutes")?;
        positive(self.cache_gib, "cache-gib")?;
        if let Some(hours) = self.time {
            positive(hours, "time")?;
        }
        if self.batch == 1 && self.batch_norm == BatchNormMode::Train && self.freeze.len() < Stage::ALL.len() {
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

    fn check_variety(&self) -> Result<()> {
        let t = &self.transforms;
        for (value, flag, most) in [
            (t.mosaic, "mosaic", 1.0),
            (t.mixup, "mixup", 1.0),
            (t.degrees, "degrees", 180.0),
            (t.translate, "translate", 1.0),
            (t.shear, "shear", 45.0),
            (t.perspective, "perspective", 0.001),
            (t.hsv_h, "hsv-h", 0.5),
            (t.hsv_s, "hsv-s", 1.0),
            (t.hsv_v, "hsv-v", 1.0),
            (t.erasing, "erasing", 1.0),
            (t.blur, "blur", 1.0),
            (t.jpeg, "jpeg", 1.0),
            (self.repeat_factor, "repeat-factor", 1.0),
        ] {
            if !(0.0..=most).contains(&value) {
                return Err(Error::Usage(format!("--{flag} {value}: expected a number from 0 to {most}")));
            }
        }
        if self.repeat_factor > 0.0 && self.sampling != Sampling::Uniform {
            return Err(Error::Usage(
                "--repeat-factor is heeded by --sampling uniform only: leave one of them out".into(),
            ));
        }
        if self.time.is_some() && t.mosaic > 0.0 && t.close_mosaic > 0 {
            return Err(Error::Usage(
                "--mosaic with --time: which epochs will be the last is not known: give --close-mosaic 0, or --epochs in place of --time"
                    .into(),
            ));
        }
        Ok(())
    }

    fn check_milestones(&self) -> Result<()> {
        if self.schedule != ScheduleKind::Step && !self.milestones.is_empty() {
            return Err(Error::Usage(
                "--milestones is heeded by --schedule step only: leave it out, or add that".into(),
            ));
        }
        let mut before = 0.0;
        for &milestone in &self.milestones {
            // How many epochs fit into a time is found out on the way.
            let ends = self.time.map_or(self.epochs as f64, |_| f64::INFINITY);
            if !(milestone > before && f64::from(milestone) < ends) {
                return Err(Error::Usage(format!(
                    "--milestones: {milestone} is no epoch between {before} and the last, {}; expected ascending epochs, as in --milestones 60,85",
                    self.epochs
                )));
            }
            before = milestone;
        }
        Ok(())
    }
}

/// # Errors
/// A size that the network cannot take.
pub fn check_image_size(size: usize) -> Result<()> {
    if size > 0 && size.is_multiple_of(STRIDE) {
        return Ok(());
    }
    let next = size.next_multiple_of(STRIDE).max(STRIDE);
    Err(Error::Usage(format!("--imgsz {size}: expected a multiple of {STRIDE}; {next} is the next")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;

    #[test]
    fn sides_are_the_multiples_of_the_stride_within_the_share() {
        let sides = |imgsz, multi_scale| TrainConfig { imgsz, multi_scale, ..Recipe::FromScratch.config() }.sides();
        assert_eq!(sides(320, 0.0), [320]);
        assert_eq!(sides(64, 0.5), [32, 64, 96]);
        assert_eq!(sides(64, 0.49), [64]);
        assert_eq!(sides(320, 0.1), [288, 320, 352]);
        assert_eq!(sides(320, 0.05), [320]);
        // None below one stride.
        assert_eq!(sides(64, 0.99), [32, 64, 96]);
        assert_eq!(sides(32, 0.99), [32]);
        // Shares that single precision keeps a little too small or too large: both ends belong to it.
        for tenths in 1..10 {
            let (least, most) = (320 - 32 * tenths, 320 + 32 * tenths);
            let expected: Vec<usize> = (least.max(32)..=most).step_by(32).collect();
            assert_eq!(sides(320, tenths as f32 / 10.0), expected, "0.{tenths}");
        }
        let overfit = TrainConfig { overfit: 4, multi_scale: 0.5, ..Recipe::FromScratch.config() };
        assert_eq!(overfit.sides(), [320]);
    }

    #[test]
    fn a_configuration_from_before_there_were_these_choices_is_read() {
        let config = Recipe::FromScratch.config();
        let mut json = serde_json::to_value(&config).unwrap();
        let transforms = serde_json::to_value(config.transforms).unwrap();
        let transforms = transforms.as_object().unwrap().keys().map(String::as_str);
        let others = ["schedule", "milestones", "gamma", "lr_trunk", "lr_heads", "sampling", "repeat_factor"];
        for new in transforms.chain(others).chain(["cache", "cache_gib", "multi_scale"]) {
            assert!(json.as_object_mut().unwrap().remove(new).is_some(), "{new}");
        }
        assert_eq!(serde_json::from_value::<TrainConfig>(json).unwrap(), config);
    }
}
