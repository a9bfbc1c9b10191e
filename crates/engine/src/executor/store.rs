//! The state that outlives a step: parameters, their gradients, optimizer state, moving averages, running statistics. The buffers
//! are flat, so that the update needs only one pass.

use crate::device::cpu::memory::{Aligned, check_available};
use crate::error::{Error, Result};
use crate::ir::{Buffer, BufferId, Graph, Group, Parameter, ParameterId, Place};
use crate::ops::optimizer::cpu::{AdamW, GroupScalars, ParameterRange, Sgd};
use std::ops::Range;

/// Which copy of the parameters and running statistics a run reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParameterSet {
    /// The parameters that the optimizer updates.
    Current,
    /// The exponential moving average, which evaluation and prediction use.
    Average,
}

/// The optimizer and its settings.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// Stochastic gradient descent with momentum.
    Sgd(Sgd),
    /// Adam with decoupled weight decay (Loshchilov 2019).
    AdamW(AdamW),
}

/// The settings of one update.
#[derive(Clone, Debug)]
pub struct Update {
    /// The rule, with the settings that all groups share.
    pub rule: Rule,
    /// By [`crate::ir::Group::index`].
    pub groups: Vec<GroupScalars>,
    /// The largest norm that the gradient may have; `None` for no clipping.
    pub clip_norm: Option<f32>,
    /// The decay of the moving average: the share of the old average that stays.
    pub average_decay: f32,
}

/// Parameters and everything that belongs to them, as flat f32 buffers; [`Store::range`] says where each parameter lies.
pub struct Store {
    /// Indexed by [`ParameterId`].
    pub parameters: Vec<Parameter>,
    /// Running statistics, indexed by [`BufferId`].
    pub buffers: Vec<Buffer>,
    ranges: Vec<Range<usize>>,
    buffer_ranges: Vec<Range<usize>>,
    /// The parameters that the optimizer updates.
    pub values: Aligned,
    /// Accumulated over the batches of a step; the update sets them to zero.
    pub gradients: Aligned,
    /// The optimizer's first moment, or momentum.
    pub first_moment: Aligned,
    /// The optimizer's second moment; unused by SGD.
    pub second_moment: Aligned,
    /// The moving average of the parameters.
    pub average: Aligned,
    /// The running statistics of batch norms.
    pub running: Aligned,
    /// The moving average of the running statistics.
    pub running_average: Aligned,
    /// Counts changes of `values` and `average`; packed weights of an older version are rebuilt.
    version: u64,
}

impl Store {
    /// The memory that a store needs, or the largest number if that is more.
    pub fn bytes(parameters: &[Parameter], buffers: &[Buffer]) -> usize {
        let len = |shape: &Vec<usize>| shape.iter().fold(size_of::<f32>(), |len, size| len.saturating_mul(*size));
        let sum = |sum: usize, shape| sum.saturating_add(len(shape));
        let [parameters, running] =
            [parameters.iter().map(|p| &p.shape).fold(0, sum), buffers.iter().map(|b| &b.shape).fold(0, sum)];
        // Values, gradients, two moments and the average; the running statistics and their average.
        parameters.saturating_mul(5).saturating_add(running.saturating_mul(2))
    }

    /// A store for these parameters and running statistics, all zero.
    ///
    /// # Errors
    /// The system refuses the memory.
    pub fn new(parameters: &[Parameter], buffers: &[Buffer]) -> Result<Store> {
        let refused = || Error::Memory {
            bytes: Store::bytes(parameters, buffers),
            purpose: "the model's parameters".into(),
            advice: "use a smaller --backbone or --head, or fewer classes",
        };
        // Checked as a whole first, because the sum below could exceed the largest number.
        if check_available(Store::bytes(parameters, buffers), "", "").is_err() {
            return Err(refused());
        }
        let (ranges, total) = lay_out(parameters.iter().map(|p| p.shape.iter().product()));
        let (buffer_ranges, running) = lay_out(buffers.iter().map(|b| b.shape.iter().product()));
        let zeroed = |len: usize| Aligned::try_zeroed(len.saturating_mul(4)).ok_or_else(refused);
        let block = || zeroed(total);
        Ok(Store {
            parameters: parameters.to_vec(),
            buffers: buffers.to_vec(),
            ranges,
            buffer_ranges,
            values: block()?,
            gradients: block()?,
            first_moment: block()?,
            second_moment: block()?,
            average: block()?,
            running: zeroed(running)?,
            running_average: zeroed(running)?,
            version: 0,
        })
    }

    /// Returns an error unless the graph's parameters and running statistics are the first of this Store's, by name and shape. A
    /// graph of the trunk alone has fewer than the Store. Groups are not compared: only the update uses them, and it reads the
    /// Store's.
    ///
    /// # Errors
    /// The first parameter or running statistic that differs, or a value of the graph that is longer or shorter than the
    /// parameter, gradient or running statistic it stands for.
    pub fn check(&self, graph: &Graph) -> Result<()> {
        let ours = self.parameters.iter().map(|p| (&p.name, &p.shape));
        is_prefix("parameter", graph.parameters.iter().map(|p| (&p.name, &p.shape)), ours)?;
        let ours = self.buffers.iter().map(|b| (&b.name, &b.shape));
        is_prefix("running statistic", graph.buffers.iter().map(|b| (&b.name, &b.shape)), ours)?;
        graph.values.iter().try_for_each(|value| {
            let range = match value.place {
                Place::Parameter(id) | Place::Gradient(id) => self.ranges.get(id.0),
                Place::Buffer(id) => self.buffer_ranges.get(id.0),
                Place::Batch | Place::Arena => return Ok(()),
            };
            match range.is_some_and(|range| range.len() == value.len()) {
                true => Ok(()),
                false => Err(Error::Other(format!("the executor has no {} of shape {:?}", value.name, value.shape))),
            }
        })
    }

    /// Where a parameter lies in the flat buffers, in elements.
    pub fn range(&self, id: ParameterId) -> Range<usize> {
        self.ranges[id.0].clone()
    }

    /// Where a running statistic lies in the flat buffers, in elements.
    pub fn buffer_range(&self, id: BufferId) -> Range<usize> {
        self.buffer_ranges[id.0].clone()
    }

    /// The ranges that the update processes, each with its group and whether it is decayed.
    pub fn update_ranges(&self) -> Vec<ParameterRange> {
        let heads = self.heads();
        self.parameters
            .iter()
            .zip(&self.ranges)
            .map(|(p, r)| ParameterRange { start: r.start, len: r.len(), group: p.group.index(heads), decay: p.decay })
            .collect()
    }

    /// The number of heads that have parameters.
    pub fn heads(&self) -> usize {
        let head = |p: &Parameter| if let Group::Head(task) = p.group { task + 1 } else { 0 };
        self.parameters.iter().map(head).max().unwrap_or(0)
    }

    /// Records that parameters changed, so that packed weights are rebuilt.
    pub fn touch(&mut self) {
        self.version += 1;
    }

    /// The version of the parameters; it changes whenever they do.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The parameters and the running statistics of a set.
    pub fn set(&self, set: ParameterSet) -> (&Aligned, &Aligned) {
        match set {
            ParameterSet::Current => (&self.values, &self.running),
            ParameterSet::Average => (&self.average, &self.running_average),
        }
    }

    /// Sets the average to the current parameters, at the start of training.
    pub fn start_average(&mut self) {
        self.average.f32_mut().copy_from_slice(self.values.f32());
        self.running_average.f32_mut().copy_from_slice(self.running.f32());
        self.touch();
    }
}

/// Returns an error unless the names and shapes are the first of `ours`.
fn is_prefix<'a>(
    kind: &str,
    theirs: impl Iterator<Item = (&'a String, &'a Vec<usize>)>,
    mut ours: impl Iterator<Item = (&'a String, &'a Vec<usize>)>,
) -> Result<()> {
    for (index, (name, shape)) in theirs.enumerate() {
        let found = ours.next();
        if found != Some((name, shape)) {
            let found = found.map_or("nothing".to_owned(), |(name, shape)| format!("{name} {shape:?}"));
            return Err(Error::Other(format!(
                "the graph is not of this executor's network: its {kind} {index} is {name} {shape:?}, the executor has {found}"
            )));
        }
    }
    Ok(())
}

/// Ranges of vectors one after the other, each starting on a cache line, and the total length.
fn lay_out(lengths: impl Iterator<Item = usize>) -> (Vec<Range<usize>>, usize) {
    let mut start = 0;
    let ranges = lengths
        .map(|len| {
            let range = start..start + len;
            start = range.end.next_multiple_of(16);
            range
        })
        .collect();
    (ranges, start)
}

/// Whether no number is NaN or infinite.
pub fn all_finite(values: &[f32]) -> bool {
    // The exponent of those is all ones, so the sum carries into the sign bit. Unlike comparisons that end a loop early, this
    // is vectorised with every instruction set.
    values.iter().fold(0, |sums, value| sums | ((value.to_bits() & 0x7fff_ffff) + 0x0080_0000)) >> 31 == 0
}

/// Numbers as bytes, to be copied into a batch buffer.
pub(super) fn bytes_of<T: Number>(data: &[T]) -> &[u8] {
    // SAFETY: a `Number` has no padding, so every byte is initialised, and any byte may be read as u8.
    unsafe { std::slice::from_raw_parts(data.as_ptr().cast(), std::mem::size_of_val(data)) }
}

/// A number type of a batch.
///
/// # Safety
/// The type has no padding: all of its bytes are initialised.
pub(super) unsafe trait Number: Copy {}

// SAFETY: all 4 bytes of an f32 are its value.
unsafe impl Number for f32 {}

// SAFETY: all 4 bytes of an i32 are its value.
unsafe impl Number for i32 {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::{DeviceChoice, Executor, StepScalars};
    use crate::graph::fuse::Fusion;
    use crate::ir::{DType, Init, Mode, Segment};
    use crate::ops::linear::linear;

    /// A linear layer from `sizes[0]` to `sizes[1]` features, and one more for each size that follows.
    fn network(sizes: &[usize], group: Group) -> Graph {
        let mut graph = Graph::new(Mode::Evaluate);
        let mut x = graph.input("x", &[1, sizes[0]], DType::F32);
        for (layer, pair) in sizes.windows(2).enumerate() {
            let [weight, bias] = [("weight", vec![pair[1], pair[0]]), ("bias", vec![pair[1]])].map(|(name, shape)| {
                let name = format!("fc{layer}.{name}");
                graph.parameter(Parameter { name, shape, init: Init::Constant(0.0), group, decay: true })
            });
            x = linear(&mut graph, x, weight, bias).unwrap();
        }
        graph.outputs.push(x);
        graph
    }

    #[test]
    fn a_network_that_no_memory_can_hold_is_refused() {
        let device = DeviceChoice::Cpu { threads: 1 };
        for sizes in [[1 << 45, 1], [1 << 40, 1 << 40]] {
            let mut parameter = network(&[4, 3], Group::Trunk).parameters.swap_remove(0);
            parameter.shape = sizes.to_vec();
            let refused = Executor::new(&device, &[parameter], &[]).err().unwrap().to_string();
            assert!(refused.contains("MiB of memory for the model's parameters"), "{refused}");
        }
        let graph = network(&[4, 3], Group::Trunk);
        assert_eq!(Store::bytes(&graph.parameters, &[]), 5 * 4 * (4 * 3 + 3));
    }

    #[test]
    fn one_number_that_is_not_finite_is_found_among_any_others() {
        let finite = [0.0, -0.0, f32::MAX, f32::MIN, f32::MIN_POSITIVE, 1e-45, -1.5];
        assert!(all_finite(&finite) && all_finite(&[]));
        for value in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::from_bits(0x7f80_0001)] {
            for at in [0, 3, 40] {
                let mut values: Vec<f32> = finite.into_iter().cycle().take(41).collect();
                values[at] = value;
                assert!(!all_finite(&values), "{value} at {at}");
            }
        }
    }

    #[test]
    fn a_graph_of_another_network_is_refused_and_a_part_of_the_same_is_not() {
        let whole = network(&[4, 3, 2], Group::Trunk);
        let device = DeviceChoice::Cpu { threads: 1 };
        let mut executor = Executor::new(&device, &whole.parameters, &whole.buffers).unwrap();
        executor.prepare(network(&[4, 3], Group::Frozen), Fusion::On).unwrap();
        let refused = |executor: &mut Executor, graph| executor.prepare(graph, Fusion::On).unwrap_err().to_string();
        let wider = refused(&mut executor, network(&[4000, 3, 2], Group::Trunk));
        assert!(wider.contains("parameter 0 is fc0.weight [3, 4000], the executor has fc0.weight [3, 4]"), "{wider}");
        let deeper = refused(&mut executor, network(&[4, 3, 2, 2], Group::Trunk));
        assert!(deeper.contains("fc2.weight [2, 2], the executor has nothing"), "{deeper}");
        let mut with_statistics = network(&[4, 3], Group::Trunk);
        with_statistics.buffer("bn.running_mean".into(), &[3], 0.0);
        let statistics = refused(&mut executor, with_statistics);
        assert!(statistics.contains("running statistic 0 is bn.running_mean [3]"), "{statistics}");
        executor.prepare(whole, Fusion::On).unwrap();
    }

    #[test]
    fn a_node_with_wrong_inputs_is_refused_in_every_build() {
        let mut graph = network(&[4, 3], Group::Trunk);
        let device = DeviceChoice::Cpu { threads: 1 };
        let mut executor = Executor::new(&device, &graph.parameters, &graph.buffers).unwrap();
        let (node, wide) = (graph.nodes[0].clone(), graph.input("wide", &[1, 5], DType::F32));
        graph.push(node.op, &[wide, node.inputs[1], node.inputs[2]], &node.outputs);
        let refused = executor.prepare(graph, Fusion::On).unwrap_err().to_string();
        assert!(refused.starts_with("linear: expected"), "{refused}");
    }

    #[test]
    fn a_value_that_was_made_longer_than_its_parameter_is_refused() {
        let mut graph = network(&[4, 3], Group::Trunk);
        let device = DeviceChoice::Cpu { threads: 1 };
        let mut executor = Executor::new(&device, &graph.parameters, &graph.buffers).unwrap();
        graph.values.iter_mut().filter(|value| value.shape.ends_with(&[4])).for_each(|value| value.shape[1] = 4000);
        let refused = executor.prepare(graph, Fusion::On).unwrap_err().to_string();
        assert!(refused.contains("no fc0.weight of shape [3, 4000]"), "{refused}");
    }

    #[test]
    #[should_panic(expected = "fc0.weight has the Store's length")]
    fn a_smaller_store_is_not_read_past_its_end() {
        let (graph, smaller) = (network(&[400, 3], Group::Trunk), network(&[4, 3], Group::Trunk));
        let device = DeviceChoice::Cpu { threads: 1 };
        let mut executor = Executor::new(&device, &graph.parameters, &graph.buffers).unwrap();
        let plan = executor.prepare(graph, Fusion::On).unwrap();
        executor.edit_store(|store| *store = Store::new(&smaller.parameters, &smaller.buffers).unwrap()).unwrap();
        let _ = executor.run(plan, Segment::Forward, ParameterSet::Current, &StepScalars::default());
    }

    #[test]
    fn only_a_value_that_a_node_touches_can_be_read() {
        let mut graph = network(&[4, 3], Group::Trunk);
        let (output, unused) = (graph.outputs[0], graph.arena("unused", &[2], DType::F32));
        let device = DeviceChoice::Cpu { threads: 1 };
        let mut executor = Executor::new(&device, &graph.parameters, &graph.buffers).unwrap();
        let plan = executor.prepare(graph, Fusion::On).unwrap();
        assert_eq!(executor.read_f32(plan, output).unwrap().len(), 3);
        let refused = executor.read_f32(plan, unused).unwrap_err().to_string();
        assert!(refused.contains("unused"), "{refused}");
    }
}
