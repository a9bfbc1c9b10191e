//! Where every value of a plan lies in memory. Only this file turns a plan's offsets into addresses.

use super::{PackedWeights, Prepared, packing};
use crate::device::cpu::{Cpu, memory::Aligned};
use crate::executor::store::{ParameterSet, Store};
use crate::ir::{DType, Node, Place, StepScalars, Value, ValueId};
use crate::ops;
use crate::ops::cpu::{CpuNode, Operands, Slot, Slots, Weights};
use std::marker::PhantomData;
use std::ops::Range;

/// The number of f32 elements of scratch memory that a node needs while it runs.
pub fn scratch_len(node: &CpuNode) -> usize {
    ops::operation(&node.node.op).cpu_scratch(node)
}

/// The blocks that hold an executor's values, borrowed until the memory is dropped.
pub struct Blocks<'a> {
    pub store: &'a mut Store,
    pub arena: &'a mut Aligned,
    pub scratch: &'a mut Aligned,
}

/// The message of a check that no value on the CPU is bf16.
const NO_BF16: &str = "only a GPU stores bf16";

/// One of the Store's flat blocks of f32.
#[derive(Clone, Copy)]
struct Block {
    start: *mut u8,
    /// The number of elements.
    len: usize,
}

impl Block {
    fn new(block: &mut Aligned) -> Block {
        Block { len: block.bytes() / 4, start: block.as_mut_ptr() }
    }

    /// The address of `range`, which holds `value`.
    fn at(self, range: Range<usize>, value: &Value) -> *mut u8 {
        // The values of a graph and the blocks of a Store are public, so their lengths are checked.
        assert_eq!(value.len(), range.len(), "{} has the Store's length", value.name);
        assert!(range.end <= self.len, "{} lies within the Store", value.name);
        self.start.wrapping_add(range.start * 4)
    }
}

/// The addresses of the blocks in [`Blocks`], borrowed from it.
pub struct Memory<'a> {
    cpu: &'a Cpu,
    prepared: &'a Prepared,
    packed: &'a PackedWeights,
    set: ParameterSet,
    store: &'a Store,
    arena: *mut u8,
    scratch: Slot,
    values: Block,
    running: Block,
    gradients: Block,
    blocks: PhantomData<&'a mut u8>,
}

impl<'a> Memory<'a> {
    pub fn new(
        cpu: &'a Cpu,
        prepared: &'a Prepared,
        packed: &'a PackedWeights,
        set: ParameterSet,
        Blocks { store, arena, scratch }: Blocks<'a>,
    ) -> Memory<'a> {
        assert!(prepared.plan.arena_bytes <= arena.bytes(), "prepare allocated memory for the largest plan");
        let (values, running) = match set {
            ParameterSet::Current => (&mut store.values, &mut store.running),
            ParameterSet::Average => (&mut store.average, &mut store.running_average),
        };
        Memory {
            cpu,
            prepared,
            packed,
            set,
            values: Block::new(values),
            running: Block::new(running),
            gradients: Block::new(&mut store.gradients),
            store,
            arena: arena.as_mut_ptr(),
            scratch: Slot { start: scratch.as_mut_ptr(), len: scratch.bytes() / 4, dtype: DType::F32 },
            blocks: PhantomData,
        }
    }

    /// Runs `node`, which is one of the plan's or another one on the plan's values.
    pub fn run(&mut self, node: &Node, scalars: &StepScalars) {
        let operation = ops::operation(&node.op);
        let described = self.prepared.node(self.cpu, node);
        let scratch = scratch_len(&described);
        assert!(scratch <= self.scratch.len, "prepare allocated scratch memory for the largest node");
        let updated = operation.updated_inputs();
        let input = |(index, &value): (usize, &ValueId)| match updated.contains(&index) {
            true => self.written(value),
            false => self.slot(value),
        };
        let slots = Slots {
            inputs: node.inputs.iter().enumerate().map(input).collect(),
            outputs: node.outputs.iter().map(|&value| self.written(value)).collect(),
            scratch: Slot { len: scratch, ..self.scratch },
            packed: self.packed_weight(node),
        };
        // SAFETY: `self` borrows all blocks and is itself borrowed for as long as the operands live, so nothing else uses their
        // contents. Every slot lies within its block, as `slot` asserts, and is aligned to 64; blocks are initialised and only
        // ever hold numbers. The plan verifies that arena values which live at the same time do not share bytes, the Store
        // gives every parameter, gradient and running statistic its own bytes, and `written` refuses values that are only
        // read. `Operands::new` also asserts that nothing written overlaps anything else.
        operation.run(&mut unsafe { Operands::new(described, scalars, updated, slots) });
    }

    /// The numbers of a value.
    pub fn read(&self, value: ValueId) -> Vec<f32> {
        let slot = self.slot(value);
        // SAFETY: as in `run`; any bytes are numbers of these types.
        unsafe {
            match slot.dtype {
                DType::U8 => {
                    let bytes = std::slice::from_raw_parts(slot.start, slot.len);
                    bytes.iter().map(|&v| f32::from(v)).collect()
                }
                DType::F32 | DType::I32 => std::slice::from_raw_parts(slot.start.cast::<f32>(), slot.len).to_vec(),
                DType::Bf16 => unreachable!("{NO_BF16}"),
            }
        }
    }

    /// Replaces the numbers of a value.
    pub fn write(&mut self, value: ValueId, numbers: &[f32]) {
        let slot = self.written(value);
        // SAFETY: as in `run`.
        unsafe {
            match slot.dtype {
                DType::U8 => {
                    let bytes = std::slice::from_raw_parts_mut(slot.start, slot.len);
                    bytes.iter_mut().zip(numbers).for_each(|(to, &v)| *to = v as u8);
                }
                DType::F32 | DType::I32 => {
                    std::slice::from_raw_parts_mut(slot.start.cast(), slot.len).copy_from_slice(numbers);
                }
                DType::Bf16 => unreachable!("{NO_BF16}"),
            }
        }
    }

    fn slot(&self, value: ValueId) -> Slot {
        let described = self.prepared.graph.value(value);
        let start = match described.place {
            // Only for reading: `written` refuses it.
            Place::Batch => self.prepared.batch[&value].as_ptr().cast_mut(),
            Place::Parameter(id) => self.values.at(self.store.range(id), described),
            Place::Gradient(id) => self.gradients.at(self.store.range(id), described),
            Place::Buffer(id) => self.running.at(self.store.buffer_range(id), described),
            Place::Arena => {
                let offset = self.prepared.plan.offsets[value.0];
                self.arena.wrapping_add(offset.unwrap_or_else(|| unreachable!("every value a node touches is placed")))
            }
        };
        Slot { start, len: described.len(), dtype: described.dtype }
    }

    /// The slot of a value that a node writes.
    fn written(&self, value: ValueId) -> Slot {
        let described = self.prepared.graph.value(value);
        assert_ne!(described.place, Place::Batch, "only the host writes {}", described.name);
        self.slot(value)
    }

    /// The packed weight of a node, if the plan keeps one.
    fn packed_weight(&self, node: &Node) -> Option<&'a [f32]> {
        if self.prepared.weights == Weights::Plain {
            return None;
        }
        let (id, packing) = packing(&self.prepared.graph, node)?;
        let packed = self.packed.get(id, &packing, self.set);
        assert_eq!(packed.len(), packing.len(self.cpu), "a weight is packed as its plan reads it");
        Some(packed)
    }
}
