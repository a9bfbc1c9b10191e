//! Where a training step's time goes: every kind of work of the model's own network by its sizes, timed inside whole steps,
//! against what the device can do at most and against the same list without fusion.

use super::clocks::{Readings, reading};
use super::{Options, training};
use crate::error::Result;
use crate::executor::{Ceilings, NodeTime};
use crate::graph::fuse::Fusion;
use crate::train::run::Machine;
use crate::train::step::Trainer;
use serde::Serialize;
use std::fmt;

/// One kind of work at one size; the schema of `--json`'s `ops`.
#[derive(Serialize)]
pub struct OpTime {
    pub op: String,
    pub sizes: String,
    /// How often a step does it.
    pub count: usize,
    /// Milliseconds of one, the median over repeats and occurrences.
    pub time: f64,
    /// Milliseconds of all of a step.
    pub total: f64,
    pub gflop: f64,
    pub gflop_per_second: f64,
    pub gb_per_second: f64,
    /// Share of the nearer of the two ceilings, 0–1.
    pub of_ceiling: f64,
}

/// The schema of `bench ops --json`, described in benches/README.md.
#[derive(Serialize)]
pub struct OpsMeasurement {
    pub work: &'static str,
    pub model: &'static str,
    pub device: String,
    pub img_size: usize,
    pub batch_size: usize,
    pub repeats: usize,
    /// Measured in this run.
    pub ceiling_gb_per_second: f64,
    pub ceiling_gflop_per_second: Option<f64>,
    /// Milliseconds of segments 1 to 3 as the sum of their nodes, fused and not.
    pub fused: f64,
    pub unfused: f64,
    /// Milliseconds of segment 4, which is in neither.
    pub update: f64,
    /// Longest in total first; last the update.
    pub ops: Vec<OpTime>,
    /// Around the fused list, where the device says them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clocks: Option<Readings>,
    /// [`Executor::tuning_hash`](crate::executor::Executor::tuning_hash) of the fused list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tuning: Option<String>,
    pub version: &'static str,
    pub commit: &'static str,
    pub machine: Machine,
}

/// Times the nodes of a training step, and its update.
///
/// # Errors
/// A network or device that cannot be had.
pub fn ops(options: &Options) -> Result<OpsMeasurement> {
    let Fused { nodes: fused, update, ceilings, clocks, tuning } = fused(options)?;
    let (mut trainer, images, targets) = training(options, Fusion::Off)?;
    let unfused = trainer.time_nodes(&images, &targets, options.repeats)?;
    let total = |nodes: &[NodeTime]| nodes.iter().map(|n| median(&n.milliseconds)).sum();
    Ok(OpsMeasurement {
        work: "ops",
        model: options.backbone.name(),
        device: options.device.to_string(),
        img_size: options.imgsz,
        batch_size: options.batch,
        repeats: options.repeats,
        ceiling_gb_per_second: ceilings.bytes_per_second / 1e9,
        ceiling_gflop_per_second: ceilings.flops_per_second.map(|f| f / 1e9),
        fused: total(&fused),
        unfused: total(&unfused),
        update: median(&update.milliseconds),
        ops: [table(&fused, ceilings), table(&[update], ceilings)].into_iter().flatten().collect(),
        clocks,
        tuning,
        version: env!("CARGO_PKG_VERSION"),
        commit: env!("POLYHEAD_COMMIT"),
        machine: Machine::this(),
    })
}

/// What is measured of the fused list.
struct Fused {
    nodes: Vec<NodeTime>,
    update: NodeTime,
    ceilings: Ceilings,
    clocks: Option<Readings>,
    tuning: Option<String>,
}

fn fused(options: &Options) -> Result<Fused> {
    let (mut trainer, images, targets) = training(options, Fusion::On)?;
    let gauge = trainer.executor.gauge();
    let read = |trainer: &mut Trainer| {
        reading(gauge.as_ref(), |look| {
            trainer.load(&images, &targets)?;
            trainer.start()?;
            look();
            trainer.finish().map(|_| ())
        })
    };
    let before = read(&mut trainer)?;
    let nodes = trainer.time_nodes(&images, &targets, options.repeats)?;
    let after = read(&mut trainer)?;
    let update = trainer.time_update(options.repeats)?;
    let ceilings = trainer.executor.ceilings()?;
    let clocks = before.zip(after).map(|(before, after)| Readings::new(before, after));
    Ok(Fused { nodes, update, ceilings, clocks, tuning: trainer.executor.tuning_hash() })
}

fn table(nodes: &[NodeTime], ceilings: Ceilings) -> Vec<OpTime> {
    let mut groups: Vec<(&NodeTime, Vec<f64>, usize)> = Vec::new();
    for node in nodes {
        match groups.iter_mut().find(|(first, ..)| first.name == node.name && first.sizes == node.sizes) {
            Some((_, times, count)) => {
                times.extend(&node.milliseconds);
                *count += 1;
            }
            None => groups.push((node, node.milliseconds.clone(), 1)),
        }
    }
    let row = |(node, times, count): (&NodeTime, Vec<f64>, usize)| {
        let time = median(&times);
        let (flops, bytes) = (node.cost.flops as f64, node.cost.bytes as f64);
        let least = (bytes / ceilings.bytes_per_second).max(ceilings.flops_per_second.map_or(0.0, |c| flops / c));
        OpTime {
            op: node.name.clone(),
            sizes: node.sizes.clone(),
            count,
            time,
            total: time * count as f64,
            gflop: flops / 1e9,
            gflop_per_second: flops / time / 1e6,
            gb_per_second: bytes / time / 1e6,
            of_ceiling: least / time * 1e3,
        }
    };
    let mut rows: Vec<OpTime> = groups.into_iter().map(row).collect();
    rows.sort_by(|a, b| b.total.total_cmp(&a.total));
    rows
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n => (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0,
    }
}

/// A Markdown table, so that it can be kept as it is printed.
impl fmt::Display for OpsMeasurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| op | sizes | count | ms each | ms in all | GFLOP/s | GB/s | of ceiling |\n|---|---|---|---|---|---|---|---|"
        )?;
        for op in &self.ops {
            writeln!(
                f,
                "| {} | {} | {} | {:.3} | {:.2} | {:.0} | {:.1} | {:.0} % |",
                op.op,
                op.sizes,
                op.count,
                op.time,
                op.total,
                op.gflop_per_second,
                op.gb_per_second,
                100.0 * op.of_ceiling
            )?;
        }
        let multiply = self.ceiling_gflop_per_second.map_or(String::new(), |c| format!(" and {c:.0} GFLOP/s"));
        write!(
            f,
            "\nA training step of {} at {}², batch {}, on {}: {:.1} ms in its nodes, {:.1} ms without fusion ({:.2}×); \
             {:.1} ms in the update, which is no node and in neither. \
             Ceilings measured in this run: {:.1} GB/s{multiply}.",
            self.model,
            self.img_size,
            self.batch_size,
            self.device,
            self.fused,
            self.unfused,
            self.unfused / self.fused,
            self.update,
            self.ceiling_gb_per_second
        )?;
        if let Some(hash) = &self.tuning {
            write!(f, " Tuning {hash}.")?;
        }
        match &self.clocks {
            Some(clocks) => write!(f, "\n\n{clocks}"),
            None => Ok(()),
        }
    }
}
