//! What outlives a step: parameters, their gradients, optimizer state, moving averages, running statistics. Flat
//! buffers, so that the update is one pass.

use crate::device::cpu::memory::Aligned;
use crate::ir::{Buffer, BufferId, Group, Parameter, ParameterId};
use crate::ops::optimizer::cpu::{AdamW, GroupScalars, ParameterRange, Sgd};
use std::ops::Range;

/// Which copy of the parameters and running statistics a run reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParameterSet {
    /// The parameters that the optimizer updates.
    Current,
    /// The exponential moving average: what evaluation and prediction use.
    Average,
}

/// The rule of the update.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// Stochastic gradient descent with momentum.
    Sgd(Sgd),
    /// Adam with decoupled weight decay (Loshchilov 2019).
    AdamW(AdamW),
}

/// Everything segment 4 needs besides the Store.
#[derive(Clone, Debug)]
pub struct Update {
    /// The rule, with the settings that all groups share.
    pub rule: Rule,
    /// By [`crate::ir::Group::index`].
    pub groups: Vec<GroupScalars>,
    /// Largest norm the gradient may have, if any.
    pub clip_norm: Option<f32>,
    /// Share of the old average that stays.
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
    /// Counts changes of `values` or `average`; a derived form of an older version is rebuilt.
    version: u64,
}

impl Store {
    /// A store for these parameters and running statistics, all zero.
    pub fn new(parameters: &[Parameter], buffers: &[Buffer]) -> Store {
        let (ranges, total) = lay_out(parameters.iter().map(|p| p.shape.iter().product()));
        let (buffer_ranges, running) = lay_out(buffers.iter().map(|b| b.shape.iter().product()));
        let block = || Aligned::zeroed(total * 4);
        Store {
            parameters: parameters.to_vec(),
            buffers: buffers.to_vec(),
            ranges,
            buffer_ranges,
            values: block(),
            gradients: block(),
            first_moment: block(),
            second_moment: block(),
            average: block(),
            running: Aligned::zeroed(running * 4),
            running_average: Aligned::zeroed(running * 4),
            version: 0,
        }
    }

    /// Where a parameter lies in the flat buffers, in elements.
    pub fn range(&self, id: ParameterId) -> Range<usize> {
        self.ranges[id.0].clone()
    }

    /// Where a running statistic lies in the flat buffers, in elements.
    pub fn buffer_range(&self, id: BufferId) -> Range<usize> {
        self.buffer_ranges[id.0].clone()
    }

    /// The ranges the update walks, each with its group and whether it is decayed.
    pub fn update_ranges(&self) -> Vec<ParameterRange> {
        let heads = self.heads();
        self.parameters
            .iter()
            .zip(&self.ranges)
            .map(|(p, r)| ParameterRange { start: r.start, len: r.len(), group: p.group.index(heads), decay: p.decay })
            .collect()
    }

    /// Heads that have parameters.
    pub fn heads(&self) -> usize {
        let head = |p: &Parameter| if let Group::Head(task) = p.group { task + 1 } else { 0 };
        self.parameters.iter().map(head).max().unwrap_or(0)
    }

    /// Says that parameters changed, so that derived forms are stale.
    pub fn touch(&mut self) {
        self.version += 1;
    }

    /// Tells one state of the parameters from another.
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

    /// Makes the average equal to the current set (the start of training).
    pub fn start_average(&mut self) {
        self.average.f32_mut().copy_from_slice(self.values.f32());
        self.running_average.f32_mut().copy_from_slice(self.running.f32());
        self.touch();
    }
}

/// Ranges of consecutive vectors, each starting on a cache line, and the total length.
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

/// The bytes of numbers, to be copied into a batch buffer.
pub(super) fn bytes_of<T: Number>(data: &[T]) -> &[u8] {
    // SAFETY: f32 and i32 have no padding, and any byte may be read as u8.
    unsafe { std::slice::from_raw_parts(data.as_ptr().cast(), std::mem::size_of_val(data)) }
}

/// Plain numbers of a batch.
pub(super) trait Number: Copy {}
impl Number for f32 {}
impl Number for i32 {}
