//! Whole steps of training and inference, timed one by one: images per second, and the conditions of the measurement.

use super::clocks::{Readings, reading};
use super::input::{self, Batches, Input, Source, Supply};
use super::{Heads, Options, architecture, check, initial_model, synthetic_images, training};
use crate::device::cpu::IsaName;
use crate::error::Result;
use crate::executor::{DeviceChoice, Executor, LoadedLibrary};
use crate::graph::fuse::Fusion;
use crate::model::{Card, Model};
use crate::reading::count_of;
use crate::train::run::Machine;
use crate::train::step::{StepTargets, Trainer};
use serde::Serialize;
use std::fmt;
use std::time::Instant;

/// One measurement; the schema of `--json`, described in benches/README.md.
#[derive(Serialize)]
pub struct Measurement {
    /// The timed work: `train` or `infer`.
    pub work: &'static str,
    /// The backbone's name.
    pub model: &'static str,
    /// Which heads the network has.
    pub heads: Heads,
    /// The device the work ran on, as `--device` names it.
    pub device: String,
    /// Number format of the computation: `float32` on a CPU, `bfloat16` on a GPU.
    pub dtype: &'static str,
    /// Height and width of every image, in pixels.
    pub img_size: usize,
    /// Images in a batch.
    pub batch_size: usize,
    /// Number of CPU threads that compute; 1 if a GPU computes.
    pub threads: usize,
    /// See [`Executor::isa`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isa: Option<IsaName>,
    /// Number of trainable parameters of the network.
    pub param_count: usize,
    /// Warm-up steps, which are not timed.
    pub warmup: usize,
    /// Timed steps.
    pub repeats: usize,
    /// Milliseconds of the median step.
    pub step_time: f64,
    /// Milliseconds of the fastest step.
    pub step_time_min: f64,
    /// Milliseconds of the slowest step.
    pub step_time_max: f64,
    /// Images per second at the median; for a data set, whose batches do not arrive evenly, over all repeats.
    pub samples_per_sec: f64,
    /// Measurements of the input pipeline, for a data set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Input>,
    /// Clocks before and after the timed steps, if the device reports them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clocks: Option<Readings>,
    /// See [`Executor::tuning_hash`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tuning: Option<String>,
    /// See [`Executor::libraries`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub libraries: Vec<LoadedLibrary>,
    /// Bytes shared by all values of a step.
    pub arena_bytes: usize,
    /// Resident size of the process before the model was made; absent if the system does not report it.
    pub base_memory_bytes: Option<u64>,
    /// Largest resident size of the process so far, in bytes; absent if the system does not report it.
    pub peak_memory_bytes: Option<u64>,
    /// The release of Polyhead that measured, from Cargo.toml.
    pub version: &'static str,
    /// The git commit the program was built from, at least 12 hex digits, or `unknown` when it was built outside a repository.
    pub commit: &'static str,
    /// The computer the program ran on.
    pub machine: Machine,
}

/// Warm-up steps: they pack weights, touch pages and raise clocks.
const WARMUP: usize = 2;

/// The work to time. The next batch is copied to the device while the current one is computed, as in training.
trait Work {
    /// Runs one step; `while_running` is called while the device is busy with it.
    fn step(&mut self, while_running: &mut dyn FnMut()) -> Result<()>;

    /// See [`Batches::rate`].
    fn loader_rate(&mut self, batches: usize) -> Result<Option<f64>>;

    /// See [`Batches::freeze`].
    fn stop_loader(&mut self) -> Result<()>;

    fn executor(&self) -> &Executor;
}

struct Training {
    trainer: Trainer,
    batches: Batches,
    /// Targets of the batch that waits on the device.
    loaded: StepTargets,
}

impl Training {
    fn new(mut trainer: Trainer, mut batches: Batches) -> Result<Training> {
        let loaded = load_next(&mut batches, &mut trainer)?;
        Ok(Training { trainer, batches, loaded })
    }
}

/// Copies the next batch to the device.
fn load_next(batches: &mut Batches, trainer: &mut Trainer) -> Result<StepTargets> {
    let mut loaded = None;
    batches.next(|images, targets| {
        let targets = StepTargets::new(&[targets]);
        trainer.load(images, &targets, 0)?;
        loaded = Some(targets);
        Ok(())
    })?;
    Ok(loaded.unwrap_or_else(|| unreachable!("a batch was handed over")))
}

impl Work for Training {
    fn step(&mut self, while_running: &mut dyn FnMut()) -> Result<()> {
        self.trainer.begin(&self.loaded);
        self.trainer.start()?;
        while_running();
        self.loaded = load_next(&mut self.batches, &mut self.trainer)?;
        self.trainer.finish().map(|_| ())
    }

    fn loader_rate(&mut self, batches: usize) -> Result<Option<f64>> {
        self.batches.rate(batches)
    }

    fn stop_loader(&mut self) -> Result<()> {
        self.batches.freeze()
    }

    fn executor(&self) -> &Executor {
        &self.trainer.executor
    }
}

struct Inference {
    model: Model,
    shape: [usize; 3],
    batches: Batches,
}

impl Work for Inference {
    fn step(&mut self, while_running: &mut dyn FnMut()) -> Result<()> {
        self.model.start_batch(self.shape)?;
        while_running();
        self.batches.next(|images, _| self.model.load_batch(self.shape, images))?;
        self.model.batch_outputs(self.shape).map(|_| ())
    }

    fn loader_rate(&mut self, batches: usize) -> Result<Option<f64>> {
        self.batches.rate(batches)
    }

    fn stop_loader(&mut self) -> Result<()> {
        self.batches.freeze()
    }

    fn executor(&self) -> &Executor {
        self.model.executor()
    }
}

/// Times whole training steps: forward, losses, backward, update.
///
/// # Errors
/// The network cannot be built, or the device or the data set is not available.
pub fn train(options: &Options) -> Result<Measurement> {
    check(options)?;
    let base = memory("VmRSS");
    let (trainer, batches) = match &options.source {
        Some(source) => input::training(options, source)?,
        None => {
            let (trainer, images, targets) = training(options, Fusion::On)?;
            (trainer, Batches::Same { images, targets })
        }
    };
    let mut work = Training::new(trainer, batches)?;
    let timed = time(&mut work, options.repeats)?;
    let parameters = &work.trainer.executor.store()?.parameters;
    let parameters = parameters.iter().map(|p| p.shape.iter().product::<usize>()).sum();
    Ok(measurement("train", options, base, timed, parameters, work.executor()))
}

/// Times evaluation forward passes.
///
/// # Errors
/// See [`train`].
pub fn infer(options: &Options) -> Result<Measurement> {
    check(options)?;
    let base = memory("VmRSS");
    let (card, batches) = match &options.source {
        Some(source) => input::inference(options, source)?,
        None => {
            let batches = Batches::Same { images: synthetic_images(options), targets: Vec::new() };
            (Card::new(architecture(options), options.imgsz), batches)
        }
    };
    let (mut model, mut batches) = (initial_model(card, options)?, batches);
    let shape = [options.batch, options.imgsz, options.imgsz];
    batches.next(|images, _| model.load_batch(shape, images))?;
    let mut work = Inference { model, shape, batches };
    let timed = time(&mut work, options.repeats)?;
    let parameters = work.model.card().architecture.parameter_count(options.imgsz)?;
    Ok(measurement("infer", options, base, timed, parameters, work.executor()))
}

/// Timings of a series of steps.
struct Timed {
    /// In the order of the steps.
    milliseconds: Vec<f64>,
    /// With a loader: its images per second when it runs alone, and the milliseconds of steps without it.
    loader: Option<(f64, Vec<f64>)>,
    clocks: Option<Readings>,
}

fn time(work: &mut dyn Work, repeats: usize) -> Result<Timed> {
    let gauge = work.executor().gauge();
    for _ in 0..WARMUP {
        work.step(&mut || ())?;
    }
    let loader_rate = work.loader_rate(repeats)?;
    let before = reading(gauge.as_ref(), |while_running| work.step(while_running))?;
    let milliseconds = time_steps(work, repeats)?;
    let after = reading(gauge.as_ref(), |while_running| work.step(while_running))?;
    let mut loader = None;
    if let Some(rate) = loader_rate {
        work.stop_loader()?;
        // The batch that waits on the device is not the one that will be repeated.
        work.step(&mut || ())?;
        loader = Some((rate, time_steps(work, repeats)?));
    }
    Ok(Timed { milliseconds, loader, clocks: before.zip(after).map(|(b, a)| Readings::new(b, a)) })
}

fn time_steps(work: &mut dyn Work, repeats: usize) -> Result<Vec<f64>> {
    let step = |_| {
        let start = Instant::now();
        work.step(&mut || ())?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    };
    (0..repeats).map(step).collect()
}

fn measurement(
    work: &'static str,
    options: &Options,
    base: Option<u64>,
    timed: Timed,
    parameters: usize,
    executor: &Executor,
) -> Measurement {
    let mut sorted = timed.milliseconds;
    let overall =
        |milliseconds: &[f64]| (options.batch * milliseconds.len()) as f64 / milliseconds.iter().sum::<f64>() * 1e3;
    let rate = overall(&sorted);
    sorted.sort_by(f64::total_cmp);
    let median = (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0;
    let input = |(source, (loader, without)): (&Source, (f64, Vec<f64>))| Input {
        data: source.data.display().to_string(),
        workers: source.workers,
        loader_samples_per_sec: loader,
        step_samples_per_sec: overall(&without),
        supply: Supply::of(rate, overall(&without)),
    };
    let machine = Machine::this();
    let (device, dtype, threads) = match &options.device {
        DeviceChoice::Cpu { threads: 0 } => ("cpu".into(), "float32", machine.cores),
        DeviceChoice::Cpu { threads } => ("cpu".into(), "float32", *threads),
        gpu => (gpu.to_string(), "bfloat16", 1),
    };
    Measurement {
        work,
        model: options.backbone.name(),
        heads: if options.source.is_some() { Heads::Data } else { options.heads },
        device,
        dtype,
        img_size: options.imgsz,
        batch_size: options.batch,
        threads,
        isa: executor.isa(),
        param_count: parameters,
        warmup: WARMUP,
        repeats: sorted.len(),
        step_time: median,
        step_time_min: sorted[0],
        step_time_max: sorted[sorted.len() - 1],
        samples_per_sec: if options.source.is_some() { rate } else { options.batch as f64 / median * 1e3 },
        input: options.source.as_ref().zip(timed.loader).map(input),
        clocks: timed.clocks,
        tuning: executor.tuning_hash(),
        libraries: executor.libraries(),
        arena_bytes: executor.arena_bytes(),
        base_memory_bytes: base,
        peak_memory_bytes: memory("VmHWM"),
        version: env!("CARGO_PKG_VERSION"),
        commit: env!("POLYHEAD_COMMIT"),
        machine,
    }
}

/// A value from the kernel's status of this process: `VmRSS` is the resident size, `VmHWM` its maximum so far.
fn memory(key: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

impl Measurement {
    /// The instruction set used on a CPU; for a GPU, that of the machine's CPU.
    fn instructions(&self) -> &str {
        self.isa.map_or(self.machine.instruction_set.as_str(), |isa| isa.word())
    }
}

/// One line, plus one each for the input, the libraries and the clocks.
impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {}² batch {} on {} ({}, {}): {:.1} images/s; {:.1} ms per step, {:.1}–{:.1} over {}; arena {} MiB{}{}",
            self.work,
            self.model,
            self.img_size,
            self.batch_size,
            self.device,
            count_of(self.threads, "thread"),
            self.instructions(),
            self.samples_per_sec,
            self.step_time,
            self.step_time_min,
            self.step_time_max,
            count_of(self.repeats, "repeat"),
            self.arena_bytes >> 20,
            self.peak_memory_bytes.map_or(String::new(), |b| format!(", peak memory {} MiB", b >> 20)),
            self.tuning.as_ref().map_or(String::new(), |hash| format!("; tuning {hash}")),
        )?;
        if let Some(input) = &self.input {
            write!(f, "\n{input}")?;
        }
        write_libraries(f, &self.libraries)?;
        match &self.clocks {
            Some(clocks) => write!(f, "\n{clocks}"),
            None => Ok(()),
        }
    }
}

/// A line that lists the loaded libraries and their files, if any.
pub(super) fn write_libraries(f: &mut fmt::Formatter<'_>, libraries: &[LoadedLibrary]) -> fmt::Result {
    for (i, library) in libraries.iter().enumerate() {
        write!(f, "{}{library}", if i == 0 { "\nlibraries: " } else { ", " })?;
    }
    Ok(())
}

/// A table of measurements on one machine, followed by their conditions.
pub fn markdown(measurements: &[Measurement]) -> String {
    let Some(first) = measurements.first() else { return String::new() };
    let (fed, read) = (measurements.iter().any(|m| m.input.is_some()), measurements.iter().any(|m| m.clocks.is_some()));
    let row = |m: &Measurement| {
        let mut cells = vec![
            m.batch_size.to_string(),
            format!("{:.1}", m.samples_per_sec),
            format!("{:.2}", m.step_time),
            format!("{:.2}–{:.2}", m.step_time_min, m.step_time_max),
            (m.arena_bytes >> 20).to_string(),
        ];
        if fed {
            cells.extend(m.input.iter().map(|i| format!("{:.1}", i.step_samples_per_sec)));
            cells.extend(m.input.iter().map(|i| format!("{:.1}", i.loader_samples_per_sec)));
            cells.extend(m.input.iter().map(|i| i.supply.word().to_owned()));
        }
        if read {
            let said =
                |c: &Readings| [c.before.sm_mhz, c.after.sm_mhz].map(|c| c.map_or("?".into(), |c| c.to_string()));
            cells.push(m.clocks.as_ref().map_or(String::new(), |c| said(c).join(" → ")));
        }
        cells
    };
    let mut head: Vec<String> =
        ["batch", "images/s", "ms per step", "fastest–slowest", "arena MiB"].map(str::to_owned).to_vec();
    if fed {
        head.extend(["without the loader", "the loader alone", "input"].map(str::to_owned));
    }
    head.extend(read.then(|| "SM MHz".into()));
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(&head) + &line(&vec!["---".to_owned(); head.len()]);
    measurements.iter().for_each(|m| text += &line(&row(m)));
    let heads = match first.heads {
        Heads::One => "1000 classes".to_owned(),
        Heads::All => {
            let [first, second, third] = super::ALL_HEADS.map(|content| content.kind().title);
            format!("{first}, {second} and {third}")
        }
        Heads::Data => first.input.as_ref().map_or(String::new(), |i| format!("{}, --workers {}", i.data, i.workers)),
    };
    text += &format!(
        "\n{} of {} at {}² ({heads}), {} on {} with {}; {}, {}, {}; {}, {} timed; polyhead {} {}.\n",
        first.work,
        first.model,
        first.img_size,
        first.dtype,
        first.device,
        count_of(first.threads, "thread"),
        first.machine.cpu,
        count_of(first.machine.cores, "core"),
        first.instructions(),
        count_of(first.warmup, "warm-up step"),
        first.repeats,
        first.version,
        first.commit
    );
    for m in measurements {
        let note = m.clocks.as_ref().and_then(|c| c.note.as_ref()).map(|note| format!("note: {note}"));
        let tuning = m.tuning.as_ref().map(|hash| format!("tuning {hash}"));
        let said: Vec<String> = tuning.into_iter().chain(note).collect();
        if !said.is_empty() {
            text += &format!("\nBatch {}: {}.\n", m.batch_size, said.join("; "));
        }
    }
    text
}

/// The columns of timm's `benchmark.py`, rounded the same way; timm counts parameters in millions.
pub fn timm(measurements: &[Measurement]) -> String {
    let Some(work) = measurements.first().map(|m| m.work) else { return String::new() };
    let columns = ["samples_per_sec", "step_time", "batch_size", "img_size"].map(|column| format!("{work}_{column}"));
    let mut text = format!("model,{},param_count\n", columns.join(","));
    for m in measurements {
        text += &format!(
            "{},{:.2},{:.3},{},{},{:.2}\n",
            m.model,
            m.samples_per_sec,
            m.step_time,
            m.batch_size,
            m.img_size,
            m.param_count as f64 / 1e6
        );
    }
    text
}
