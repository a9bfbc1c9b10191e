//! The Store on the device, the blocks that the addresses of launches refer to, and the launches of the update.

use crate::device::cpu::memory::Aligned;
use crate::device::cuda::{Address, Cuda, Memory, Work, work};
use crate::error::Result;
use crate::executor::store::{ParameterSet, Rule, Store};
use crate::ir::{BufferId, Parameter, ParameterId};
use crate::ops::optimizer::cpu::ParameterRange;
use crate::ops::optimizer::cuda as optimizer;

/// The largest number of tasks that fits in a step's scalars.
pub const MAX_TASKS: usize = 64;

/// Byte offsets into the block of scalars.
pub struct ScalarsAt;

impl ScalarsAt {
    pub const TASK_WEIGHTS: usize = 0;
    pub const DENOMINATORS: usize = 4 * MAX_TASKS;
    pub const DROPOUT: usize = 8 * MAX_TASKS;
    pub const SHARE: usize = ScalarsAt::DROPOUT + 8;
    pub const UPDATE: usize = ScalarsAt::DROPOUT + 64;
}

/// The blocks that an [`Address`] refers to, by their index in the table of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    Arena,
    Workspace,
    Scalars,
    /// The plan's batch.
    Batch,
    /// Parameters of the set that a launch uses. The next two are its running statistics and its packed weights.
    Values,
    Running,
    Packed,
    Gradients,
    FirstMoment,
    SecondMoment,
    Average,
    RunningAverage,
    PackedAverage,
    /// The pieces of parameters that the update processes.
    Pieces,
    /// The result of the update.
    Outcome,
}

const BLOCKS: usize = Block::Outcome as usize + 1;

impl Block {
    pub fn at(self, offset: usize) -> Address {
        Address { block: self as usize, offset }
    }
}

pub struct DeviceStore {
    blocks: [Memory; BLOCKS],
    /// Starts of parameters and buffers, in floats.
    starts: Vec<usize>,
    buffer_starts: Vec<usize>,
    /// Start of each convolution's packed weight, in activations.
    packed_starts: Vec<Option<usize>>,
    activation_bytes: usize,
    pieces: usize,
    running: usize,
    processors: usize,
}

impl DeviceStore {
    /// # Errors
    /// Too little memory.
    pub fn new(cuda: &mut Cuda, store: &Store) -> Result<DeviceStore> {
        let packings = packings(store);
        let pieces = optimizer::pieces(&packings);
        let activation_bytes = cuda.precision().bytes();
        let packed = packed_len(store) * activation_bytes;
        let table = optimizer::Table { pieces: Block::Pieces.at(0), len: pieces.len() };
        // The trunk, the heads, and the frozen parameters.
        let groups = store.heads() + 2;
        let mut blocks = [Memory::NONE; BLOCKS];
        for (block, bytes) in [
            (Block::Arena, 0),
            (Block::Workspace, optimizer::gradient_norm_workspace(&table)),
            (Block::Scalars, ScalarsAt::UPDATE + 4 * optimizer::scalars_len(groups)),
            (Block::Values, store.values.bytes()),
            (Block::Running, store.running.bytes()),
            (Block::Packed, packed),
            (Block::Gradients, store.gradients.bytes()),
            (Block::FirstMoment, store.first_moment.bytes()),
            (Block::SecondMoment, store.second_moment.bytes()),
            (Block::Average, store.average.bytes()),
            (Block::RunningAverage, store.running_average.bytes()),
            (Block::PackedAverage, packed),
            (Block::Pieces, optimizer::piece_bytes(&pieces).len()),
            (Block::Outcome, optimizer::Outcome::BYTES),
        ] {
            blocks[block as usize] = cuda.allocate(bytes.max(64))?;
        }
        cuda.upload(blocks[Block::Pieces as usize], 0, &optimizer::piece_bytes(&pieces))?;
        let ids = (0..store.parameters.len()).map(ParameterId);
        let buffer_ids = (0..store.buffers.len()).map(BufferId);
        Ok(DeviceStore {
            blocks,
            starts: ids.map(|id| store.range(id).start).collect(),
            buffer_starts: buffer_ids.map(|id| store.buffer_range(id).start).collect(),
            packed_starts: packings.iter().map(|p| p.copy.map(|c| c.start)).collect(),
            activation_bytes,
            pieces: pieces.len(),
            running: store.running.bytes() / 4,
            processors: cuda.processors(),
        })
    }

    pub fn processors(&self) -> usize {
        self.processors
    }

    pub fn block(&self, block: Block) -> Memory {
        self.blocks[block as usize]
    }

    /// Makes a block at least this large; its contents are lost if it grows.
    pub fn reserve(&mut self, cuda: &mut Cuda, block: Block, bytes: usize) -> Result<()> {
        let old = self.block(block);
        if bytes > old.bytes {
            cuda.free(old)?;
            // If the next line fails, no launch can use the missing block: the executor is not created, or the plan not kept.
            self.blocks[block as usize] = Memory::NONE;
            self.blocks[block as usize] = cuda.allocate(bytes)?;
        }
        Ok(())
    }

    /// The table of blocks that the addresses of a launch refer to.
    pub fn table(&self, set: ParameterSet, batch: Memory) -> Vec<Memory> {
        let mut table = self.blocks.to_vec();
        table[Block::Batch as usize] = batch;
        if set == ParameterSet::Average {
            for (block, average) in [
                (Block::Values, Block::Average),
                (Block::Running, Block::RunningAverage),
                (Block::Packed, Block::PackedAverage),
            ] {
                table[block as usize] = self.block(average);
            }
        }
        table
    }

    pub fn parameter(&self, id: ParameterId) -> Address {
        Block::Values.at(4 * self.starts[id.0])
    }

    pub fn gradient(&self, id: ParameterId) -> Address {
        Block::Gradients.at(4 * self.starts[id.0])
    }

    pub fn buffer(&self, id: BufferId) -> Address {
        Block::Running.at(4 * self.buffer_starts[id.0])
    }

    /// The address of a convolution's packed weight.
    pub fn packed(&self, id: ParameterId) -> Option<Address> {
        self.packed_starts[id.0].map(|start| Block::Packed.at(self.activation_bytes * start))
    }

    fn pieces(&self) -> optimizer::Table {
        optimizer::Table { pieces: Block::Pieces.at(0), len: self.pieces }
    }

    /// Writes the packed weights of the set that a launch uses.
    pub fn pack(&self) -> Vec<Work> {
        vec![optimizer::pack(&self.pieces(), Block::Values.at(0), Block::Packed.at(0)).into()]
    }

    /// Segment 4: norm, clip, rule, averages, packed weights.
    pub fn update(&self, rule: &Rule) -> Vec<Work> {
        let (table, outcome) = (self.pieces(), Block::Outcome.at(0));
        let scalars = Block::Scalars.at(ScalarsAt::UPDATE);
        let buffers = optimizer::Buffers {
            values: Block::Values.at(0),
            gradients: Block::Gradients.at(0),
            first_moment: Block::FirstMoment.at(0),
            second_moment: Block::SecondMoment.at(0),
            average: Block::Average.at(0),
            packed: Block::Packed.at(0),
        };
        let mut launches =
            optimizer::gradient_norm(&table, scalars, buffers.gradients, outcome, Block::Workspace.at(0));
        launches.push(match rule {
            Rule::Sgd(_) => optimizer::update_sgd(&table, &buffers, scalars, outcome),
            Rule::AdamW(_) => optimizer::update_adamw(&table, &buffers, scalars, outcome),
        });
        if self.running > 0 {
            let (running, average) = (Block::Running.at(0), Block::RunningAverage.at(0));
            launches.push(optimizer::ema_running(self.running, running, average, scalars, outcome));
        }
        work(launches)
    }

    /// The result of the last update.
    pub fn outcome(&self, cuda: &Cuda) -> Result<optimizer::Outcome> {
        let mut bytes = [0; optimizer::Outcome::BYTES];
        cuda.download(self.block(Block::Outcome), 0, &mut bytes)?;
        Ok(optimizer::Outcome::from_bytes(&bytes))
    }

    /// Copies everything in the host's Store to the device.
    pub fn upload(&self, cuda: &mut Cuda, store: &mut Store) -> Result<()> {
        for (block, data) in flat(store) {
            cuda.upload(self.block(block), 0, data.u8_mut())?;
        }
        Ok(())
    }

    /// Copies everything from the device to the host's Store.
    pub fn download(&self, cuda: &Cuda, store: &mut Store) -> Result<()> {
        for (block, data) in flat(store) {
            cuda.download(self.block(block), 0, data.u8_mut())?;
        }
        Ok(())
    }
}

fn flat(store: &mut Store) -> [(Block, &mut Aligned); 7] {
    [
        (Block::Values, &mut store.values),
        (Block::Gradients, &mut store.gradients),
        (Block::FirstMoment, &mut store.first_moment),
        (Block::SecondMoment, &mut store.second_moment),
        (Block::Average, &mut store.average),
        (Block::Running, &mut store.running),
        (Block::RunningAverage, &mut store.running_average),
    ]
}

/// The number of elements of a convolution's weight `[K, R, S, C]` with its channels padded.
fn padded_len(shape: &[usize]) -> usize {
    shape[0].next_multiple_of(8) * shape[1] * shape[2] * shape[3].next_multiple_of(8)
}

fn packed_len(store: &Store) -> usize {
    store.parameters.iter().filter(|p| p.shape.len() == 4).map(|p| padded_len(&p.shape).next_multiple_of(64)).sum()
}

/// Every parameter's range, and where its packed weight starts if it belongs to a convolution.
fn packings(store: &Store) -> Vec<optimizer::Packing> {
    let mut next = 0;
    let packing = |(range, parameter): (ParameterRange, &Parameter)| {
        let copy = (parameter.shape.len() == 4).then(|| {
            let start = next;
            next += padded_len(&parameter.shape).next_multiple_of(64);
            optimizer::PackedCopy { start, channels: parameter.shape[3] }
        });
        optimizer::Packing { range, copy }
    };
    store.update_ranges().into_iter().zip(&store.parameters).map(packing).collect()
}
