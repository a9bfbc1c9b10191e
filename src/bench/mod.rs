//! How fast this machine trains and infers: whole steps on synthetic images, timed one by one.

mod check;
mod ops;

pub use check::{Checked, Pair, check_kernels};
pub use ops::{OpsMeasurement, ops};

use crate::balance::Method;
use crate::error::{Error, Result};
use crate::executor::DeviceChoice;
use crate::graph::fuse::Fusion;
use crate::losses::{Encoded, Encoder};
use crate::model::{Architecture, Backbone, Card, Model, init, weights};
use crate::optim::schedule::Schedule;
use crate::optim::{OptimizerConfig, OptimizerKind};
use crate::task::{Label, LabelledBox, Task, TaskKind};
use crate::train::run::Machine;
use crate::train::step::Trainer;
use clap::ValueEnum;
use serde::Serialize;
use std::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Heads {
    /// One classification head of 1000 classes: what others' ResNet benchmarks run.
    Classify,
    /// Classification, lite detection and regression.
    All,
}

#[derive(Clone)]
pub struct Options {
    pub imgsz: usize,
    pub batch: usize,
    pub device: DeviceChoice,
    pub backbone: Backbone,
    pub heads: Heads,
    pub repeats: usize,
}

/// One measurement; the schema of `--json`, described in benches/README.md.
#[derive(Serialize)]
pub struct Measurement {
    pub work: &'static str,
    pub model: &'static str,
    pub heads: Heads,
    pub device: String,
    pub dtype: &'static str,
    pub img_size: usize,
    pub batch_size: usize,
    pub threads: usize,
    pub param_count: usize,
    pub warmup: usize,
    pub repeats: usize,
    /// Milliseconds: median, fastest, slowest.
    pub step_time: f64,
    pub step_time_min: f64,
    pub step_time_max: f64,
    /// Images per second at the median.
    pub samples_per_sec: f64,
    /// Bytes shared by all values of a step.
    pub arena_bytes: usize,
    /// Largest resident size of the process so far; absent where the system does not say.
    pub peak_memory_bytes: Option<u64>,
    pub version: &'static str,
    pub commit: &'static str,
    pub machine: Machine,
}

/// Runs before the clock starts: weights packed, pages touched, clocks up.
const WARMUP: usize = 2;

/// Times whole training steps: forward, losses, backward, update.
///
/// # Errors
/// A network or device that cannot be had.
pub fn train(options: &Options) -> Result<Measurement> {
    let (mut trainer, images, targets) = training(options, Fusion::On)?;
    trainer.load(&images, &targets)?;
    let times = time(options.repeats, || {
        // As training does: the next batch travels while this one is computed.
        trainer.start()?;
        trainer.load(&images, &targets)?;
        trainer.finish().map(|_| ())
    })?;
    let parameters = trainer.executor.store()?.parameters.iter().map(|p| p.shape.iter().product::<usize>()).sum();
    Ok(measurement("train", options, times, parameters, trainer.executor.arena_bytes()))
}

/// A trainer on a fixed batch: the images, and each image's targets.
fn training(options: &Options, fusion: Fusion) -> Result<(Trainer, Vec<u8>, Vec<Vec<Encoded>>)> {
    check(options)?;
    let architecture = architecture(options);
    let shape = [options.batch, options.imgsz, options.imgsz];
    let optimizer = OptimizerConfig {
        kind: OptimizerKind::Sgd,
        schedule: Schedule { lr: 1e-3, final_share: 1.0, warmup_steps: 0, total_steps: 1 },
        momentum: 0.9,
        weight_decay: 1e-4,
        clip_norm: None,
        average_decay: 0.999,
    };
    let balance = Method::Uncertainty.start(&vec![1.0; architecture.tasks.len()]);
    let mut trainer = Trainer::fused(&architecture, shape, &options.device, optimizer, balance, fusion)?;
    trainer.executor.edit_store(|store| init::initialise(store, 0))?;
    let images = synthetic_images(options);
    let encoder = Encoder {
        levels: architecture.levels(options.imgsz, options.imgsz),
        standardisation: architecture.tasks.iter().map(|_| None).collect(),
        tasks: architecture.tasks.clone(),
    };
    let targets =
        (0..options.batch).map(|i| encoder.encode(&synthetic_labels(&architecture.tasks, options.imgsz, i))).collect();
    Ok((trainer, images, targets))
}

/// Times evaluation forward passes.
///
/// # Errors
/// As [`train`].
pub fn infer(options: &Options) -> Result<Measurement> {
    check(options)?;
    let card = Card::new(architecture(options), options.imgsz);
    let model = Model { tensors: initial_tensors(&card.architecture, options)?, card };
    let mut runner = model.start(&options.device)?;
    let images = synthetic_images(options);
    let shape = [options.batch, options.imgsz, options.imgsz];
    let times = time(options.repeats, || runner.run_ahead(shape, &images).map(|_| ()))?;
    let parameters = model.card.architecture.parameter_count(options.imgsz)?;
    Ok(measurement("infer", options, times, parameters, runner.arena_bytes()))
}

fn check(options: &Options) -> Result<()> {
    let fits = options.imgsz > 0 && options.imgsz.is_multiple_of(32) && options.batch > 0 && options.repeats > 0;
    if fits {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "--imgsz {} --batch {} --repeats {}: expected a multiple of 32, and at least 1 of the others",
        options.imgsz, options.batch, options.repeats
    )))
}

fn architecture(options: &Options) -> Architecture {
    let classes = |n: usize| (0..n).map(|i| i.to_string()).collect::<Vec<_>>();
    let task = Task::new;
    let mut tasks = vec![task("class", TaskKind::Classify { classes: classes(1000) })];
    if options.heads == Heads::All {
        tasks.push(task("boxes", TaskKind::Detect { classes: classes(80) }));
        tasks.push(task("value", TaskKind::Regress { columns: vec!["value".into()], units: vec![String::new()] }));
    }
    Architecture::new(options.backbone, tasks, options.imgsz, 0.0)
}

fn initial_tensors(architecture: &Architecture, options: &Options) -> Result<weights::Tensors> {
    use crate::executor::{ParameterSet, Store};
    let network = architecture.network([1, options.imgsz, options.imgsz], crate::graph::ir::Mode::Evaluate)?;
    let mut store = Store::new(&network.graph.parameters, &network.graph.buffers);
    init::initialise(&mut store, 0);
    let slot = weights::Slot::Set(ParameterSet::Current);
    let mut tensors = weights::export_parameters(&store, slot, "")?;
    tensors.append(&mut weights::export_buffers(&store, ParameterSet::Current, "")?);
    Ok(tensors)
}

/// Bytes of a fixed pattern: the time of a step does not depend on what is in them.
fn synthetic_images(options: &Options) -> Vec<u8> {
    let len = options.batch * options.imgsz * options.imgsz * 3;
    (0..len as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

/// Labels for every task: eight boxes an image, as a middling detection set has.
fn synthetic_labels(tasks: &[Task], size: usize, index: usize) -> Vec<Label> {
    let size = size as f32;
    let boxes = (0..8).map(|i| {
        let (x, y) = ((i % 4) as f32 * size / 4.0, (i / 4) as f32 * size / 2.0);
        LabelledBox { class: (index + i) % 80, xyxy: [x, y, x + size / 5.0, y + size / 4.0], ignore: false }
    });
    let boxes: Vec<LabelledBox> = boxes.collect();
    let label = |task: &Task| match task.kind {
        TaskKind::Classify { .. } => Label::Class(index % 1000),
        TaskKind::MultiLabel { ref classes } => {
            Label::Classes((0..classes.len()).map(|c| Some((c + index).is_multiple_of(3))).collect())
        }
        TaskKind::Detect { .. } => Label::Boxes(boxes.clone()),
        TaskKind::Regress { .. } => Label::Values(vec![index as f32 / 8.0]),
    };
    tasks.iter().map(label).collect()
}

fn time(repeats: usize, mut work: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    for _ in 0..WARMUP {
        work()?;
    }
    let mut times = Vec::new();
    for _ in 0..repeats {
        let start = Instant::now();
        work()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

fn measurement(
    work: &'static str,
    options: &Options,
    sorted_ms: Vec<f64>,
    parameters: usize,
    arena_bytes: usize,
) -> Measurement {
    let median = (sorted_ms[(sorted_ms.len() - 1) / 2] + sorted_ms[sorted_ms.len() / 2]) / 2.0;
    let machine = Machine::this();
    let (device, dtype, threads) = match &options.device {
        DeviceChoice::Cpu { threads: 0 } => ("cpu".into(), "float32", machine.cores),
        DeviceChoice::Cpu { threads } => ("cpu".into(), "float32", *threads),
        gpu => (gpu.to_string(), "bfloat16", 1),
    };
    Measurement {
        work,
        model: options.backbone.name(),
        heads: options.heads,
        device,
        dtype,
        img_size: options.imgsz,
        batch_size: options.batch,
        threads,
        param_count: parameters,
        warmup: WARMUP,
        repeats: sorted_ms.len(),
        step_time: median,
        step_time_min: sorted_ms[0],
        step_time_max: sorted_ms[sorted_ms.len() - 1],
        samples_per_sec: options.batch as f64 / median * 1e3,
        arena_bytes,
        peak_memory_bytes: peak_memory(),
        version: env!("CARGO_PKG_VERSION"),
        commit: env!("POLYHEAD_COMMIT"),
        machine,
    }
}

/// The high-water mark of the resident set, from the kernel.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

impl std::fmt::Display for Measurement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} {} {}² batch {} on {} ({} threads, {}): {:.1} images/s; {:.1} ms a step, {:.1}–{:.1} over {} repeats; arena {} MiB{}",
            self.work,
            self.model,
            self.img_size,
            self.batch_size,
            self.device,
            self.threads,
            self.machine.instruction_set,
            self.samples_per_sec,
            self.step_time,
            self.step_time_min,
            self.step_time_max,
            self.repeats,
            self.arena_bytes >> 20,
            self.peak_memory_bytes.map_or(String::new(), |b| format!(", peak memory {} MiB", b >> 20)),
        )
    }
}
