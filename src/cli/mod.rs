//! The flags, and nothing but the flags: what was typed becomes what the other rooms take.

mod augment_flags;
mod bench_flags;
mod data_flags;
mod evaluate_flags;
mod input_flags;
mod job;
mod life_flags;
mod predict_flags;

use crate::balance::Method;
use crate::config::TrainConfig;
use crate::device::cpu::Isa;
use crate::error::{Error, Result};
use crate::model::Backbone;
use crate::model::HeadSize;
use crate::optim::OptimizerKind;
use crate::optim::schedule::ScheduleKind;
use crate::recipe::Recipe;
use crate::tasks::DecodeOptions;
use crate::train::{self, ResumeOverrides};
use augment_flags::AugmentArgs;
use bench_flags::BenchCommand;
use clap::{Args, Parser, Subcommand};
use data_flags::DataCommand;
use evaluate_flags::EvaluateArgs;
use input_flags::InputArgs;
use life_flags::LifeArgs;
use predict_flags::PredictArgs;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Trains one network for many tasks on a folder of images; evaluates it; predicts with it.
#[derive(Parser)]
#[command(name = "polyhead", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train on a folder of images or a data.yaml; without one, on the built-in digits
    Train(Box<TrainArgs>),
    /// Judge a run or a weights file on a data set, or a COCO results file
    Evaluate(EvaluateArgs),
    /// Answer for images: predictions and annotated pictures
    Predict(Box<PredictArgs>),
    /// Look at a data set, convert it, or write the built-in one
    #[command(subcommand)]
    Data(DataCommand),
    /// Measure how fast this machine trains and infers
    #[command(subcommand)]
    Bench(BenchCommand),
}

#[derive(Args)]
struct TrainArgs {
    /// A folder of images or a data.yaml [default: the built-in digits]
    data: Option<PathBuf>,
    /// Go on with the run in this folder
    #[arg(long, value_name = "RUN", conflicts_with_all = ["data", "weights", "name"])]
    resume: Option<PathBuf>,
    /// Passes over the training images
    #[arg(long)]
    epochs: Option<u64>,
    /// Images per step
    #[arg(long)]
    batch: Option<usize>,
    /// Side of the square the network sees, in pixels, a multiple of 32
    #[arg(long)]
    imgsz: Option<usize>,
    /// `auto`, `cpu`, `cuda` or `cuda:N`
    #[arg(long)]
    device: Option<String>,
    /// Threads that decode and augment
    #[arg(long)]
    workers: Option<usize>,
    /// Threads that compute [default: one per core]
    #[arg(long)]
    threads: Option<usize>,
    #[arg(long)]
    seed: Option<u64>,
    /// resnet18, resnet34, resnet50, resnet101, or tiny
    #[arg(long)]
    backbone: Option<String>,
    /// Detection heads: `full` as published (256 wide, towers of 4), or `lite` (128 wide, towers of 2)
    #[arg(long)]
    head: Option<String>,
    /// Start the trunk from a torchvision or timm file (.safetensors, .pth)
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Use this share of the training images
    #[arg(long)]
    fraction: Option<f32>,
    /// Share of the images held out for validation where the data set has no split of its own
    #[arg(long)]
    val_fraction: Option<f32>,
    /// Folder the run folders are made in
    #[arg(long)]
    project: Option<PathBuf>,
    /// Name of the run folder; a number is added where it is taken
    #[arg(long)]
    name: Option<String>,
    /// Write into the folder even if it is there
    #[arg(long)]
    exist_ok: bool,
    /// uncertainty, uncertainty-learned, uncertainty-kind, uncertainty-bounded, or fixed
    #[arg(long)]
    balance: Option<String>,
    /// Weight of a task under --balance fixed; may be given once per task
    #[arg(long, value_name = "NAME=WEIGHT")]
    task_weight: Vec<String>,
    /// sgd or adamw
    #[arg(long)]
    optimizer: Option<String>,
    /// Peak learning rate
    #[arg(long)]
    lr0: Option<f32>,
    /// How the learning rate falls: cosine, step or constant
    #[arg(long)]
    schedule: Option<String>,
    /// Last learning rate of the cosine, as a share of the peak
    #[arg(long)]
    lrf: Option<f32>,
    /// Epochs at which --schedule step falls [default: at 60 % and 85 % of the run]
    #[arg(long, value_name = "EPOCH", value_delimiter = ',')]
    milestones: Vec<f32>,
    /// What the learning rate is multiplied by there [default: 0.1]
    #[arg(long)]
    gamma: Option<f32>,
    /// Multiplies the trunk's learning rate
    #[arg(long, value_name = "FACTOR")]
    lr_trunk: Option<f32>,
    /// Multiplies a head's learning rate; may be given once per task
    #[arg(long, value_name = "NAME=FACTOR")]
    lr_head: Vec<String>,
    #[arg(long)]
    momentum: Option<f32>,
    #[arg(long)]
    weight_decay: Option<f32>,
    #[arg(long)]
    warmup_epochs: Option<f32>,
    /// Largest norm of the gradient; 0 is no limit
    #[arg(long)]
    clip_norm: Option<f32>,
    /// Decay of the moving average of the parameters
    #[arg(long)]
    ema: Option<f32>,
    #[arg(long)]
    dropout: Option<f32>,
    /// Share of unreadable images at which the run stops
    #[arg(long)]
    max_broken: Option<f32>,
    #[command(flatten)]
    augment: AugmentArgs,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    life: LifeArgs,
}

impl TrainArgs {
    fn config(self) -> Result<TrainConfig> {
        let pretrained = self.weights.is_some();
        let mut config = Recipe::choose(self.data.as_deref(), pretrained).config();
        config.data = self.data;
        config.weights = self.weights;
        config.exist_ok = self.exist_ok;
        config.val_fraction = self.val_fraction;
        set(&mut config.epochs, self.epochs);
        set(&mut config.batch, self.batch);
        set(&mut config.imgsz, self.imgsz);
        set(&mut config.device, self.device);
        set(&mut config.workers, self.workers);
        set(&mut config.threads, self.threads);
        set(&mut config.seed, self.seed);
        set(&mut config.fraction, self.fraction);
        set(&mut config.project, self.project);
        set(&mut config.name, self.name);
        set(&mut config.lr0, self.lr0);
        set(&mut config.lrf, self.lrf);
        set(&mut config.gamma, self.gamma);
        set(&mut config.lr_trunk, self.lr_trunk);
        set(&mut config.momentum, self.momentum);
        set(&mut config.weight_decay, self.weight_decay);
        set(&mut config.warmup_epochs, self.warmup_epochs);
        set(&mut config.clip_norm, self.clip_norm);
        set(&mut config.ema, self.ema);
        set(&mut config.dropout, self.dropout);
        set(&mut config.max_broken, self.max_broken);
        set(&mut config.backbone, self.backbone.as_deref().map(Backbone::parse).transpose()?);
        set(&mut config.head, self.head.as_deref().map(HeadSize::parse).transpose()?);
        set(&mut config.balance, self.balance.as_deref().map(Method::parse).transpose()?);
        set(&mut config.optimizer, self.optimizer.as_deref().map(OptimizerKind::parse).transpose()?);
        set(&mut config.schedule, self.schedule.as_deref().map(ScheduleKind::parse).transpose()?);
        config.milestones = self.milestones;
        config.task_weights = per_task("--task-weight", &self.task_weight)?;
        config.lr_heads = per_task("--lr-head", &self.lr_head)?;
        self.augment.apply(&mut config);
        self.input.apply(&mut config);
        self.life.apply(&mut config)?;
        config.check()?;
        for (given, flag, schedule, word) in
            [(self.gamma, "--gamma", ScheduleKind::Step, "step"), (self.lrf, "--lrf", ScheduleKind::Cosine, "cosine")]
        {
            if given.is_some() && config.schedule != schedule {
                return Err(Error::Usage(format!("{flag} is heeded by --schedule {word} only: leave one of them out")));
            }
        }
        Ok(config)
    }
}

impl TrainArgs {
    /// What a resumed run heeds of the flags, and which it does not.
    fn resume_overrides(&self) -> ResumeOverrides {
        let given: [(bool, &str); 25] = [
            (self.epochs.is_some(), "--epochs"),
            (self.batch.is_some(), "--batch"),
            (self.imgsz.is_some(), "--imgsz"),
            (self.seed.is_some(), "--seed"),
            (self.backbone.is_some(), "--backbone"),
            (self.head.is_some(), "--head"),
            (self.fraction.is_some(), "--fraction"),
            (self.val_fraction.is_some(), "--val-fraction"),
            (self.balance.is_some(), "--balance"),
            (!self.task_weight.is_empty(), "--task-weight"),
            (self.optimizer.is_some(), "--optimizer"),
            (self.lr0.is_some(), "--lr0"),
            (self.schedule.is_some(), "--schedule"),
            (self.lrf.is_some(), "--lrf"),
            (!self.milestones.is_empty(), "--milestones"),
            (self.gamma.is_some(), "--gamma"),
            (self.lr_trunk.is_some(), "--lr-trunk"),
            (!self.lr_head.is_empty(), "--lr-head"),
            (self.momentum.is_some(), "--momentum"),
            (self.weight_decay.is_some(), "--weight-decay"),
            (self.warmup_epochs.is_some(), "--warmup-epochs"),
            (self.clip_norm.is_some(), "--clip-norm"),
            (self.ema.is_some(), "--ema"),
            (self.dropout.is_some(), "--dropout"),
            (self.project.is_some() || self.exist_ok, "--project"),
        ];
        ResumeOverrides {
            device: self.device.clone(),
            workers: self.workers,
            threads: self.threads,
            max_broken: self.max_broken,
            patience: self.life.patience,
            time: self.life.time,
            save_minutes: self.life.save_minutes,
            ignored: given
                .iter()
                .filter(|g| g.0)
                .map(|g| g.1)
                .chain(self.augment.ignored())
                .chain(self.input.ignored())
                .chain(self.life.ignored())
                .map(str::to_owned)
                .collect(),
        }
    }
}

fn set<T>(field: &mut T, given: Option<T>) {
    if let Some(value) = given {
        *field = value;
    }
}

/// The numbers given as `NAME=NUMBER`, once or more often.
fn per_task(flag: &str, given: &[String]) -> Result<BTreeMap<String, f32>> {
    let parse = |text: &String| {
        let parsed = text.split_once('=').and_then(|(name, number)| Some((name.to_owned(), number.parse().ok()?)));
        parsed.ok_or_else(|| Error::Usage(format!("{flag} {text}: expected a task's name, =, and a number")))
    };
    given.iter().map(parse).collect()
}

#[derive(Args)]
struct BoxArgs {
    /// Overlap above which the lesser of two boxes of a class is dropped
    #[arg(long, default_value_t = 0.6)]
    iou: f64,
    /// Boxes an image may have
    #[arg(long, default_value_t = 100)]
    max_det: usize,
}

impl BoxArgs {
    fn options(&self, conf: f32) -> DecodeOptions {
        DecodeOptions {
            score_threshold: conf,
            iou_threshold: self.iou,
            max_detections: self.max_det,
            ..DecodeOptions::default()
        }
    }
}

/// Does what was asked.
///
/// # Errors
/// Whatever stopped it, as a sentence.
pub fn run(cli: Cli) -> Result<()> {
    // Refused before anything is made or written, also where only a GPU would compute.
    Isa::chosen()?;
    match cli.command {
        Command::Train(args) => match args.resume.clone() {
            Some(run) => train::resume(&run, &args.resume_overrides()).map(|_| ()),
            None if args.life.dry_run => train::dry_run(args.config()?),
            None => train::train(args.config()?).map(|_| ()),
        },
        Command::Evaluate(args) => args.evaluate(),
        Command::Predict(args) => predict_flags::command(*args),
        Command::Data(command) => data_flags::run(command),
        Command::Bench(command) => bench_flags::run(command),
    }
}
