//! Checks every node of a GPU's plan against the CPU's op. Both get the values that the GPU's earlier nodes wrote, so that an
//! error is found in the kernel that causes it and not in a later one.
//!
//! The bounds apply to the relative error ‖GPU − CPU‖ / ‖CPU‖ over all elements of an output:
//!
//! - A value stored in bf16 may be off by twice the error of rounding the CPU's f32 result to bf16. A plain bf16 computation
//!   makes that error once; twice covers an epilogue that rounds once more.
//! - (4·√n + 16)·2⁻²⁴ is added to that, and is the whole bound for values stored in f32; n is the number of terms of the longest
//!   sum. Both sides add the same terms in another order, and n roundings of 2⁻²⁴ in random directions grow as √n (Higham & Mary
//!   2019), of which four times is allowed. The 16 covers operations on single numbers, among them exp and log. Through the shim,
//!   which rounds as the CPU does, at most a ninth of the bound was seen (ResNet-18 with 4 images of 64²).
//! - wgrad gets n/16·2⁻²⁴ more: a GPU's matrix units truncate towards zero where they should round, once in 16 terms (Fasi et al.
//!   2021), an error that grows as n.
//!
//! One missing term of n changes a random sum by 1/√n. That exceeds these bounds up to n = 2¹⁸, which is 20 images of 224².
//!
//! A convolution on the GPU reads bf16 weights, so the caller gives both sides weights that are exact in bf16.

use super::{CpuExecutor, CudaExecutor, StepScalars};
use crate::error::{Error, Result};
use crate::ir::{DType, Graph, Node, Place, ValueId};
use crate::ops::{Quantities, operation};

/// One node and what it wrote.
#[derive(Clone, Debug)]
pub struct NodeComparison {
    /// The op's name, with the ops fused into it.
    pub name: String,
    /// The sizes that distinguish this node from others with the same name.
    pub sizes: String,
    /// The parameter that it reads or differentiates; its first output if there is none.
    pub of: String,
    /// One entry for each output and quantity.
    pub differences: Vec<Difference>,
}

impl NodeComparison {
    /// Whether every difference is within its bound.
    pub fn is_right(&self) -> bool {
        self.differences.iter().all(Difference::is_within)
    }
}

/// The difference between the GPU's and the CPU's result for one quantity that a node wrote.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The value's name, and the part of it if it holds several quantities.
    pub value: String,
    /// Infinite for faults that are not a distance: poison, wrong padding, two runs that differ.
    pub error: f64,
    /// The largest difference that rounding explains.
    pub bound: f64,
    /// The element with the largest difference or a non-finite number, or another fault.
    pub worst: String,
}

impl Difference {
    /// Whether rounding explains the difference.
    pub fn is_within(&self) -> bool {
        self.error <= self.bound
    }
}

/// Rounds to the nearest bf16 number, ties to even. `v` is finite.
pub fn round_to_bf16(v: f32) -> f32 {
    let bits = v.to_bits();
    f32::from_bits(bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
}

/// The values a node writes: its outputs, and the running statistics that batch norm updates.
pub(super) fn written(node: &Node) -> Vec<ValueId> {
    let updated = operation(&node.op).updated_inputs().iter().map(|&index| &node.inputs[index]);
    node.outputs.iter().chain(updated).copied().collect()
}

/// Whether node `index` adds to `value` instead of replacing it: a gradient in the Store, or a value that an earlier node wrote.
pub(super) fn adds_to(graph: &Graph, index: usize, value: ValueId) -> bool {
    let is_written = |node: &Node| node.outputs.contains(&value);
    matches!(graph.value(value).place, Place::Gradient(_)) || graph.nodes[..index].iter().any(is_written)
}

/// Compares node by node, in order. Both have the same parameters and batch. Gradients and running statistics are overwritten.
///
/// # Errors
/// Plans with different nodes, or a GPU that refuses a call.
pub fn nodes(
    (gpu, ours): (&mut CudaExecutor, usize),
    (cpu, theirs): (&mut CpuExecutor, usize),
    scalars: &StepScalars,
) -> Result<Vec<NodeComparison>> {
    let (physical, logical) = (gpu.graph(ours).clone(), cpu.graph(theirs).clone());
    let alike = |(a, b): (&Node, &Node)| a.op == b.op && a.inputs == b.inputs && a.outputs == b.outputs;
    if physical.nodes.len() != logical.nodes.len() || !physical.nodes.iter().zip(&logical.nodes).all(alike) {
        return Err(Error::Other("the GPU's plan and the CPU's plan have different nodes".into()));
    }
    gpu.start_inspection(ours, scalars)?;
    let mut pair = Pair { gpu, ours, cpu, theirs, scalars, physical: &physical, logical: &logical };
    (0..logical.nodes.len()).map(|index| pair.compare(index)).collect()
}

struct Pair<'a> {
    gpu: &'a mut CudaExecutor,
    ours: usize,
    cpu: &'a mut CpuExecutor,
    theirs: usize,
    scalars: &'a StepScalars,
    physical: &'a Graph,
    logical: &'a Graph,
}

impl Pair<'_> {
    fn compare(&mut self, index: usize) -> Result<NodeComparison> {
        let node = &self.logical.nodes[index];
        self.hand_over(index)?;
        self.cpu.run_node(self.theirs, node, self.scalars)?;
        let written = self.gpu.run_node(self.ours, index)?;
        let mut differences = Vec::new();
        for (position, output) in written.iter().enumerate() {
            if position == 1 && differences.iter().all(Difference::is_within) {
                self.sum_what_was_stored(node, &written[0].numbers)?;
            }
            let expected = self.cpu.value(self.theirs, output.value);
            let compared = self.differences(node, position, output.value, &output.numbers, &expected);
            let wrong = output.fault.is_some() || !compared.iter().all(Difference::is_within);
            differences.extend(compared);
            if let Some(fault) = output.fault {
                let value = self.logical.value(output.value).name.clone();
                differences.push(Difference { value, error: f64::INFINITY, bound: 0.0, worst: fault.into() });
            }
            if wrong {
                // The nodes that read it must be judged on correct numbers.
                let len = self.physical.shape(output.value)[0] * self.width(output.value);
                self.gpu.set_value(self.ours, output.value, &fit(&expected, self.width(output.value), len))?;
            }
        }
        let stored = |v: &&ValueId| matches!(self.logical.value(**v).place, Place::Parameter(_) | Place::Gradient(_));
        let named = node.inputs.iter().chain(&node.outputs).find(stored).unwrap_or(&node.outputs[0]);
        Ok(NodeComparison {
            name: operation(&node.op).name(),
            sizes: operation(&node.op).sizes(self.physical, &self.physical.nodes[index]),
            of: self.logical.value(*named).name.clone(),
            differences,
        })
    }

    /// Copies the values that node `index` reads from the GPU to the CPU. Gradients that it adds to start at zero on both.
    fn hand_over(&mut self, index: usize) -> Result<()> {
        let node = &self.logical.nodes[index];
        for &input in &node.inputs {
            if matches!(self.logical.value(input).place, Place::Arena | Place::Buffer(_)) {
                let numbers = self.gpu.value(self.ours, input)?;
                let fitted = fit(&numbers, self.width(input), self.logical.value(input).len());
                self.cpu.set_value(self.theirs, input, &fitted);
            }
        }
        for &output in &node.outputs {
            if adds_to(self.logical, index, output) {
                self.cpu.set_value(self.theirs, output, &vec![0.0; self.logical.value(output).len()]);
            }
        }
        Ok(())
    }

    /// Repeats the sums of a convolution's epilogue on the CPU over the values that the GPU stored. The GPU takes its sums over
    /// rounded values; from the same values only the order of the sum can differ.
    fn sum_what_was_stored(&mut self, node: &Node, stored: &[f32]) -> Result<()> {
        if let Some(sums) = operation(&node.op).sums_of_stored(node) {
            self.cpu.set_value(self.theirs, node.outputs[0], stored);
            self.cpu.run_node(self.theirs, &sums, self.scalars)?;
        }
        Ok(())
    }

    /// The number of elements in one row of a value's first dimension.
    fn width(&self, value: ValueId) -> usize {
        self.logical.shape(value)[1..].iter().product()
    }

    fn differences(
        &self,
        node: &Node,
        position: usize,
        value: ValueId,
        ours: &[f32],
        theirs: &[f32],
    ) -> Vec<Difference> {
        let (name, shape) = (&self.logical.value(value).name, self.logical.shape(value));
        let Quantities { names: parts, axis, totals: only_totals } = operation(&node.op).quantities(node, position);
        let width = self.width(value);
        let (ours, theirs) = match only_totals {
            true => (totals(ours, width), totals(theirs, width)),
            false => (ours.to_vec(), theirs.to_vec()),
        };
        let inner: usize = shape.iter().skip(axis + 1).product();
        let stored = self.physical.value(value).dtype == DType::Bf16;
        let order = order(self.logical, node);
        let part = |(part, quantity): (usize, &&str)| {
            let mine = (0..ours.len()).filter(|i| parts.len() == 1 || i / inner % parts.len() == part);
            let name = if quantity.is_empty() { name.clone() } else { format!("{name} ({quantity})") };
            difference(name, shape, stored, order, mine.map(|i| (i, ours[i], theirs[i])))
        };
        parts.iter().enumerate().map(part).collect()
    }
}

/// `numbers` unchanged if there are `len` of them; otherwise the sum of their rows of `width`, padded with zeros to `len`.
fn fit(numbers: &[f32], width: usize, len: usize) -> Vec<f32> {
    if numbers.len() == len {
        return numbers.to_vec();
    }
    let mut fitted = totals(numbers, width);
    fitted.resize(len, 0.0);
    fitted
}

/// The sum of all rows of `width` numbers.
fn totals(numbers: &[f32], width: usize) -> Vec<f32> {
    let column = |c: usize| numbers.iter().skip(c).step_by(width).map(|&v| f64::from(v)).sum::<f64>() as f32;
    (0..width).map(column).collect()
}

/// The difference that another order of a sum may make. The sums of a group norm are longer than
/// [`crate::ops::Operation::longest_sum`] says, by the number of channels in a group.
fn order(graph: &Graph, node: &Node) -> f64 {
    let operation = operation(&node.op);
    let terms = operation.longest_sum(graph, node) as f64;
    let cut = if operation.is_summed_by_matrix_units() { terms / 16.0 } else { 0.0 };
    (4.0 * terms.sqrt() + cut + 16.0) / f64::from(1 << 24)
}

/// Measures one quantity from `(index, GPU, CPU)`. `stored`: the GPU rounds it to bf16. `order`: the further error allowed.
fn difference(
    value: String,
    shape: &[usize],
    stored: bool,
    order: f64,
    pairs: impl Iterator<Item = (usize, f32, f32)>,
) -> Difference {
    let (mut apart, mut rounding, mut size) = (0.0f64, 0.0f64, 0.0f64);
    let (mut farthest, mut worst) = (-1.0, String::new());
    for (index, ours, theirs) in pairs {
        let off = f64::from(ours) - f64::from(theirs);
        apart += off * off;
        size += f64::from(theirs).powi(2);
        rounding += (f64::from(round_to_bf16(theirs)) - f64::from(theirs)).powi(2);
        let far = if off.is_nan() { f64::INFINITY } else { off.abs() };
        if far > farthest {
            (farthest, worst) = (far, format!("{:?} is {ours}, {theirs} on the CPU", coordinates(index, shape)));
        }
    }
    let relative = |square: f64| if square == 0.0 { 0.0 } else { (square / size).sqrt() };
    let bound = order + if stored { 2.0 * relative(rounding) } else { 0.0 };
    let error = if apart.is_finite() { relative(apart) } else { f64::INFINITY };
    Difference { value, error, bound, worst }
}

fn coordinates(mut index: usize, shape: &[usize]) -> Vec<usize> {
    let mut at: Vec<usize> = shape.iter().rev().map(|&size| (index % size, index /= size).0).collect();
    at.reverse();
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(stored: bool, pairs: &[(f32, f32)]) -> Difference {
        let pairs = pairs.iter().enumerate().map(|(i, &(ours, theirs))| (i, ours, theirs));
        difference("y".into(), &[2, 2], stored, 1e-6, pairs)
    }

    #[test]
    fn rounding_goes_to_the_nearest_and_ties_to_the_even() {
        let unit = 1.0 / 128.0;
        let cases = [(1.0, 1.0), (1.0 + 0.49 * unit, 1.0), (1.0 + 0.5 * unit, 1.0), (1.0 + 0.51 * unit, 1.0 + unit)];
        for (v, rounded) in cases.into_iter().chain([(1.0 + 1.5 * unit, 1.0 + 2.0 * unit), (0.0, 0.0)]) {
            assert_eq!([round_to_bf16(v), round_to_bf16(-v)], [rounded, -rounded]);
        }
    }

    #[test]
    fn one_rounding_is_within_the_bound_and_a_wrong_number_is_not() {
        let numbers = [0.3f32, -1.7, 2.9, 0.01];
        let rounded = numbers.map(|v| (round_to_bf16(v), v));
        assert!(measure(true, &rounded).is_within());
        assert!(!measure(false, &rounded).is_within());
        let mut wrong = rounded;
        wrong[2].0 = 2.85;
        let found = measure(true, &wrong);
        assert!(!found.is_within() && found.worst.starts_with("[1, 0] is 2.85"), "{found:?}");
    }

    #[test]
    fn poison_is_located_and_zeros_must_be_zeros() {
        let poisoned = measure(true, &[(1.0, 1.0), (f32::NAN, 2.0), (3.0, 3.0), (4.0, 4.0)]);
        assert!(!poisoned.is_within() && poisoned.worst.starts_with("[0, 1] is NaN"), "{poisoned:?}");
        assert!(measure(true, &[(0.0, 0.0), (-0.0, 0.0)]).is_within());
        assert!(!measure(true, &[(0.0, 0.0), (1e-30, 0.0)]).is_within());
    }

    #[test]
    fn rows_split_differently_have_the_same_totals() {
        let rows = [1.0, 10.0, 2.0, 20.0, 3.0, 30.0];
        assert_eq!(fit(&rows, 2, 6), rows);
        assert_eq!(fit(&rows, 2, 8), [6.0, 60.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(totals(&rows, 2), [6.0, 60.0]);
    }
}
