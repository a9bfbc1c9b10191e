//! The flags of `polyhead bench`, and the code that prints and writes its results.

use super::inputs;
use super::run_flags::{Augmentation, Typed};
use crate::balance::{METHODS, Method};
use crate::bench::{self, BalanceMeasurement, DataOptions, Heads, Measurement, Options, Source};
use crate::config::TrainConfig;
use crate::console::{self, Reader};
use crate::data::ranges::{above_0, batch, count, workers};
use crate::error::{Error, Result};
use crate::executor::DeviceChoice;
use crate::files::write_synced;
use crate::model::Backbone;
use crate::recipe::Recipe;
use clap::{Args, Subcommand};
use serde::Serialize;
use std::fmt::Display;
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub enum BenchCommand {
    /// Images per second of whole training steps
    Train {
        #[command(flatten)]
        steps: StepsArgs,
        /// Time each of these balancing methods against fixed weights, with the three heads of `--heads all`: names as in
        /// `train --balance`, or `all`
        #[arg(long, value_name = "METHOD", value_delimiter = ',', conflicts_with_all = ["data", "heads", "csv"])]
        balance: Vec<String>,
    },
    /// Images per second of evaluation forward passes
    Infer(StepsArgs),
    /// Images per second of the input pipeline, per core and stage; optionally whether it can feed steps of a given
    /// rate
    Data(DataArgs),
    /// Time each op of a training step, by size, against the device's ceilings and the unfused list
    Ops {
        #[command(flatten)]
        bench: BenchArgs,
        /// Images per step
        #[arg(long, value_name = "IMAGES", value_parser = batch, default_value_t = 8)]
        batch: usize,
        /// First compare the nodes of a training step with the CPU's ops on this many random images, at most the batch (8 unless
        /// given); if one is wrong, nothing is timed. Takes the time of a few steps on the CPU and the memory of one
        #[arg(long, value_name = "IMAGES", num_args = 0..=1, require_equals = true, default_missing_value = "8")]
        check: Option<usize>,
    },
    /// Compile the kernels for a GPU into the cache; works on any machine that has NVRTC
    Kernels {
        /// The GPU's architecture: sm_80 and newer, sm_90 for an H100 or H200
        #[arg(long)]
        architecture: String,
    },
}

#[derive(Args)]
pub struct DataArgs {
    /// A folder of images or a data.yaml [default: the built-in digits]
    data: Option<PathBuf>,
    /// Threads that decode and augment
    #[arg(long, value_parser = workers, default_value_t = 2)]
    workers: usize,
    /// Side of the square the network sees, in pixels, a multiple of 32
    #[arg(long, value_name = "PIXELS", default_value_t = 224)]
    imgsz: usize,
    /// Number of images to time
    #[arg(long, value_parser = count::<usize>, default_value_t = 512)]
    images: usize,
    /// Report whether steps of this rate would be fed, and how many cores that needs
    #[arg(long, value_name = "RATE", value_parser = above_0::<f64>)]
    images_per_second: Option<f64>,
    #[command(flatten)]
    augment: Typed<Augmentation>,
    /// Write the results to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Args)]
pub struct StepsArgs {
    #[command(flatten)]
    bench: BenchArgs,
    /// Images per step; several values, as in `64,128,256`, are measured one after another
    #[arg(long, value_parser = batch, value_delimiter = ',', default_value = "8")]
    batch: Vec<usize>,
    /// Feed images of this data set, decoded and augmented, to the heads of its tasks: a folder or a data.yaml [default: one
    /// repeated synthetic batch]
    #[arg(long, value_name = "FOLDER", conflicts_with = "heads")]
    data: Option<PathBuf>,
    /// Threads that decode and augment the images of --data [default: 2]
    #[arg(long, value_parser = workers)]
    workers: Option<usize>,
    /// Write the results to this file in the columns of timm's benchmark.py
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

#[derive(Args)]
pub struct BenchArgs {
    /// Side of the square the network sees, in pixels, a multiple of 32
    #[arg(long, value_name = "PIXELS", default_value_t = 224)]
    imgsz: usize,
    /// Threads that compute; 0 is one per core
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// `auto`, `cpu`, `cuda`, or the GPU's number as `cuda:N` or `N`
    #[arg(long, default_value = "auto")]
    device: String,
    /// The trunk
    #[arg(long, value_enum, default_value_t = Backbone::Resnet50)]
    backbone: Backbone,
    /// Which heads: `classify` (1000 classes), or `all` (classification, lite detection and regression)
    #[arg(long, value_enum, default_value = "classify")]
    heads: Heads,
    /// Timed repeats
    #[arg(long, value_parser = count::<usize>, default_value_t = 10)]
    repeats: usize,
    /// Write the results to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the results to this file as a Markdown table
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

/// The default of `--workers`, which only images of a data set need.
const DEFAULT_WORKERS: usize = 2;

impl StepsArgs {
    /// Whether the results are written to a file, so that they survive if standard output is not read.
    fn keeps_figures(&self) -> bool {
        self.csv.is_some() || self.bench.json.is_some() || self.bench.markdown.is_some()
    }
}

impl BenchArgs {
    fn options(&self, batch: usize, source: Option<Source>) -> Result<Options> {
        Ok(Options {
            imgsz: self.imgsz,
            batch,
            device: DeviceChoice::parse(&self.device, self.threads)?,
            backbone: self.backbone,
            heads: self.heads,
            repeats: self.repeats,
            source,
        })
    }

    fn write<T: Serialize>(&self, figures: &T, table: impl FnOnce() -> String) -> Result<()> {
        write_json(self.json.as_deref(), figures)?;
        match &self.markdown {
            Some(path) => write_synced(path, table().as_bytes()),
            None => Ok(()),
        }
    }
}

fn write_json<T: Serialize>(path: Option<&Path>, figures: &T) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let text = serde_json::to_string_pretty(figures).map_err(|e| Error::Other(e.to_string()))? + "\n";
    write_synced(path, text.as_bytes())
}

/// Runs the requested measurement.
///
/// # Errors
/// The reason why the measurement stopped, as a sentence.
pub fn run(command: BenchCommand) -> Result<()> {
    match command {
        BenchCommand::Train { steps: args, balance } if balance.is_empty() => steps(&args, bench::train),
        BenchCommand::Train { steps, balance } => balances(&steps, &balance),
        BenchCommand::Infer(args) => steps(&args, bench::infer),
        BenchCommand::Data(args) => data(args),
        BenchCommand::Ops { bench, batch, check } => ops(&bench, batch, check),
        BenchCommand::Kernels { architecture } => {
            console::print(&format!("{}\n", bench::kernels(&architecture)?)).map(drop)
        }
    }
}

fn data(args: DataArgs) -> Result<()> {
    let DataArgs { data, workers, imgsz, images, images_per_second, augment, json } = args;
    let recipe = Recipe::choose(data.as_deref(), false).config();
    let mut config = TrainConfig { data, workers, imgsz, ..recipe };
    augment.choices.apply(&mut config)?;
    // The last epochs of a run have no mosaics, but these are the first batches.
    config.transforms.close_mosaic = 0;
    inputs::DATA.check(config.data.as_deref())?;
    let measured = bench::data(&DataOptions { config, images, images_per_second })?;
    write_json(json.as_deref(), &measured)?;
    print(&measured)?;
    Ok(())
}

/// Prints results. Files are written before, so they are complete even if standard output fails.
fn print(figures: &impl Display) -> Result<Reader> {
    console::print(&format!("{figures}\n"))
}

/// Measures the training or the inference of a network.
fn steps(args: &StepsArgs, work: fn(&Options) -> Result<Measurement>) -> Result<()> {
    let workers = args.workers.unwrap_or(DEFAULT_WORKERS);
    let source = args.data.clone().map(|data| Source { data, workers });
    let write_csv = |measured: &[Measurement]| match &args.csv {
        Some(path) => write_synced(path, bench::timm(measured).as_bytes()),
        None => Ok(()),
    };
    for_each_batch(args, source.as_ref(), work, bench::markdown, write_csv)
}

/// Costs of balancing methods, one table per batch size.
fn balances(args: &StepsArgs, names: &[String]) -> Result<()> {
    let named = names.iter().filter(|name| *name != "all").map(|name| Method::named(name));
    let named: Vec<&'static Method> = named.collect::<Result<_>>()?;
    let methods = if names.iter().any(|name| name == "all") { METHODS.iter().collect() } else { named };
    let tables = |measured: &[BalanceMeasurement]| measured.iter().map(|m| m.markdown()).collect::<Vec<_>>().join("\n");
    for_each_batch(args, None, |options| bench::balance(options, &methods), tables, |_| Ok(()))
}

/// Takes one measurement per batch size. The files hold all measurements so far, so that they are kept if a later batch
/// does not fit on the device or standard output cannot be written.
fn for_each_batch<T: Serialize + Display>(
    args: &StepsArgs,
    source: Option<&Source>,
    work: impl Fn(&Options) -> Result<T>,
    table: impl Fn(&[T]) -> String,
    write_more: impl Fn(&[T]) -> Result<()>,
) -> Result<()> {
    if let (None, Some(workers)) = (source, args.workers) {
        let message = format!("--workers {workers}: only works with --data: add that, or leave --workers out");
        return Err(Error::Usage(message));
    }
    let options = args.batch.iter().map(|&batch| args.bench.options(batch, source.cloned()));
    let options: Vec<Options> = options.collect::<Result<_>>()?;
    options.iter().try_for_each(bench::check)?;
    inputs::DATA_FLAG.check(args.data.as_deref())?;
    let mut measured = Vec::new();
    let mut printed = Ok(());
    for options in &options {
        measured.push(work(options)?);
        let table = || table(&measured);
        match (measured.as_slice(), args.batch.len()) {
            ([only], 1) => args.bench.write(only, table)?,
            (list, _) => args.bench.write(&list, table)?,
        }
        write_more(&measured)?;
        let shown = print(&measured[measured.len() - 1]);
        let unread = !matches!(shown, Ok(Reader::There));
        printed = printed.and(shown.map(|_| ()));
        if unread && !args.keeps_figures() {
            break;
        }
    }
    printed
}

fn ops(args: &BenchArgs, batch: usize, check: Option<usize>) -> Result<()> {
    let options = args.options(batch, None)?;
    let mut printed = Ok(Reader::There);
    if let Some(images) = check {
        let checked = bench::check_kernels(&options, images)?;
        printed = print(&checked);
        checked.verdict()?;
    }
    let measured = bench::ops(&options)?;
    args.write(&measured, || format!("{measured}\n"))?;
    printed.and(print(&measured))?;
    Ok(())
}
