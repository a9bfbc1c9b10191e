//! A training run's choices, as flags, in the run's args.yaml and in its checkpoints, from which a resumed run reads them.

mod args_file;
mod by_task;
mod choices;
pub(crate) mod paths;

pub use args_file::{is_of_run, tasks_of_run};
pub use by_task::number_of;
pub use choices::{Choices, DATA_SET, PLACE, Resumed, either, in_any_case, refusal};

use crate::balance::{METHODS, Method, Needs, Parameters, Setup};
use crate::data::ranges::{
    above_0, at_least_0, at_most, batch, batches, below_1, count, share, share_above_0, up_to, whole, workers,
};
use crate::data::{Fold, Sampling, Transforms};
use crate::error::{Error, Result};
use crate::model::{Backbone, Freeze, HeadSize, LossScale, Stage};
use crate::optim::OptimizerKind;
use crate::optim::schedule::ScheduleKind;
use crate::tasks::Likelihood;
use by_task::{check_names_differ, of_a_task};
use clap::{ArgAction, Args, Command, FromArgMatches, ValueEnum};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The stride of the network's coarsest feature map, in pixels. The side of every batch is a multiple of it.
pub const STRIDE: usize = 32;

// The headings of `polyhead train --help`.
const DATA: &str = "Data";
const MODEL: &str = "Model";
const OPTIMISATION: &str = "Optimisation";
const BALANCING: &str = "Balancing";
/// Heading of the flags that change training images, which other commands offer too.
pub const AUGMENTATION: &str = "Augmentation";
const RUN_FOLDER: &str = "Run folder";
/// Heading of the flags that may be changed when a run is resumed. A resumed run keeps all other choices.
const EXECUTION: &str = "Execution (these flags also work with --resume)";

/// All choices of a run. Each field is a flag of `polyhead train`: its comment is the help text, and its attribute holds the
/// heading, the range and the default for own data without weights ([`Recipe`] holds the defaults of other cases). Serde writes
/// it to args.yaml and checkpoints. In a file from before the field existed it has its default.
///
/// [`Recipe`]: crate::recipe::Recipe
#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainConfig {
    /// A folder of images or a data.yaml [default: the built-in digits]
    #[serde(with = "paths::optional")]
    pub data: Option<PathBuf>,
    /// Passes over the training images
    #[arg(long, help_heading = OPTIMISATION, value_parser = epochs, default_value_t = 100)]
    pub epochs: u64,
    /// Images per batch
    #[arg(long, help_heading = OPTIMISATION, value_name = "IMAGES", value_parser = batch, default_value_t = 8)]
    pub batch: usize,
    /// Side of the square the network sees, in pixels, a multiple of 32
    #[arg(long, help_heading = MODEL, value_name = "PIXELS", value_parser = image_size, default_value_t = 320)]
    pub imgsz: usize,
    /// `auto`, `cpu`, `cuda`, or the GPU's number as `cuda:N` or `N`
    #[arg(long, help_heading = EXECUTION, default_value = "auto")]
    pub device: String,
    /// Threads that decode and augment
    #[arg(long, help_heading = EXECUTION, value_name = "THREADS", value_parser = workers, default_value_t = 2)]
    pub workers: usize,
    /// Threads that compute; 0 is one per core
    #[arg(long, help_heading = EXECUTION, value_parser = whole::<usize>, default_value_t = 0)]
    pub threads: usize,
    /// Seed of all random numbers
    #[arg(long, help_heading = OPTIMISATION, value_name = "NUMBER", value_parser = whole::<u64>, default_value_t = 0)]
    pub seed: u64,
    /// The trunk
    #[arg(long, help_heading = MODEL, value_enum, default_value_t = Backbone::Resnet50)]
    pub backbone: Backbone,
    /// Size of the detection heads
    #[arg(long, help_heading = MODEL, value_enum, default_value_t = HeadSize::Lite)]
    pub head: HeadSize,
    /// Start from a run's folder, or from a weights file of a run, torchvision or timm [default: start at random]
    #[arg(long, help_heading = MODEL, value_name = "FILE")]
    #[serde(with = "paths::optional")]
    pub weights: Option<PathBuf>,
    /// Train this task only; give the flag once for each task to train [default: all]
    #[arg(long, help_heading = DATA, value_name = "NAME")]
    pub task: Vec<String>,
    /// Use this share of the training images
    #[arg(long, help_heading = DATA, value_name = "SHARE", value_parser = share_above_0, default_value_t = 1.0)]
    pub fraction: f32,
    /// Share of the images held out for validation if the data set has no validation split; 0 trains without validation [default: data.yaml's, or 0.2]
    #[arg(long, help_heading = DATA, value_name = "SHARE", value_parser = share)]
    pub val_fraction: Option<f32>,
    /// Validate on one of several equal parts of the training images: 2/5 is the second of five; not with --val-fraction [default: none]
    #[arg(long, help_heading = DATA, value_name = "FOLD/FOLDS")]
    pub fold: Option<Fold>,
    /// Folder in which the run's folder is made
    #[arg(long, help_heading = RUN_FOLDER, value_name = "DIR", default_value = "runs/train")]
    #[serde(with = "paths::one")]
    pub project: PathBuf,
    /// Name of the run folder; a number is added if it is taken
    #[arg(long, help_heading = RUN_FOLDER, default_value = "run")]
    pub name: String,
    /// Replace the run in that folder; files that are not the run's stay; never taken from --config
    #[arg(long, help_heading = RUN_FOLDER, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true", hide_possible_values = true, default_value_t = false)]
    pub exist_ok: bool,
    /// Balancing method, which weights the tasks against each other
    #[arg(long, help_heading = BALANCING, value_name = "METHOD", value_parser = Method::parser(), default_value = METHODS[0].name)]
    #[serde(with = "crate::balance::by_name")]
    pub balance: &'static Method,
    /// Weight of a task under --balance fixed; give the flag once for each task [default: 1 for each task]
    #[arg(long = "task-weight", help_heading = BALANCING, value_name = "TASK=WEIGHT", value_parser = of_a_task)]
    #[serde(with = "by_task")]
    pub task_weights: Vec<(String, f32)>,
    /// Place where the tasks' gradients are compared, for methods that use them and for each epoch's cosines
    #[arg(long, help_heading = BALANCING, value_name = "WHERE", value_enum, default_value_t = GramianPlace::Auto)]
    pub gramian: GramianPlace,
    /// Task that the others must not disturb, for --balance pcd [default: none]
    #[arg(long, help_heading = BALANCING, value_name = "TASK")]
    pub primary_task: Option<String>,
    /// The parameters of the balancing method.
    #[command(flatten, next_help_heading = BALANCING)]
    #[serde(flatten)]
    pub balance_parameters: Parameters,
    /// Optimizer
    #[arg(long, help_heading = OPTIMISATION, value_enum, default_value_t = OptimizerKind::AdamW)]
    pub optimizer: OptimizerKind,
    /// Peak learning rate
    #[arg(long, help_heading = OPTIMISATION, value_name = "RATE", value_parser = above_0::<f32>, default_value_t = 1e-3)]
    pub lr0: f32,
    /// Learning rate schedule
    #[arg(long, help_heading = OPTIMISATION, value_enum, default_value_t = ScheduleKind::Cosine)]
    pub schedule: ScheduleKind,
    /// Last learning rate of --schedule cosine, as a share of the peak
    #[arg(long, help_heading = OPTIMISATION, value_name = "SHARE", value_parser = share, default_value_t = 0.01)]
    pub lrf: f32,
    /// Epochs at which --schedule step lowers the learning rate [default: at 60 % and 85 % of the run]
    #[arg(long, help_heading = OPTIMISATION, value_name = "EPOCH", value_delimiter = ',', value_parser = at_least_0)]
    pub milestones: Vec<f32>,
    /// Factor by which --schedule step multiplies the learning rate
    #[arg(long, help_heading = OPTIMISATION, value_name = "FACTOR", value_parser = share, default_value_t = 0.1)]
    pub gamma: f32,
    /// Multiplies the trunk's learning rate
    #[arg(long, help_heading = OPTIMISATION, value_name = "FACTOR", value_parser = at_least_0, default_value_t = 1.0)]
    pub lr_trunk: f32,
    /// Multiplies the learning rate of a task's head; give the flag once for each task [default: 1 for each task]
    #[arg(long = "lr-head", help_heading = OPTIMISATION, value_name = "TASK=FACTOR", value_parser = of_a_task)]
    #[serde(with = "by_task")]
    pub lr_heads: Vec<(String, f32)>,
    /// Scale of the tasks' losses, as they are minimised and shown
    #[arg(long, help_heading = OPTIMISATION, value_name = "SCALE", value_enum, default_value_t = LossScale::Normalised)]
    pub loss_scale: LossScale,
    /// Momentum of --optimizer sgd
    #[arg(long, help_heading = OPTIMISATION, value_name = "SHARE", value_parser = share, default_value_t = 0.9)]
    pub momentum: f32,
    /// Weight decay; norms and biases have none
    #[arg(long, help_heading = OPTIMISATION, value_name = "RATE", value_parser = at_least_0, default_value_t = 0.05)]
    pub weight_decay: f32,
    /// Epochs over which the learning rate rises to its peak
    #[arg(long, help_heading = OPTIMISATION, value_name = "EPOCHS", value_parser = at_least_0, default_value_t = 3.0)]
    pub warmup_epochs: f32,
    /// Largest norm of the gradient; 0 is no limit
    #[arg(long, help_heading = OPTIMISATION, value_name = "NORM", value_parser = at_least_0, default_value_t = 10.0)]
    pub clip_norm: f32,
    /// Decay of the moving average of the parameters
    #[arg(long, help_heading = OPTIMISATION, value_name = "DECAY", value_parser = share, default_value_t = 0.998)]
    pub ema: f32,
    /// Share of the pooled features that classification and regression heads drop in training
    #[arg(long, help_heading = MODEL, value_name = "SHARE", value_parser = below_1, default_value_t = 0.0)]
    pub dropout: f32,
    /// Probability of a mirror image
    #[arg(long, help_heading = AUGMENTATION, value_name = "P", value_parser = share, default_value_t = 0.5)]
    pub fliplr: f32,
    /// Strength of brightness, contrast and saturation jitter
    #[arg(long, help_heading = AUGMENTATION, value_name = "SHARE", value_parser = share, default_value_t = 0.0)]
    pub jitter: f32,
    /// Smallest share of the canvas an image is scaled to
    #[arg(long, help_heading = AUGMENTATION, value_name = "SHARE", value_parser = share, default_value_t = 0.75)]
    pub scale: f32,
    /// Side of each training batch: a multiple of 32 from 1 - F to 1 + F times --imgsz
    #[arg(long, help_heading = AUGMENTATION, value_name = "F", value_parser = below_1, default_value_t = 0.0)]
    pub multi_scale: f32,
    /// Further augmentation of training images.
    #[command(flatten, next_help_heading = AUGMENTATION)]
    #[serde(flatten)]
    pub transforms: Transforms,
    /// Rule by which images are chosen for an epoch
    #[arg(long, help_heading = AUGMENTATION, value_enum, default_value_t = Sampling::Uniform)]
    pub sampling: Sampling,
    /// Repeat images of classes that are in less than this share of the images, as LVIS does; 0 repeats none
    #[arg(long, help_heading = AUGMENTATION, value_name = "SHARE", value_parser = up_to(1.0), default_value_t = 0.0)]
    pub repeat_factor: f32,
    /// The run fails if a larger share of the images is unreadable; one is always tolerated, unless this is 0
    #[arg(long, help_heading = EXECUTION, value_name = "SHARE", value_parser = share, default_value_t = 0.01)]
    pub max_broken: f32,
    /// Batches whose gradients are added up for one update
    #[arg(long, help_heading = OPTIMISATION, value_name = "BATCHES", value_parser = batches, default_value_t = 1)]
    pub accumulate: usize,
    /// Stages of the trunk that are not trained: some of stem,layer1,layer2,layer3,layer4, or trunk for all
    // With `Vec` written as a path, clap parses the list as one value. It must, since `trunk` stands for several stages.
    #[arg(long, help_heading = MODEL, value_name = "STAGES", value_parser = Stage::parse_list, default_value = "none")]
    pub freeze: std::vec::Vec<Stage>,
    /// Statistics that batch norms normalise with
    #[arg(long, help_heading = MODEL, value_name = "STATISTICS", value_enum, default_value_t = BatchNormMode::Train)]
    pub batch_norm: BatchNormMode,
    /// End after this many epochs without a better one; 0 never ends early
    #[arg(long, help_heading = EXECUTION, value_name = "EPOCHS", value_parser = whole::<u64>, default_value_t = 0)]
    pub patience: u64,
    /// End after this many hours; replaces --epochs [default: none]
    #[arg(long, help_heading = EXECUTION, value_name = "HOURS", value_parser = above_0::<f64>)]
    pub time: Option<f64>,
    /// Train and validate on the first N images without augmentation, to check that the model can memorise them; 0 is off
    #[arg(long, help_heading = DATA, value_name = "N", value_parser = whole::<usize>, default_value_t = 0)]
    pub overfit: usize,
    /// Action when a loss is NaN or infinite
    #[arg(long, help_heading = OPTIMISATION, value_name = "ACTION", value_enum, default_value_t = OnNan::Stop)]
    pub on_nan: OnNan,
    /// Save the state at least this often, within an epoch too
    #[arg(long, help_heading = EXECUTION, value_name = "MINUTES", value_parser = above_0::<f32>, default_value_t = 10.0)]
    pub save_minutes: f32,
    /// Keep decoded images for the next epochs
    #[arg(long, help_heading = DATA, value_name = "WHERE", value_enum, default_value_t = CacheChoice::None)]
    pub cache: CacheChoice,
    /// Size limit of --cache in GiB; images beyond it are decoded every time
    #[arg(long, help_heading = DATA, value_name = "GIB", value_parser = above_0::<f64>, default_value_t = 8.0)]
    pub cache_gib: f64,
}

impl Default for TrainConfig {
    /// The defaults in the fields' attributes.
    fn default() -> TrainConfig {
        let command = TrainConfig::augment_args(Command::new("defaults").no_binary_name(true));
        let parsed = command.try_get_matches_from([""; 0]).and_then(|none| TrainConfig::from_arg_matches(&none));
        parsed.unwrap_or_else(|e| unreachable!("every choice has a default of its kind: {e}"))
    }
}

/// Parses a number of epochs, limited so that all steps can be counted.
fn epochs(text: &str) -> Result<u64, String> {
    at_most(count(text)?, 1 << 30, "epochs").map(|epochs| epochs as u64)
}

fn image_size(text: &str) -> Result<usize, String> {
    let size = at_most(whole(text)?, 1 << 14, "pixels")?;
    if size > 0 && usize::is_multiple_of(size, STRIDE) {
        return Ok(size);
    }
    let next = size.next_multiple_of(STRIDE).max(STRIDE);
    Err(format!("expected a multiple of {STRIDE}; {next} is the next"))
}

/// The place where decoded images are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum CacheChoice {
    /// Nowhere: every epoch decodes the part of each image that it uses
    #[default]
    None,
    /// In memory
    Ram,
    /// In the folder `runs/cache`, or `cache` in --project, for other runs too
    Disk,
}

/// The statistics that batch norms of trained layers normalise with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum BatchNormMode {
    /// The statistics of the batch
    #[default]
    Train,
    /// The running statistics; statistics, scale and shift stay unchanged. For small batches and pretrained trunks
    Frozen,
}

/// The place where the tasks' gradients are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum GramianPlace {
    /// At the features if nearly all images have labels of all tasks, else at the layer
    #[default]
    Auto,
    /// At the shared features, where every step computes them anyway
    Features,
    /// At the weight of the last shared convolution, which sums over the images of a batch
    Layer,
}

/// The action of a run when a loss is NaN or infinite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum OnNan {
    /// End with an error
    #[default]
    Stop,
    /// Go back to the last checkpoint with half the learning rate and another order of images, at most three times
    Retry,
}

impl TrainConfig {
    /// The folder for files that runs share, the built-in data set and the cache: `project`, or the folder that holds it if it is
    /// called `train`.
    pub fn shared_folder(&self) -> &Path {
        let above = self.project.parent().filter(|_| self.project.ends_with("train"));
        above.unwrap_or(&self.project)
    }

    /// The frozen parts of the trunk.
    pub fn frozen(&self) -> Freeze {
        Freeze { stages: self.freeze.clone(), batch_norm: self.batch_norm == BatchNormMode::Frozen }
    }

    /// The sides a training batch may have, ascending: `imgsz`, and the other multiples of the network's stride within the share
    /// `multi_scale` of it.
    pub fn sides(&self) -> Vec<usize> {
        if self.overfit > 0 {
            return vec![self.imgsz];
        }
        let [least, most] = self.side_bounds();
        (STRIDE..=most as usize).step_by(STRIDE).filter(|&side| side as f64 >= least).collect()
    }

    /// The smallest and largest side. The margin of 0.01 pixels allows for single precision, which rounds a share by up to 1e-7
    /// of it.
    fn side_bounds(&self) -> [f64; 2] {
        let (middle, share) = (self.imgsz as f64, f64::from(self.multi_scale));
        [middle * (1.0 - share) - 0.01, middle * (1.0 + share) + 0.01]
    }

    /// Checks the choices of a new run.
    ///
    /// # Errors
    /// A value is outside its range, or choices exclude each other. The message says what was expected.
    pub fn check(&self) -> Result<()> {
        self.check_resumed()?;
        if self.time.is_some() && self.balance.candidates().len() > 1 {
            return Err(Error::Usage(
                "--time with --balance auto: the length of a trial is not known beforehand: give --epochs instead of --time, or name a method"
                    .into(),
            ));
        }
        if self.time.is_some() && self.transforms.mosaic > 0.0 && self.transforms.close_mosaic > 0 {
            return Err(Error::Usage(
                "--mosaic with --time: the last epochs are not known beforehand: give --close-mosaic 0, or --epochs instead of --time"
                    .into(),
            ));
        }
        Ok(())
    }

    /// Checks the choices of a resumed run. It may have both --time and mosaics: if --time is given only on resume,
    /// --close-mosaic still counts from the epochs known before.
    ///
    /// # Errors
    /// The same as [`TrainConfig::check`].
    pub fn check_resumed(&self) -> Result<()> {
        Choices::of(self)?.apply(&mut self.clone())?;
        check_names_differ("--task-weight", &self.task_weights)?;
        check_names_differ("--lr-head", &self.lr_heads)?;
        self.check_milestones()?;
        if self.batch == 1 && self.batch_norm == BatchNormMode::Train && self.freeze.len() < Stage::ALL.len() {
            return Err(Error::Usage("--batch 1: batch norm needs at least 2 images to normalise over".into()));
        }
        if self.balance.name != "fixed" && !self.task_weights.is_empty() {
            return Err(Error::Usage(format!(
                "--task-weight only works with --balance fixed, and --balance is {}: add --balance fixed, or leave --task-weight out",
                self.balance
            )));
        }
        self.check_balance()?;
        if let (Some(fold), Some(_)) = (self.fold, self.val_fraction) {
            return Err(Error::Usage(format!(
                "--fold {fold} and --val-fraction exclude each other: each of {} folds has the same share of the images: leave one of them out",
                fold.count()
            )));
        }
        if self.repeat_factor > 0.0 && self.sampling != Sampling::Uniform {
            return Err(Error::Usage(
                "--repeat-factor only works with --sampling uniform: leave one of them out".into(),
            ));
        }
        Ok(())
    }

    /// Checks that the method, or each one that may be tried, works with the other choices, for any tasks.
    fn check_balance(&self) -> Result<()> {
        self.balance_parameters.check(self.balance)?;
        let candidates = self.balance.candidates();
        if self.primary_task.is_some() && candidates.len() > 1 {
            let balance = self.balance;
            return Err(Error::Usage(format!(
                "--primary-task only works with --balance pcd, and --balance is {balance}"
            )));
        }
        candidates.into_iter().try_for_each(|method| self.check_method(method))
    }

    fn check_method(&self, method: &'static Method) -> Result<()> {
        let needs = method.start(Setup {
            likelihoods: &[Likelihood::Gaussian; 2],
            task_weights: &[1.0; 2],
            seed: self.seed,
            primary: self.primary_task.as_ref().map(|_| 0),
            parameters: &self.balance_parameters.of_a_candidate(),
        })?;
        let name = if method == self.balance { method.to_string() } else { format!("{}: {method}", self.balance) };
        let refuse = |why: &str| Err(Error::Usage(format!("--balance {name} {why}")));
        match needs.needs() {
            Needs::Cross if self.accumulate < 2 => refuse("compares two batches of a step: add --accumulate 2 or more"),
            needs if needs.waits() && self.accumulate > 1 => {
                refuse("needs all images of a step in one batch: leave out --accumulate")
            }
            Needs::Excess | Needs::Cross if self.gramian == GramianPlace::Features => {
                refuse("needs the gradients at the last shared convolution: leave out --gramian features")
            }
            _ => Ok(()),
        }
    }

    fn check_milestones(&self) -> Result<()> {
        if self.schedule != ScheduleKind::Step && !self.milestones.is_empty() {
            return Err(Error::Usage(
                "--milestones only works with --schedule step: leave it out, or add --schedule step".into(),
            ));
        }
        let mut before = 0.0;
        for &milestone in &self.milestones {
            // With --time the number of epochs is not known beforehand.
            let ends = self.time.map_or(self.epochs as f64, |_| f64::INFINITY);
            if !(milestone > before && f64::from(milestone) < ends) {
                return Err(Error::Usage(format!(
                    "--milestones: {milestone} is not an epoch between {before} and the last, {}; expected ascending epochs, as in --milestones 60,85",
                    self.epochs
                )));
            }
            before = milestone;
        }
        Ok(())
    }
}

/// # Errors
/// The network does not accept the size.
pub fn check_image_size(size: usize) -> Result<()> {
    match image_size(&size.to_string()) {
        Ok(_) => Ok(()),
        Err(expected) => Err(Error::Usage(format!("--imgsz {size}: {expected}"))),
    }
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
        // No side is below one stride.
        assert_eq!(sides(64, 0.99), [32, 64, 96]);
        assert_eq!(sides(32, 0.99), [32]);
        // Single precision rounds these shares down or up; both end points must still be included.
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
        for new in transforms.chain(others).chain(["cache", "cache_gib", "multi_scale", "task", "loss_scale"]) {
            assert!(json.as_object_mut().unwrap().remove(new).is_some(), "{new}");
        }
        assert_eq!(serde_json::from_value::<TrainConfig>(json).unwrap(), config);
    }
}
