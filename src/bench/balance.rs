//! Time per step of the balancing methods: whole training steps of each, interleaved with steps of fixed weights, on one
//! synthetic batch.

use super::{Heads, Options, architecture, check, trainer};
use crate::balance::{Balance, Method, Needs};
use crate::console::Bar;
use crate::error::Result;
use crate::executor::DeviceChoice;
use crate::graph::fuse::Fusion;
use crate::model::{Architecture, Freeze, Probe};
use crate::reading::count_of;
use crate::tasks::Target;
use crate::train::run::Machine;
use crate::train::step::Trainer;
use serde::Serialize;
use std::fmt;
use std::time::Instant;

/// A median with the smallest and the largest value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The middle value, or the mean of the two middle ones for an even number of values.
    pub median: f64,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Spread {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len();
        Spread { median: (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0, min: sorted[0], max: sorted[n - 1] }
    }
}

/// The timing of one method; the schema of `--json`'s `methods`.
#[derive(Serialize)]
pub struct MethodTime {
    /// The method's name, as `--balance` takes it.
    pub method: &'static str,
    /// Where the method compares the tasks' gradients.
    pub gradients: Place,
    /// Batches per step.
    pub batches: usize,
    /// Milliseconds per step.
    pub step_time: Spread,
    /// Images per second at the median.
    pub samples_per_sec: f64,
    /// The step's time divided by that of a step with fixed weights and the same number of batches in the same round.
    pub to_fixed: Spread,
}

/// Where a method compares the tasks' gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// Nowhere: it does not compare gradients.
    Nowhere,
    /// At the shared features.
    Features,
    /// At the weight of the last shared convolution.
    Layer,
}

/// The schema of `bench train --balance … --json`, described in benches/README.md.
#[derive(Serialize)]
pub struct BalanceMeasurement {
    /// Always `train`.
    pub work: &'static str,
    /// The backbone's name.
    pub model: &'static str,
    /// Number of tasks of the network.
    pub tasks: usize,
    /// The device the work ran on, as `--device` names it.
    pub device: String,
    /// Height and width of every image, in pixels.
    pub img_size: usize,
    /// Images in one batch; a step may have several batches.
    pub batch_size: usize,
    /// Number of CPU threads requested; all of the machine's cores if none was requested or a GPU computes.
    pub threads: usize,
    /// Warm-up rounds, which are not timed.
    pub warmup: usize,
    /// Timed rounds. Every method has one step in each round.
    pub repeats: usize,
    /// One entry per method and place of comparison.
    pub methods: Vec<MethodTime>,
    /// The release of Polyhead that measured, from Cargo.toml.
    pub version: &'static str,
    /// The git commit the program was built from, at least 12 hex digits, or `unknown` when it was built outside a repository.
    pub commit: &'static str,
    /// The computer the program ran on.
    pub machine: Machine,
}

/// Methods that need the same network and the same number of batches per step. Their steps alternate with steps of
/// fixed weights.
struct Group {
    place: Place,
    probe: Probe,
    batches: usize,
    methods: Vec<&'static Method>,
}

/// Warm-up rounds.
const WARMUP: usize = 1;

/// Times whole training steps with each method, on a network with a detection, a classification and a regression task. In each of
/// `repeats` rounds every method, and fixed weights, have one step. Methods that combine gradients are timed at both places where
/// gradients can be compared.
///
/// # Errors
/// The network cannot be built or the device is not available.
pub fn balance(options: &Options, methods: &[&'static Method]) -> Result<BalanceMeasurement> {
    let options = Options { heads: Heads::All, ..options.clone() };
    check(&options)?;
    let architecture = architecture(&options);
    let groups = groups(&architecture, methods)?;
    let steps: usize = groups.iter().map(|group| (group.methods.len() + 1) * (WARMUP + options.repeats)).sum();
    let bar = Bar::new("{bar:24} {pos}/{len} {elapsed}<{eta} {msg}").at(0, steps as u64);
    let mut done = 0;
    let mut report = |method: &str| {
        bar.set_position(done);
        bar.set_message(method.to_owned());
        done += 1;
    };
    let mut times = Vec::new();
    for group in &groups {
        times.append(&mut measure(&options, &architecture, group, &mut report)?);
    }
    bar.clear();
    let machine = Machine::this();
    Ok(BalanceMeasurement {
        work: "train",
        model: options.backbone.name(),
        tasks: architecture.tasks.len(),
        device: options.device.to_string(),
        img_size: options.imgsz,
        batch_size: options.batch,
        threads: match options.device {
            DeviceChoice::Cpu { threads } if threads > 0 => threads,
            _ => machine.cores,
        },
        warmup: WARMUP,
        repeats: options.repeats,
        methods: times,
        version: env!("CARGO_PKG_VERSION"),
        commit: env!("POLYHEAD_COMMIT"),
        machine,
    })
}

fn start(method: &'static Method, architecture: &Architecture) -> Result<Box<dyn Balance>> {
    method.for_tasks(&architecture.tasks, &vec![1.0; architecture.tasks.len()])
}

fn groups(architecture: &Architecture, methods: &[&'static Method]) -> Result<Vec<Group>> {
    let group = |place, probe, batches| Group { place, probe, batches, methods: Vec::new() };
    let mut groups = [
        group(Place::Nowhere, Probe::None, 1),
        group(Place::Features, Probe::Features, 1),
        group(Place::Layer, Probe::Layer, 1),
        group(Place::Layer, Probe::LayerGradients, 1),
        group(Place::Layer, Probe::LayerGradients, 2),
    ];
    for &method in methods {
        let needed: &[usize] = match start(method, architecture)?.needs() {
            Needs::State | Needs::Losses => &[0],
            Needs::Gramian => &[1, 2],
            Needs::Excess => &[3],
            Needs::Cross => &[4],
        };
        needed.iter().for_each(|&group| groups[group].methods.push(method));
    }
    Ok(groups.into_iter().filter(|group| !group.methods.is_empty()).collect())
}

/// A method with the milliseconds of its steps.
struct Contender {
    method: &'static Method,
    balance: Box<dyn Balance>,
    milliseconds: Vec<f64>,
}

fn measure(
    options: &Options,
    architecture: &Architecture,
    group: &Group,
    report: &mut dyn FnMut(&str),
) -> Result<Vec<MethodTime>> {
    let (mut trainer, images, targets) = trainer(options, architecture, Fusion::On, &Freeze::default(), group.probe)?;
    // A learning rate of 0 keeps the network the same for all methods.
    trainer.config.schedule.lr = 0.0;
    let contender = |method| Ok(Contender { method, balance: start(method, architecture)?, milliseconds: Vec::new() });
    let mut fixed = contender(Method::named("fixed")?)?;
    let others = group.methods.iter().filter(|method| **method != fixed.method);
    let mut others = others.map(|&method| contender(method)).collect::<Result<Vec<_>>>()?;
    for round in 0..WARMUP + options.repeats {
        for contender in std::iter::once(&mut fixed).chain(&mut others) {
            report(contender.method.name);
            let elapsed = step(&mut trainer, &mut contender.balance, &images, &targets, group.batches)?;
            if round >= WARMUP {
                contender.milliseconds.push(elapsed);
            }
        }
    }
    let asked = group.methods.contains(&fixed.method).then_some(&fixed);
    let time = |contender: &Contender| method_time(options.batch, group, contender, &fixed.milliseconds);
    Ok(asked.into_iter().chain(&others).map(time).collect())
}

/// Milliseconds of one step with a method, which continues from its own state.
fn step(
    trainer: &mut Trainer,
    balance: &mut Box<dyn Balance>,
    images: &[u8],
    targets: &[Vec<Target>],
    batches: usize,
) -> Result<f64> {
    std::mem::swap(&mut trainer.balance, balance);
    let start = Instant::now();
    let report = trainer.accumulated_step(&vec![(images, targets); batches]);
    let elapsed = start.elapsed().as_secs_f64() * 1e3;
    std::mem::swap(&mut trainer.balance, balance);
    report.map(|_| elapsed)
}

fn method_time(batch: usize, group: &Group, contender: &Contender, fixed: &[f64]) -> MethodTime {
    let step_time = Spread::of(contender.milliseconds.iter().copied());
    MethodTime {
        method: contender.method.name,
        gradients: group.place,
        batches: group.batches,
        step_time,
        samples_per_sec: (batch * group.batches) as f64 / step_time.median * 1e3,
        to_fixed: Spread::of(contender.milliseconds.iter().zip(fixed).map(|(own, fixed)| own / fixed)),
    }
}

impl BalanceMeasurement {
    /// The table, followed by the conditions of the measurement.
    pub fn markdown(&self) -> String {
        let mut text = "| method | gradients | batches per step | images/s | ms per step | fastest–slowest | ÷ fixed | smallest–largest |\n".to_owned();
        text += "|---|---|---|---|---|---|---|---|\n";
        for m in &self.methods {
            let (time, ratio) = (m.step_time, m.to_fixed);
            let place = match m.gradients {
                Place::Nowhere => "",
                Place::Features => "features",
                Place::Layer => "layer",
            };
            text += &format!(
                "| {} | {place} | {} | {:.1} | {:.1} | {:.1}–{:.1} | {:.3} | {:.3}–{:.3} |\n",
                m.method,
                m.batches,
                m.samples_per_sec,
                time.median,
                time.min,
                time.max,
                ratio.median,
                ratio.min,
                ratio.max
            );
        }
        text + &format!(
            "\ntrain of {} at {}² (a classification, a detection and a regression), batch {}, on {} with {}; {}, {}, {}; rounds of one step each: {} warm-up, {} timed; polyhead {} {}.\n",
            self.model,
            self.img_size,
            self.batch_size,
            self.device,
            count_of(self.threads, "thread"),
            self.machine.cpu,
            count_of(self.machine.cores, "core"),
            self.machine.instruction_set,
            self.warmup,
            self.repeats,
            self.version,
            self.commit
        )
    }
}

impl fmt::Display for BalanceMeasurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.markdown().trim_end())
    }
}
