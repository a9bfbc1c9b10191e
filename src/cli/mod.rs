//! The flags, and nothing but the flags: what was typed becomes what the other rooms take.

mod bench_flags;
mod predict_flags;

use crate::balance::Method;
use crate::bench;
use crate::config::TrainConfig;
use crate::data::{Dataset, OpenOptions, Split, describe, digits};
use crate::error::{Error, Result};
use crate::evaluate;
use crate::executor::DeviceChoice;
use crate::model::Backbone;
use crate::model::heads::decode::DecodeOptions;
use crate::optim::OptimizerKind;
use crate::recipe::Recipe;
use crate::train::{self, ResumeOverrides};
use bench_flags::{BenchArgs, BenchCommand};
use clap::{Args, Parser, Subcommand, ValueEnum};
use predict_flags::PredictArgs;
use std::fmt;
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
    /// Judge a run or a weights file on a data set
    Evaluate(EvaluateArgs),
    /// Answer for images: predictions and annotated pictures
    Predict(Box<PredictArgs>),
    /// Look at a data set, or write the built-in one
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
    /// resnet18, resnet34, resnet50, or tiny
    #[arg(long)]
    backbone: Option<String>,
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
    /// uncertainty, uncertainty-learned, or fixed
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
    /// Last learning rate as a share of the peak
    #[arg(long)]
    lrf: Option<f32>,
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
    /// Probability of a mirror image
    #[arg(long)]
    fliplr: Option<f32>,
    /// Strength of brightness, contrast and saturation jitter
    #[arg(long)]
    jitter: Option<f32>,
    /// Smallest share of the canvas an image is scaled to
    #[arg(long)]
    scale: Option<f32>,
    /// Share of unreadable images at which the run stops
    #[arg(long)]
    max_broken: Option<f32>,
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
        set(&mut config.momentum, self.momentum);
        set(&mut config.weight_decay, self.weight_decay);
        set(&mut config.warmup_epochs, self.warmup_epochs);
        set(&mut config.clip_norm, self.clip_norm);
        set(&mut config.ema, self.ema);
        set(&mut config.dropout, self.dropout);
        set(&mut config.fliplr, self.fliplr);
        set(&mut config.jitter, self.jitter);
        set(&mut config.scale, self.scale);
        set(&mut config.max_broken, self.max_broken);
        set(&mut config.backbone, self.backbone.as_deref().map(Backbone::parse).transpose()?);
        set(&mut config.balance, self.balance.as_deref().map(Method::parse).transpose()?);
        set(&mut config.optimizer, self.optimizer.as_deref().map(OptimizerKind::parse).transpose()?);
        for given in &self.task_weight {
            let (name, weight) = parse_task_weight(given)?;
            config.task_weights.insert(name, weight);
        }
        config.check()?;
        Ok(config)
    }
}

impl TrainArgs {
    /// What a resumed run heeds of the flags, and which it does not.
    fn resume_overrides(&self) -> ResumeOverrides {
        let given: [(bool, &str); 20] = [
            (self.epochs.is_some(), "--epochs"),
            (self.batch.is_some(), "--batch"),
            (self.imgsz.is_some(), "--imgsz"),
            (self.seed.is_some(), "--seed"),
            (self.backbone.is_some(), "--backbone"),
            (self.fraction.is_some(), "--fraction"),
            (self.val_fraction.is_some(), "--val-fraction"),
            (self.balance.is_some(), "--balance"),
            (!self.task_weight.is_empty(), "--task-weight"),
            (self.optimizer.is_some(), "--optimizer"),
            (self.lr0.is_some(), "--lr0"),
            (self.lrf.is_some(), "--lrf"),
            (self.momentum.is_some(), "--momentum"),
            (self.weight_decay.is_some(), "--weight-decay"),
            (self.warmup_epochs.is_some(), "--warmup-epochs"),
            (self.clip_norm.is_some(), "--clip-norm"),
            (self.ema.is_some(), "--ema"),
            (self.dropout.is_some(), "--dropout"),
            (self.fliplr.is_some() || self.jitter.is_some() || self.scale.is_some(), "augmentation"),
            (self.project.is_some() || self.exist_ok, "--project"),
        ];
        ResumeOverrides {
            device: self.device.clone(),
            workers: self.workers,
            threads: self.threads,
            max_broken: self.max_broken,
            ignored: given.iter().filter(|g| g.0).map(|g| g.1.to_owned()).collect(),
        }
    }
}

fn set<T>(field: &mut T, given: Option<T>) {
    if let Some(value) = given {
        *field = value;
    }
}

fn parse_task_weight(given: &str) -> Result<(String, f32)> {
    let parsed = given.split_once('=').and_then(|(name, weight)| Some((name.to_owned(), weight.parse().ok()?)));
    parsed.ok_or_else(|| Error::Usage(format!("--task-weight {given}: expected a task's name, =, and a number")))
}

#[derive(Clone, Copy, ValueEnum)]
enum SplitWord {
    Train,
    Val,
    Test,
}

impl From<SplitWord> for Split {
    fn from(word: SplitWord) -> Split {
        match word {
            SplitWord::Train => Split::Train,
            SplitWord::Val => Split::Val,
            SplitWord::Test => Split::Test,
        }
    }
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

#[derive(Args)]
struct EvaluateArgs {
    /// A run folder or a weights file
    model: PathBuf,
    /// A folder of images or a data.yaml [default: what the run was trained on]
    data: Option<PathBuf>,
    #[arg(long, value_enum, default_value = "val")]
    split: SplitWord,
    /// Write the figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Side in pixels [default: the training size]
    #[arg(long)]
    imgsz: Option<usize>,
    #[arg(long, default_value = "auto")]
    device: String,
    #[arg(long, default_value_t = 2)]
    workers: usize,
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Smallest score a box may have
    #[arg(long, default_value_t = 0.05)]
    conf: f32,
    #[command(flatten)]
    boxes: BoxArgs,
    #[arg(long, default_value_t = 0.01)]
    max_broken: f32,
    /// Share held out for validation where the data set has no split of its own
    #[arg(long)]
    val_fraction: Option<f32>,
    /// Decides which those are [default: the run's]
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Subcommand)]
enum DataCommand {
    /// Say what a data set holds and what is wrong with it
    Check {
        data: PathBuf,
        #[arg(long)]
        val_fraction: Option<f32>,
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
    /// Write the built-in digits as image files, labels and data.yaml
    Digits {
        dir: PathBuf,
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
}

/// Does what was asked.
///
/// # Errors
/// Whatever stopped it, as a sentence.
pub fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Train(args) => match args.resume.clone() {
            Some(run) => train::resume(&run, &args.resume_overrides()).map(|_| ()),
            None => train::train(args.config()?).map(|_| ()),
        },
        Command::Evaluate(args) => evaluate_command(args),
        Command::Predict(args) => predict_flags::command(*args),
        Command::Data(DataCommand::Check { data, val_fraction, seed }) => {
            let dataset = Dataset::open(&data, &OpenOptions { val_fraction, seed })?;
            println!("{}", describe::check(&dataset));
            let broken = describe::broken(&dataset);
            for b in &broken {
                println!("unreadable: {}: {}", b.name, b.message);
            }
            println!("unreadable images: {}", broken.len());
            Ok(())
        }
        Command::Data(DataCommand::Digits { dir, seed }) => {
            let options = digits::DigitsOptions { seed, ..digits::DigitsOptions::default() };
            digits::write_digits(&dir, &options)?;
            println!("wrote {}; train on it with: polyhead train {}", dir.display(), dir.display());
            Ok(())
        }
        Command::Bench(BenchCommand::Train(args)) => measure(args, bench::train),
        Command::Bench(BenchCommand::Infer(args)) => measure(args, bench::infer),
        Command::Bench(BenchCommand::Ops { bench, check }) => measure(bench, |options| {
            if let Some(images) = check {
                let checked = bench::check_kernels(options, images)?;
                println!("{checked}");
                checked.verdict()?;
            }
            bench::ops(options)
        }),
    }
}

fn evaluate_command(args: EvaluateArgs) -> Result<()> {
    let run = evaluate::run_config(&args.model)?;
    let data = match args.data {
        Some(data) => data,
        None => evaluate::data_of_run(&args.model, run.as_ref())?,
    };
    // The run's own held-out images, not another draw that would judge on what it was trained on.
    let open = OpenOptions {
        val_fraction: args.val_fraction.or(run.as_ref().and_then(|r| r.val_fraction)),
        seed: args.seed.or(run.as_ref().map(|r| r.seed)).unwrap_or(0),
    };
    let options = evaluate::Options {
        device: DeviceChoice::parse(&args.device, args.threads)?,
        model: args.model,
        split: args.split.into(),
        json: args.json,
        batch: args.batch,
        imgsz: args.imgsz,
        workers: args.workers,
        boxes: args.boxes.options(args.conf),
        max_broken: args.max_broken,
        open,
    };
    println!("{}", evaluate::command(&options, &data)?);
    Ok(())
}

fn measure<M, W>(args: BenchArgs, work: W) -> Result<()>
where
    M: fmt::Display + serde::Serialize,
    W: FnOnce(&bench::Options) -> Result<M>,
{
    let json = args.json.clone();
    let measured = work(&args.options()?)?;
    println!("{measured}");
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(&measured).map_err(|e| Error::Other(e.to_string()))? + "\n";
        crate::model::weights::write_whole(&path, text.as_bytes())?;
    }
    Ok(())
}
