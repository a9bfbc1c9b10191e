//! Time of each kind of node in a training step and an evaluation. Every kind is timed at each of its sizes inside whole steps,
//! and compared with the device's ceilings and with the same list without fusion.

use super::clocks::{Readings, reading};
use super::steps::write_libraries;
use super::{Options, architecture, frozen, initial_model, probed, synthetic_images, training};
use crate::device::cpu::IsaName;
use crate::error::Result;
use crate::executor::{Ceilings, LoadedLibrary, NodeTime};
use crate::graph::fuse::Fusion;
use crate::model::Card;
use crate::train::run::Machine;
use crate::train::step::{StepTargets, Trainer};
use serde::Serialize;
use std::fmt;

/// One kind of node at one size and cost; the schema of `--json`'s `ops`.
#[derive(Serialize)]
pub struct OpTime {
    pub op: String,
    pub sizes: String,
    /// The list it was timed in.
    pub list: List,
    /// Number of occurrences in that list.
    pub count: usize,
    /// Milliseconds of one occurrence, the median over repeats and occurrences.
    pub time: f64,
    /// Milliseconds of all occurrences in a step.
    pub total: f64,
    pub gflop: f64,
    pub gflop_per_second: f64,
    pub gb_per_second: f64,
    /// Share of the closer of the two ceilings, 0–1.
    pub of_ceiling: f64,
    /// Milliseconds that cuDNN takes for the same convolution without its epilogue, if cuDNN is available.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cudnn_time: Option<f64>,
}

/// The timed lists. Plain, frozen and probe report only kinds that the previous lists do not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum List {
    /// A training step as it normally runs.
    Fused,
    /// The same without fusion.
    Plain,
    /// A training step with the stem and every batch norm frozen, for a multi-label task.
    Frozen,
    /// A training step that compares the tasks' gradients at the last shared convolution.
    Probe,
    /// An evaluation's forward pass.
    Inference,
    Update,
}

/// The schema of `bench ops --json`, described in benches/README.md.
#[derive(Serialize)]
pub struct OpsMeasurement {
    /// Always `ops`.
    pub work: &'static str,
    /// The backbone's name.
    pub model: &'static str,
    /// The device the work ran on, as `--device` names it.
    pub device: String,
    /// See [`Measurement`](super::Measurement).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isa: Option<IsaName>,
    /// Height and width of every image, in pixels.
    pub img_size: usize,
    /// Images in a batch.
    pub batch_size: usize,
    /// Number of times each node is timed.
    pub repeats: usize,
    /// Memory bandwidth ceiling, measured in this run.
    pub ceiling_gb_per_second: f64,
    /// Multiply ceiling, measured in this run; `None` on a GPU without cuBLAS.
    pub ceiling_gflop_per_second: Option<f64>,
    /// Milliseconds of segments 1 to 3 with fusion, as the sum of their nodes.
    pub fused: f64,
    /// Milliseconds of the same segments without fusion.
    pub unfused: f64,
    /// Milliseconds of segment 4, which neither of the two includes.
    pub update: f64,
    /// Milliseconds of an evaluation's forward pass as the sum of its nodes.
    pub inference: f64,
    /// All rows, list by list; within a list, the largest total first.
    pub ops: Vec<OpTime>,
    /// Clocks before and after the fused list, if the device reports them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clocks: Option<Readings>,
    /// [`Executor::tuning_hash`](crate::executor::Executor::tuning_hash) of the fused list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tuning: Option<String>,
    /// [`Executor::libraries`](crate::executor::Executor::libraries).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub libraries: Vec<LoadedLibrary>,
    /// The release of Polyhead that measured, from Cargo.toml.
    pub version: &'static str,
    /// The git commit the program was built from, at least 12 hex digits, or `unknown` when it was built outside a repository.
    pub commit: &'static str,
    /// The computer the program ran on.
    pub machine: Machine,
}

/// Times the nodes of a training step, and its update.
///
/// # Errors
/// The network cannot be built or the device is not available.
pub fn ops(options: &Options) -> Result<OpsMeasurement> {
    let Fused { nodes: fused, update, ceilings, clocks, isa, tuning, libraries } = fused(options)?;
    let (mut trainer, images, targets) = training(options, Fusion::Off)?;
    let unfused = trainer.time_nodes(&images, &targets, options.repeats)?;
    drop(trainer);
    let (mut trainer, images, targets) = frozen(options)?;
    let frozen = trainer.time_nodes(&images, &targets, options.repeats)?;
    drop(trainer);
    let (mut trainer, images, targets) = probed(options, Fusion::On)?;
    let probe = trainer.time_nodes(&images, &targets, options.repeats)?;
    let mut ops: Vec<OpTime> = Vec::new();
    let lists = [(List::Fused, &fused), (List::Plain, &unfused), (List::Frozen, &frozen), (List::Probe, &probe)];
    for (list, nodes) in lists {
        let known: Vec<String> = ops.iter().map(|op| kind(&op.op).to_owned()).collect();
        let new: Vec<NodeTime> =
            nodes.iter().filter(|n| !known.iter().any(|known| known == kind(&n.name))).cloned().collect();
        ops.extend(table(list, &new, ceilings));
    }
    let inference = inference(options)?;
    ops.extend(table(List::Inference, &inference, ceilings));
    ops.extend(table(List::Update, std::slice::from_ref(&update), ceilings));
    let total = |nodes: &[NodeTime]| nodes.iter().map(|n| median(&n.milliseconds)).sum();
    Ok(OpsMeasurement {
        work: "ops",
        model: options.backbone.name(),
        device: options.device.to_string(),
        isa,
        img_size: options.imgsz,
        batch_size: options.batch,
        repeats: options.repeats,
        ceiling_gb_per_second: ceilings.bytes_per_second / 1e9,
        ceiling_gflop_per_second: ceilings.flops_per_second.map(|f| f / 1e9),
        fused: total(&fused),
        unfused: total(&unfused),
        update: median(&update.milliseconds),
        inference: total(&inference),
        ops,
        clocks,
        tuning,
        libraries,
        version: env!("CARGO_PKG_VERSION"),
        commit: env!("POLYHEAD_COMMIT"),
        machine: Machine::this(),
    })
}

/// Measurements of the fused list.
struct Fused {
    nodes: Vec<NodeTime>,
    update: NodeTime,
    ceilings: Ceilings,
    clocks: Option<Readings>,
    isa: Option<IsaName>,
    tuning: Option<String>,
    libraries: Vec<LoadedLibrary>,
}

fn fused(options: &Options) -> Result<Fused> {
    let (mut trainer, images, targets) = training(options, Fusion::On)?;
    let gauge = trainer.executor.gauge();
    let read = |trainer: &mut Trainer| {
        reading(gauge.as_ref(), |while_running| {
            let targets = StepTargets::new(&[&targets]);
            trainer.load(&images, &targets, 0)?;
            trainer.begin(&targets);
            trainer.start()?;
            while_running();
            trainer.finish().map(|_| ())
        })
    };
    let before = read(&mut trainer)?;
    let nodes = trainer.time_nodes(&images, &targets, options.repeats)?;
    let after = read(&mut trainer)?;
    let update = trainer.time_update(options.repeats)?;
    let ceilings = trainer.executor.ceilings()?;
    let clocks = before.zip(after).map(|(before, after)| Readings::new(before, after));
    let (isa, tuning, libraries) =
        (trainer.executor.isa(), trainer.executor.tuning_hash(), trainer.executor.libraries());
    Ok(Fused { nodes, update, ceilings, clocks, isa, tuning, libraries })
}

fn inference(options: &Options) -> Result<Vec<NodeTime>> {
    let card = Card::new(architecture(options), options.imgsz);
    let shape = [options.batch, options.imgsz, options.imgsz];
    initial_model(card, options)?.time_nodes(shape, &synthetic_images(options), options.repeats)
}

/// A node's name without its window and the ops fused into it.
fn kind(name: &str) -> &str {
    let words = name.match_indices(' ').map(|(at, _)| at);
    // `conv2d fprop 3×3 + bias` and `batch_norm apply + ReLU` have two words, all other names one.
    let two = ["conv2d ", "batch_norm "].iter().any(|start| name.starts_with(start));
    words.into_iter().nth(usize::from(two)).map_or(name, |at| &name[..at])
}

fn table(list: List, nodes: &[NodeTime], ceilings: Ceilings) -> Vec<OpTime> {
    let mut groups: Vec<Vec<&NodeTime>> = Vec::new();
    for node in nodes {
        let alike = |of: &NodeTime| (&of.name, &of.sizes, of.cost) == (&node.name, &node.sizes, node.cost);
        match groups.iter_mut().find(|group| alike(group[0])) {
            Some(group) => group.push(node),
            None => groups.push(vec![node]),
        }
    }
    let row = |group: Vec<&NodeTime>| {
        let (node, count) = (group[0], group.len());
        let all =
            |times: fn(&NodeTime) -> &[f64]| -> Vec<f64> { group.iter().flat_map(|n| times(n)).copied().collect() };
        let time = median(&all(|n| &n.milliseconds));
        let by_library = all(|n| &n.plain_by_library);
        let (flops, bytes) = (node.cost.flops as f64, node.cost.bytes as f64);
        let least = (bytes / ceilings.bytes_per_second).max(ceilings.flops_per_second.map_or(0.0, |c| flops / c));
        OpTime {
            op: node.name.clone(),
            sizes: node.sizes.clone(),
            list,
            count,
            time,
            total: time * count as f64,
            gflop: flops / 1e9,
            gflop_per_second: flops / time / 1e6,
            gb_per_second: bytes / time / 1e6,
            of_ceiling: least / time * 1e3,
            cudnn_time: (!by_library.is_empty()).then(|| median(&by_library)),
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

/// A Markdown table, so that the printed output can be saved directly.
impl fmt::Display for OpsMeasurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with_cudnn = self.ops.iter().any(|op| op.cudnn_time.is_some());
        let (title, rule) = if with_cudnn { (" cuDNN plain, ms each |", "---|") } else { ("", "") };
        writeln!(
            f,
            "| op | sizes | count | ms each | ms total | GFLOP/s | GB/s | of ceiling |{title}\n|---|---|---|---|---|---|---|---|{rule}"
        )?;
        for op in &self.ops {
            let elsewhere = match op.list {
                List::Plain => " (not fused)",
                List::Frozen => " (with frozen layers)",
                List::Probe => " (probe)",
                List::Inference => " (inference)",
                List::Fused | List::Update => "",
            };
            write!(
                f,
                "| {}{elsewhere} | {} | {} | {:.3} | {:.2} | {:.0} | {:.1} | {:.0} % |",
                op.op,
                op.sizes,
                op.count,
                op.time,
                op.total,
                op.gflop_per_second,
                op.gb_per_second,
                100.0 * op.of_ceiling
            )?;
            match op.cudnn_time {
                _ if !with_cudnn => writeln!(f)?,
                Some(time) => writeln!(f, " {time:.3} |")?,
                None => writeln!(f, " |")?,
            }
        }
        let multiply = self.ceiling_gflop_per_second.map_or(String::new(), |c| format!(" and {c:.0} GFLOP/s"));
        write!(
            f,
            "\nA training step of {} at {}², batch {}, on {}{}: {:.1} ms in its nodes, {:.1} ms without fusion ({:.2}×); \
             {:.1} ms in the update, which is not a node and is in neither sum; an evaluation's forward pass {:.1} ms. \
             Ceilings measured in this run: {:.1} GB/s{multiply}.",
            self.model,
            self.img_size,
            self.batch_size,
            self.device,
            self.isa.map_or(String::new(), |isa| format!(" ({isa})")),
            self.fused,
            self.unfused,
            self.unfused / self.fused,
            self.update,
            self.inference,
            self.ceiling_gb_per_second
        )?;
        if let Some(hash) = &self.tuning {
            write!(f, " Tuning {hash}.")?;
        }
        if !self.libraries.is_empty() {
            writeln!(f)?;
        }
        write_libraries(f, &self.libraries)?;
        match &self.clocks {
            Some(clocks) => write!(f, "\n\n{clocks}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::cost::Cost;

    fn node(sizes: &str, milliseconds: &[f64], plain_by_library: &[f64]) -> NodeTime {
        NodeTime {
            name: "conv2d fprop 1×1".into(),
            sizes: sizes.into(),
            cost: Cost { flops: 2_000_000, bytes: 1_000_000 },
            milliseconds: milliseconds.to_vec(),
            plain_by_library: plain_by_library.to_vec(),
        }
    }

    #[test]
    fn nodes_of_one_size_and_other_costs_are_other_rows() {
        let mut nodes = [node("a", &[1.0], &[]), node("a", &[5.0], &[]), node("a", &[1.0], &[])];
        nodes[1].cost.bytes = 4_000_000;
        let rows = table(List::Fused, &nodes, Ceilings { bytes_per_second: 1e9, flops_per_second: None });
        let found: Vec<_> = rows.iter().map(|r| (r.count, r.total, r.gb_per_second)).collect();
        assert_eq!(found, [(1, 5.0, 0.8), (2, 2.0, 1.0)]);
    }

    #[test]
    fn nodes_of_one_kind_and_size_are_one_row() {
        let nodes = [node("a", &[1.0, 3.0], &[4.0]), node("b", &[9.0], &[]), node("a", &[2.0], &[6.0, 8.0])];
        let ceilings = Ceilings { bytes_per_second: 1e9, flops_per_second: Some(1e9) };
        let rows = table(List::Fused, &nodes, ceilings);
        let found: Vec<_> = rows.iter().map(|r| (r.sizes.as_str(), r.count, r.time, r.total, r.cudnn_time)).collect();
        assert_eq!(found, [("b", 1, 9.0, 9.0, None), ("a", 2, 2.0, 4.0, Some(6.0))]);
        // 2 ms of multiply-adds at the ceiling, in 2 ms.
        assert_eq!((rows[1].of_ceiling, rows[1].gb_per_second), (1.0, 0.5));
    }
}
