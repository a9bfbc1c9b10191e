//! `bench ops --check`: compares the nodes of a training step, each kind that `bench ops` would time in one, with the CPU's op, on
//! random images and parameters. Nodes that only frozen layers or inference have are not among them.

use super::{Options, probed};
use crate::data::random::Random;
use crate::error::{Error, Result};
use crate::executor::compare::{NodeComparison, round_to_bf16};
use crate::executor::{DeviceChoice, Store};
use crate::graph::fuse::Fusion;
use crate::reading::count_of;
use crate::tasks::Target;
use crate::train::step::Trainer;
use std::fmt;

/// The same training step on a GPU and on the CPU, with the same parameters and batch.
pub struct Pair {
    /// The trainer whose kernels are checked.
    pub gpu: Trainer,
    /// The trainer whose ops the kernels are compared with.
    pub cpu: Trainer,
    images: Vec<u8>,
    targets: Vec<Vec<Target>>,
}

impl Pair {
    /// # Errors
    /// The network cannot be built or the device is not available.
    pub fn new(options: &Options, fusion: Fusion) -> Result<Pair> {
        let on_cpu = Options { device: DeviceChoice::Cpu { threads: 0 }, ..options.clone() };
        let (mut gpu, images, targets) = probed(options, fusion)?;
        let (mut cpu, ..) = probed(&on_cpu, fusion)?;
        gpu.executor.edit_store(perturb)?;
        cpu.executor.edit_store(perturb)?;
        let mut random = Random::new(&[images.len() as u64]);
        let images = images.iter().map(|_| random.next_u64() as u8).collect();
        Ok(Pair { gpu, cpu, images, targets })
    }

    /// # Errors
    /// A GPU call fails.
    pub fn compare(&mut self) -> Result<Vec<NodeComparison>> {
        self.gpu.compare_nodes(&mut self.cpu, &self.images, &self.targets)
    }
}

/// Replaces the initial zeros and ones of every vector, which would hide a kernel that ignores it, and rounds the
/// convolutions' weights to the precision that a GPU reads.
fn perturb(store: &mut Store) {
    let mut random = Random::new(&[store.parameters.len() as u64]);
    for (range, shape) in store.update_ranges().iter().zip(store.parameters.iter().map(|p| p.shape.len())) {
        let values = &mut store.values.f32_mut()[range.start..range.start + range.len];
        match shape {
            4 => values.iter_mut().for_each(|v| *v = round_to_bf16(*v)),
            1 => values.iter_mut().for_each(|v| *v += random.between(-0.25, 0.25)),
            _ => {}
        }
    }
    store.running.f32_mut().iter_mut().for_each(|v| *v += random.between(-0.25, 0.25));
}

/// Result of a check.
pub struct Checked {
    /// One comparison for each node of the training steps.
    pub nodes: Vec<NodeComparison>,
    batch: usize,
}

impl Checked {
    fn wrong(&self) -> impl Iterator<Item = &NodeComparison> {
        self.nodes.iter().filter(|node| !node.is_right())
    }

    /// # Errors
    /// Some kernels are wrong.
    pub fn verdict(&self) -> Result<()> {
        match self.wrong().count() {
            0 => Ok(()),
            wrong => Err(Error::Other(format!("{wrong} of {} kernels are wrong: nothing was timed", self.nodes.len()))),
        }
    }
}

/// Compares the nodes of a training step, with and without fusion, including those that compare the tasks' gradients. Uses
/// `batch` images, or the timed batch size if that is smaller.
///
/// # Errors
/// The device is the CPU, which is the reference; the network cannot be built or the device is not available.
pub fn check_kernels(options: &Options, batch: usize) -> Result<Checked> {
    if matches!(options.device, DeviceChoice::Cpu { .. }) {
        return Err(Error::Usage(
            "--check compares a GPU's kernels with the CPU's ops, so there is nothing to check on --device cpu".into(),
        ));
    }
    if batch == 0 {
        return Err(Error::Usage("--check=0: expected at least 1 image".into()));
    }
    let options = Options { batch: batch.min(options.batch), ..options.clone() };
    let mut nodes = Vec::new();
    for &fusion in options.device.fusions() {
        nodes.extend(Pair::new(&options, fusion)?.compare()?);
    }
    Ok(Checked { nodes, batch: options.batch })
}

/// Prints every wrong output on a line of its own; if all are right, the output closest to its error bound.
impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for node in self.wrong() {
            for difference in node.differences.iter().filter(|d| !d.is_within()) {
                writeln!(
                    f,
                    "wrong: {}, {}, {}: {} is {:.1e} off, {:.1e} allowed; {}",
                    node.name,
                    node.sizes,
                    node.of,
                    difference.value,
                    difference.error,
                    difference.bound,
                    difference.worst
                )?;
            }
        }
        let share = |node: &NodeComparison| node.differences.iter().map(|d| d.error / d.bound).fold(0.0, f64::max);
        let nearest = self.nodes.iter().max_by(|a, b| share(a).total_cmp(&share(b)));
        write!(
            f,
            "{} checked against the CPU's ops on {}",
            count_of(self.nodes.len(), "kernel"),
            count_of(self.batch, "image")
        )?;
        match nearest {
            Some(node) if node.is_right() => {
                write!(f, "; the closest to its bound, at {:.0} %: {}, {}", 100.0 * share(node), node.name, node.sizes)
            }
            _ => write!(f, ", {} of them wrong", self.wrong().count()),
        }
    }
}
